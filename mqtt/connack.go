package mqtt

// Connack is a CONNACK packet.
type Connack struct {
	SessionPresent bool
	Code           ReasonCode
	Props          Properties
}

// Parse reads the body of a CONNACK. Return codes of versions 3 become the reason codes they stand for, and so does
// the refusal that a server of version 3.1.1 gives to a CONNECT of version 5.
func (p *Connack) Parse(v Version, flags uint8, body []byte) error {
	p.Props.Reset()
	p.SessionPresent, p.Code = false, 0
	if err := checkFlags(CONNACK, v, flags); err != nil {
		return err
	}
	if len(body) < 2 {
		return malformed("CONNACK is cut short")
	}
	if body[0]&^1 != 0 && v != V31 { // [MQTT-3.2.2-1]
		return malformed("reserved connect acknowledge flags are set")
	}
	p.SessionPresent = body[0]&1 != 0 && v != V31
	p.Code = ReasonCode(body[1])
	n := 0
	if v == V5 && !(len(body) == 2 && body[1] == UnsupportedProtocolVersion.V3Connack()) {
		if !p.Code.ValidFor(CONNACK) { // [MQTT-3.2.2-8]
			return violation("reason code is none of CONNACK")
		}
		var err error
		if n, err = p.Props.Parse(body[2:], PropertyContext(CONNACK)); err != nil {
			return err
		}
	} else {
		var ok bool
		if p.Code, ok = fromV3Connack(body[1]); !ok {
			return violation("return code is none of CONNACK")
		}
	}
	if len(body) != 2+n {
		return malformed("CONNACK goes on after its last field")
	}
	if p.SessionPresent && p.Code != Success { // [MQTT-3.2.2-6]
		return violation("session present in a refusal")
	}
	return nil
}

// Size is the bytes that Append writes.
func (p *Connack) Size(v Version) int {
	if v != V5 {
		return 4
	}
	return whole(add(2, p.Props.Size()))
}

// Append writes the packet. A refusal never has Session Present [MQTT-3.2.2-6], and 3.1 does not know it.
func (p *Connack) Append(dst []byte, v Version) []byte {
	var ack byte
	if p.SessionPresent && p.Code == Success && v != V31 {
		ack = 1
	}
	if v != V5 {
		return append(AppendHeader(dst, CONNACK, 0, 2), ack, p.Code.V3Connack())
	}
	n := add(2, p.Props.Size())
	if n > MaxRemaining {
		return dst
	}
	return p.Props.Append(append(AppendHeader(dst, CONNACK, 0, n), ack, byte(p.Code)))
}
