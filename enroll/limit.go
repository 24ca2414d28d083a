package enroll

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// hourly counts in windows of an hour. The zero value is ready; it has no lock.
type hourly struct {
	begin time.Time
	n     int
}

// take counts one, or returns how long to wait.
func (h *hourly) take(now time.Time, most int) time.Duration {
	if d := now.Sub(h.begin); d < 0 || d >= time.Hour {
		h.begin, h.n = now, 0
	}
	if h.n >= most {
		return h.begin.Add(time.Hour).Sub(now)
	}
	h.n++
	return 0
}

// giveBack takes one back that did not count in the end.
func (h *hourly) giveBack() { h.n = max(h.n-1, 0) }

// table remembers something of the peers that were seen last: at most so many. It is safe for several goroutines.
type table[T any] struct {
	mu   sync.Mutex
	most int
	m    map[string]*T
}

func newTable[T any](most int) *table[T] { return &table[T]{most: most, m: make(map[string]*T)} }

// with calls fn with what is remembered of a name, under the lock. Beyond the bound others are forgotten.
func (t *table[T]) with(name string, fn func(*T)) {
	if len(name) > 64 { // a client identifier may have 64 KiB
		sum := sha256.Sum256([]byte(name))
		name = string(sum[:])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.m[name]
	if v == nil {
		for other := range t.m {
			if len(t.m) < t.most {
				break
			}
			delete(t.m, other) // in no order
		}
		v = new(T)
		t.m[name] = v
	}
	fn(v)
}

// backoff makes guessers wait: from the third failure on twice as long each time.
type backoff struct {
	failures int
	until    time.Time
}

const (
	freeFailures = 3
	backoffStart = 2 * time.Second
	backoffMost  = 10 * time.Minute
	// A client identifier is not proven: whoever fails in another's name must not keep it out for long.
	backoffMostID = 30 * time.Second
	backoffForget = time.Hour
)

func (b *backoff) wait(now time.Time) time.Duration {
	if b.failures > 0 && now.Sub(b.until) > backoffForget {
		*b = backoff{}
	}
	return max(0, min(b.until.Sub(now), backoffMost))
}

func (b *backoff) failed(now time.Time, most time.Duration) {
	b.failures++
	d := time.Duration(0)
	if n := b.failures - freeFailures; n >= 0 {
		d = min(backoffStart<<min(n, 20), most)
	}
	b.until = now.Add(d)
}

// network names what one attacker is likely to have: an IPv4 address, or 64 bits of an IPv6 one.
func network(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	a := ap.Addr()
	if err != nil {
		if a, err = netip.ParseAddr(addr); err != nil {
			return ""
		}
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return ""
	}
	return p.String()
}

// lines bounds what is logged of one kind: a line a second, which says how many were left out before it. It is safe for
// several goroutines. The kinds are the caller's, and few.
type lines struct {
	mu sync.Mutex
	m  map[string]*line
}

type line struct {
	at   time.Time
	left int
}

// take reports whether a line of a kind may be written now.
func (l *lines) take(kind string, now time.Time) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]*line)
	}
	last := l.m[kind]
	if last == nil {
		last = new(line)
		l.m[kind] = last
	}
	if d := now.Sub(last.at); 0 <= d && d < time.Second {
		last.left++
		return 0, false
	}
	left = last.left
	*last = line{at: now}
	return left, true
}
