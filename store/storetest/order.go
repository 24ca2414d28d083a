package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/store"
)

// order: ops are reported in the order of Submit, each once.
func order(t *testing.T, h *harness) {
	id := h.session()
	var all []*store.Op
	for i := range 3000 {
		op := h.publish(message("t", fmt.Sprint(i)), id)
		if i%5 == 0 {
			op = &store.Op{Kind: store.Acked, Session: id, Positions: []uint64{h.places[id].pos}}
		}
		if op.Kind == store.Publish {
			op.Prepare()
		}
		all = append(all, op)
	}
	for rest := all; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(50))
		h.s.Submit(rest[:n]...)
		rest = rest[n:]
	}
	h.wait(all...)
	got := h.r.Reports()[1:]
	for i, op := range all {
		if got[i].Op != op {
			t.Fatalf("op %d is not reported in its turn", i)
		}
	}
}

// elision: what was acknowledged before Submit is not written, the rest of the op is.
func elision(t *testing.T, h *harness) {
	m, one, two := NewModel(), h.session(), h.session()
	for _, id := range []store.SessionID{one, two} {
		m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}})
	}
	part := h.publish(message("t", "part"), one, two)
	if got := part.Placements[0].Acknowledge(); got != store.Spared {
		t.Fatalf("outcome %d before Submit", got)
	}
	m.Spare(part.Placements[0])
	must := h.publish(message("t", "must"), one)
	must.Retained = true
	if got := must.Placements[0].Acknowledge(); got != store.Spared {
		t.Fatalf("outcome %d of an op that must be written", got)
	}
	m.Spare(must.Placements[0])
	whole := h.publish(message("t", "whole"), one, two)
	for _, op := range []*store.Op{part, must, whole} {
		h.do(op)
		m.Apply(op)
	}
	for _, op := range []*store.Op{part, whole} {
		if got := op.Placements[1].Acknowledge(); got != store.Written {
			t.Fatalf("outcome %d after Committed", got)
		}
	}
	h.check(m.CheckQueues(h.s))
	if h.reopen() {
		h.check(m.CheckLoaded(h.r))
		h.check(m.CheckQueues(h.s))
	}
}

// submitInside: the handler may call Submit.
func submitInside(t *testing.T, h *harness) {
	if !h.reopen() {
		return
	}
	h.s = h.again()
	h.r = NewRecorder()
	left := 50
	last := &store.Op{Kind: store.PutSession, Session: 2, State: &store.Session{ID: 2}, Wait: h}
	h.r.OnCommitted = func(ops []*store.Op, err error) {
		for range ops {
			if left--; left == 0 {
				h.s.Submit(last)
			} else if left > 0 {
				h.s.Submit(&store.Op{Kind: store.PutSession, Session: 1, State: &store.Session{ID: 1, Sent: uint64(left)}, Wait: h})
			}
		}
	}
	if _, err := h.s.Load(h.r); err != nil {
		t.Fatal(err)
	}
	h.s.Submit(&store.Op{Kind: store.PutSession, Session: 1, State: &store.Session{ID: 1}, Wait: h})
	h.wait(last)
	if n := len(h.r.Reports()); n != 51 {
		t.Fatalf("%d ops are reported, not 51", n)
	}
}

// drain: Close reports what was submitted.
func drain(t *testing.T, h *harness) {
	id := h.session()
	var all []*store.Op
	for i := range 1000 {
		op := h.publish(message("t", fmt.Sprint(i)), id)
		op.Prepare()
		all = append(all, op, &store.Op{Kind: store.Acked, Session: id, Positions: []uint64{uint64(i)}})
	}
	h.s.Submit(all...)
	r := h.r
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Reports()); n != len(all)+1 {
		t.Fatalf("Close left %d of %d ops unreported", len(all)+1-n, len(all))
	}
	if h.reopen() {
		if got, err := h.s.Fetch(nil, id, 0, 1<<62, 5000, 1<<40); err != nil || len(got) != 1 {
			t.Fatalf("%d messages, not 1: %v", len(got), err)
		}
	}
}

