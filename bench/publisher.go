package bench

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq/mqtt"
)

// batchBytes is the most that a publisher writes at once: what fits in one TLS record.
const batchBytes = 16 << 10

// publisher sends on one connection. In an open loop the pacer tells how many messages are due; in a closed loop its own
// goroutine sends as long as there is room in the window.
type publisher struct {
	t        *traffic
	l        *link
	i        int
	patterns []pattern
	size     int   // bytes of a message at most
	copies   int64 // deliveries that each message shall have
	inflight int64 // messages unacknowledged at most, QoS 1 and 2
	step     int64 // closed loop: room for fewer is not worth waking up for

	times []int64 // closed loop, QoS 1 and 2: when message n was sent, at n modulo its length, a power of two

	mu     sync.Mutex
	due    int64 // messages due so far, open loop
	out    []byte
	id     uint16
	late   recorder
	sent   atomic.Int64 // messages; written under mu
	behind atomic.Bool  // messages are due that have no room

	measured atomic.Int64 // messages of the measured time
	_        [64]byte     // what the other side writes lies in another cache line

	delivered atomic.Int64 // deliveries that subscribers saw
	forgiven  atomic.Int64 // deliveries that are no longer expected
	acked     atomic.Int64
	refused   atomic.Uint64
	refusal   atomic.Uint32 // the first reason code
	ack       recorder      // the reader's: from a message to the end of its acknowledgement
	wake      chan struct{}
}

func newPublisher(t *traffic, i int) *publisher {
	cfg := &t.cfg
	p := &publisher{t: t, i: i, copies: t.copies, wake: make(chan struct{}, 1)}
	for j := range cfg.Topics {
		p.patterns = append(p.patterns, newPattern(cfg, t.topic(i, j)))
		p.size = max(p.size, len(p.patterns[j].packet))
	}
	p.late.to = &t.late
	p.ack.to = &t.ack[i%len(t.ack)]
	return p
}

// connected takes the limits of the connection.
func (p *publisher) connected(l *link) {
	p.l = l
	p.inflight = int64(min(p.t.cfg.Window, l.receiveMax))
	p.step = max(1, int64(p.t.cfg.Window)/4)
	if p.t.cfg.QoS > 0 {
		p.step = max(1, p.inflight/4)
		if p.t.cfg.Rate == 0 {
			p.times = make([]int64, 1<<bits.Len64(uint64(p.inflight)))
		}
	}
}

// ackRoom is how many more messages the broker may be sent; for QoS 0 there is no bound.
func (p *publisher) ackRoom() int64 {
	if p.t.cfg.QoS == 0 {
		return 1 << 40
	}
	return p.inflight - (p.sent.Load() - p.acked.Load())
}

// room is how many messages the window takes, closed loop.
func (p *publisher) room() int64 {
	if p.t.cfg.Scenario == Offline {
		return p.ackRoom()
	}
	waiting := p.sent.Load()*p.copies - p.delivered.Load() - p.forgiven.Load()
	window := int64(p.t.cfg.Window)
	return min(window-max(waiting, 0)/p.copies, p.ackRoom())
}

// add encodes one message.
func (p *publisher) add(at, number int64) {
	if p.t.cfg.QoS > 0 {
		if p.id++; p.id == 0 {
			p.id = 1
		}
	}
	pat := &p.patterns[0]
	if len(p.patterns) > 1 {
		pat = &p.patterns[number%int64(len(p.patterns))]
	}
	p.out = pat.append(p.out, p.id, at, uint32(p.i), uint32(number))
}

// write sends what has been encoded. n messages, of which measured belong to the measured time.
func (p *publisher) write(n, measured int64) error {
	p.sent.Add(n)
	if measured > 0 {
		p.measured.Add(measured)
	}
	_, err := p.l.Write(p.out)
	p.out = p.out[:0]
	return err
}

