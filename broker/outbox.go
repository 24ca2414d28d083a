package broker

import (
	"encoding/binary"
	"math"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// outItem is what waits in a session's outbox: a message (m), an encoded packet (raw), encoded QoS 0 messages
// and acknowledgements (raw, of kind PUBLISH; id is the number of messages), or a short
// acknowledgement or PINGRESP described by kind, id and code.
type outItem struct {
	m     *store.Message
	ids   *[]uint32 // subscription identifiers
	raw   *[]byte
	size  int32 // what it counts for in the outbox's bound
	id    uint16
	flags uint8 // of a PUBLISH: DUP, QoS and RETAIN as in the fixed header
	kind  mqtt.Type
	code  mqtt.ReasonCode
}

// controlSize is what a packet other than PUBLISH counts for in the outbox's bound, beyond its text.
const controlSize = 32

func publishFlags(qos uint8, retain, dup bool) uint8 {
	f := qos << 1
	if retain {
		f |= 1
	}
	if dup {
		f |= 8
	}
	return f
}

// control is an acknowledgement, or a PUBREL.
func control(t mqtt.Type, id uint16, code mqtt.ReasonCode) outItem {
	return outItem{kind: t, id: id, code: code, size: controlSize}
}

// encoded is a packet that is ready to be sent.
func encoded(raw []byte) outItem { return outItem{raw: &raw, size: controlSize + int32(len(raw))} }

// emit appends to the outbox and has the session flushed at the end of the worker's event. The caller holds mu. A client
// that lets acknowledgements pile up far beyond the outbox's bound is disconnected.
func (s *session) emit(w *worker, it outItem) {
	if it.m == nil && it.raw == nil && s.emitAck(w, &it) {
		return
	}
	if s.out == nil {
		s.out = w.array()
	}
	s.out = append(s.out, it)
	if it.m != nil {
		w.count(delivered, 1)
	}
	s.grown(w, it.size)
}

// grown notes that something has come into the outbox.
func (s *session) grown(w *worker, size int32) {
	s.outBytes += int64(size)
	s.hold(w, int64(size))
	if !s.dirty {
		s.dirty = true
		w.dirty = append(w.dirty, s)
	}
	if c := s.conn; c != nil && s.outBytes > 2*c.lim.MaxOutbound+math.MaxInt16 && !c.overrun {
		c.overrun = true
		s.b.spawn(func() { c.kick(mqtt.QuotaExceeded, "the client does not read what is sent to it") })
	}
}

// flushQuantum is how much is written to one connection before others get their turn.
const flushQuantum = 256 << 10

// flush writes the session's outbox to its connection. When another goroutine is at it already, that one goes on.
func (s *session) flush(w *worker) {
	s.mu.Lock()
	s.dirty = false
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.flush(w)
	}
}

func (c *Conn) flush(w *worker) {
	c.wake.Store(true)
	for c.wake.Load() && c.flushing.TryLock() {
		c.wake.Store(false)
		more := c.flushSome(w)
		c.flushing.Unlock()
		if more {
			c.b.spawn(func() {
				w := c.b.worker()
				c.flush(w)
				c.b.release(w)
			})
			return
		}
	}
}

// flushSome writes until the outbox is empty, the link has a backlog, or a quantum has been written; then it reports
// that there is more.
func (c *Conn) flushSome(w *worker) (more bool) {
	s := c.sess
	for written := 0; ; {
		if written >= flushQuantum {
			return true
		}
		s.mu.Lock()
		if s.conn != c || c.barred.Load() != nil || c.link.Backlog() > 0 {
			s.fit(w)
			s.mu.Unlock()
			return false
		}
		if len(s.replays) > 0 {
			s.fill(w)
		}
		items := s.out
		if len(items) == 0 {
			s.mu.Unlock()
			return false
		}
		s.hold(w, -s.outBytes)
		s.out, s.outBytes = nil, 0
		again := len(s.replays) > 0
		s.mu.Unlock()

		n, drops := c.write(w, items)
		written += n
		w.keep(items)
		if len(drops) > 0 {
			s.drop(w, drops)
			again = true
		}
		if !again {
			return false
		}
	}
}

// writeChunk is about how much is encoded before it goes to the link, four full TLS records.
const writeChunk = 64 << 10

// write encodes items and gives them to the link. It returns how many bytes that were, and the packet identifiers of
// messages that were not sent since they expired or are too large for the client.
func (c *Conn) write(w *worker, items []outItem) (n int, drops []uint16) {
	buf := w.buf[:0]
	now := int64(c.b.now())
	publishes := uint64(0)
	for i := range items {
		it := &items[i]
		switch {
		case it.m != nil:
			next, drop := c.appendPublish(buf, it, now)
			if drop != 0 {
				w.count(drop, 1)
				if it.id != 0 {
					drops = append(drops, it.id)
				}
				continue
			}
			buf = next
			publishes++
			if len(it.m.Payload) > writeChunk {
				c.link.Write(buf)
				c.link.Write(it.m.Payload)
				n += len(buf) + len(it.m.Payload)
				buf = buf[:0]
				continue
			}
			buf = append(buf, it.m.Payload...)
		case it.kind == mqtt.PUBLISH:
			publishes += uint64(it.id)
			if len(buf) == 0 && i == len(items)-1 {
				c.link.Write(*it.raw)
				n += len(*it.raw)
			} else {
				buf = append(buf, *it.raw...)
			}
			w.keepChunk(it.raw)
		case it.raw != nil:
			buf = append(buf, *it.raw...)
		default:
			buf = c.appendAck(buf, it)
		}
		if len(buf) >= writeChunk {
			c.link.Write(buf)
			n += len(buf)
			buf = buf[:0]
		}
	}
	if len(buf) > 0 {
		c.link.Write(buf)
		n += len(buf)
	}
	if cap(buf) <= 2*writeChunk {
		w.buf = buf
	}
	w.count(sent, publishes)
	w.count(bytesOut, uint64(n))
	return n, drops
}

