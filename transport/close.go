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

// shut moves the connection towards its end, never back. The one call that
// reaches closed gives up the descriptor.
func (c *conn) shut(to uint32, cause error) {
	c.mu.Lock()
	if c.closing.Load() >= to {
		c.mu.Unlock()
		return
	}
	c.closing.Store(to)
	if c.cause == nil {
		c.cause = cause
	}
	alone := !c.running
	if to == lingering {
		c.io.interrupt()
		c.mu.Unlock()
		if alone {
			c.g.add()
			go func() {
				defer c.g.done()
				c.linger()
			}()
		}
		return
	}
	// A drain under way holds chunks of the queue, and clears it when it ends.
	if !c.draining {
		c.clearQueue()
	}
	c.mu.Unlock()
	c.io.kill()
	c.g.closed()
}

func (c *conn) clearQueue() {
	c.q.clear()
	c.backlog.Store(0)
}

// begin hands the connection to its driver. False: it was closed before.
func (c *conn) begin(h Handler) bool {
	c.mu.Lock()
	if c.closing.Load() != open {
		err := c.cause
		c.mu.Unlock()
		if err == nil {
			err = net.ErrClosed
		}
		h.Closed(err)
		return false
	}
	c.running = true
	c.g.add()
	c.hmu.Lock()
	c.h = h
	c.hmu.Unlock()
	c.mu.Unlock()
	return true
}

// end is the driver's last act: reading is over, with err, nil for the
// orderly end of the stream.
func (c *conn) end(err error) {
	c.mu.Lock()
	state := c.closing.Load()
	switch {
	case state != open && c.cause != nil:
		err = c.cause
	case state != open:
		err = net.ErrClosed
	default:
		c.closing.Store(lingering)
		state = lingering
	}
	c.mu.Unlock()
	c.hmu.Lock()
	h := c.h
	c.ended, c.h = true, nil
	c.hmu.Unlock()
	h.Closed(err)
	if state == lingering {
		c.linger()
	}
	c.g.done()
}

// linger sends what is queued, half-closes, reads what still comes and closes.
// Nobody else reads the connection.
func (c *conn) linger() {
	if c.tls != nil {
		c.tls.CloseWrite() // close_notify; refused before the handshake is complete
	}
	c.mu.Lock()
	drained := c.drained
	if drained != nil {
		c.nc.SetWriteDeadline(time.Now().Add(lingerFlush))
	}
	c.mu.Unlock()
	if drained != nil {
		<-drained
	}
	if !c.eof && c.closing.Load() == lingering {
		if w, ok := c.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
			c.discard()
		}
	}
	c.shut(closed, nil)
}

func (c *conn) discard() {
	until := time.Now().Add(lingerDrain)
	c.nc.SetReadDeadline(until)
	buf := make([]byte, 2048)
	for time.Now().Before(until) {
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}
