package disk

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Every value begins with the version of its layout. Numbers are varints, texts and bytes have their length before them,
// the last field of a message takes what is left.
const layout = 1

// errDamaged is the error of a value that is not what this package writes.
var errDamaged = errors.New("stored value is damaged")

// Limits of what is decoded.
const (
	maxText  = 65535           // MQTT's limit of a string
	maxBytes = 268_435_455 + 5 // MQTT's limit of a packet
)

// encode appends values; decode is its inverse, and total.

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func bit(v bool, b byte) byte {
	if v {
		return b
	}
	return 0
}

// decoder reads a value. After the first error everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

// newDecoder begins a value, and checks the version of its layout.
func newDecoder(b []byte) decoder {
	d := decoder{b: b}
	if d.byte() != layout {
		d.fail()
	}
	return d
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// flags reads a byte in which no bit but those of mask is set.
func (d *decoder) flags(mask byte) byte {
	v := d.byte()
	if v&^mask != 0 {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) uint(max uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > max {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// number reads eight bytes that are not 0 together.
func (d *decoder) number() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	if v == 0 {
		d.fail()
	}
	return v
}

// bytes returns a part of the value, not a copy.
func (d *decoder) bytes(max uint64) []byte {
	n := d.uint(max)
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes(maxText)) }

// end returns errDamaged if anything was wrong or is left.
func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errDamaged
	}
	return nil
}

// qos reads the two lowest bits.
func (d *decoder) qos(flags byte) uint8 {
	if flags&3 == 3 {
		d.fail()
		return 0
	}
	return flags & 3
}

const (
	sessionBound  = 1
	sessionOnline = 2
	sessionKind   = 4 // the principal's kind follows; without, it is empty
)

// appendSession encodes a session without its will.
func appendSession(b []byte, s *store.Session) []byte {
	b = append(b, layout, bit(s.Bound, sessionBound)|bit(s.Online, sessionOnline)|bit(s.Kind != "", sessionKind))
	b = appendBytes(b, s.ClientID)
	b = appendBytes(b, s.Name)
	b = appendBytes(b, s.Method)
	if s.Kind != "" {
		b = appendBytes(b, s.Kind)
	}
	b = binary.AppendUvarint(b, uint64(s.Expiry))
	b = binary.AppendUvarint(b, s.Sent)
	b = binary.AppendVarint(b, int64(s.WillAt))
	return binary.AppendVarint(b, int64(s.ExpireAt))
}

func decodeSession(id store.SessionID, v []byte) (*store.Session, error) {
	d := newDecoder(v)
	flags := d.flags(sessionBound | sessionOnline | sessionKind)
	s := &store.Session{ID: id, Bound: flags&sessionBound != 0, Online: flags&sessionOnline != 0}
	s.ClientID = d.text()
	s.Name = string(d.bytes(maxBytes))
	s.Method = string(d.bytes(maxBytes))
	if flags&sessionKind != 0 {
		if s.Kind = string(d.bytes(maxBytes)); s.Kind == "" {
			d.fail()
		}
	}
	s.Expiry = uint32(d.uint(math.MaxUint32))
	s.Sent = d.uint(math.MaxUint64)
	s.WillAt = time.Duration(d.int())
	s.ExpireAt = time.Duration(d.int())
	return s, d.end()
}

const (
	willRetain  = 4
	willExpires = 8
)

func appendWill(b []byte, w *store.Will) []byte {
	b = append(b, layout, w.QoS&3|bit(w.Retain, willRetain)|bit(w.HasExpiry, willExpires))
	b = appendBytes(b, w.Topic)
	b = appendBytes(b, w.Payload)
	b = appendBytes(b, w.Props)
	b = binary.AppendUvarint(b, uint64(w.Expiry))
	return binary.AppendUvarint(b, uint64(w.Delay))
}

func decodeWill(v []byte) (*store.Will, error) {
	d := newDecoder(v)
	flags := d.flags(3 | willRetain | willExpires)
	w := &store.Will{QoS: d.qos(flags), Retain: flags&willRetain != 0, HasExpiry: flags&willExpires != 0}
	w.Topic = clone(d.bytes(maxText))
	w.Payload = clone(d.bytes(maxBytes))
	w.Props = clone(d.bytes(maxBytes))
	w.Expiry = uint32(d.uint(math.MaxUint32))
	w.Delay = uint32(d.uint(math.MaxUint32))
	return w, d.end()
}

// clone copies b, and makes nothing of nothing.
func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

const (
	subNoLocal  = 4
	subRetained = 8
	subReplay   = 16
)

// appendSubscription encodes a subscription without its filter, which is in the key.
func appendSubscription(b []byte, s *store.Subscription) []byte {
	b = append(b, layout, s.QoS&3|bit(s.NoLocal, subNoLocal)|bit(s.RetainAsPublished, subRetained)|
		bit(s.Replay, subReplay))
	return binary.AppendUvarint(b, uint64(s.ID))
}

func decodeSubscription(filter, v []byte) (store.Subscription, error) {
	d := newDecoder(v)
	flags := d.flags(3 | subNoLocal | subRetained | subReplay)
	s := store.Subscription{Filter: string(filter), QoS: d.qos(flags), NoLocal: flags&subNoLocal != 0,
		RetainAsPublished: flags&subRetained != 0, Replay: flags&subReplay != 0}
	s.ID = uint32(d.uint(math.MaxUint32))
	return s, d.end()
}

const (
	messageRetain  = 4
	messageExpires = 8
	messageSeq     = 16
	messageFrom    = 32
	messageProps   = 64
	messageOwner   = 128 // eight bytes follow the publisher's identifier; without, it is 0
)