// appendAck encodes PUBACK, PUBREC, PUBREL, PUBCOMP or PINGRESP; MQTT 5 leaves the reason code out when it is 0.
func (c *Conn) appendAck(buf []byte, it *outItem) []byte {
	flags := byte(0)
	if it.kind == mqtt.PUBREL {
		flags = 2
	}
	if it.kind == mqtt.PINGRESP {
		return mqtt.AppendPingresp(buf)
	}
	first := byte(it.kind)<<4 | flags
	if c.version == mqtt.V5 && it.code != mqtt.Success {
		return append(buf, first, 3, byte(it.id>>8), byte(it.id), byte(it.code))
	}
	return append(buf, first, 2, byte(it.id>>8), byte(it.id))
}

// appendPublish encodes a PUBLISH up to its payload. A non-zero drop says why it must not be sent.
func (c *Conn) appendPublish(buf []byte, it *outItem, now int64) (next []byte, drop counter) {
	m := it.m
	if m.Expires != 0 && now > m.Expires && it.flags&8 == 0 {
		return buf, droppedExpired
	}
	size := 2 + len(m.Topic) + len(m.Payload)
	if it.flags&6 != 0 {
		size += 2
	}
	if c.version != mqtt.V5 {
		if size > mqtt.MaxRemaining { // its publisher had a topic alias for the name
			return buf, droppedTooLarge
		}
		buf = mqtt.AppendHeader(buf, mqtt.PUBLISH, it.flags, size)
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(m.Topic)))
		buf = append(buf, m.Topic...)
		if it.flags&6 != 0 {
			buf = binary.BigEndian.AppendUint16(buf, it.id)
		}
		return buf, 0
	}

	alias, known := c.alias(m.Topic)
	props := len(m.Props)
	if m.Expires != 0 {
		props += 5
	}
	if alias != 0 {
		props += 3
		if known {
			size -= len(m.Topic)
		}
	}
	if it.ids != nil {
		for _, id := range *it.ids {
			props += 1 + mqtt.VarintLen(int(id))
		}
	}
	size += mqtt.VarintLen(props) + props
	if int64(1+mqtt.VarintLen(size)+size) > c.maxSend {
		if alias != 0 && !known {
			c.forgetAlias(m.Topic)
		}
		return buf, droppedTooLarge
	}
	buf = mqtt.AppendHeader(buf, mqtt.PUBLISH, it.flags, size)
	if alias != 0 && known {
		buf = append(buf, 0, 0)
	} else {
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(m.Topic)))
		buf = append(buf, m.Topic...)
	}
	if it.flags&6 != 0 {
		buf = binary.BigEndian.AppendUint16(buf, it.id)
	}
	buf = mqtt.AppendVarint(buf, props)
	buf = append(buf, m.Props...)
	if m.Expires != 0 {
		left := max(m.Expires-now, 0) // a message sent before is sent again even when it has expired [MQTT-4.3.3-7]
		buf = append(buf, byte(mqtt.PropMessageExpiry))
		buf = binary.BigEndian.AppendUint32(buf, uint32((left+1e9-1)/1e9))
	}
	if alias != 0 {
		buf = append(buf, byte(mqtt.PropTopicAlias), byte(alias>>8), byte(alias))
	}
	if it.ids == nil {
		return buf, 0
	}
	for _, id := range *it.ids {
		buf = append(buf, byte(mqtt.PropSubscriptionIDs))
		buf = mqtt.AppendVarint(buf, int(id))
	}
	return buf, 0
}

// alias returns the topic alias for a topic towards this client, 0 for none, and whether the client knows it already.
// The first topics get the aliases and keep them: with more topics than aliases a replacement would cost more than it
// saves. Only the goroutine that flushes calls it.
func (c *Conn) alias(topic string) (alias uint16, known bool) {
	if c.aliasMax == 0 {
		return 0, false
	}
	if a, ok := c.aliasOut[topic]; ok {
		return a, true
	}
	if len(c.aliasOut) >= int(c.aliasMax) {
		return 0, false
	}
	if c.aliasOut == nil {
		c.aliasOut = make(map[string]uint16)
	}
	a := uint16(len(c.aliasOut) + 1)
	c.aliasOut[topic] = a
	return a, false
}

// forgetAlias takes back the alias given last, since the packet that would have told it is not sent.
func (c *Conn) forgetAlias(topic string) { delete(c.aliasOut, topic) }
