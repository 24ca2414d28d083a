package broker

import (
	"encoding/binary"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// Acknowledgements, and QoS 0 messages for few receivers, are encoded at once, behind what the receiver's outbox ends
// with: they cost no allocation, and nothing for the collector to look at. Many receivers share one message.
const (
	chunkSize     = 16 << 10
	maxEncoded    = 2 << 10 // larger messages are worth sharing
	fewReceivers  = 8
	maxChunks     = 32 // that a worker hands out in one event
	maxSpareChunk = 8
)

// chunk returns an empty buffer, nil when the worker's event has had enough of them.
func (w *worker) chunk() *[]byte {
	if n := len(w.chunks); n > 0 {
		b := w.chunks[n-1]
		w.chunks = w.chunks[:n-1]
		w.given++
		return b
	}
	if w.given >= maxChunks {
		return nil
	}
	w.given++
	b := make([]byte, 0, chunkSize)
	return &b
}

// keepChunk takes back what chunk has returned.
func (w *worker) keepChunk(b *[]byte) {
	if len(w.chunks) < maxSpareChunk {
		*b = (*b)[:0]
		w.chunks = append(w.chunks, b)
	}
}

// encodable reports whether the publication under way may be encoded at once for its QoS 0 receivers.
func (w *worker) encodable(receivers int) bool {
	p := &w.pub
	return receivers <= fewReceivers && !p.retain && p.expires == 0 && len(p.topic)+len(p.props)+len(p.payload) <= maxEncoded
}

// pushEncoded hands the publication under way to a session with QoS 0, encoded. When it is not done, push is to do it.
func (s *session) pushEncoded(w *worker) (done, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, p := s.conn, &w.pub
	if s.dead || s.frozen || c == nil || c.aliasMax != 0 || c.link.Backlog() > 0 {
		return false, false
	}
	length := 2 + len(w.name) + len(p.payload)
	if c.version == mqtt.V5 {
		length += mqtt.VarintLen(len(p.props)) + len(p.props)
	}
	size := 1 + mqtt.VarintLen(length) + length
	if int64(size) > c.maxSend || s.outBytes+int64(size) > c.lim.MaxOutbound || !s.mayHold(int64(size)) {
		return false, false
	}
	if r := s.rights.Load(); !r.hears.Load() && !r.may(auth.Receive, w.name, p.qos, p.retain) {
		s.undelivered(w, r, w.name, p.qos, p.retain, len(p.payload))
		return true, false
	}
	last := s.lastChunk(w, size)
	if last == nil {
		return false, false
	}
	b := mqtt.AppendHeader(*last.raw, mqtt.PUBLISH, 0, length)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.name)))
	b = append(b, w.name...)
	if c.version == mqtt.V5 {
		b = mqtt.AppendVarint(b, len(p.props))
		b = append(b, p.props...)
	}
	*last.raw = append(b, p.payload...)
	last.id++
	last.size += int32(size)
	s.grown(w, int32(size))
	w.count(delivered, 1)
	return true, true
}

// emitAck encodes an acknowledgement at once and reports whether it did.
func (s *session) emitAck(w *worker, it *outItem) bool {
	c := s.conn
	if c == nil || c.link.Backlog() > 0 {
		return false
	}
	last := s.lastChunk(w, 5)
	if last == nil {
		return false
	}
	*last.raw = c.appendAck(*last.raw, it)
	last.size += it.size
	s.grown(w, it.size)
	return true
}

// lastChunk returns the chunk that the outbox ends with, a new one if it has none with room for size bytes, or nil if it
// cannot have one. The caller holds mu.
func (s *session) lastChunk(w *worker, size int) *outItem {
	if n := len(s.out); n > 0 {
		if it := &s.out[n-1]; it.kind == mqtt.PUBLISH && len(*it.raw)+size <= cap(*it.raw) {
			return it
		}
	}
	raw := w.chunk()
	if raw == nil {
		return nil
	}
	if s.out == nil {
		s.out = w.array()
	}
	s.out = append(s.out, outItem{raw: raw, kind: mqtt.PUBLISH})
	return &s.out[len(s.out)-1]
}

// fit gives back what the last chunk of an outbox that cannot be written has not used. The caller holds mu.
func (s *session) fit(w *worker) {
	if n := len(s.out); n > 0 {
		if it := &s.out[n-1]; it.kind == mqtt.PUBLISH && cap(*it.raw) == chunkSize && len(*it.raw) < chunkSize/2 {
			whole := it.raw
			used := append([]byte(nil), *whole...)
			it.raw = &used
			w.keepChunk(whole)
		}
	}
}
