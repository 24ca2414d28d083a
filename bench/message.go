package bench

import (
	"encoding/binary"

	"github.com/sealmq/sealmq/mqtt"
)

// A payload begins with the time at which the message was due or sent (8 bytes, nanoseconds since the run's epoch), the
// number of its publisher (4) and its number among that publisher's messages (4).
const minPayload = 16

// pattern is a whole PUBLISH packet of which only packet identifier and payload head differ from message to message.
type pattern struct {
	packet  []byte
	id      int // where the packet identifier is; 0 with QoS 0
	payload int // where the payload begins
}

func newPattern(cfg *Config, topic string) pattern {
	p := mqtt.Publish{QoS: cfg.QoS, Topic: []byte(topic), Payload: make([]byte, cfg.Payload)}
	if cfg.QoS > 0 {
		p.PacketID = 1
	}
	for i := 0; i+1 < len(cfg.UserProperties); i += 2 {
		p.Props.User = append(p.Props.User, mqtt.UserProperty{Key: []byte(cfg.UserProperties[i]), Value: []byte(cfg.UserProperties[i+1])})
	}
	// Something that compresses as badly as real data, and the same in every run.
	x := uint32(1)
	for i := range p.Payload {
		x = x*1664525 + 1013904223
		p.Payload[i] = byte(x >> 24)
	}
	t := pattern{packet: p.Append(nil, cfg.Version)}
	t.payload = len(t.packet) - cfg.Payload
	if cfg.QoS > 0 {
		h, _ := mqtt.ParseHeader(t.packet)
		t.id = h.Size + 2 + len(topic)
	}
	return t
}

// append writes one message to dst.
func (t *pattern) append(dst []byte, id uint16, at int64, publisher, number uint32) []byte {
	n := len(dst)
	dst = append(dst, t.packet...)
	m := dst[n:]
	if t.id != 0 {
		binary.BigEndian.PutUint16(m[t.id:], id)
	}
	m = m[t.payload:]
	binary.BigEndian.PutUint64(m, uint64(at))
	binary.BigEndian.PutUint32(m[8:], publisher)
	binary.BigEndian.PutUint32(m[12:], number)
	return dst
}

// received is what a subscriber wants to know of a PUBLISH.
type received struct {
	id        []byte // packet identifier, empty with QoS 0
	at        int64
	publisher uint32
	number    uint32
}

// parseReceived reads the body of a PUBLISH whose header has been checked; false when the packet is not one of ours.
// It looks at nothing but the lengths: what is measured is the broker, and its own tests see to what it sends.
func parseReceived(v mqtt.Version, qos uint8, body []byte) (m received, ok bool) {
	if len(body) < 2 {
		return m, false
	}
	off := 2 + int(binary.BigEndian.Uint16(body))
	if qos > 0 {
		if len(body) < off+2 {
			return m, false
		}
		m.id = body[off : off+2]
		off += 2
	}
	if v == mqtt.V5 {
		if len(body) <= off {
			return m, false
		}
		length, n, err := mqtt.ParseVarint(body[off:])
		if err != nil {
			return m, false
		}
		off += n + length
	}
	if len(body) < off+minPayload {
		return m, false
	}
	p := body[off:]
	m.at = int64(binary.BigEndian.Uint64(p))
	m.publisher = binary.BigEndian.Uint32(p[8:])
	m.number = binary.BigEndian.Uint32(p[12:])
	return m, true
}

// appendAck writes a PUBACK, PUBREC, PUBREL or PUBCOMP of two bytes: the form all versions share.
func appendAck(dst []byte, t mqtt.Type, id []byte) []byte {
	flags := byte(0)
	if t == mqtt.PUBREL {
		flags = 2
	}
	return append(dst, byte(t)<<4|flags, 2, id[0], id[1])
}
