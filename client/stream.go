package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

const (
	readBuffer  = 4 << 10   // bytes, to begin with and to fall back to
	keepBuffer  = 64 << 10  // bytes; larger buffers are given back when empty
	backlogHigh = 256 << 10 // bytes queued for writing at which callers wait
	writeChunk  = 64 << 10  // bytes under one write deadline
	lingerTime  = time.Second
)

// reader cuts the byte stream into packets.
type reader struct {
	src        io.Reader
	buf        []byte
	start, end int
	max        int
}

func (r *reader) init(src io.Reader, maxSize int) {
	if maxSize == 0 {
		maxSize = maxPacket
	}
	r.src, r.max = src, maxSize
}

// next is the next packet; body is valid until the following call. The buffer
// grows with what has arrived, never with what a header promises.
func (r *reader) next() (h mqtt.Header, body []byte, err error) {
	for {
		have := r.buf[r.start:r.end]
		need := 2
		if len(have) >= 2 {
			h, err = mqtt.ParseHeader(have)
			switch {
			case err == nil:
				need = h.Size + h.Length
				if need > r.max {
					return h, nil, &mqtt.Error{Code: mqtt.PacketTooLarge, Text: fmt.Sprintf("packet too large: %d bytes, limit %d", need, r.max)}
				}
				if len(have) >= need {
					r.start += need
					return h, have[h.Size:need], nil
				}
			case errors.Is(err, mqtt.ErrIncomplete):
				need = len(have) + 1
			default:
				return h, nil, err
			}
		}
		if err := r.fill(need); err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return h, nil, err
		}
	}
}

// fill reads once, with room for up to need bytes from start.
func (r *reader) fill(need int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > keepBuffer {
			r.buf = nil
		}
	}
	if r.start+need > len(r.buf) {
		copy(r.buf, r.buf[r.start:r.end])
		r.end -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, max(readBuffer, 2*len(r.buf)))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// writer gathers packets; one goroutine sends them, so that no caller, and
// least of all the reader, stands in a write.
type writer struct {
	conn    net.Conn
	timeout time.Duration

	mu     sync.Mutex
	buf    []byte
	closed bool

	space chan struct{} // closed when the backlog shrinks; nil while nobody waits

	wake chan struct{} // something to send

	pingAt atomic.Int64 // unix nanoseconds of a PINGREQ without answer, else 0
}

func (w *writer) init(conn net.Conn, timeout time.Duration) {
	w.conn, w.timeout = conn, timeout
	w.wake = make(chan struct{}, 1)
}

// queue appends a packet; false after close.
func (w *writer) queue(packet []byte) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.buf = append(w.buf, packet...)
	w.mu.Unlock()
	signal(w.wake)
	return true
}

// room waits until the backlog is below its mark, the connection ends or ctx does.
func (w *writer) room(ctx context.Context) error {
	for {
		w.mu.Lock()
		if len(w.buf) < backlogHigh || w.closed {
			w.mu.Unlock()
			return nil
		}
		if w.space == nil {
			w.space = make(chan struct{})
		}
		space := w.space
		w.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take hands over what is queued and leaves spare in its place.
func (w *writer) take(spare []byte) (out []byte, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, w.buf = w.buf, spare[:0]
	w.freeRoom()
	return out, w.closed
}

func (w *writer) freeRoom() {
	if w.space != nil {
		close(w.space)
		w.space = nil
	}
}

func (w *writer) close(last []byte) {
	w.mu.Lock()
	w.buf = append(w.buf, last...)
	w.closed = true
	w.freeRoom()
	w.mu.Unlock()
	signal(w.wake)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// writeLoop sends what is queued and PINGREQ after three quarters of the keep
// alive without anything sent [MQTT-3.1.2-20].
func (c *Client) writeLoop() {
	w := &c.out
	idle := time.Duration(c.server.KeepAlive) * time.Second * 3 / 4
	lastSent := time.Now()
	var tick <-chan time.Time
	var timer *time.Timer
	if idle > 0 {
		timer = time.NewTimer(idle)
		defer timer.Stop()
		tick = timer.C
	}
	var out, spare []byte
	var closed bool
	for {
		out, closed = w.take(spare)
		if len(out) > 0 {
			if err := w.send(out); err != nil {
				c.finish(fmt.Errorf("%w: write: %w", ErrConnectionLost, err), nil)
				c.conn.Close()
				return
			}
			lastSent = time.Now()
		}
		if spare = out; cap(spare) > keepBuffer {
			spare = nil
		}
		if closed {
			w.halfClose()
			return
		}
		select {
		case <-w.wake:
		case <-tick:
			timer.Reset(c.keepAlive(idle, lastSent))
		}
	}
}

// keepAlive sends PINGREQ after idle of silence, and ends the connection when
// one went unanswered. It returns when to look again.
func (c *Client) keepAlive(idle time.Duration, lastSent time.Time) time.Duration {
	now := time.Now()
	if at := c.out.pingAt.Load(); at != 0 {
		// Whatever arrives proves the server alive; the answer may stand behind it.
		heard := time.Unix(0, max(at, c.lastRead.Load()))
		wait := c.cfg.AckTimeout - now.Sub(heard)
		if wait <= 0 {
			c.finish(fmt.Errorf("keep alive: %w within %v", ErrTimeout, c.cfg.AckTimeout), nil)
		}
		return max(wait, time.Millisecond)
	}
	if wait := idle - now.Sub(lastSent); wait > 0 {
		return wait
	}
	c.out.pingAt.Store(now.UnixNano())
	c.out.queue(mqtt.AppendPingreq(nil))
	return min(c.cfg.AckTimeout, idle)
}

// send writes in pieces, each with its own deadline: a slow link is not a dead one.
func (w *writer) send(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		w.conn.SetWriteDeadline(time.Now().Add(w.timeout))
		if _, err := w.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// halfClose tells the peer that nothing more comes and lets the reader take
// what is on its way, for a second at most.
func (w *writer) halfClose() {
	w.conn.SetReadDeadline(time.Now().Add(lingerTime))
	if half, ok := w.conn.(interface{ CloseWrite() error }); ok {
		w.conn.SetWriteDeadline(time.Now().Add(lingerTime))
		if half.CloseWrite() == nil {
			return
		}
	}
}
