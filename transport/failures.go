package transport

import (
	"net/netip"
	"sync"
	"time"
)

const (
	failuresKept = 1000
	// A client that tries again and again is logged maxLines times in quietTime
	// for each cause, and all of them together at most maxPerSecond times a
	// second.
	quietTime    = time.Minute
	maxLines     = 10
	maxPerSecond = 50
	// Beyond maxTalkers pairs of peer and cause the oldest are forgotten.
	maxTalkers = 4096
	// Causes are few; those of a policy are counted as other beyond maxCauses.
	maxCauses = 256
)

// Failures remembers the last 1,000 failures of all listeners that share it,
// counts them by cause, and says which to log. It holds 6 MiB at most. Its
// methods may be called from any goroutine.
type Failures struct {
	now func() time.Time

	mu      sync.Mutex
	ring    []Failure
	next    int
	counts  map[Cause]uint64
	lines   int // maxLines
	quiet   map[talker]*quiet
	order   []talker // of quiet, oldest first, as a ring
	oldest  int
	second  int64
	logged  int // in that second
	omitted int // since the last that was logged
}

// talker is who fails again and again: an IPv4 address or an IPv6 /64, with
// one certificate, or none.
type talker struct {
	listener, certificate string
	net                   netip.Prefix
	cause                 Cause
}

// quiet is how often a talker was logged, and until when that counts.
type quiet struct {
	n     int
	until time.Time
}

// NewFailures makes an empty one. now nil means time.Now.
func NewFailures(now func() time.Time) *Failures {
	if now == nil {
		now = time.Now
	}
	return &Failures{now: now, counts: make(map[Cause]uint64), lines: maxLines, quiet: make(map[talker]*quiet)}
}

// Note takes a failure. log says whether it is to be logged, f is what to log,
// and omitted how many since the last that was logged were not.
func (fs *Failures) Note(e *HandshakeError) (f Failure, omitted int, log bool) {
	now := fs.now()
	f = e.Record(now)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	cause := fs.keep(f)
	who := talker{listener: f.Listener, net: prefixOf(e.Addr), cause: cause}
	if f.Certificate != nil {
		who.certificate = f.Certificate.SHA256
	}
	if !fs.speak(who, now) {
		fs.omitted++
		return f, 0, false
	}
	omitted, fs.omitted = fs.omitted, 0
	return f, omitted, true
}

// Keep takes a failure that somebody else logs.
func (fs *Failures) Keep(e *HandshakeError) {
	f := e.Record(fs.now())
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.keep(f)
}

// keep remembers and counts a failure, and returns the cause that it counts as. mu is held.
func (fs *Failures) keep(f Failure) Cause {
	if len(fs.ring) < failuresKept {
		fs.ring = append(fs.ring, f)
	} else {
		fs.ring[fs.next] = f
	}
	fs.next = (fs.next + 1) % failuresKept
	cause := f.Cause
	if _, ok := fs.counts[cause]; !ok && len(fs.counts) >= maxCauses {
		cause = CauseOther
	}
	fs.counts[cause]++
	return cause
}

// speak decides whether to log. mu is held.
func (fs *Failures) speak(t talker, now time.Time) bool {
	q := fs.quiet[t]
	// A clock that was set back does not silence anybody for longer.
	fresh := q == nil || !now.Before(q.until) || q.until.Sub(now) > quietTime
	if !fresh && q.n >= fs.lines {
		return false
	}
	if s := now.Unix(); s != fs.second {
		fs.second, fs.logged = s, 0
	}
	if fs.logged >= maxPerSecond {
		return false
	}
	fs.logged++
	switch {
	case q != nil:
	case len(fs.order) < maxTalkers:
		fs.order = append(fs.order, t)
	default:
		delete(fs.quiet, fs.order[fs.oldest])
		fs.order[fs.oldest] = t
		fs.oldest = (fs.oldest + 1) % maxTalkers
	}
	if q == nil {
		q = new(quiet)
		fs.quiet[t] = q
	}
	if fresh {
		*q = quiet{until: now.Add(quietTime)}
	}
	q.n++
	return true
}

// Recent returns up to n failures, the latest first.
func (fs *Failures) Recent(n int) []Failure {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n = max(0, min(n, len(fs.ring)))
	all := make([]Failure, n)
	for i := range all {
		all[i] = fs.ring[(fs.next-1-i+2*failuresKept)%failuresKept]
	}
	return all
}

// Counts returns how often each cause was noted.
func (fs *Failures) Counts() map[Cause]uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	counts := make(map[Cause]uint64, len(fs.counts))
	for c, n := range fs.counts {
		counts[c] = n
	}
	return counts
}

// prefixOf is the network that counts as one peer.
func prefixOf(addr string) netip.Prefix {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip := a.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
