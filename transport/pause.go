package transport

// Pause stops the reading: after the readable event under way nothing more
// arrives until Resume. The peer notices when the kernel's buffers are full.
// Writing goes on, and a connection that is reset or closed ends as ever.
func (c *conn) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate == nil && c.closing.Load() == open {
		c.gate = make(chan struct{})
		c.rewatch()
	}
}

// Resume ends a Pause.
func (c *conn) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		c.openGate()
		c.rewatch()
	}
}

// openGate lets a driver that waits read on. mu is held.
func (c *conn) openGate() {
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

// rewatch tells a driver that waits for events which ones. mu is held.
func (c *conn) rewatch() {
	if w, ok := c.io.(interface{ rewatch() }); ok {
		w.rewatch()
	}
}

// closedGate is what a driver with a goroutine waits for while the connection
// is paused; otherwise nil.
func (c *conn) closedGate() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gate
}
