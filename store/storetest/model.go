package storetest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealmq/sealmq/store"
)

// Model is what a store must hold, kept in the most simple way.
type Model struct {
	Sessions map[store.SessionID]*ModelSession
	Retained map[string]*store.Message
	Records  map[string][]byte
	spared   map[*store.Placement]bool
}

// ModelSession is a session in a Model.
type ModelSession struct {
	State    store.Session
	Subs     map[string]store.Subscription
	Received map[uint16]bool
	Queue    map[uint64]*store.Queued
}

// NewModel returns an empty model.
func NewModel() *Model {
	return &Model{Sessions: map[store.SessionID]*ModelSession{}, Retained: map[string]*store.Message{},
		Records: map[string][]byte{}, spared: map[*store.Placement]bool{}}
}

// Spare notes that a placement was acknowledged before it was written. It must be called before Apply of its op.
func (m *Model) Spare(p *store.Placement) { m.spared[p] = true }

// Apply changes the model as a committed op changes a store.
func (m *Model) Apply(op *store.Op) {
	switch op.Kind {
	case store.Publish:
		m.publish(op)
		return
	case store.PutRecord:
		m.putRecord(op.Record)
		return
	case store.PutSession:
		s := m.Sessions[op.State.ID]
		if s == nil {
			s = &ModelSession{Subs: map[string]store.Subscription{}, Received: map[uint16]bool{}, Queue: map[uint64]*store.Queued{}}
			m.Sessions[op.State.ID] = s
		}
		s.State = *op.State
		return
	}
	s := m.Sessions[op.Session]
	if s == nil {
		return
	}
	switch op.Kind {
	case store.EndSession:
		delete(m.Sessions, op.Session)
	case store.Subscribe:
		for _, sub := range op.Subscriptions {
			s.Subs[sub.Filter] = sub
		}
	case store.Unsubscribe:
		for _, f := range op.Filters {
			delete(s.Subs, f)
		}
	case store.Acked:
		for _, pos := range op.Positions {
			delete(s.Queue, pos)
		}
	case store.Recorded:
		for _, pos := range op.Positions {
			if q := s.Queue[pos]; q != nil {
				q.Message, q.Recorded = nil, true
			}
		}
	case store.Released:
		delete(s.Received, op.PacketID)
	}
}

func (m *Model) publish(op *store.Op) {
	if op.Retained {
		if len(op.Message.Payload) == 0 {
			delete(m.Retained, op.Message.Topic)
		} else {
			m.Retained[op.Message.Topic] = op.Message
		}
	}
	if s := m.Sessions[op.Session]; s != nil && op.PacketID != 0 {
		s.Received[op.PacketID] = true
	}
	if s := m.Sessions[op.Will]; s != nil && op.Will != 0 {
		s.State.Will, s.State.WillAt = nil, 0
	}
	for _, p := range op.Placements {
		if s := m.Sessions[p.Session]; s != nil && !m.spared[p] {
			s.Queue[p.Pos] = &store.Queued{Message: op.Message, Pos: p.Pos, Bytes: p.Bytes, SubIDs: p.SubIDs, Share: p.Share,
				QoS: p.QoS, Retain: p.Retain}
		}
	}
}

// Positions returns those of a session's queue, in order.
func (s *ModelSession) Positions() []uint64 {
	var all []uint64
	for pos := range s.Queue {
		all = append(all, pos)
	}
	slices.Sort(all)
	return all
}

// Fetch is what store.Store.Fetch must return.
func (m *Model) Fetch(id store.SessionID, from, below uint64, most int, maxBytes int64) (all []store.Queued) {
	s := m.Sessions[id]
	if s == nil {
		return nil
	}
	bytes := int64(0)
	for _, pos := range s.Positions() {
		if pos < from || pos >= below || len(all) >= most || len(all) > 0 && bytes >= maxBytes {
			continue
		}
		q := *s.Queue[pos]
		all = append(all, q)
		if q.Message != nil {
			bytes += q.Message.Size()
		}
	}
	return all
}

