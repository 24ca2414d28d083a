package mqtt

import (
	"encoding/binary"

	"github.com/sealmq/sealmq/topic"
)

// Publish is a PUBLISH packet: one application message on its way.
type Publish struct {
	Dup      bool
	QoS      uint8 // 0..2
	Retain   bool
	Topic    []byte // empty only in version 5, when a Topic Alias stands for it
	PacketID uint16 // 0 with QoS 0 only
	Props    Properties
	RawProps []byte // the property bytes as received, without their length; Append does not look at them
	Payload  []byte
}

// publishFlags checks QoS and DUP.
func publishFlags(flags uint8) error {
	switch {
	case flags&6 == 6:
		return malformed("PUBLISH has QoS 3") // [MQTT-3.3.1-4]
	case flags&(6|dupFlag) == dupFlag:
		return malformed("PUBLISH has DUP with QoS 0") // [MQTT-3.3.1-2]
	}
	return nil
}

// Parse reads the body of a PUBLISH. Subscription Identifiers are accepted: only a server may send them.
func (p *Publish) Parse(v Version, flags uint8, body []byte) error {
	p.Props.Reset()
	p.RawProps, p.Payload, p.PacketID = nil, nil, 0
	p.Dup, p.QoS, p.Retain = flags&dupFlag != 0, flags>>1&3, flags&1 != 0
	if flags&6 == 6 || flags&(6|dupFlag) == dupFlag {
		return publishFlags(flags)
	}
	name, rest, ok := cut(body)
	if !ok {
		p.Topic = nil
		return malformed("topic name is cut short")
	}
	p.Topic = name
	if err := topic.ValidName(name); err != nil && (v != V5 || len(name) > 0) {
		return badTopic(name, "topic name", TopicNameInvalid, err)
	}
	if p.QoS != 0 {
		if len(rest) < 2 {
			return malformed("packet identifier is cut short")
		}
		p.PacketID = binary.BigEndian.Uint16(rest)
		if p.PacketID == 0 { // [MQTT-2.2.1-3]
			return violation("packet identifier is zero")
		}
		rest = rest[2:]
	}
	if v == V5 {
		if len(rest) > 0 && rest[0] == 0 {
			rest = rest[1:]
		} else {
			n, err := p.parseProps(rest)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		if len(name) == 0 && p.Props.TopicAlias == 0 {
			return violation("topic name is empty and there is no Topic Alias")
		}
	}
	p.Payload = rest
	return nil
}

func (p *Publish) parseProps(b []byte) (int, error) {
	raw, n, err := cutProperties(b)
	if err != nil {
		return 0, err
	}
	p.RawProps = raw
	return n, p.Props.parse(raw, PropertyContext(PUBLISH))
}

// AppendForwardProps writes the property bytes, without a length, that a server passes on unaltered and in order:
// payload format, content type, response topic, correlation data and user properties. Not the message expiry, which is
// counted down, nor alias and subscription identifiers, which are each connection's own. They are taken from RawProps,
// or from Props when there are none.
func (p *Publish) AppendForwardProps(dst []byte) []byte {
	return appendForwardProps(dst, &p.Props, p.RawProps)
}

func appendForwardProps(dst []byte, p *Properties, raw []byte) []byte {
	if len(raw) > 0 {
		return appendForward(dst, raw)
	}
	return p.appendUser(p.appendSingles(dst, p.set&forwarded))
}

// Size is the bytes that Append writes.
func (p *Publish) Size(v Version) int { return whole(p.bodySize(v)) }

func (p *Publish) bodySize(v Version) int {
	n := add(sizeString(p.Topic), len(p.Payload))
	if p.QoS&3 != 0 {
		n += 2
	}
	if v == V5 {
		if p.Props.Empty() {
			n++
		} else {
			n = add(n, p.Props.Size())
		}
	}
	return n
}

// Append writes the packet. DUP and the packet identifier are left out with QoS 0 [MQTT-2.2.1-2, MQTT-3.3.1-2].
func (p *Publish) Append(dst []byte, v Version) []byte {
	n := p.bodySize(v)
	if n > MaxRemaining {
		return dst
	}
	flags := p.QoS & 3 << 1
	if p.Retain {
		flags |= 1
	}
	if p.Dup && flags > 1 {
		flags |= dupFlag
	}
	dst = appendString(AppendHeader(dst, PUBLISH, flags, n), p.Topic)
	if flags > 1 {
		dst = appendUint16(dst, p.PacketID)
	}
	if v == V5 {
		if p.Props.Empty() {
			dst = append(dst, 0)
		} else {
			dst = p.Props.Append(dst)
		}
	}
	return append(dst, p.Payload...)
}
