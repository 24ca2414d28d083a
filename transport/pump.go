package transport

import (
	"io"
	"math"
	"sync"
)

const (
	// readBudget is how much one connection reads before others have their turn.
	readBudget = 64 << 10
	// plainBuffer collects the payload of several records for one call of Data.
	plainBuffer = 2 * maxPlaintext
)

// scratch is what one readable event needs. It belongs to the event, so that
// an idle connection owns no buffer.
type scratch struct {
	in    [readBudget]byte
	plain [plainBuffer]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// start gives the handler what crypto/tls holds already. From here on nothing
// blocks.
func (c *conn) start() (over bool, err error) {
	if c.tap != nil {
		c.in, c.tap = c.tap.buf, nil
	}
	c.live = true
	c.frames.whole = math.MaxInt32 / 2 // unknown: read until it would block
	if err := c.h.Data(nil); err != nil {
		c.refuse(err)
		return true, err
	}
	if c.ws != nil && c.ws.early != nil && c.closing.Load() == open {
		early := c.ws.early
		c.ws.early = nil
		over, err = c.deliver(early)
	}
	if c.tls != nil && !over && c.closing.Load() == open {
		s := scratches.Get().(*scratch)
		over, err = c.decrypt(s)
		scratches.Put(s)
	}
	if !over {
		c.h.Flush()
		over = c.closing.Load() != open
	}
	return over, err
}

// feed gives the handler the n bytes read into s.in; n = 0 is the end of the
// stream. over: reading has ended, with err, nil if in good order.
func (c *conn) feed(s *scratch, n int) (over bool, err error) {
	if c.tls == nil {
		if n == 0 {
			c.eof = true
			return true, nil
		}
		return c.deliver(s.in[:n])
	}
	c.in, c.eof = s.in[:n], n == 0
	return c.decrypt(s)
}

func (c *conn) decrypt(s *scratch) (over bool, err error) {
	fill := 0
	for !over && (len(c.in) > 0 || c.frames.whole != 0 || c.eof) {
		var n int
		n, err = c.tls.Read(s.plain[fill:])
		if n > 0 {
			fill += n
			c.frames.whole--
		}
		if err != nil {
			over = true
			if err == errWouldBlock {
				// crypto/tls holds no whole record.
				c.frames.whole = 0
				over, err = false, nil
			}
			break
		}
		if len(s.plain)-fill < maxPlaintext {
			over, err = c.deliver(s.plain[:fill])
			fill = 0
		}
	}
	if fill > 0 {
		if stop, derr := c.deliver(s.plain[:fill]); stop {
			over, err = true, derr
		}
	}
	c.in = nil
	if err == io.EOF {
		c.eof = true
		err = nil
	}
	return over, err
}

func (c *conn) deliver(p []byte) (over bool, err error) {
	if c.closing.Load() != open {
		return true, nil
	}
	c.heard()
	if c.ws != nil {
		return c.deliverFrames(p)
	}
	return c.deliverData(p)
}

func (c *conn) deliverData(p []byte) (over bool, err error) {
	if err := c.h.Data(p); err != nil {
		c.refuse(err)
		return true, err
	}
	return c.closing.Load() != open, nil
}

// refuse closes the connection after an error of the handler, unless the
// handler has done so in its own way.
func (c *conn) refuse(err error) {
	if c.closing.Load() == open {
		c.shut(closed, err)
	}
}
