package crash

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// packetType is the upper half of a packet's first byte.
type packetType byte

const (
	tConnect packetType = iota + 1
	tConnack
	tPublish
	tPuback
	tPubrec
	tPubrel
	tPubcomp
	tSubscribe
	tSuback
	tUnsubscribe
	tUnsuback
	tPingreq
	tPingresp
	tDisconnect
)

// packet is what the harness needs of a packet that it received.
type packet struct {
	typ     packetType
	dup     bool
	qos     byte
	retain  bool
	id      uint16
	topic   string
	payload []byte
	present bool // CONNACK: session present
	code    byte // of CONNACK and DISCONNECT, of acks in MQTT 5, the first one of SUBACK
}

var errMalformed = errors.New("malformed packet")

// readPacket reads one packet of MQTT 3.1.1 (version 4) or 5.
func readPacket(r *bufio.Reader, version byte) (p packet, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return p, err
	}
	size, err := binary.ReadUvarint(r) // the same encoding as a variable byte integer
	if err != nil {
		return p, err
	}
	if size > 1<<20 {
		return p, fmt.Errorf("%w: %d bytes", errMalformed, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return p, err
	}
	p = packet{typ: packetType(first >> 4), dup: first&8 != 0, qos: first >> 1 & 3, retain: first&1 != 0}

	take := func(n int) []byte {
		if n > len(body) {
			err, n = fmt.Errorf("%w: too short", errMalformed), len(body)
		}
		head := body[:n]
		body = body[n:]
		return head
	}
	number := func() uint16 {
		if b := take(2); len(b) == 2 {
			return binary.BigEndian.Uint16(b)
		}
		return 0
	}
	properties := func() {
		if n, used := binary.Uvarint(body); version == 5 && used > 0 {
			take(used)
			take(int(min(n, 1<<20)))
		}
	}
	switch p.typ {
	case tConnack:
		if b := take(2); len(b) == 2 {
			p.present, p.code = b[0] == 1, b[1]
		}
	case tPublish:
		p.topic = string(take(int(number())))
		if p.qos > 0 {
			p.id = number()
		}
		properties()
		p.payload = body
	case tPuback, tPubrec, tPubrel, tPubcomp:
		p.id = number()
		if len(body) > 0 {
			p.code = body[0]
		}
	case tSuback:
		p.id = number()
		properties()
		if b := take(1); len(b) == 1 {
			p.code = b[0]
		}
	case tUnsuback:
		p.id = number()
	case tDisconnect:
		if len(body) > 0 {
			p.code = body[0]
		}
	case tPingresp:
	default:
		err = fmt.Errorf("%w: a broker does not send type %d", errMalformed, p.typ)
	}
	return p, err
}

func pack(typ packetType, flags byte, body []byte) []byte {
	out := binary.AppendUvarint([]byte{byte(typ)<<4 | flags}, uint64(len(body)))
	return append(out, body...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendProperties appends the properties of MQTT 5; earlier versions have none.
func appendProperties(b []byte, version byte, properties ...byte) []byte {
	if version != 5 {
		return b
	}
	return append(append(b, byte(len(properties))), properties...)
}

// will is a will message with its delay in seconds (MQTT 5).
type will struct {
	topic   string
	payload []byte
	qos     byte
	delay   byte
}

// encodeConnect makes a CONNECT. A durable session outlives its connection by
// an hour in MQTT 5 and for ever in MQTT 3.1.1, where clean and durable exclude
// each other.
func encodeConnect(version byte, id string, clean, durable bool, w *will) []byte {
	var flags byte
	if clean {
		flags |= 2
	}
	if w != nil {
		flags |= 4 | w.qos<<3
	}
	b := append(appendText(nil, "MQTT"), version, flags, 0, 60)
	if durable {
		b = appendProperties(b, version, 0x11, 0, 0, 14, 16) // session expiry: 3600 s
	} else {
		b = appendProperties(b, version)
	}
	b = appendText(b, id)
	if w != nil {
		b = appendProperties(b, version, 0x18, 0, 0, 0, w.delay)
		b = appendText(appendText(b, w.topic), string(w.payload))
	}
	return pack(tConnect, 0, b)
}

func encodePublish(version byte, m *message, id uint16, dup bool) []byte {
	flags := m.qos << 1
	if dup {
		flags |= 8
	}
	if m.retain {
		flags |= 1
	}
	b := binary.BigEndian.AppendUint16(appendText(nil, m.topic), id)
	return pack(tPublish, flags, append(appendProperties(b, version), m.payload()...))
}

// encodeAck makes a PUBACK, PUBREC, PUBREL or PUBCOMP.
func encodeAck(typ packetType, id uint16) []byte {
	var flags byte
	if typ == tPubrel {
		flags = 2
	}
	return pack(typ, flags, binary.BigEndian.AppendUint16(nil, id))
}

func encodeSubscribe(version byte, id uint16, filter string, qos byte) []byte {
	b := appendProperties(binary.BigEndian.AppendUint16(nil, id), version)
	return pack(tSubscribe, 2, append(appendText(b, filter), qos))
}

func encodeUnsubscribe(version byte, id uint16, filter string) []byte {
	b := appendProperties(binary.BigEndian.AppendUint16(nil, id), version)
	return pack(tUnsubscribe, 2, appendText(b, filter))
}

func encodeDisconnect() []byte { return pack(tDisconnect, 0, nil) }
