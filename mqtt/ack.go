package mqtt

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet.
type Ack struct {
	Type     Type // set by the caller, also before Parse
	PacketID uint16
	Code     ReasonCode
	Props    Properties
}

// ackFlags is the fixed header's: PUBREL alone has its own [MQTT-3.6.1-1].
func ackFlags(t Type) uint8 { return fixedFlags[t&15] & 15 }

// Parse reads the body of the packet whose kind p.Type says. Version 5 may leave out a reason code of Success together
// with the properties, and the Property Length of none.
func (p *Ack) Parse(v Version, flags uint8, body []byte) (err error) {
	p.Props.Reset()
	p.PacketID, p.Code = 0, Success
	if p.Type < PUBACK || p.Type > PUBCOMP {
		return malformed(p.Type.String() + " is no acknowledgement of PUBLISH")
	}
	if err := checkFlags(p.Type, v, flags); err != nil {
		return err
	}
	if p.PacketID, body, err = readID(body); err != nil {
		return err
	}
	return parseOutcome(p.Type, v, body, &p.Code, &p.Props)
}

// parseOutcome reads an optional reason code and optional properties, to the end.
func parseOutcome(t Type, v Version, b []byte, code *ReasonCode, props *Properties) error {
	if len(b) == 0 {
		return nil
	}
	if v != V5 {
		return malformed(t.String() + " goes on after its last field")
	}
	if *code = ReasonCode(b[0]); !code.ValidFor(t) { // [MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1]
		return violation("reason code is none of " + t.String())
	}
	if b = b[1:]; len(b) == 0 {
		return nil
	}
	n, err := props.Parse(b, PropertyContext(t))
	if err != nil {
		return err
	}
	if n != len(b) {
		return malformed(t.String() + " goes on after its last field")
	}
	return nil
}

// sizeOutcome is the bytes that appendOutcome writes.
func sizeOutcome(v Version, code ReasonCode, props *Properties) int {
	switch {
	case v != V5:
		return 0
	case !props.Empty():
		return add(1, props.Size())
	case code != Success:
		return 1
	}
	return 0
}

// appendOutcome writes reason code and properties in the shortest form.
func appendOutcome(dst []byte, v Version, code ReasonCode, props *Properties) []byte {
	switch {
	case v != V5:
		return dst
	case !props.Empty():
		return props.Append(append(dst, byte(code)))
	case code != Success:
		return append(dst, byte(code))
	}
	return dst
}

// Size is the bytes that Append writes.
func (p *Ack) Size(v Version) int { return whole(add(2, sizeOutcome(v, p.Code, &p.Props))) }

// Append writes the packet in the shortest form.
func (p *Ack) Append(dst []byte, v Version) []byte {
	n := add(2, sizeOutcome(v, p.Code, &p.Props))
	if n > MaxRemaining {
		return dst
	}
	dst = appendUint16(AppendHeader(dst, p.Type, ackFlags(p.Type), n), p.PacketID)
	return appendOutcome(dst, v, p.Code, &p.Props)
}
