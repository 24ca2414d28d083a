package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/store"
)

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
	do(&store.Op{Kind: store.PutSession, Session: 7, State: &store.Session{ID: 7, ClientID: long, Name: "name", Method: "cert", Kind: "device", Bound: true, Online: true,
		Expiry: 1<<32 - 1, Sent: 1 << 60, WillAt: 5 * time.Hour, ExpireAt: 6 * time.Hour,
		Will: &store.Will{Topic: []byte("will/" + long[:65530]), Payload: []byte{0, 255}, Props: []byte{3, 4}, Expiry: 7, HasExpiry: true,
			Delay: 1<<32 - 1, QoS: 2, Retain: true}}, Wait: h})
	do(&store.Op{Kind: store.PutSession, Session: 1 << 63, State: &store.Session{ID: 1 << 63, ClientID: ""}, Wait: h})
	do(&store.Op{Kind: store.PutSession, Session: 1<<64 - 1, State: &store.Session{ID: 1<<64 - 1, ClientID: "last", Will: &store.Will{Topic: []byte("w")}}, Wait: h})
	do(&store.Op{Kind: store.Subscribe, Session: 7, Wait: h, Subscriptions: []store.Subscription{
		{Filter: long, QoS: 2, NoLocal: true, RetainAsPublished: true, ID: 268435455, Replay: true}, {Filter: "$share/g/#"}, {Filter: ""}}})
	do(&store.Op{Kind: store.Subscribe, Session: 1<<64 - 1, Wait: h, Subscriptions: []store.Subscription{{Filter: "a/+", QoS: 1}}})
	big := &store.Message{Topic: long, Payload: bytes.Repeat([]byte{7}, 20<<20), Props: []byte("props"), Expires: 1 << 62, Seq: 1<<64 - 1,
		From: &store.Publisher{ClientID: long, Owner: 1<<64 - 1}, QoS: 2, Retain: true}
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
		m.Apply(&store.Op{Kind: store.PutSession, Session: id, State: &store.Session{ID: id}})
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

// ended: an ended session takes everything along, and what is meant for it later reaches nobody.
func ended(t *testing.T, h *harness) {
	m, one, two := NewModel(), h.session(), h.session()
	for _, id := range []store.SessionID{one, two} {
		m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}})
	}
	do := func(ops ...*store.Op) {
		t.Helper()
		h.do(ops...)
		for _, op := range ops {
			m.Apply(op)
		}
	}
	do(&store.Op{Kind: store.Subscribe, Session: one, Subscriptions: []store.Subscription{{Filter: "a"}, {Filter: "b"}}, Wait: h})
	var all []*store.Op
	for i := range 500 {
		all = append(all, h.publish(message(fmt.Sprint("t/", i), "both"), one, two), h.publish(message("t", "one"), one))
	}
	do(all...)
	op := h.publish(message("t", "x"), one)
	op.Session, op.PacketID = one, 3
	do(op, &store.Op{Kind: store.EndSession, Session: one, Wait: h}, h.publish(message("t", "late"), one, two, 1<<50))
	h.check(m.CheckQueues(h.s))
	if got, err := h.s.Fetch(nil, one, 0, 1<<62, 10, 1<<40); err != nil || len(got) != 0 {
		t.Fatalf("the queue of an ended session: %d messages, %v", len(got), err)
	}
	do(&store.Op{Kind: store.Subscribe, Session: one, Subscriptions: []store.Subscription{{Filter: "c"}}, Wait: h},
		&store.Op{Kind: store.Unsubscribe, Session: one, Filters: []string{"a"}, Wait: h},
		&store.Op{Kind: store.Acked, Session: one, Positions: []uint64{1}, Wait: h},
		&store.Op{Kind: store.Recorded, Session: one, Positions: []uint64{2}, Wait: h},
		&store.Op{Kind: store.Released, Session: one, PacketID: 3, Wait: h},
		&store.Op{Kind: store.EndSession, Session: one, Wait: h}, &store.Op{Kind: store.EndSession, Session: 1 << 50, Wait: h})
	op = h.publish(message("t", "x"))
	op.Session, op.PacketID, op.Will = one, 4, one
	do(op)
	for range 2 {
		if !h.reopen() {
			return
		}
		h.check(m.CheckLoaded(h.r))
		h.check(m.CheckQueues(h.s))
	}
}

// wills: a will is there until it is replaced, taken back or published.
func wills(t *testing.T, h *harness) {
	will := func(text string) *store.Will { return &store.Will{Topic: []byte("w"), Payload: []byte(text)} }
	put := func(id store.SessionID, w *store.Will) *store.Op {
		st := &store.Session{ID: id, Will: w}
		if w != nil {
			st.WillAt = time.Minute
		}
		return &store.Op{Kind: store.PutSession, Session: id, State: st, Wait: h}
	}
	m := NewModel()
	do := func(ops ...*store.Op) {
		t.Helper()
		h.do(ops...)
		for _, op := range ops {
			m.Apply(op)
		}
	}
	do(put(1, will("kept")), put(2, will("back")), put(3, will("published")), put(4, will("a")), put(5, nil))
	op := h.publish(message("w", "published"))
	op.Will = 3
	again := h.publish(message("w", "gone"))
	again.Will = 5
	do(put(2, nil), op, put(4, will("b")), again)
	if !h.reopen() {
		return
	}
	h.check(m.CheckLoaded(h.r))
	op = h.publish(message("w", "kept"))
	op.Will = 1
	do(op, put(4, nil), put(2, will("new")))
	if h.reopen() {
		h.check(m.CheckLoaded(h.r))
	}
}

