package storetest

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/store"
)

// linger makes op one that stays for as long as nothing else happens.
func linger(op *store.Op, l *store.Lane) *store.Op {
	op.Linger, op.Lane = 24*time.Hour, l
	return op
}

func (h *harness) submit(ops ...*store.Op) {
	for _, op := range ops {
		if op.Kind == store.Publish {
			op.Prepare()
		}
	}
	h.s.Submit(ops...)
}

func (h *harness) acknowledge(p *store.Placement, want store.Outcome) {
	h.t.Helper()
	if got := p.Acknowledge(); got != want {
		h.t.Fatalf("outcome %d, not %d", got, want)
	}
}

// lingerElided: a message that every receiver has acknowledged is neither written nor reported.
func lingerElided(t *testing.T, h *harness) {
	one, two := h.session(), h.session()
	lane := &store.Lane{}
	op := linger(h.publish(message("t", "x"), one, two), lane)
	h.submit(op)
	h.acknowledge(op.Placements[1], store.Spared)
	h.acknowledge(op.Placements[0], store.Elided)
	next := h.publish(message("t", "y"), two)
	next.Lane = lane
	h.do(next)
	for _, rep := range h.r.Reports() {
		if rep.Op == op {
			t.Fatal("it is reported")
		}
	}
	if got, err := h.s.Fetch(nil, two, 0, 99, 9, 9999); err != nil || len(got) != 1 || got[0].Pos != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if st := h.s.Stats(); st.Elided != 1 || st.Messages != 2 {
		t.Fatalf("%+v", st)
	}
}

// lingerPartly: only the places of those are written who have not acknowledged.
func lingerPartly(t *testing.T, h *harness) {
	one, two := h.session(), h.session()
	lane := &store.Lane{}
	op := linger(h.publish(message("t", "x"), one, two), lane)
	h.submit(op)
	h.acknowledge(op.Placements[0], store.Spared)
	flush := &store.Op{Kind: store.PutSession, Session: 9, State: &store.Session{ID: 9}, Lane: lane, Wait: h}
	h.do(flush)
	h.wait(op)
	h.acknowledge(op.Placements[1], store.Written)
	for id, n := range map[store.SessionID]int{one: 0, two: 1} {
		if got, err := h.s.Fetch(nil, id, 0, 99, 9, 9999); err != nil || len(got) != n {
			t.Fatalf("session %d: %v, %v", id, got, err)
		}
	}
}

// lingerLanes: an op that does not linger takes those of its own lane along, in order, and no others.
func lingerLanes(t *testing.T, h *harness) {
	id := h.session()
	a, b := &store.Lane{}, &store.Lane{}
	var ofA, ofB []*store.Op
	for range 5 {
		x, y := linger(h.publish(message("t", "a"), id), a), linger(h.publish(message("t", "b"), id), b)
		h.submit(x, y)
		ofA, ofB = append(ofA, x), append(ofB, y)
	}
	free := linger(h.publish(message("t", "free"), id), nil)
	h.submit(free)
	for _, lane := range []*store.Lane{nil, a} {
		op := &store.Op{Kind: store.PutSession, Session: id, State: &store.Session{ID: id}, Lane: lane, Wait: h}
		h.do(op)
		if lane != nil {
			ofA = append(ofA, op)
		}
	}
	got := h.r.Reports()[2:]
	if len(got) != len(ofA) {
		t.Fatalf("%d ops are reported, not %d", len(got), len(ofA))
	}
	for i, op := range ofA {
		if got[i].Op != op {
			t.Fatalf("op %d of the lane is not reported in its turn", i)
		}
	}
	// Another round of the same lane, then the other.
	x := linger(h.publish(message("t", "a"), id), a)
	h.submit(x)
	op := h.publish(message("t", "a"), id)
	op.Lane = a
	h.do(op)
	last := h.publish(message("t", "b"), id)
	last.Lane = b
	h.do(last)
	got = h.r.Reports()[2+len(ofA):]
	for i, op := range append([]*store.Op{x, op}, append(ofB, last)...) {
		if got[i].Op != op {
			t.Fatalf("op %d is not reported in its turn", i)
		}
	}
	if n := len(h.r.Reports()); n != 2+len(ofA)+2+len(ofB)+1 {
		t.Fatalf("%d reports", n)
	}
}

// lingerDue: an op is not held longer than it may be, whatever lingers before it.
func lingerDue(t *testing.T, h *harness) {
	id := h.session()
	lane := &store.Lane{}
	long, other := linger(h.publish(message("t", "long"), id), lane), linger(h.publish(message("t", "other"), id), nil)
	short := linger(h.publish(message("t", "short"), id), lane)
	short.Linger = 5 * time.Millisecond
	h.submit(long, other, short)
	h.wait(short, long)
	got := h.r.Reports()[1:]
	at := map[*store.Op]int{}
	for i, rep := range got {
		at[rep.Op] = i
	}
	if at[long] > at[short] {
		t.Fatal("the lane is out of order")
	}
}

// lingerDrain: Close holds nothing back.
func lingerDrain(t *testing.T, h *harness) {
	id := h.session()
	op := linger(h.publish(message("t", "x"), id), &store.Lane{})
	h.submit(op)
	r := h.r
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err, ok := r.Wait(op); err != nil || !ok {
		t.Fatal(err, ok)
	}
	h.reopen()
	if got, err := h.s.Fetch(nil, id, 0, 99, 9, 9999); err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
}