// concurrency: many goroutines submit, acknowledge and fetch; every op is reported once or elided, and what is in the
// queues in the end follows from what was reported.
func concurrency(t *testing.T, h *harness) {
	ids := []store.SessionID{h.session(), h.session(), h.session()}
	type written struct {
		id  store.SessionID
		pos uint64
	}
	var mu sync.Mutex
	want := map[written]bool{}
	var all []*store.Op
	elided := map[*store.Op]bool{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			lane := &store.Lane{}
			for range 300 {
				mu.Lock()
				op := h.publish(message("t", "x"), ids...)
				op.Lane = lane
				if r.IntN(2) == 0 {
					op.Linger = time.Duration(r.IntN(2000)) * time.Microsecond
				}
				op.Prepare()
				mu.Unlock()
				h.s.Submit(op)
				acked := r.IntN(2) == 0
				var ack []*store.Op
				for _, p := range op.Placements {
					if !acked && r.IntN(2) == 0 {
						mu.Lock()
						want[written{p.Session, p.Pos}] = true
						mu.Unlock()
						continue
					}
					switch p.Acknowledge() {
					case store.Written:
						ack = append(ack, &store.Op{Kind: store.Acked, Session: p.Session, Positions: []uint64{p.Pos}})
					case store.Elided:
						mu.Lock()
						elided[op] = true
						mu.Unlock()
					}
				}
				h.s.Submit(ack...)
				mu.Lock()
				all = append(append(all, op), ack...)
				mu.Unlock()
				if _, err := h.s.Fetch(nil, ids[r.IntN(len(ids))], uint64(r.IntN(400)), 1<<62, 20, 1<<40); err != nil {
					t.Error(err)
				}
				h.s.Stats()
				if err := h.s.Ready(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var reported []*store.Op
	for _, op := range all {
		if !elided[op] {
			reported = append(reported, op)
		}
	}
	h.wait(reported...)
	if got := len(h.r.Reports()) - len(ids); got != len(reported) {
		t.Errorf("%d ops are reported, not %d", got, len(reported))
	}
	if got := h.s.Stats().Elided; got > uint64(len(elided)) {
		t.Errorf("%d ops are counted as elided, not %d", got, len(elided))
	}
	for range 2 {
		for _, id := range ids {
			got, err := h.s.Fetch(nil, id, 0, 1<<62, 5000, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for w := range want {
				if w.id == id {
					n++
				}
			}
			if len(got) != n {
				t.Errorf("session %d has %d messages, not %d", id, len(got), n)
			}
			for _, q := range got {
				if !want[written{id, q.Pos}] {
					t.Fatalf("session %d has position %d, which was acknowledged", id, q.Pos)
				}
			}
		}
		if !h.reopen() {
			return
		}
	}
}

// stats: messages, elided ones and sessions are counted.
func stats(t *testing.T, h *harness) {
	one, two := h.session(), h.session()
	h.do(h.publish(message("t", "x"), one, two), h.publish(message("t", "y"), one), &store.Op{Kind: store.EndSession, Session: two, Wait: h})
	if st := h.s.Stats(); st.Messages != 2 || st.Sessions != 1 || st.Elided != 0 || st.Commits == 0 {
		t.Errorf("%+v", st)
	}
	if err := h.s.Ready(); err != nil {
		t.Error(err)
	}
}

// model: a store and a naive model of it agree, whatever comes.
func model(t *testing.T, open Open, lingering bool) {
	rapid.Check(t, func(rt *rapid.T) {
		s := NewSource(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "") })
		s.Lingering = lingering
		h := newHarness(t, open)
		defer h.s.Close()
		told := 0
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			var ops []*store.Op
			for range rapid.IntRange(1, 12).Draw(rt, "ops") {
				ops = append(ops, s.Op())
			}
			if s.intn(10) > 0 {
				ops[len(ops)-1].Wait = s // so that nothing waits for company
			}
			h.s.Submit(ops...)
			h.modelAcknowledge(rt, s, ops)
			reports := h.r.Reports()
			for _, rep := range reports[told:] {
				if rep.Err != nil {
					rt.Fatal(rep.Err)
				}
				s.Model.Apply(rep.Op)
			}
			told = len(reports)
			diff := s.Model.CheckQueues(h.s)
			if diff == "" && rapid.IntRange(0, 9).Draw(rt, "reopen") == 0 && h.reopen() {
				told = 0
				s.Reopened()
				diff = s.Model.CheckLoaded(h.r)
			}
			if diff != "" {
				rt.Fatal(diff)
			}
			for _, id := range slices.Sorted(maps.Keys(s.Model.Sessions)) {
				if d := s.Model.CheckFetch(h.s, id, uint64(s.intn(30)), uint64(s.intn(40)), s.intn(9), int64(s.intn(900))); d != "" {
					rt.Fatal(d)
				}
			}
		}
		if h.reopen() {
			if d := s.Model.CheckLoaded(h.r) + s.Model.CheckQueues(h.s); d != "" {
				rt.Fatal(d)
			}
		}
		for _, f := range h.r.Faults() {
			rt.Fatal(f)
		}
	})
}

// modelAcknowledge acknowledges some messages that linger, and waits for all ops that come to be reported.
func (h *harness) modelAcknowledge(rt *rapid.T, s *Source, ops []*store.Op) {
	var wait []*store.Op
	for _, op := range ops {
		elided := false
		for _, p := range op.Placements {
			if op.Linger == 0 || s.Model.spared[p] || s.intn(2) == 0 {
				continue
			}
			switch p.Acknowledge() {
			case store.Elided:
				elided = true
				fallthrough
			case store.Spared:
				s.Model.Spare(p)
			}
		}
		if !elided {
			wait = append(wait, op)
		}
	}
	err, ok := h.r.Wait(wait...)
	if !ok {
		rt.Fatal("ops are not reported")
	}
	if err != nil {
		rt.Fatal(err)
	}
}
