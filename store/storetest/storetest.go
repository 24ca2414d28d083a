// Package storetest is the suite that every store passes, and its parts: a handler that keeps what it is told, a naive
// model of a store, and a source of random ops. Only tests import it.
package storetest

import (
	"fmt"
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
		{"Fields", fields}, {"FetchBounds", fetchBounds}, {"Order", order}, {"Elision", elision}, {"Ended", ended}, {"Wills", wills},
		{"RetainedMessages", retained}, {"Received", received}, {"Recorded", recorded}, {"Shared", shared}, {"Records", records}, {"RecordLimits", recordLimits},
		{"SubmitInside", submitInside},
		{"Drain", drain}, {"Concurrency", concurrency}, {"Stats", stats},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newHarness(t, open)) })
	}
	t.Run("Model", func(t *testing.T) { model(t, open, false) })
}

// RunLingering runs what stores pass besides that hold ops back as Op.Linger asks.
func RunLingering(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *harness)
	}{
		{"Elided", lingerElided}, {"Partly", lingerPartly}, {"Lanes", lingerLanes}, {"Due", lingerDue}, {"Drain", lingerDrain},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newHarness(t, open)) })
	}
	t.Run("Model", func(t *testing.T) { model(t, open, true) })
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
	h.do(&store.Op{Kind: store.PutSession, Session: id, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}, Wait: h})
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
