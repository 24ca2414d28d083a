package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Source makes random ops, such as a broker might submit, and keeps the model of what they come to.
type Source struct {
	Model *Model
	// Lingering makes some messages linger.
	Lingering bool

	intn   func(n int) int
	next   store.SessionID
	seq    uint64
	ids    []store.SessionID // all that ever were
	alive  map[store.SessionID]bool
	places map[store.SessionID]*place
	lanes  [3]store.Lane
}

// place counts a session's positions.
type place struct{ pos, bytes uint64 }

// NewSource returns a source that draws numbers 0 … n-1 from intn.
func NewSource(intn func(n int) int) *Source {
	return &Source{Model: NewModel(), intn: intn, alive: map[store.SessionID]bool{}, places: map[store.SessionID]*place{}}
}

// Reopened tells that the store was opened again: what it was given no time to write is not known to anybody.
func (s *Source) Reopened() { s.lanes = [3]store.Lane{} }

// Op returns the next op, prepared to be submitted. Some of its placements may have been acknowledged already.
func (s *Source) Op() *store.Op {
	for {
		op := s.op(s.intn(20))
		if op == nil || op.Kind == store.Publish && !op.Prepare() {
			continue
		}
		if s.intn(5) > 0 {
			op.Wait = s
		}
		if s.intn(2) == 0 {
			op.Lane = &s.lanes[s.intn(len(s.lanes))]
		}
		return op
	}
}

func (s *Source) op(kind int) *store.Op {
	id := s.session()
	switch kind {
	case 0, 1:
		if !s.alive[id] || s.intn(3) > 0 {
			s.next++
			id = s.next
			s.ids = append(s.ids, id)
			s.places[id], s.alive[id] = &place{}, true
		}
		return &store.Op{Kind: store.PutSession, Session: id, State: s.state(id)}
	case 2:
		if s.intn(3) > 0 {
			return nil
		}
		delete(s.alive, id)
		return &store.Op{Kind: store.EndSession, Session: id}
	case 3, 4:
		op := &store.Op{Kind: store.Subscribe, Session: id}
		for range 1 + s.intn(3) {
			op.Subscriptions = append(op.Subscriptions, store.Subscription{Filter: s.topic(), QoS: uint8(s.intn(3)), NoLocal: s.intn(2) == 0,
				RetainAsPublished: s.intn(2) == 0, ID: uint32(s.intn(3) * 1000), Replay: s.intn(2) == 0})
		}
		return op
	case 5:
		return &store.Op{Kind: store.Unsubscribe, Session: id, Filters: []string{s.topic(), s.topic()}}
	case 6, 7, 8, 9, 10:
		if op := s.positions(id); op != nil {
			op.Kind = store.Acked
			return op
		}
	case 11:
		if op := s.positions(id); op != nil {
			op.Kind = store.Recorded
			return op
		}
	case 12:
		return &store.Op{Kind: store.Released, Session: id, PacketID: uint16(1 + s.intn(5))}
	case 13:
		return s.record()
	default:
		return s.publish(id)
	}
	return nil
}

// session returns one that may have ended, or never was.
func (s *Source) session() store.SessionID {
	if len(s.ids) == 0 || s.intn(30) == 0 {
		return 1 << 40
	}
	return s.ids[len(s.ids)-1-s.intn(min(len(s.ids), 8))]
}

func (s *Source) topic() string { return fmt.Sprint("t/", s.intn(6)) }

func (s *Source) state(id store.SessionID) *store.Session {
	st := &store.Session{ID: id, ClientID: fmt.Sprint("client ", id), Name: "name", Method: "m", Bound: s.intn(2) == 0, Online: s.intn(2) == 0,
		Expiry: uint32(s.intn(1000)), Sent: uint64(s.intn(100)), ExpireAt: time.Duration(s.intn(3)) * time.Hour}
	if s.intn(2) == 0 {
		st.WillAt = time.Duration(s.intn(3)) * time.Minute
		st.Will = &store.Will{Topic: []byte(s.topic()), Payload: []byte("gone"), QoS: uint8(s.intn(3)), Retain: s.intn(2) == 0, Delay: uint32(s.intn(9))}
	}
	return st
}

// positions picks some of a session's queue.
func (s *Source) positions(id store.SessionID) *store.Op {
	se := s.Model.Sessions[id]
	if se == nil || len(se.Queue) == 0 {
		return nil
	}
	all := se.Positions()
	op := &store.Op{Session: id}
	for range 1 + s.intn(4) {
		op.Positions = append(op.Positions, all[s.intn(len(all))])
	}
	return op
}

func (s *Source) publish(id store.SessionID) *store.Op {
	payload := strings.Repeat("payload ", s.intn(20))
	if s.intn(50) == 0 {
		payload = strings.Repeat("long ", 30_000)
	}
	var props []byte
	if s.intn(3) == 0 {
		props = []byte("props")
	}
	m := store.NewMessage(s.topic(), []byte(payload), props)
	m.QoS, m.Retain, m.Expires = uint8(s.intn(3)), s.intn(2) == 0, int64(s.intn(2)*1e9)
	op := &store.Op{Kind: store.Publish, Session: id, Message: m}
	if s.intn(5) == 0 {
		s.seq++
		from := store.Publisher{ClientID: fmt.Sprint("client ", id), Owner: uint64(s.intn(3))}
		op.Retained, m.Retain, m.Seq, m.From = true, true, s.seq, &from
	}
	if s.intn(4) == 0 {
		op.PacketID = uint16(1 + s.intn(5))
	}
	if s.intn(10) == 0 {
		op.Will = s.session()
	}
	if s.Lingering && s.intn(2) == 0 {
		op.Linger = time.Duration(s.intn(3000)) * time.Microsecond
	}
	seen := map[store.SessionID]bool{}
	for range s.intn(5) {
		to := s.session()
		if seen[to] {
			continue
		}
		seen[to] = true
		p := s.place(to, m)
		op.Place(p)
		if s.intn(6) == 0 && p.Acknowledge() != store.Written {
			s.Model.Spare(p)
		}
	}
	return op
}

// place returns the next place in a session's queue; some positions are left out.
func (s *Source) place(id store.SessionID, m *store.Message) *store.Placement {
	at := s.places[id]
	if at == nil {
		at = &place{}
		s.places[id] = at
	}
	at.pos += 1 + uint64(s.intn(5)/4)
	at.bytes += uint64(m.Size())
	p := &store.Placement{Session: id, Pos: at.pos, Bytes: at.bytes, QoS: m.QoS, Retain: s.intn(2) == 0}
	for range s.intn(3) {
		p.SubIDs = append(p.SubIDs, uint32(1+s.intn(300)))
	}
	if s.intn(4) == 0 {
		p.Share = "$share/g/" + m.Topic
	}
	return p
}
