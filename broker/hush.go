package broker

import (
	"strings"
	"sync"
	"time"
)

// hush bounds log lines that clients can cause: of each kind one in hushTime about each of them.
type hush struct {
	mu    sync.Mutex
	m     map[hushKey]*hushed
	swept time.Duration // when lines of long ago were forgotten last
}

type hushKey struct{ what, who string }

type hushed struct {
	at      time.Duration // of the last line
	omitted uint64        // since then
}

// Who does not find room among maxHushed others shares the lines of each kind with all others like it.
const (
	hushTime  = time.Minute
	maxHushed = 1024
	maxWho    = 128 // bytes of an identifier that are looked at
)

// allow reports whether a line is logged, and how many of its kind have not been since the last one. The number of kinds
// must be bounded.
func (h *hush) allow(now time.Duration, what, who string) (omitted uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := hushKey{what, who[:min(len(who), maxWho)]}
	e := h.m[key]
	if e == nil && len(h.m) >= maxHushed {
		h.sweep(now)
		if len(h.m) >= maxHushed {
			key.who = ""
			e = h.m[key]
		}
	}
	switch {
	case e == nil:
		if h.m == nil {
			h.m = make(map[hushKey]*hushed)
		}
		key.who = strings.Clone(key.who)
		h.m[key] = &hushed{at: now}
		return 0, true
	case now-e.at < hushTime:
		e.omitted++
		return 0, false
	}
	omitted = e.omitted
	e.at, e.omitted = now, 0
	return omitted, true
}

// sweep forgets the lines of long ago, once a second at most.
func (h *hush) sweep(now time.Duration) {
	if now-h.swept < time.Second {
		return
	}
	h.swept = now
	for key, e := range h.m {
		if now-e.at >= hushTime {
			delete(h.m, key)
		}
	}
}
