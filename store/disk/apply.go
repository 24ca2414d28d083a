package disk

import (
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

// session is what is known of a session without looking at the disk. Only the builder changes it; the fields of it that
// Fetch reads are under Store.view.
type session struct {
	refs     []ref               // by position: the entries of this run whose message is elsewhere
	recorded map[uint64]struct{} // positions with a mark of delivery
	last     uint64              // the newest position when the store was opened
	will     bool                // there may be one
}

// ref says that the entry at pos refers to a message.
type ref struct{ pos, number uint64 }

func (se *session) find(pos uint64) (int, bool) {
	return slices.BinarySearchFunc(se.refs, pos, func(r ref, pos uint64) int {
		switch {
		case r.pos < pos:
			return -1
		case r.pos > pos:
			return 1
		}
		return 0
	})
}

// addRef adds a reference. Positions come nearly in order.
func (se *session) addRef(pos, number uint64) {
	if n := len(se.refs); n == 0 || se.refs[n-1].pos < pos {
		se.refs = append(se.refs, ref{pos, number})
		return
	}
	if i, found := se.find(pos); !found {
		se.refs = slices.Insert(se.refs, i, ref{pos, number})
	}
}

// takeRef removes the reference at a position. Most are near the front.
func (se *session) takeRef(pos uint64) (number uint64, ok bool) {
	i, ok := se.find(pos)
	if !ok {
		return 0, false
	}
	number = se.refs[i].number
	if i <= len(se.refs)/2 {
		copy(se.refs[1:i+1], se.refs[:i])
		se.refs = se.refs[1:]
	} else {
		se.refs = slices.Delete(se.refs, i, i+1)
	}
	if len(se.refs) == 0 {
		se.refs = nil
	}
	return number, true
}

// applier turns ops into changes of the files. It is the builder's; the sessions it knows are read by others.
type applier struct {
	s        *Store
	seq      uint64 // of the newest op
	key, val []byte // scratch

	unmarked []ref   // marks of delivery to forget when the batch is visible; number is the session
	over     []ended // sessions to remove then
}

// apply adds to b what op changes. It depends on nothing but the ops before it, and which placements were acknowledged.
func (a *applier) apply(b *pebble.Batch, op *store.Op) {
	a.seq++
	switch op.Kind {
	case store.Publish:
		a.publish(b, op)
		return
	case store.PutSession:
		a.putSession(b, op.State)
		return
	case store.PutRecord:
		a.putRecord(b, op.Record)
		return
	}
	se := a.s.sessions[op.Session]
	if se == nil {
		return
	}
	switch op.Kind {
	case store.EndSession:
		a.endSession(b, op.Session, se)
	case store.Subscribe:
		for i := range op.Subscriptions {
			sub := &op.Subscriptions[i]
			a.key = append(appendKey(a.key[:0], kindFilter, uint64(op.Session)), sub.Filter...)
			a.val = appendSubscription(a.val[:0], sub)
			a.set(b)
		}
	case store.Unsubscribe:
		for _, filter := range op.Filters {
			a.key = append(appendKey(a.key[:0], kindFilter, uint64(op.Session)), filter...)
			a.delete(b)
		}
	case store.Acked:
		for _, pos := range op.Positions {
			a.acked(b, op.Session, se, pos)
		}
	case store.Recorded:
		for _, pos := range op.Positions {
			a.recorded(b, op.Session, se, pos)
		}
	case store.Released:
		a.key = appendReceived(a.key[:0], op.Session, op.PacketID)
		a.delete(b)
	}
}

func appendReceived(key []byte, id store.SessionID, pid uint16) []byte {
	return binary.BigEndian.AppendUint16(appendKey(key, kindReceived, uint64(id)), pid)
}

func (a *applier) set(b *pebble.Batch) {
	check(b.Set(a.key, a.val, nil))
	if cap(a.val) > 1<<20 {
		a.val = nil
	}
}

func (a *applier) delete(b *pebble.Batch) { check(b.Delete(a.key, nil)) }

// check is for the errors of a batch in memory, of which there are none.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// publish puts one message into all its places.
func (a *applier) publish(b *pebble.Batch, op *store.Op) {
	if op.Retained {
		a.key = append(append(a.key[:0], kindRetained), op.Message.Topic...)
		if len(op.Message.Payload) > 0 {
			a.val = appendMessage(append(a.val[:0], layout), op.Message)
			a.set(b)
		} else {
			a.delete(b)
		}
	}
	if op.PacketID != 0 && a.s.sessions[op.Session] != nil {
		a.key, a.val = appendReceived(a.key[:0], op.Session, op.PacketID), append(a.val[:0], layout)
		a.set(b)
	}
	if op.Will != 0 {
		if se := a.s.sessions[op.Will]; se != nil && se.will {
			se.will = false
			a.key = appendKey(a.key[:0], kindWill, uint64(op.Will))
			a.delete(b)
		}
	}
	var first *store.Placement
	written := 0
	for _, p := range op.Placements {
		if a.s.sessions[p.Session] == nil || !p.Take() {
			continue
		}
		switch written++; written {
		case 1:
			first = p
			continue
		case 2:
			a.key = appendKey(a.key[:0], kindMessage, a.seq)
			a.val = appendMessage(append(a.val[:0], layout), op.Message)
			a.set(b)
			a.place(b, first, op.Message, a.seq)
		}
		a.place(b, p, op.Message, a.seq)
	}
	switch {
	case written == 1:
		a.place(b, first, op.Message, 0)
	case written > 1:
		a.s.refs.add(a.seq, written)
	}
}

// place writes a queue entry, with the message when number is 0.
func (a *applier) place(b *pebble.Batch, p *store.Placement, m *store.Message, number uint64) {
	a.key = appendPos(a.key[:0], kindQueue, p.Session, p.Pos)
	a.val = appendEntry(a.val[:0], p, m, number)
	a.set(b)
	if number != 0 {
		a.s.sessions[p.Session].addRef(p.Pos, number)
	}
}

// putSession writes a session's record. Its will has a key of its own, so that publishing it need not rewrite the rest.
func (a *applier) putSession(b *pebble.Batch, st *store.Session) {
	se := a.s.sessions[st.ID]
	if se == nil {
		se = &session{}
		a.s.view.Lock()
		a.s.sessions[st.ID] = se
		a.s.view.Unlock()
	}
	a.key = appendKey(a.key[:0], kindSession, uint64(st.ID))
	a.val = appendSession(a.val[:0], st)
	a.set(b)
	if st.Will == nil && !se.will {
		return
	}
	a.key = appendKey(a.key[:0], kindWill, uint64(st.ID))
	if se.will = st.Will != nil; se.will {
		a.val = appendWill(a.val[:0], st.Will)
		a.set(b)
	} else {
		a.delete(b)
	}
}

// endSession takes a session away; what belongs to it is removed later, after a crash too.
func (a *applier) endSession(b *pebble.Batch, id store.SessionID, se *session) {
	a.s.view.Lock()
	delete(a.s.sessions, id)
	a.s.view.Unlock()
	a.key = appendKey(a.key[:0], kindSession, uint64(id))
	a.delete(b)
	a.key, a.val = appendKey(a.key[:0], kindPurge, uint64(id)), append(a.val[:0], layout)
	a.set(b)
	a.over = append(a.over, ended{id, se.refs})
}

func (a *applier) acked(b *pebble.Batch, id store.SessionID, se *session, pos uint64) {
	a.key = appendPos(a.key[:0], kindQueue, id, pos)
	a.delete(b)
	if _, ok := se.recorded[pos]; ok {
		a.unmarked = append(a.unmarked, ref{pos, uint64(id)})
		a.key = appendPos(a.key[:0], kindRecorded, id, pos)
		a.delete(b)
	}
	if number, ok := se.takeRef(pos); ok {
		a.release(b, number)
	} else if pos <= se.last {
		a.s.janitor.loose.Add(1)
	}
}

// release takes one reference to a message away, and the message with the last.
func (a *applier) release(b *pebble.Batch, number uint64) {
	if a.s.refs.release(number) {
		a.key = appendKey(a.key[:0], kindMessage, number)
		a.delete(b)
	}
}

func (a *applier) recorded(b *pebble.Batch, id store.SessionID, se *session, pos uint64) {
	a.s.view.Lock()
	if se.recorded == nil {
		se.recorded = make(map[uint64]struct{})
	}
	se.recorded[pos] = struct{}{}
	a.s.view.Unlock()
	a.key, a.val = appendPos(a.key[:0], kindRecorded, id, pos), append(a.val[:0], layout)
	a.set(b)
}

// visible is called when what was applied can be read.
func (a *applier) visible() {
	a.s.seq.Store(a.seq)
	if len(a.over) > 0 {
		a.s.janitor.add(a.over)
		clear(a.over)
		a.over = a.over[:0]
	}
	if len(a.unmarked) == 0 {
		return
	}
	a.s.view.Lock()
	for _, m := range a.unmarked {
		if se := a.s.sessions[store.SessionID(m.number)]; se != nil {
			delete(se.recorded, m.pos)
		}
	}
	a.s.view.Unlock()
	a.unmarked = a.unmarked[:0]
}
