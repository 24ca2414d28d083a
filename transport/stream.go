package transport

import (
	"io"
	"net"
)

// streamBuffer is what a blocking connection holds while it waits.
const streamBuffer = 4 << 10

// streamLink drives a blocking net.Conn. Every write goes through the queue,
// since nothing else is known not to block.
type streamLink struct{ c *conn }

func newStreamLink(c *conn) link { return streamLink{c} }

func (s streamLink) write([]byte) (int, error) { return 0, nil }

func (s streamLink) startDrain() {
	s.c.g.add()
	go s.drain()
}

func (s streamLink) interrupt(hard bool) { s.c.interrupt(hard) }

func (s streamLink) kill() { s.c.nc.Close() }

func (s streamLink) run() { go s.loop() }

func (s streamLink) loop() {
	c := s.c
	err := c.h.Data(nil)
	c.h.Flush()
	buf := make([]byte, streamBuffer)
	for err == nil && c.closing.Load() == open {
		var n int
		n, err = c.Read(buf)
		if n > 0 && c.closing.Load() == open {
			c.heard()
			if derr := c.h.Data(buf[:n]); derr != nil {
				c.refuse(derr)
				break
			}
			c.h.Flush()
			if gate := c.closedGate(); gate != nil {
				<-gate
			}
		}
	}
	if err == io.EOF {
		err = nil
		c.eof = c.ws == nil || c.ws.err == nil // not after a close frame alone
	}
	c.end(err)
}

// drain writes the queue. front stays valid beside push, and only a drain
// pops or clears while it runs.
func (s streamLink) drain() {
	c := s.c
	defer c.g.done()
	var err error
	c.mu.Lock()
	for err == nil && c.q.size > 0 && c.closing.Load() != closed {
		b := c.q.front()
		c.mu.Unlock()
		var n int
		n, err = c.nc.Write(b)
		if n < len(b) && err == nil {
			err = io.ErrShortWrite
		}
		c.mu.Lock()
		c.q.pop(n)
		c.backlog.Store(int64(c.q.size))
	}
	if c.closing.Load() == closed {
		c.clearQueue()
		err = net.ErrClosed
	}
	c.stopDraining()
	c.mu.Unlock()
	c.afterDrain(err)
}