// appendMessage encodes a message, without the version of the layout.
func appendMessage(b []byte, m *store.Message) []byte {
	b = append(b, m.QoS&3|bit(m.Retain, messageRetain)|bit(m.Expires != 0, messageExpires)|bit(m.Seq != 0, messageSeq)|
		bit(m.From != nil, messageFrom)|bit(len(m.Props) > 0, messageProps)|
		bit(m.From != nil && m.From.Owner != 0, messageOwner))
	b = appendBytes(b, m.Topic)
	if m.Expires != 0 {
		b = binary.AppendVarint(b, m.Expires)
	}
	if m.Seq != 0 {
		b = binary.AppendUvarint(b, m.Seq)
	}
	if m.From != nil {
		b = appendBytes(b, m.From.ClientID)
		if m.From.Owner != 0 {
			b = binary.BigEndian.AppendUint64(b, m.From.Owner)
		}
	}
	if len(m.Props) > 0 {
		b = appendBytes(b, m.Props)
	}
	return append(b, m.Payload...)
}

// message decodes what is left as a message with data of its own. from, if not nil, finds the one copy of a publisher.
func (d *decoder) message(from func(clientID []byte, owner uint64) *store.Publisher) *store.Message {
	flags := d.byte()
	qos := d.qos(flags)
	topic := d.bytes(maxText)
	var expires int64
	var seq uint64
	var publisher *store.Publisher
	var props []byte
	if flags&messageExpires != 0 {
		expires = d.int()
	}
	if flags&messageSeq != 0 {
		seq = d.uint(math.MaxUint64)
	}
	if flags&messageFrom != 0 {
		id, owner := d.bytes(maxText), uint64(0)
		if flags&messageOwner != 0 {
			owner = d.number()
		}
		if from != nil {
			publisher = from(id, owner)
		} else {
			publisher = &store.Publisher{ClientID: string(id), Owner: owner}
		}
	} else if flags&messageOwner != 0 {
		d.fail()
	}
	if flags&messageProps != 0 {
		props = d.bytes(maxBytes)
	}
	if d.bad || len(d.b) > maxBytes {
		d.fail()
		return nil
	}
	m := store.NewMessage(string(topic), d.b, props)
	m.Expires, m.Seq, m.From, m.QoS, m.Retain = expires, seq, publisher, qos, flags&messageRetain != 0
	d.b = nil
	return m
}

func decodeMessage(v []byte, from func([]byte, uint64) *store.Publisher) (*store.Message, error) {
	d := newDecoder(v)
	m := d.message(from)
	return m, d.end()
}

const (
	entryRetain = 4
	entryShared = 8 // the message is elsewhere
	entrySubIDs = 16
	entryShare  = 32
)

// appendEntry encodes a queue entry; the message itself follows when number is 0.
func appendEntry(b []byte, p *store.Placement, m *store.Message, number uint64) []byte {
	b = append(b, layout, p.QoS&3|bit(p.Retain, entryRetain)|bit(number != 0, entryShared)|bit(len(p.SubIDs) > 0, entrySubIDs)|
		bit(p.Share != "", entryShare))
	b = binary.AppendUvarint(b, p.Bytes)
	b = binary.AppendUvarint(b, uint64(m.Size()))
	if len(p.SubIDs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(p.SubIDs)))
		for _, id := range p.SubIDs {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	if p.Share != "" {
		b = appendBytes(b, p.Share)
	}
	if number != 0 {
		return binary.AppendUvarint(b, number)
	}
	return appendMessage(b, m)
}

// entry is a decoded queue entry.
type entry struct {
	q      store.Queued // without Pos
	size   uint64       // of the message
	number uint64       // of the message when it is elsewhere, else 0
}

// decodeEntry decodes a queue entry, its message only if that is wanted.
func decodeEntry(v []byte, message bool) (e entry, err error) {
	d := newDecoder(v)
	flags := d.flags(3 | entryRetain | entryShared | entrySubIDs | entryShare)
	e.q.QoS, e.q.Retain = d.qos(flags), flags&entryRetain != 0
	e.q.Bytes = d.uint(math.MaxUint64)
	e.size = d.uint(math.MaxInt64)
	if flags&entrySubIDs != 0 {
		n := d.uint(uint64(len(d.b)))
		e.q.SubIDs = make([]uint32, 0, n)
		for range n {
			e.q.SubIDs = append(e.q.SubIDs, uint32(d.uint(math.MaxUint32)))
		}
	}
	if flags&entryShare != 0 {
		e.q.Share = d.text()
	}
	switch {
	case flags&entryShared != 0:
		if e.number = d.uint(math.MaxUint64); e.number == 0 {
			d.fail()
		}
	case message:
		e.q.Message = d.message(nil)
	default:
		d.b = nil
	}
	return e, d.end()
}

// applied is how far the store has come.
type applied struct {
	seq   uint64        // number of the newest op that was applied
	clock time.Duration // the store's clock then
	wall  int64         // the wall clock then, Unix nanoseconds
}

func appendApplied(b []byte, a applied) []byte {
	b = binary.AppendUvarint(append(b, layout), a.seq)
	b = binary.AppendVarint(b, int64(a.clock))
	return binary.AppendVarint(b, a.wall)
}

func decodeApplied(v []byte) (applied, error) {
	d := newDecoder(v)
	a := applied{seq: d.uint(math.MaxUint64), clock: time.Duration(d.int()), wall: d.int()}
	return a, d.end()
}
