package faults

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/store"
)

// model is a store that is too simple to be wrong.
type model struct {
	sessions map[store.SessionID]*modelSession
	retained map[string]string
}

type modelSession struct {
	record   string
	will     string
	subs     map[string]string
	received map[uint16]bool
	queue    map[uint64]*modelEntry
}

type modelEntry struct {
	text, recordedText string
	recorded           bool
	bytes              uint64
}

func newModel() *model {
	return &model{sessions: make(map[store.SessionID]*modelSession), retained: make(map[string]string)}
}

func (m *model) apply(op *store.Op) {
	switch op.Kind {
	case store.Publish:
		m.publish(op)
		return
	case store.PutSession:
		s := m.sessions[op.State.ID]
		if s == nil {
			s = &modelSession{subs: make(map[string]string), received: make(map[uint16]bool), queue: make(map[uint64]*modelEntry)}
			m.sessions[op.State.ID] = s
		}
		s.record, s.will = sessionText(op.State), willText(op.State.Will)
		return
	}
	s := m.sessions[op.Session]
	if s == nil {
		return
	}
	switch op.Kind {
	case store.EndSession:
		delete(m.sessions, op.Session)
	case store.Subscribe:
		for _, sub := range op.Subscriptions {
			s.subs[sub.Filter] = fmt.Sprintf("%+v", sub)
		}
	case store.Unsubscribe:
		for _, f := range op.Filters {
			delete(s.subs, f)
		}
	case store.Acked:
		for _, pos := range op.Positions {
			delete(s.queue, pos)
		}
	case store.Recorded:
		for _, pos := range op.Positions {
			if e := s.queue[pos]; e != nil {
				e.recorded = true
			}
		}
	case store.Released:
		delete(s.received, op.PacketID)
	}
}

func (m *model) publish(op *store.Op) {
	if op.Retained {
		delete(m.retained, op.Message.Topic)
		if len(op.Message.Payload) > 0 {
			m.retained[op.Message.Topic] = messageText(op.Message)
		}
	}
	if s := m.sessions[op.Session]; s != nil && op.PacketID != 0 {
		s.received[op.PacketID] = true
	}
	if s := m.sessions[op.Will]; s != nil {
		s.will = willText(nil)
	}
	for _, p := range op.Placements {
		if s := m.sessions[p.Session]; s != nil {
			q := store.Queued{Message: op.Message, Pos: p.Pos, Bytes: p.Bytes, SubIDs: p.SubIDs, Share: p.Share, QoS: p.QoS, Retain: p.Retain}
			done := store.Queued{Pos: p.Pos, Recorded: true}
			s.queue[p.Pos] = &modelEntry{text: queuedText(&q), recordedText: queuedText(&done), bytes: p.Bytes}
		}
	}
}

// String is everything in the store, in one order.
func (m *model) String() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		s := m.sessions[id]
		positions := slices.Sorted(maps.Keys(s.queue))
		var state store.QueueState
		if n := len(positions); n > 0 {
			state.First, state.Last = positions[0], positions[n-1]
			state.BytesEnd = s.queue[state.Last].bytes
		}
		writeSession(&b, s.record, s.will, slices.Sorted(maps.Values(s.subs)), slices.Sorted(maps.Keys(s.received)), state)
		for _, pos := range positions {
			if e := s.queue[pos]; e.recorded {
				b.WriteString(e.recordedText)
			} else {
				b.WriteString(e.text)
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(m.retained)) {
		b.WriteString("retained " + m.retained[topic])
	}
	return b.String()
}

func writeSession(b *strings.Builder, record, will string, subs []string, received []uint16, q store.QueueState) {
	fmt.Fprintf(b, "%s%s  received %v, queue %d to %d, %d bytes\n", record, will, received, q.First, q.Last, q.BytesEnd)
	for _, s := range subs {
		fmt.Fprintf(b, "  subscription %s\n", s)
	}
}

func sessionText(s *store.Session) string {
	return fmt.Sprintf("session %d %q %q %q bound %v online %v expiry %d sent %d expires at %d\n",
		s.ID, s.ClientID, s.Name, s.Method, s.Bound, s.Online, s.Expiry, s.Sent, s.ExpireAt)
}

func willText(w *store.Will) string {
	if w == nil {
		return ""
	}
	return fmt.Sprintf("  will %q %q %q %d %v %d %d %v\n", w.Topic, w.Payload, w.Props, w.Expiry, w.HasExpiry, w.Delay, w.QoS, w.Retain)
}

func messageText(m *store.Message) string {
	from := ""
	if m.From != nil {
		from = fmt.Sprint(*m.From)
	}
	return fmt.Sprintf("%q %d bytes %08x props %q expires %d seq %d from %q qos %d retain %v\n",
		m.Topic, len(m.Payload), crc32.ChecksumIEEE(m.Payload), m.Props, m.Expires, m.Seq, from, m.QoS, m.Retain)
}

func queuedText(q *store.Queued) string {
	if q.Recorded {
		return fmt.Sprintf("  %d recorded\n", q.Pos)
	}
	if q.Message == nil {
		return fmt.Sprintf("  %d without a message\n", q.Pos)
	}
	return fmt.Sprintf("  %d bytes %d ids %v share %q qos %d retain %v %s", q.Pos, q.Bytes, q.SubIDs, q.Share, q.QoS, q.Retain, messageText(q.Message))
}
