// Package storetest is the suite that every store passes, and its parts: a handler that keeps what it is told, a naive
// model of a store, and a source of random ops. Only tests import it.
package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Open makes an empty store that is closed when the test ends. reopen closes it and opens what it has left; nil if it
// leaves nothing. What is returned was not loaded.
type Open func(testing.TB) (s store.Store, reopen func() store.Store)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *harness)
	}{
		{"Fields", fields}, {"FetchBounds", fetchBounds},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newHarness(t, open)) })
	}
}

// harness is a loaded store under test.
type harness struct {
	t      testing.TB
	s      store.Store
	r      *Recorder
	again  func() store.Store
	clock  time.Duration
	next   store.SessionID
	places map[store.SessionID]*place
}

// place counts a session's positions.
type place struct{ pos, bytes uint64 }

func newHarness(t testing.TB, open Open) *harness {
	s, reopen := open(t)
	h := &harness{t: t, s: s, again: reopen, places: map[store.SessionID]*place{}}
	h.load()
	return h
}

func (h *harness) load() {
	h.t.Helper()
	h.r = NewRecorder()
	clock, err := h.s.Load(h.r)
	if err != nil {
		h.t.Fatal(err)
	}
	if clock < h.clock {
		h.t.Fatalf("the clock went back from %v to %v", h.clock, clock)
	}
	h.clock = clock
	h.t.Cleanup(h.faults)
}

func (h *harness) faults() {
	for _, f := range h.r.Faults() {
		h.t.Error(f)
	}
}

// reopen reports false if the store leaves nothing.
func (h *harness) reopen() bool {
	h.t.Helper()
	if h.again == nil {
		return false
	}
	h.faults()
	h.s = h.again()
	h.load()
	return true
}

// do submits ops and waits until they are committed.
func (h *harness) do(ops ...*store.Op) {
	h.t.Helper()
	for _, op := range ops {
		if op.Kind == store.Publish && !op.Prepare() {
			h.t.Fatal("an op is elided before it was submitted")
		}
	}
	h.s.Submit(ops...)
	h.wait(ops...)
}

func (h *harness) wait(ops ...*store.Op) {
	h.t.Helper()
	err, ok := h.r.Wait(ops...)
	if !ok {
		h.t.Fatal("ops are not reported")
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// session makes a session with a name of its own.
func (h *harness) session() store.SessionID {
	h.t.Helper()
	h.next++
	id := h.next
	h.places[id] = &place{}
	h.do(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}, Wait: h})
	return id
}

// placement is the next place in a session's queue.
func (h *harness) placement(id store.SessionID, m *store.Message) *store.Placement {
	p := h.places[id]
	if p == nil {
		p = &place{}
		h.places[id] = p
	}
	p.pos++
	p.bytes += uint64(m.Size())
	return &store.Placement{Session: id, Pos: p.pos, Bytes: p.bytes, QoS: m.QoS}
}

// publish is an op that puts a message into the queues of sessions.
func (h *harness) publish(m *store.Message, to ...store.SessionID) *store.Op {
	op := &store.Op{Kind: store.Publish, Message: m, Wait: h}
	for _, id := range to {
		op.Place(h.placement(id, m))
	}
	return op
}

func message(topic, payload string) *store.Message {
	m := store.NewMessage(topic, []byte(payload), nil)
	m.QoS = 1
	return m
}

func (h *harness) check(diff string) {
	h.t.Helper()
	if diff != "" {
		h.t.Fatal(diff)
	}
}

