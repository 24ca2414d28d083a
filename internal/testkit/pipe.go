package testkit

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// DefaultPipeBuffer is the capacity of one direction of a Pipe made with bound 0, in bytes.
const DefaultPipeBuffer = 64 << 10

// Pipe returns the two ends of an in-memory duplex byte stream. Each direction holds at most bound bytes (0 means
// DefaultPipeBuffer); a writer waits while it is full. All waiting is durably blocking in a synctest bubble.
func Pipe(bound int) (a, b *End) {
	if bound <= 0 {
		bound = DefaultPipeBuffer
	}
	ab, ba := newHalf(bound), newHalf(bound)
	return &End{in: ba, out: ab, name: "pipe a"}, &End{in: ab, out: ba, name: "pipe b"}
}

// End is one end of a Pipe, a net.Conn that can also be closed for writing alone.
type End struct {
	in, out *half
	name    string
}

// Read reads what has arrived; it waits until there is something, the other end stops writing (io.EOF), or the read
// deadline passes (os.ErrDeadlineExceeded).
func (e *End) Read(p []byte) (int, error) { return e.in.read(p) }

// Write waits until all of p is in the pipe. It fails once either end is closed for this direction.
func (e *End) Write(p []byte) (int, error) { return e.out.write(p, true) }

// TryWrite writes what the pipe has room for and never waits.
func (e *End) TryWrite(p []byte) (int, error) { return e.out.write(p, false) }

// CloseWrite ends the outgoing direction: the other end reads io.EOF after what is buffered.
func (e *End) CloseWrite() error { e.out.finish(); return nil }

// Close ends both directions. What the other end has not read yet stays readable to it.
func (e *End) Close() error {
	e.out.finish()
	e.in.abandon()
	return nil
}

func (e *End) LocalAddr() net.Addr  { return pipeAddr(e.name) }
func (e *End) RemoteAddr() net.Addr { return pipeAddr(e.name) }

func (e *End) SetDeadline(t time.Time) error {
	e.in.setDeadline(&e.in.rd, t)
	e.out.setDeadline(&e.out.wd, t)
	return nil
}
func (e *End) SetReadDeadline(t time.Time) error  { e.in.setDeadline(&e.in.rd, t); return nil }
func (e *End) SetWriteDeadline(t time.Time) error { e.out.setDeadline(&e.out.wd, t); return nil }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// half is one direction.
type half struct {
	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	bound    int
	finished bool // the writer is done
	gone     bool // the reader is gone
	rd, wd   deadline
}

type deadline struct {
	passed bool
	timer  *time.Timer
	epoch  int
}

func newHalf(bound int) *half {
	h := &half{bound: bound}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, net.ErrClosed
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			if len(h.buf) == 0 {
				h.buf = nil
			}
			h.cond.Broadcast()
			return n, nil
		case h.finished:
			return 0, io.EOF
		case h.rd.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		h.cond.Wait()
	}
}

var errPipeClosed = errors.New("pipe: the other end is closed")

func (h *half) write(p []byte, wait bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.finished:
			return n, net.ErrClosed
		case h.gone:
			return n, errPipeClosed
		case h.wd.passed && wait:
			return n, os.ErrDeadlineExceeded
		}
		if room := h.bound - len(h.buf); room > 0 && len(p) > 0 {
			k := min(room, len(p))
			h.buf = append(h.buf, p[:k]...)
			p, n = p[k:], n+k
			h.cond.Broadcast()
		}
		if len(p) == 0 || !wait {
			return n, nil
		}
		h.cond.Wait()
	}
}

func (h *half) finish() {
	h.mu.Lock()
	h.finished = true
	h.wd.stop()
	h.cond.Broadcast()
	h.mu.Unlock()
}

func (h *half) abandon() {
	h.mu.Lock()
	h.gone, h.buf = true, nil
	h.rd.stop()
	h.cond.Broadcast()
	h.mu.Unlock()
}

func (d *deadline) stop() {
	d.epoch++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.stop()
	d.passed = false
	if !t.IsZero() {
		epoch := d.epoch
		if wait := time.Until(t); wait <= 0 {
			d.passed = true
		} else {
			d.timer = time.AfterFunc(wait, func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				if d.epoch == epoch {
					d.passed = true
					h.cond.Broadcast()
				}
			})
		}
	}
	h.cond.Broadcast()
}
