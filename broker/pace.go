package broker

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Pauser is a Link that can stop to read: nothing more arrives after the readable event under way, until Resume. Both may
// be called at any time and do not block.
type Pauser interface {
	Pause()
	Resume()
}

// maxUnstored is how many bytes of one client's publications and other requests wait for the disk before its connection is paused. It goes on
// at half of that.
const maxUnstored = 1 << 20

// pace is why a connection is not listened to for a while: it is paused as long as there is a reason.
type pace struct {
	mu       sync.Mutex
	unstored int64 // bytes that wait for the disk on its behalf
	full     bool  // they are too many
	fast     bool  // it has published too fast
}

// weight is what a publication, or another change or answer that waits for the disk, counts for.
func weight(size int64) int64 { return size + 256 }

// addUnstored counts what waits for the disk, or with a negative n those that do no longer.
func (c *Conn) addUnstored(n int64) {
	link, ok := c.link.(Pauser)
	p := &c.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unstored += n
	switch {
	case !ok:
	case !p.full && p.unstored > maxUnstored:
		p.full = true
		if !p.fast {
			link.Pause()
		}
	case p.full && p.unstored < maxUnstored/2:
		p.full = false
		c.resume(link)
	}
}

// resume listens to the client again unless there is another reason not to. The caller holds the pace's mu.
func (c *Conn) resume(link Pauser) {
	if !c.pace.full && !c.pace.fast {
		c.alive.seen(c.b.now())
		link.Resume()
	}
}

// meter measures how fast a client publishes: each message and each byte moves a moment on by the time that the limit
// gives it, and the client may be ahead of the clock by the burst.
type meter struct {
	messages, bytes int64       // since the last charge
	debt                        // the moments, on the broker's clock
	key             uint64      // under which it is remembered
	timer           *time.Timer // while the client is too fast; under the pace's mu
}

func (m *meter) take(size int) {
	m.messages++
	m.bytes += int64(size)
}

// charge ends a readable event in which the client has published: if that was too fast it is not read from until it is
// not. A link that cannot be paused is closed. The caller holds proc.
func (c *Conn) charge() error {
	m, lim, now := c.meter, c.lim, c.b.now()
	wait := time.Duration(0)
	if n := int64(lim.MaxPublishRate); n > 0 {
		m.paid = max(m.paid, now) + time.Duration(m.messages*int64(time.Second)/n)
		wait = m.paid - now - lim.PublishBurst
	}
	if n := lim.MaxPublishBytes; n > 0 {
		m.paidBytes = max(m.paidBytes, now) + time.Duration(m.bytes*int64(time.Second)/n)
		wait = max(wait, m.paidBytes-now-lim.PublishBurst)
	}
	m.messages, m.bytes = 0, 0
	c.b.debts.keep(m.key, m.debt, now)
	if wait <= 0 {
		return nil
	}
	limit := "max_publish_rate"
	if m.paidBytes > m.paid {
		limit = "max_publish_bytes"
	}
	link, ok := c.link.(Pauser)
	if !ok {
		c.limited(limitedRate, limit)
		return c.fail(violation(mqtt.MessageRateTooHigh, "published faster than %s allows", limit))
	}
	p := &c.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fast { // more of what had arrived
		m.timer.Reset(wait)
		return nil
	}
	p.fast = true
	m.timer = time.AfterFunc(wait, c.letGo)
	if !p.full {
		link.Pause()
	}
	c.limited(limitedRate, limit, "held_back", wait.Round(time.Millisecond))
	return nil
}

// letGo ends the wait of a client that has published too fast, if there is one.
func (c *Conn) letGo() {
	p := &c.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fast {
		return
	}
	p.fast = false
	c.meter.timer.Stop()
	c.resume(c.link.(Pauser))
}

// isPaused reports whether the broker does not listen to the client at present.
func (c *Conn) isPaused() bool {
	c.pace.mu.Lock()
	defer c.pace.mu.Unlock()
	return c.pace.full || c.pace.fast
}