// fields: every field of everything comes back as it was given.
func fields(t *testing.T, h *harness) {
	m := NewModel()
	do := func(ops ...*store.Op) {
		t.Helper()
		h.do(ops...)
		for _, op := range ops {
			m.Apply(op)
		}
	}
	long := strings.Repeat("x", 65535)
	do(&store.Op{Kind: store.PutSession, State: &store.Session{ID: 7, ClientID: long, Name: "name", Method: "cert", Bound: true, Online: true,
		Expiry: 1<<32 - 1, Sent: 1 << 60, WillAt: 5 * time.Hour, ExpireAt: 6 * time.Hour,
		Will: &store.Will{Topic: []byte("will/" + long[:65530]), Payload: []byte{0, 255}, Props: []byte{3, 4}, Expiry: 7, HasExpiry: true,
			Delay: 1<<32 - 1, QoS: 2, Retain: true}}, Wait: h})
	do(&store.Op{Kind: store.PutSession, State: &store.Session{ID: 1 << 63, ClientID: ""}, Wait: h})
	do(&store.Op{Kind: store.PutSession, State: &store.Session{ID: 1<<64 - 1, ClientID: "last", Will: &store.Will{Topic: []byte("w")}}, Wait: h})
	do(&store.Op{Kind: store.Subscribe, Session: 7, Wait: h, Subscriptions: []store.Subscription{
		{Filter: long, QoS: 2, NoLocal: true, RetainAsPublished: true, ID: 268435455}, {Filter: "$share/g/#"}, {Filter: ""}}})
	do(&store.Op{Kind: store.Subscribe, Session: 1<<64 - 1, Wait: h, Subscriptions: []store.Subscription{{Filter: "a/+", QoS: 1}}})
	big := &store.Message{Topic: long, Payload: bytes.Repeat([]byte{7}, 20<<20), Props: []byte("props"), Expires: 1 << 62, Seq: 1<<64 - 1,
		From: &long, QoS: 2, Retain: true}
	op := &store.Op{Kind: store.Publish, Session: 7, PacketID: 65535, Retained: true, Message: big, Wait: h}
	op.Place(&store.Placement{Session: 7, Pos: 1, Bytes: uint64(big.Size()), SubIDs: []uint32{1, 268435455}, Share: "$share/g/#", QoS: 2, Retain: true})
	op.Place(&store.Placement{Session: 1<<64 - 1, Pos: 1 << 62, Bytes: 1 << 63})
	do(op)
	one := store.NewMessage("t", nil, nil)
	op = &store.Op{Kind: store.Publish, Message: one, Wait: h}
	op.Place(&store.Placement{Session: 7, Pos: 3, Bytes: uint64(big.Size() + one.Size()), SubIDs: []uint32{9}, Share: "s"})
	do(op)
	for range 2 {
		h.check(m.CheckQueues(h.s))
		if !h.reopen() {
			return
		}
		h.check(m.CheckLoaded(h.r))
	}
	h.check(m.CheckQueues(h.s))
}

// fetchBounds: Fetch keeps to positions, number and size, but returns one message if there is any.
func fetchBounds(t *testing.T, h *harness) {
	m, id, other := NewModel(), h.session(), h.session()
	for _, id := range []store.SessionID{id, other} {
		m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id}})
	}
	for i := range 30 {
		to := []store.SessionID{id}
		if i%3 == 0 {
			to = append(to, other)
		}
		if i%7 == 3 {
			h.placement(id, message("skipped", ""))
			continue
		}
		op := h.publish(message(fmt.Sprint("t/", i), strings.Repeat("p", i*10)), to...)
		h.do(op)
		m.Apply(op)
	}
	for _, from := range []uint64{0, 1, 4, 17, 29, 30, 31, 99} {
		for _, below := range []uint64{0, 1, 5, 17, 30, 31, 1<<64 - 1} {
			for _, most := range []int{0, 1, 2, 7, 100} {
				for _, size := range []int64{0, 1, 97, 400, 1 << 40} {
					h.check(m.CheckFetch(h.s, id, from, below, most, size))
				}
			}
		}
	}
	h.check(m.CheckQueues(h.s))
	if got, err := h.s.Fetch([]store.Queued{{Pos: 77}}, id, 1, 3, 9, 1<<40); err != nil || len(got) != 3 || got[0].Pos != 77 {
		t.Fatalf("Fetch does not append: %v, %v", got, err)
	}
	if got, err := h.s.Fetch(nil, 999, 0, 9, 9, 9); err != nil || len(got) != 0 {
		t.Fatalf("Fetch from an unknown session: %v, %v", got, err)
	}
}
