package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

const (
	fillers    = 32  // connections that fill queues
	fillWindow = 500 // messages of one of them on their way
)

// streams are messages that shall wait in queues: n of them, spread evenly over the streams, each with a topic of its own.
// The payload names the stream as the publisher.
type streams struct {
	count int
	n     int
	topic func(stream int) string
}

// of is how many messages a stream has.
func (s *streams) of(stream int) int { return (s.n - stream + s.count - 1) / s.count }

// fill publishes them, as fast as the broker acknowledges them. filled counts.
func (r *run) fill(s streams, filled *atomic.Int64) error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	n := min(fillers, s.count)
	for w := range n {
		wg.Go(func() {
			if err := r.fillSome(ctx, s, w, n, filled); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// fillSome publishes streams w, w+step, w+2·step….
func (r *run) fillSome(ctx context.Context, s streams, w, step int, filled *atomic.Int64) error {
	l, err := r.join(r.dial, w, name(r.cfg.ClientID, "f", w), transient, 2<<10)
	if err != nil {
		return err
	}
	defer l.bye()
	defer context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })()
	total := 0
	for stream := w; stream < s.count; stream += step {
		total += s.of(stream)
	}
	window := min(r.cfg.Window, l.receiveMax, fillWindow)
	var out []byte
	id, stream, number := uint16(0), w, 0
	for sent, acked := 0, 0; acked < total; {
		if sent < total && sent-acked <= window/2 {
			out = out[:0]
			for sent < total && sent-acked < window && len(out) < batchBytes {
				if id++; id == 0 {
					id = 1
				}
				pat := newPattern(&r.cfg, s.topic(stream))
				out = pat.append(out, id, 0, uint32(stream), uint32(number))
				sent++
				if stream += step; stream >= s.count || number*s.count+stream >= s.n {
					stream, number = w, number+1
				}
			}
			if _, err := l.Write(out); err != nil {
				return lost("filling client", err)
			}
			continue
		}
		n, err := l.acknowledged()
		if err != nil {
			return err
		}
		acked += n
		filled.Add(int64(n))
	}
	return nil
}

// acknowledged reads a packet and is 1 when a message is done with it.
func (l *link) acknowledged() (int, error) {
	if l.r == l.w {
		l.SetReadDeadline(time.Now().Add(handshakeTime))
	}
	h, body, err := l.packet()
	if err != nil {
		return 0, lost("filling client", err)
	}
	switch h.Type {
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		if len(body) < 2 {
			return 0, errors.New(h.Type.String() + " without packet identifier")
		}
		if len(body) > 2 && body[2] >= 0x80 {
			return 0, &PublishError{Code: mqtt.ReasonCode(body[2]), Count: 1}
		}
		if h.Type != mqtt.PUBREC {
			return 1, nil
		}
		if _, err := l.Write(appendAck(nil, mqtt.PUBREL, body)); err != nil {
			return 0, lost("filling client", err)
		}
	}
	return 0, nil
}

// collector receives what waits in a session, and acknowledges it.
type collector struct {
	l     *link
	want  int
	first int      // stream
	next  []uint32 // the number that the next message of stream first+i should have

	received, again int
	began, ended    time.Time // the first message, the last one
	acks            []byte
}

// settle is called when a batch has been used up.
func (c *collector) settle() error {
	if len(c.acks) == 0 {
		return nil
	}
	_, err := c.l.Write(c.acks)
	c.acks = c.acks[:0]
	return err
}

// run returns when all has come, or nothing more for idle: that is no error.
func (c *collector) run(idle time.Duration) error {
	var until time.Time
	c.l.sock.before = func() {
		c.settle()
		// Not at every read: setting it costs more than reading.
		if now := time.Now(); until.Sub(now) < idle {
			until = now.Add(2 * idle)
			c.l.SetReadDeadline(until)
		}
	}
	for c.received-c.again < c.want {
		h, body, err := c.l.next()
		if err == mqtt.ErrIncomplete {
			if err := c.l.fill(); errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			} else if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case mqtt.PUBLISH:
			if err := c.publish(h, body); err != nil {
				return err
			}
		case mqtt.PUBREL:
			if len(body) < 2 {
				return errors.New("PUBREL without packet identifier")
			}
			c.acks = appendAck(c.acks, mqtt.PUBCOMP, body)
		case mqtt.DISCONNECT:
			return c.l.disconnected(h, body)
		}
	}
	return c.settle()
}

func (c *collector) publish(h mqtt.Header, body []byte) error {
	qos := h.Flags >> 1 & 3
	m, ok := parseReceived(c.l.version, qos, body)
	i := int(m.publisher) - c.first
	if !ok || i < 0 || i >= len(c.next) {
		return fmt.Errorf("a message arrives that is not this run's; choose another topic prefix")
	}
	switch qos {
	case 1:
		c.acks = appendAck(c.acks, mqtt.PUBACK, m.id)
	case 2:
		c.acks = appendAck(c.acks, mqtt.PUBREC, m.id)
	}
	if c.received++; c.received == 1 {
		c.began = time.Now()
	}
	if m.number < c.next[i] {
		c.again++
	} else {
		c.next[i] = m.number + 1
	}
	if c.received-c.again == c.want {
		c.ended = time.Now()
	}
	return nil
}