// pace sends what is due and has room; n more have become due. Any goroutine.
func (p *publisher) pace(n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due += n
	for {
		next := p.sent.Load()
		if next == p.due {
			p.behind.Store(false)
			return nil
		}
		room := p.ackRoom()
		if room <= 0 {
			p.behind.Store(true)
			// An acknowledgement that came before behind was set has not called.
			if p.ackRoom() <= 0 {
				return nil
			}
			continue
		}
		now := p.t.now()
		end := min(p.due, next+room)
		first, measured := next, int64(0)
		for ; next < end && (next == first || len(p.out)+p.size <= batchBytes); next++ {
			at := p.t.dueAt(p.i, next)
			if at >= p.t.from {
				measured++
				p.late.add(now - at)
			}
			p.add(at, next)
		}
		p.late.flush()
		if err := p.write(next-first, measured); err != nil {
			return err
		}
	}
}

// saturate keeps the window full until the time to stop.
func (p *publisher) saturate(ctx context.Context) error {
	for {
		room := p.room()
		now := p.t.now()
		if now >= p.t.stopAt.Load() {
			return nil
		}
		if room < p.step {
			select {
			case <-p.wake:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		number := p.sent.Load()
		n := int64(0)
		for n < room && (n == 0 || len(p.out)+p.size <= batchBytes) {
			p.add(now, number+n)
			if p.times != nil {
				p.times[(number+n)&int64(len(p.times)-1)] = now
			}
			n++
		}
		measured := n
		if now < p.t.from {
			measured = 0
		}
		if err := p.write(n, measured); err != nil {
			return err
		}
	}
}

// arrived is told by subscribers.
func (p *publisher) arrived(n int64) {
	after := p.delivered.Add(n)
	if part := p.step * p.copies; after/part != (after-n)/part {
		p.rouse()
	}
}

func (p *publisher) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// acknowledge counts the latencies of n more acknowledgements. They come in the order of the messages [MQTT-4.6.0-2]; a
// broker that does otherwise changes the mean by nothing.
func (p *publisher) acknowledge(n int64) {
	first, at := p.acked.Load(), int64(p.l.sock.at)
	// Not more than were sent, whatever the broker says; and what sent says has been written to times.
	end := min(first+n, p.sent.Load())
	for k := first; k < end; k++ {
		var from int64
		if p.times != nil {
			from = p.times[k&int64(len(p.times)-1)]
		} else {
			from = p.t.dueAt(p.i, k)
		}
		if from >= p.t.from {
			p.ack.add(at - from)
		}
	}
	p.ack.flush()
}

// run reads acknowledgements until the connection ends.
func (p *publisher) run() error {
	var out []byte
	var acks int64
	// Before the kernel is asked for more, what the batch brought is put to use.
	settle := func() error {
		if len(out) > 0 {
			if _, err := p.l.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		if acks == 0 {
			return nil
		}
		p.acknowledge(acks)
		after := p.acked.Add(acks)
		if after/p.step != (after-acks)/p.step {
			p.rouse()
		}
		acks = 0
		if p.behind.Load() {
			return p.pace(0)
		}
		return nil
	}
	p.l.sock.before = func() { settle() }
	for {
		h, body, err := p.l.next()
		if err == mqtt.ErrIncomplete {
			if err := p.l.fill(); err != nil {
				settle()
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case mqtt.PUBACK, mqtt.PUBCOMP, mqtt.PUBREC:
			if len(body) < 2 {
				return errors.New(h.Type.String() + " without packet identifier")
			}
			no := len(body) > 2 && body[2] >= 0x80
			if no {
				p.refusal.CompareAndSwap(0, uint32(body[2]))
				p.refused.Add(1)
			}
			if h.Type == mqtt.PUBREC && !no {
				out = appendAck(out, mqtt.PUBREL, body)
			} else {
				acks++
			}
		case mqtt.DISCONNECT:
			return p.l.disconnected(h, body)
		}
	}
}
