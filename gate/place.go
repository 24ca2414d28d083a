package gate

import (
	"math"
	"sync/atomic"
	"time"
)

// total counts all connections.
type total struct {
	open, handshakes, connects atomic.Int64
	due                        atomic.Int64 // of the bucket, as in place
}

// enter counts a connection that begins.
func (c *total) enter(l *limits, known bool) Verdict {
	if c.connects.Load() >= l.bound(l.connects, known) {
		return TotalConnects // its handshake would be for nothing
	}
	if c.open.Add(1) > l.bound(l.open, known) {
		c.open.Add(-1)
		return TotalConnections
	}
	if c.handshakes.Add(1) > l.bound(l.handshakes, known) {
		c.handshakes.Add(-1)
		c.open.Add(-1)
		return TotalHandshakes
	}
	return Admitted
}

// leave undoes enter.
func (c *total) leave() {
	c.handshakes.Add(-1)
	c.open.Add(-1)
}

// take takes a token from the bucket.
func (c *total) take(l *limits, now int64, known bool) bool {
	if l.step == 0 {
		return true
	}
	for {
		due := c.due.Load()
		next := max(due, now) + l.step
		if next-now > l.bound(l.burst, known)*l.step {
			return false
		}
		if c.due.CompareAndSwap(due, next) {
			return true
		}
	}
}

// place is an address or a network with what it has of connections.
type place struct {
	due                        int64  // when the bucket is full again, ns; a connection moves it on by one step
	open, handshakes, connects uint32 // at the moment
	good                       uint32 // when a client connected last, s+1; 0: never
}

// knownFor is how long an address is known after a client has connected from it.
const knownFor = 24 * time.Hour

// keep tells how much would be lost with p: nothing when its bucket is full and nobody is there.
func (p *place) keep(now int64) int64 {
	if p.open|p.handshakes|p.connects != 0 {
		return pinned
	}
	k := p.due - now
	if p.known(now) {
		k = max(k, int64(p.good-1)*int64(time.Second)+int64(knownFor)-now)
	}
	return k
}

func (p *place) known(now int64) bool {
	return p.good != 0 && now-int64(p.good-1)*int64(time.Second) < int64(knownFor)
}

// enter counts a connection; p may be nil.
func (p *place) enter(l *limits, now int64) {
	if p == nil {
		return
	}
	p.due = max(p.due, now) + l.step
	p.open++
	p.handshakes++
}

// end takes a connection out of those in a stage, and out of those that are open if it is gone; p may be nil.
func (p *place) end(stage uint32, gone bool) {
	if p == nil {
		return
	}
	switch stage {
	case handshaking:
		p.handshakes--
	case connecting:
		p.connects--
	}
	if gone {
		p.open--
	}
}

// limits are those of one level: an address, a network, or all together.
type limits struct {
	step                       int64 // ns that a connection costs; 0: no bound
	burst                      int64 // how many may be spent at once
	open, handshakes, connects int64
}

func newLimits(rate, burst, open, handshakes, connects int) limits {
	most := func(n int) int64 {
		if n == 0 {
			return math.MaxInt64
		}
		return int64(n)
	}
	l := limits{burst: int64(burst), open: most(open), handshakes: most(handshakes), connects: most(connects)}
	if rate > 0 {
		l.step = int64(time.Second) / int64(rate)
	}
	return l
}

// bound is n for those who are known, and seven eighths of it for others: a flood of strangers does not keep out the fleet.
func (l *limits) bound(n int64, known bool) int64 {
	if known || n == math.MaxInt64 {
		return n
	}
	return n - n/8
}

// excess is what a connection would be too much for, in the order of the verdicts of a level.
type excess uint8

const (
	within excess = iota
	overRate
	overOpen
	overHandshakes
	overConnects
)

// exceeded judges a further connection; a place without a record is an empty one.
func (l *limits) exceeded(p *place, now int64, known bool) excess {
	var none place
	if p == nil {
		p = &none
		p.due = now
	}
	switch {
	case l.step > 0 && max(p.due, now)+l.step-now > l.bound(l.burst, known)*l.step:
		return overRate
	case int64(p.open) >= l.bound(l.open, known):
		return overOpen
	case int64(p.handshakes) >= l.bound(l.handshakes, known):
		return overHandshakes
	case int64(p.connects) >= l.bound(l.connects, known):
		return overConnects // its handshake would be for nothing
	}
	return within
}
