package broker

import "sync"

// Pauser is a Link that can stop to read: nothing more arrives after the readable event under way, until Resume. Both may
// be called at any time and do not block.
type Pauser interface {
	Pause()
	Resume()
}

// maxUnstored is how many bytes of one client's publications and other requests wait for the disk before its connection is paused. It goes on
// at half of that.
const maxUnstored = 1 << 20

// pace bounds what waits for the disk on behalf of one connection.
type pace struct {
	mu       sync.Mutex
	unstored int64
	paused   bool
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
	case !p.paused && p.unstored > maxUnstored:
		p.paused = true
		link.Pause()
	case p.paused && p.unstored < maxUnstored/2:
		p.paused = false
		c.alive.seen(c.b.now())
		link.Resume()
	}
}

// isPaused reports whether the broker does not listen to the client at present.
func (c *Conn) isPaused() bool {
	c.pace.mu.Lock()
	defer c.pace.mu.Unlock()
	return c.pace.paused
}
