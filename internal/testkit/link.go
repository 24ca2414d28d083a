package testkit

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Link is the broker's way out to one end of a Pipe: Write takes everything and never waits, the rest goes out as the
// other end reads. It has the methods of broker.Link.
type Link struct {
	end *End

	// OnWritable is called after the backlog has drained, from the goroutine that drained it. Set before the first Write.
	OnWritable func()

	mu       sync.Mutex
	backlog  []byte
	draining bool
	closing  bool
	closed   chan struct{} // after Close was called
	done     sync.WaitGroup
}

// NewLink returns a link that writes to end.
func NewLink(end *End) *Link { return &Link{end: end, closed: make(chan struct{})} }

// Write takes all of p. It fails only when the connection is gone.
func (l *Link) Write(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return net.ErrClosed
	}
	if len(l.backlog) == 0 && !l.draining {
		n, err := l.end.TryWrite(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if len(p) == 0 {
		return nil
	}
	l.backlog = append(l.backlog, p...)
	if !l.draining {
		l.draining = true
		l.done.Go(l.drain)
	}
	return nil
}

// Backlog is how many bytes were taken and not yet given to the pipe.
func (l *Link) Backlog() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.backlog)
}

// drain writes the backlog and ends when it is empty or the connection is gone.
func (l *Link) drain() {
	for {
		l.mu.Lock()
		p := l.backlog[:min(len(l.backlog), 16<<10)]
		if len(p) == 0 {
			l.backlog, l.draining = nil, false
			f := l.OnWritable
			if l.closing {
				f = nil
			}
			l.mu.Unlock()
			if f != nil {
				f()
			}
			return
		}
		l.mu.Unlock()
		n, err := l.end.Write(p)
		l.mu.Lock()
		if err != nil {
			l.backlog, l.draining = nil, false
			l.mu.Unlock()
			return
		}
		l.backlog = l.backlog[n:]
		l.mu.Unlock()
	}
}

// Close ends the connection; with linger what was written is delivered first and the other end's bytes are read and
// dropped, for at most a second. It never waits.
func (l *Link) Close(linger bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return
	}
	l.closing = true
	close(l.closed)
	if !linger {
		l.end.Close()
		return
	}
	l.done.Go(func() {
		deadline := time.Now().Add(time.Second)
		l.end.SetDeadline(deadline)
		for time.Now().Before(deadline) {
			l.mu.Lock()
			idle := !l.draining
			l.mu.Unlock()
			if idle {
				break
			}
			time.Sleep(time.Millisecond)
		}
		l.end.CloseWrite()
		io.Copy(io.Discard, readOnly{l.end})
		l.end.Close()
	})
}

// readOnly hides everything but Read.
type readOnly struct{ io.Reader }

// Wait returns when every goroutine of the link has ended.
func (l *Link) Wait() { l.done.Wait() }

// Handler is the part of a connection's state machine that a driver feeds; *broker.Conn has these methods.
type Handler interface {
	Data(p []byte) error
	Flush()
	Writable()
	Closed(err error)
}

// Drive reads end and feeds h until the connection ends, as a transport does after CONNECT was accepted.
func Drive(end *End, l *Link, h Handler) {
	buf := make([]byte, 4096)
	err := h.Data(nil)
	h.Flush()
	for err == nil {
		var n int
		n, err = end.Read(buf)
		if err != nil {
			break
		}
		select {
		case <-l.closed:
			err = net.ErrClosed
			continue
		default:
		}
		err = h.Data(buf[:n])
		h.Flush()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	h.Closed(err)
	l.Close(true)
}
