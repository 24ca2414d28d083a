package bench

import (
	"errors"
	"sync/atomic"

	"github.com/sealmq/sealmq/mqtt"
)

// subscriber counts what arrives on one connection.
type subscriber struct {
	t *traffic
	l *link

	// next is the number that the next message of publisher first+i should have; nil when the stream is shared.
	first int
	next  []uint32

	// All until the atomics is the reading goroutine's, gathered for a batch and handed over by settle.
	acks         []byte
	lat, latWarm recorder
	n, nMeasured uint64
	nDouble      uint64
	creditTo     int // publisher
	credit       int64
	foreign      uint64

	received atomic.Uint64 // messages
	measured atomic.Uint64 // those of the measured time
	doubled  atomic.Uint64 // of those: seen before, or overtaken
}

// settle is called when the batch has been used up and before the kernel is asked for the next: acknowledgements leave,
// counters move, publishers learn that their messages have arrived.
func (s *subscriber) settle() {
	if len(s.acks) > 0 {
		s.l.Write(s.acks)
		s.acks = s.acks[:0]
	}
	if s.n == 0 {
		return
	}
	s.lat.flush()
	s.latWarm.flush()
	s.received.Add(s.n)
	s.measured.Add(s.nMeasured)
	if s.nDouble > 0 {
		s.doubled.Add(s.nDouble)
	}
	s.n, s.nMeasured, s.nDouble = 0, 0, 0
	s.giveCredit()
}

func (s *subscriber) giveCredit() {
	if s.credit > 0 {
		s.t.pubs[s.creditTo].arrived(s.credit)
		s.credit = 0
	}
}

// run reads until the connection ends.
func (s *subscriber) run() error {
	for {
		h, body, err := s.l.next()
		switch {
		case err == mqtt.ErrIncomplete:
			if err := s.l.fill(); err != nil {
				s.settle()
				return err
			}
			continue
		case err != nil:
			return err
		}
		switch h.Type {
		case mqtt.PUBLISH:
			if err := s.publish(h, body); err != nil {
				return err
			}
		case mqtt.PUBREL:
			if len(body) < 2 {
				return errors.New("PUBREL without packet identifier")
			}
			s.acks = appendAck(s.acks, mqtt.PUBCOMP, body)
		case mqtt.DISCONNECT:
			return s.l.disconnected(h, body)
		}
	}
}

func (s *subscriber) publish(h mqtt.Header, body []byte) error {
	qos := h.Flags >> 1 & 3
	m, ok := parseReceived(s.l.version, qos, body)
	if !ok || int(m.publisher) >= len(s.t.pubs) {
		if s.foreign++; s.foreign > 100 {
			return errors.New("messages arrive that are not this run's; choose another topic prefix")
		}
		return nil
	}
	switch qos {
	case 1:
		s.acks = appendAck(s.acks, mqtt.PUBACK, m.id)
	case 2:
		s.acks = appendAck(s.acks, mqtt.PUBREC, m.id)
	}
	s.n++
	double := false
	if i := int(m.publisher) - s.first; i >= 0 && i < len(s.next) {
		if double = m.number < s.next[i]; !double {
			s.next[i] = m.number + 1
		}
	}
	took := int64(s.l.sock.at) - m.at
	if m.at >= s.t.from {
		s.lat.add(took)
		s.nMeasured++
		if double {
			s.nDouble++
		}
	} else {
		s.latWarm.add(took)
	}
	if int(m.publisher) != s.creditTo {
		s.giveCredit()
		s.creditTo = int(m.publisher)
	}
	s.credit++
	return nil
}