// loaded is what a store must tell of a session.
func (s *ModelSession) loaded() *Loaded {
	l := &Loaded{State: new(s.State)}
	if l.State.Will == nil {
		l.State.WillAt = 0
	}
	for _, sub := range s.Subs {
		l.Subs = append(l.Subs, sub)
	}
	for pid := range s.Received {
		l.Received = append(l.Received, pid)
	}
	if all := s.Positions(); len(all) > 0 {
		first, last := all[0], all[len(all)-1]
		l.Queue = store.QueueState{First: first, Last: last, BytesEnd: s.Queue[last].Bytes}
		l.Queue.BytesBefore = s.before(first)
		for _, pos := range all {
			if s.Queue[pos].Recorded {
				l.Queue.Recorded = pos
			}
		}
	}
	return l
}

// before is the size of everything placed before pos; -1, as an unsigned number, when the model has forgotten it.
func (s *ModelSession) before(pos uint64) uint64 {
	q := s.Queue[pos]
	if q.Message == nil {
		return ^uint64(0)
	}
	return q.Bytes - uint64(q.Message.Size())
}

// equate compares by what is said, nothing being the same as empty.
var equate = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.FilterValues(func(a, b []byte) bool { return len(a) > 0 || len(b) > 0 }, cmp.Comparer(bytes.Equal)),
	cmpopts.SortSlices(func(a, b store.Subscription) bool { return a.Filter < b.Filter }),
	cmpopts.SortSlices(func(a, b uint16) bool { return a < b }),
}

// CheckLoaded returns how what a store told during Load differs from the model, "" if it does not.
func (m *Model) CheckLoaded(r *Recorder) string {
	for id, s := range m.Sessions {
		got, want := r.Sessions()[id], s.loaded()
		if got == nil {
			return fmt.Sprintf("session %d is missing", id)
		}
		if want.Queue.BytesBefore == ^uint64(0) {
			want.Queue.BytesBefore = got.Queue.BytesBefore
		}
		if d := cmp.Diff(want, got, equate); d != "" {
			return fmt.Sprintf("session %d (-want +got):\n%s", id, d)
		}
	}
	for id := range r.Sessions() {
		if m.Sessions[id] == nil {
			return fmt.Sprintf("session %d has ended, and is there", id)
		}
	}
	if d := cmp.Diff(m.Retained, r.RetainedMessages(), equate); d != "" {
		return "retained messages (-want +got):\n" + d
	}
	return ""
}

// CheckQueues returns how what a store has in its queues and records differs from the model, "" if it does not.
func (m *Model) CheckQueues(s store.Store) string {
	if d := m.CheckRecords(s, ""); d != "" {
		return d
	}
	for id := range m.Sessions {
		if d := m.CheckFetch(s, id, 0, 1<<63, 1<<30, 1<<60); d != "" {
			return d
		}
	}
	return ""
}

// same is what cmp would find out, faster.
func same(a, b store.Queued) bool {
	if (a.Message == nil) != (b.Message == nil) {
		return false
	}
	if x, y := a.Message, b.Message; x != nil {
		if x.Topic != y.Topic || !bytes.Equal(x.Payload, y.Payload) || !bytes.Equal(x.Props, y.Props) || x.Expires != y.Expires ||
			x.Seq != y.Seq || x.QoS != y.QoS || x.Retain != y.Retain || (x.From == nil) != (y.From == nil) {
			return false
		}
		if x.From != nil && *x.From != *y.From {
			return false
		}
	}
	return a.Pos == b.Pos && a.Bytes == b.Bytes && slices.Equal(a.SubIDs, b.SubIDs) && a.Share == b.Share && a.QoS == b.QoS &&
		a.Retain == b.Retain && a.Recorded == b.Recorded
}

// CheckFetch returns how one Fetch differs from the model, "" if it does not.
func (m *Model) CheckFetch(s store.Store, id store.SessionID, from, below uint64, most int, maxBytes int64) string {
	got, err := s.Fetch(nil, id, from, below, most, maxBytes)
	if err != nil {
		return fmt.Sprintf("fetch from session %d: %v", id, err)
	}
	want := m.Fetch(id, from, below, most, maxBytes)
	if slices.EqualFunc(want, got, same) {
		return ""
	}
	if d := cmp.Diff(want, got, equate); d != "" {
		return fmt.Sprintf("queue of session %d, %d to %d, %d messages, %d bytes (-want +got):\n%s", id, from, below, most, maxBytes, d)
	}
	return ""
}

// Fresh returns an empty model that knows the same placements as spared.
func (m *Model) Fresh() *Model {
	f := NewModel()
	f.spared = m.spared
	return f
}
