package transport

import (
	"net"
	"time"
)

const (
	// lingerFlush bounds the time a closed connection may take to accept what
	// was queued for it; lingerDrain the time its last bytes are read after.
	lingerFlush = 5 * time.Second
	lingerDrain = time.Second
)

// past is a deadline that ends a blocked call at once.
var past = time.Unix(1, 0)

func (c *conn) Close(linger bool) {
	if c.closing.Load() != open {
		return
	}
	if linger {
		c.shut(lingering, nil)
	} else {
		c.shut(closed, nil)
	}
}

// shut moves the connection towards its end, never back, and leaves the rest
// to whoever owns the reading side: the driver, the lingering goroutine or, if
// there is neither, itself.
func (c *conn) shut(to uint32, cause error) {
	c.mu.Lock()
	from := c.closing.Load()
	if from >= to {
		c.mu.Unlock()
		return
	}
	c.closing.Store(to)
	c.openGate()
	if c.cause == nil {
		c.cause = cause
	}
	owned := c.running || from == lingering
	if owned || to == lingering {
		c.io.interrupt(to == closed)
	}
	if !owned && to == lingering {
		c.g.add()
	}
	c.mu.Unlock()
	switch {
	case owned:
	case to == lingering:
		go func() {
			c.linger()
			c.finish()
			c.g.done()
		}()
	default:
		c.finish()
	}
}

// finish gives up the descriptor. It is called once, by the owner, outside all
// calls on the descriptor: closing waits for them.
func (c *conn) finish() {
	c.mu.Lock()
	c.closing.Store(closed)
	// A drain under way holds chunks of the queue, and clears it when it ends.
	if !c.draining {
		c.clearQueue()
	}
	c.mu.Unlock()
	c.io.kill()
	if c.pass != nil {
		c.pass.Leave()
	}
	c.g.closed()
}

func (c *conn) clearQueue() {
	c.q.clear()
	c.backlog.Store(0)
}

// begin hands the connection to its driver. False: it was closed before.
func (c *conn) begin(h Handler) bool {
	c.mu.Lock()
	ok := c.closing.Load() == open
	if ok {
		c.running, c.was = true, nil
		c.nc.SetDeadline(noDeadline)
		c.g.add()
	}
	c.mu.Unlock()
	if !ok {
		h.Closed(c.gone())
		return false
	}
	c.hmu.Lock()
	c.h = h
	c.hmu.Unlock()
	return true
}

// end is the driver's last act: reading is over, with err, nil for the
// orderly end of the stream.
func (c *conn) end(err error) {
	if c.tell(err) == lingering {
		c.linger()
	}
	c.finish()
	c.g.done()
}

// tell calls Closed and returns how the connection is to end.
func (c *conn) tell(err error) (state uint32) {
	c.mu.Lock()
	state = c.closing.Load()
	switch {
	case c.cause != nil:
		err = c.cause
	case state != open:
		err = net.ErrClosed
	}
	if state == open {
		c.closing.Store(lingering)
		state = lingering
	}
	c.mu.Unlock()
	err = c.explainLoss(err)
	c.hmu.Lock()
	h := c.h
	c.ended, c.h = true, nil
	c.hmu.Unlock()
	h.Closed(err)
	return state
}

// sayGoodbye queues the close frame and close_notify, once; crypto/tls not
// before the handshake is complete.
func (c *conn) sayGoodbye() {
	if c.framed() {
		c.sendClose()
	}
	if c.tls != nil {
		c.tls.CloseWrite()
	}
}

// linger sends what is queued, half-closes and reads what still comes. Nobody
// else reads the connection.
func (c *conn) linger() {
	c.sayGoodbye()
	c.mu.Lock()
	drained := c.drained
	if drained != nil && c.closing.Load() == lingering {
		c.nc.SetWriteDeadline(time.Now().Add(lingerFlush))
	}
	c.mu.Unlock()
	if drained != nil {
		<-drained
	}
	if c.eof {
		return
	}
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		c.discard()
	}
}

func (c *conn) discard() {
	until := time.Now().Add(lingerDrain)
	c.mu.Lock()
	if c.closing.Load() == lingering {
		c.nc.SetReadDeadline(until)
	}
	c.mu.Unlock()
	buf := make([]byte, 2048)
	for c.closing.Load() == lingering && time.Now().Before(until) {
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}

// interrupt ends blocked calls by their deadline. mu is held.
func (c *conn) interrupt(hard bool) {
	if hard || !c.shaken {
		c.nc.SetDeadline(past)
	} else {
		c.nc.SetReadDeadline(past)
	}
}
