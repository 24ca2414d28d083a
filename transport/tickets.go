package transport

import (
	"crypto/rand"
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// ticketPeriod is how long a key seals session tickets; it opens them for as
// long again. A session can so be resumed for 12 to 24 hours.
const ticketPeriod = 12 * time.Hour

// tickets are the keys that session tickets of one listener are sealed with.
// A handshake turns them when they are due: no timer, and no goroutine.
type tickets struct {
	cfg *tls.Config // whose keys its clones use, too, having none of their own
	now func() time.Time

	mu   sync.Mutex
	keys []ticketKey // the latest first, at most two
}

type ticketKey struct {
	key  [32]byte
	made time.Time
}

// turn drops the keys that are past their time, and makes one if the latest
// has served its own. crypto/tls looks at the keys right after it.
func (t *tickets) turn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	kept := slices.DeleteFunc(t.keys, func(k ticketKey) bool { return now.Sub(k.made) >= 2*ticketPeriod })
	switch {
	case len(kept) == 0 || now.Sub(kept[0].made) >= ticketPeriod:
		t.keys = append([]ticketKey{{made: now}}, kept...)
		rand.Read(t.keys[0].key[:])
	case len(kept) == len(t.keys):
		return
	default:
		t.keys = kept
	}
	t.set()
}

// forget makes every ticket that was ever given out worthless.
func (t *tickets) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = []ticketKey{{made: t.now()}}
	rand.Read(t.keys[0].key[:])
	t.set()
}

func (t *tickets) set() {
	raw := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		raw[i] = k.key
	}
	t.cfg.SetSessionTicketKeys(raw)
}
