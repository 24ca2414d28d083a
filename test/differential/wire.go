package differential

import "encoding/binary"

// Control packet types, section 2.1.2.
const (
	tConnect     = 1
	tConnack     = 2
	tPublish     = 3
	tPuback      = 4
	tPubrec      = 5
	tPubrel      = 6
	tPubcomp     = 7
	tSubscribe   = 8
	tSuback      = 9
	tUnsubscribe = 10
	tUnsuback    = 11
	tPingreq     = 12
	tPingresp    = 13
	tDisconnect  = 14
	tAuth        = 15
)

// Properties of version 5, section 2.2.2.2.
const (
	pPayloadFormat   = 0x01
	pMessageExpiry   = 0x02
	pContentType     = 0x03
	pResponseTopic   = 0x08
	pCorrelation     = 0x09
	pSubscriptionID  = 0x0b
	pSessionExpiry   = 0x11
	pAuthMethod      = 0x15
	pAuthData        = 0x16
	pRequestProblem  = 0x17
	pWillDelay       = 0x18
	pRequestResponse = 0x19
	pReasonString    = 0x1f
	pReceiveMaximum  = 0x21
	pAliasMaximum    = 0x22
	pAlias           = 0x23
	pUser            = 0x26
	pMaximumPacket   = 0x27
)

// writer builds one packet. It checks nothing: strings may be anything, lists
// empty, numbers out of range.
type writer struct{ b []byte }

func (w *writer) u8(v byte) *writer        { w.b = append(w.b, v); return w }
func (w *writer) u16(v uint16) *writer     { w.b = binary.BigEndian.AppendUint16(w.b, v); return w }
func (w *writer) u32(v uint32) *writer     { w.b = binary.BigEndian.AppendUint32(w.b, v); return w }
func (w *writer) raw(b []byte) *writer     { w.b = append(w.b, b...); return w }
func (w *writer) str(s string) *writer     { w.u16(uint16(len(s))); w.b = append(w.b, s...); return w }
func (w *writer) varint(v int) *writer     { w.b = appendVarint(w.b, v); return w }
func (w *writer) prop8(id, v byte) *writer { return w.u8(id).u8(v) }
func (w *writer) pair(k, v string) *writer { return w.u8(pUser).str(k).str(v) }
func (w *writer) props(p *writer) *writer  { return w.varint(len(p.b)).raw(p.b) }
func (w *writer) packet(first byte) []byte { return frame(first, w.b) }
func (w *writer) prop16(id byte, v uint16) *writer {
	return w.u8(id).u16(v)
}
func (w *writer) prop32(id byte, v uint32) *writer {
	return w.u8(id).u32(v)
}
func (w *writer) propStr(id byte, s string) *writer {
	return w.u8(id).str(s)
}

// frame puts the fixed header before a body.
func frame(first byte, body []byte) []byte {
	return append(appendVarint([]byte{first}, len(body)), body...)
}

func appendVarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// header reads a fixed header; size is 0 when b is too short for it, or its
// length has more than four bytes.
func header(b []byte) (length, size int) {
	for i := 1; i < len(b) && i < 5; i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return length, i + 1
		}
	}
	return 0, 0
}

// maxPadding bounds the zeros that complete sends to end a packet whose header
// promises more than there is.
const maxPadding = 1 << 16

// complete ends the last packet of b with zeros, so that both brokers have whole
// packets to judge. When that takes too many, or the header itself is not whole,
// that packet is returned by itself: whatever comes after it on that connection
// would be read as a part of it.
func complete(b []byte) (whole, rest []byte) {
	at := 0
	for at < len(b) {
		length, size := header(b[at:])
		switch missing := at + size + length - len(b); {
		case size == 0 && len(b)-at >= 5: // a fifth byte of length is judged at once
			return b, nil
		case size == 0 || missing > maxPadding:
			return b[:at], b[at:]
		case missing > 0:
			return append(b, make([]byte, missing)...), nil
		}
		at += size + length
	}
	return b, nil
}

// ack writes PUBACK, PUBREC, PUBREL or PUBCOMP, with the code only in version 5
// and only when it is not 0.
func ack(kind, version byte, id uint16, code byte) []byte {
	w := new(writer).u16(id)
	if version == 5 && code != 0 {
		w.u8(code).u8(0)
	}
	first := kind << 4
	if kind == tPubrel {
		first |= 2
	}
	return w.packet(first)
}

// clientID finds the client identifier in a CONNECT that may be broken, and tells
// whether it found one.
func clientID(packet []byte) (string, bool) {
	_, size := header(packet)
	if size == 0 || packet[0]>>4 != tConnect {
		return "", false
	}
	name, b, ok := cutString(packet[size:])
	if !ok || len(name) > 6 || len(b) < 4 {
		return "", false
	}
	version := b[0]
	b = b[4:]
	if version == 5 {
		length, n := header(append([]byte{0}, b...))
		if n == 0 || n-1+length > len(b) {
			return "", false
		}
		b = b[n-1+length:]
	}
	id, _, ok := cutString(b)
	return id, ok
}

func cutString(b []byte) (string, []byte, bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}
