package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealmq/sealmq/store"
)

// step is a part of a script: ops that are submitted together.
type step struct {
	ops  []*store.Op
	wait bool // for them to be reported
}

// author draws a script from a seed: sessions that come and go, with subscriptions, messages of all qualities of service
// and sizes, acknowledgements, retained messages and wills. It knows what the sessions hold, so that ops make sense.
type author struct {
	rng    *rand.Rand
	pool   []byte // of payloads
	big    int    // size of the largest payload
	ids    store.SessionID
	seq    uint64
	time   time.Duration
	online map[store.SessionID]*authorSession
}

type authorSession struct {
	record   store.Session
	pos      uint64
	bytes    uint64
	waiting  []uint64 // positions not acknowledged
	received []uint16
	pid      uint16
	filters  []string
}

// script returns n steps. Whoever runs it has to draw it anew: an op is used once.
func script(seed uint64, n, big int) []step {
	a := &author{rng: rand.New(rand.NewPCG(seed, 0)), big: big, online: make(map[store.SessionID]*authorSession)}
	a.pool = make([]byte, big+1000)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(a.pool)
	var steps []step
	for range 3 {
		steps = append(steps, step{ops: []*store.Op{a.begin()}})
	}
	for range n {
		var s step
		for range 1 + a.rng.IntN(3) {
			s.ops = append(s.ops, a.op())
		}
		if s.wait = a.rng.IntN(3) == 0; s.wait {
			s.ops[len(s.ops)-1].Wait = 1 // so that the store does not put it off
		}
		steps = append(steps, s)
	}
	return steps
}

func (a *author) some() (store.SessionID, *authorSession) {
	ids := slices.Sorted(maps.Keys(a.online))
	id := ids[a.rng.IntN(len(ids))]
	return id, a.online[id]
}

func (a *author) begin() *store.Op {
	a.ids++
	id := a.ids
	s := &authorSession{record: store.Session{
		ID: id, ClientID: fmt.Sprintf("client-%d", id), Name: "device", Method: "certificate", Bound: id%2 == 0, Online: true,
		Expiry: uint32(id) * 1000,
	}}
	if a.rng.IntN(2) == 0 {
		s.record.Will = &store.Will{Topic: fmt.Appendf(nil, "will/%d", id), Payload: []byte("gone"), Props: []byte{1, 1}, Delay: 7, QoS: 1, Retain: true}
	}
	a.online[id] = s
	return a.put(s)
}

func (a *author) put(s *authorSession) *store.Op {
	record := s.record
	return &store.Op{Kind: store.PutSession, Session: record.ID, State: &record, Wait: 1, Time: a.time}
}

func (a *author) op() *store.Op {
	a.time += time.Millisecond
	id, s := a.some()
	switch k := a.rng.IntN(20); {
	case k < 9:
		return a.publish(id, s)
	case k < 12 && len(s.waiting) > 0:
		n := 1 + a.rng.IntN(len(s.waiting))
		op := &store.Op{Kind: store.Acked, Session: id, Positions: s.waiting[:n:n], Time: a.time}
		s.waiting = s.waiting[n:]
		return op
	case k < 13 && len(s.waiting) > 0:
		return &store.Op{Kind: store.Recorded, Session: id, Positions: []uint64{s.waiting[a.rng.IntN(len(s.waiting))]}, Wait: 1, Time: a.time}
	case k < 14 && len(s.received) > 0:
		op := &store.Op{Kind: store.Released, Session: id, PacketID: s.received[0], Wait: 1, Time: a.time}
		s.received = s.received[1:]
		return op
	case k < 16:
		f := fmt.Sprintf("t/%d/#", a.rng.IntN(10))
		s.filters = append(s.filters, f)
		return &store.Op{Kind: store.Subscribe, Session: id, Wait: 1, Time: a.time, Subscriptions: []store.Subscription{
			{Filter: f, QoS: uint8(a.rng.IntN(3)), NoLocal: a.rng.IntN(2) == 0, ID: a.rng.Uint32N(1000)}}}
	case k < 17 && len(s.filters) > 0:
		op := &store.Op{Kind: store.Unsubscribe, Session: id, Filters: s.filters[:1:1], Wait: 1, Time: a.time}
		s.filters = s.filters[1:]
		return op
	case k < 18 && len(a.online) > 2:
		delete(a.online, id)
		return &store.Op{Kind: store.EndSession, Session: id, Wait: 1, Time: a.time}
	case k < 19 && len(a.online) < 6:
		return a.begin()
	}
	s.record.Online = !s.record.Online
	s.record.Sent = s.pos
	s.record.ExpireAt = a.time
	return a.put(s)
}

// publish is a message to as many sessions as there are, or fewer, perhaps retained or a will.
func (a *author) publish(id store.SessionID, s *authorSession) *store.Op {
	n := a.rng.IntN(100)
	if a.rng.IntN(4) == 0 {
		n = a.rng.IntN(a.big)
	}
	at := a.rng.IntN(1000)
	topic := fmt.Sprintf("t/%d/%d", a.rng.IntN(10), a.rng.IntN(10))
	op := &store.Op{Kind: store.Publish, Wait: 1, Time: a.time}
	switch a.rng.IntN(6) {
	case 0:
		op.Retained = true
		if a.rng.IntN(3) == 0 {
			n = 0
		}
	case 1:
		s.pid++
		s.received = append(s.received, s.pid)
		op.Session, op.PacketID = id, s.pid
	case 2:
		if s.record.Will != nil {
			s.record.Will = nil
			op.Will = id
		}
	}
	m := store.NewMessage(topic, a.pool[at:at+n], []byte{2, 0, 0, 0, byte(n)})
	m.QoS = 1 + uint8(a.rng.IntN(2))
	if op.Retained {
		a.seq++
		m.Retain, m.Seq, m.From = true, a.seq, &store.Publisher{ClientID: s.record.ClientID, Owner: uint64(a.rng.IntN(3))}
	}
	if a.rng.IntN(4) == 0 {
		m.Expires = int64(1 + a.rng.IntN(1e9))
	}
	op.Message = m
	for _, to := range slices.Sorted(maps.Keys(a.online)) {
		if a.rng.IntN(2) == 0 {
			continue
		}
		r := a.online[to]
		r.pos++
		r.bytes += uint64(m.Size())
		r.waiting = append(r.waiting, r.pos)
		p := &store.Placement{Session: to, Pos: r.pos, Bytes: r.bytes, QoS: m.QoS, Retain: m.Retain}
		if a.rng.IntN(3) == 0 {
			p.SubIDs = []uint32{uint32(r.pos), 7}
			p.Share = "$share/group/t/#"
		}
		op.Place(p)
	}
	return op
}
