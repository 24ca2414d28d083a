//go:build unix

package transport

import (
	"net"
	"runtime"
	"syscall"
)

// rawLink is the goroutine driver: one goroutine per connection, parked in
// RawConn.Read, whose callback runs the connection and returns false while it
// lives. The descriptor's lifetime is Go's: Close waits for calls under way.
//
// Go's poller is edge-triggered and armed before the callback, so a callback
// that returns without having seen EAGAIN would sleep on bytes that are there.
type rawLink struct {
	c    *conn
	rc   syscall.RawConn
	put  func(uintptr) bool // rawLink.tryWrite
	p    []byte             // argument and results of put
	n    int
	err  error
	over bool // results of readable
	rerr error

	moved chan struct{} // not nil: another driver drains; closed when this one has stopped
}

// newRawLink falls back to the stream driver for what has no descriptor.
func newRawLink(c *conn) link {
	if sc, ok := c.nc.(syscall.Conn); ok {
		if rc, err := sc.SyscallConn(); err == nil {
			l := &rawLink{c: c, rc: rc}
			l.put = l.tryWrite
			return l
		}
	}
	return newStreamLink(c)
}

func (l *rawLink) write(p []byte) (int, error) {
	l.p = p
	if err := l.rc.Write(l.put); err != nil {
		l.p = nil
		return 0, err
	}
	n, err := l.n, l.err
	l.p, l.err = nil, nil
	return n, err
}

func (l *rawLink) tryWrite(fd uintptr) bool {
	l.n, l.err = writeFD(int(fd), l.p)
	return true
}

func (l *rawLink) startDrain() {
	l.c.g.add()
	go l.drain()
}

// drain sends the queue whenever the peer has made room. It must not go
// through write: it holds Go's write lock on the descriptor.
func (l *rawLink) drain() {
	c := l.c
	var err error
	werr := l.rc.Write(func(fd uintptr) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if l.moved != nil {
			return true
		}
		var more bool
		more, err = c.drainTo(int(fd))
		return !more
	})
	defer c.g.done()
	c.mu.Lock()
	if l.moved != nil {
		close(l.moved)
		c.mu.Unlock()
		return
	}
	if werr != nil {
		c.clearQueue()
		c.stopDraining()
		err = werr
	}
	c.mu.Unlock()
	c.afterDrain(err)
}

// drainTo writes the queue to the descriptor. When it returns false the drain
// is over. mu is held.
func (c *conn) drainTo(fd int) (more bool, err error) {
	for c.q.size > 0 && err == nil {
		if c.closing.Load() == closed {
			err = net.ErrClosed
			break
		}
		b := c.q.front()
		var n int
		n, err = writeFD(fd, b)
		c.q.pop(n)
		if n < len(b) && err == nil {
			c.backlog.Store(int64(c.q.size))
			return true, nil
		}
	}
	if err != nil {
		c.q.clear()
	}
	c.backlog.Store(int64(c.q.size))
	c.stopDraining()
	return false, err
}

func (l *rawLink) interrupt(hard bool) { l.c.interrupt(hard) }

func (l *rawLink) kill() { l.c.nc.Close() }

// run leaves the caller's goroutine, whose stack has grown in the handshake,
// for one with a small stack.
func (l *rawLink) run() {
	if over, err := l.c.start(); over {
		l.c.end(err)
		return
	}
	go l.loop()
}

func (l *rawLink) loop() {
	err := l.rc.Read(l.readable)
	if l.over {
		err = l.rerr
	}
	l.c.end(err)
}

// readable runs the connection until the kernel has no more for it.
func (l *rawLink) readable(fd uintptr) (end bool) {
	c := l.c
	s := scratches.Get().(*scratch)
	for budget := readBudget; ; {
		n, err := readFD(int(fd), s.in[:])
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			c.shut(closed, err)
			l.over = true
			break
		}
		l.over, l.rerr = c.feed(s, n)
		if !l.over {
			c.h.Flush()
			if gate := c.closedGate(); gate != nil {
				scratches.Put(s)
				<-gate
				s = scratches.Get().(*scratch)
			}
			l.over = c.closing.Load() != open
		}
		if l.over {
			break
		}
		if budget -= n; budget <= 0 {
			scratches.Put(s)
			runtime.Gosched()
			s = scratches.Get().(*scratch)
			budget = readBudget
		}
	}
	scratches.Put(s)
	return l.over
}

func readFD(fd int, p []byte) (int, error) {
	for {
		n, err := sysRead(fd, p)
		if err == nil {
			return n, nil
		}
		if err != syscall.EINTR {
			return 0, err
		}
	}
}

// writeFD takes less than p, and no error, when the kernel is full.
func writeFD(fd int, p []byte) (int, error) {
	for {
		n, err := sysWrite(fd, p)
		switch err {
		case nil:
			return n, nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