// retained: the newest message of a topic is kept, until one without payload comes.
func retained(t *testing.T, h *harness) {
	m := NewModel()
	var all []*store.Op
	for i, payload := range []string{"a", "b", "", "c", "d", "", "", "e"} {
		for topic := range 4 {
			if i%(topic+1) != 0 {
				continue
			}
			msg := message(fmt.Sprint("t/", topic), payload)
			from := store.Publisher{ClientID: fmt.Sprint("from ", i%2), Owner: uint64(i % 3)}
			msg.Seq, msg.From, msg.Retain = uint64(i+1), &from, true
			op := h.publish(msg)
			op.Retained = true
			all = append(all, op)
		}
	}
	for _, op := range all {
		h.do(op)
		m.Apply(op)
	}
	if h.reopen() {
		h.check(m.CheckLoaded(h.r))
	}
}

// received: packet identifiers are known until they are released.
func received(t *testing.T, h *harness) {
	m, id := NewModel(), h.session()
	m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}})
	for _, pid := range []uint16{1, 65535, 256, 255} {
		op := h.publish(message("t", "x"))
		op.Session, op.PacketID = id, pid
		h.do(op)
		m.Apply(op)
	}
	for _, pid := range []uint16{256, 9} {
		op := &store.Op{Kind: store.Released, Session: id, PacketID: pid, Wait: h}
		h.do(op)
		m.Apply(op)
	}
	if h.reopen() {
		h.check(m.CheckLoaded(h.r))
	}
}

// recorded: a message that the client has is only a position, until that is acknowledged.
func recorded(t *testing.T, h *harness) {
	m, one, two := NewModel(), h.session(), h.session()
	for _, id := range []store.SessionID{one, two} {
		m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}})
	}
	do := func(ops ...*store.Op) {
		t.Helper()
		h.do(ops...)
		for _, op := range ops {
			m.Apply(op)
		}
		h.check(m.CheckQueues(h.s))
	}
	for i := range 6 {
		if i%2 == 0 {
			do(h.publish(message("t", "x"), one))
		} else {
			do(h.publish(message("t", "x"), one, two))
		}
	}
	do(&store.Op{Kind: store.Recorded, Session: one, Positions: []uint64{1, 2, 6}, Wait: h})
	do(&store.Op{Kind: store.Recorded, Session: two, Positions: []uint64{2}, Wait: h})
	do(&store.Op{Kind: store.Acked, Session: one, Positions: []uint64{2}, Wait: h})
	do(h.publish(message("t", "at once"), one), &store.Op{Kind: store.Recorded, Session: one, Positions: []uint64{7}, Wait: h})
	if !h.reopen() {
		return
	}
	h.check(m.CheckLoaded(h.r))
	h.check(m.CheckQueues(h.s))
	do(&store.Op{Kind: store.Acked, Session: one, Positions: []uint64{1, 3}, Wait: h},
		&store.Op{Kind: store.Recorded, Session: one, Positions: []uint64{4}, Wait: h})
	h.reopen()
	h.check(m.CheckLoaded(h.r))
	h.check(m.CheckQueues(h.s))
}

// shared: a message stays for as long as one of its receivers has not acknowledged it.
func shared(t *testing.T, h *harness) {
	m := NewModel()
	do := func(ops ...*store.Op) {
		t.Helper()
		h.do(ops...)
		for _, op := range ops {
			m.Apply(op)
		}
		h.check(m.CheckQueues(h.s))
	}
	ids := []store.SessionID{h.session(), h.session(), h.session(), h.session()}
	for _, id := range ids {
		m.Apply(&store.Op{Kind: store.PutSession, State: &store.Session{ID: id, ClientID: fmt.Sprint("client-", id), Expiry: 3600}})
	}
	for i := range 4 {
		do(h.publish(message("t", fmt.Sprint(i)), ids...))
	}
	do(&store.Op{Kind: store.Acked, Session: ids[0], Positions: []uint64{1, 3, 1}, Wait: h})
	do(&store.Op{Kind: store.Acked, Session: ids[1], Positions: []uint64{3, 1}, Wait: h})
	do(&store.Op{Kind: store.Acked, Session: ids[2], Positions: []uint64{1, 2, 3}, Wait: h})
	again := h.reopen()
	do(&store.Op{Kind: store.Acked, Session: ids[3], Positions: []uint64{1}, Wait: h})
	do(&store.Op{Kind: store.EndSession, Session: ids[3], Wait: h})
	do(&store.Op{Kind: store.Acked, Session: ids[0], Positions: []uint64{2}, Wait: h})
	if again {
		h.reopen()
		h.check(m.CheckLoaded(h.r))
		h.check(m.CheckQueues(h.s))
	}
}
