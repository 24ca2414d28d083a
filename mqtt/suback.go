package mqtt

// Suback is a SUBACK packet: the outcome of every subscription of a SUBSCRIBE, in order.
type Suback struct {
	PacketID uint16
	Codes    []ReasonCode // at least one
	Props    Properties
}

// Unsuback is an UNSUBACK packet; before version 5 it has no codes.
type Unsuback struct {
	PacketID uint16
	Codes    []ReasonCode
	Props    Properties
}

// failureV3 is the one return code of a failed subscription before version 5.
const failureV3 = 0x80

// Parse reads the body of a SUBACK.
func (p *Suback) Parse(v Version, flags uint8, body []byte) (err error) {
	p.Props.Reset()
	p.PacketID, p.Codes = 0, keep(p.Codes)
	if err := checkFlags(SUBACK, v, flags); err != nil {
		return err
	}
	if p.PacketID, body, err = readID(body); err != nil {
		return err
	}
	if p.Codes, err = parseCodes(SUBACK, v, body, p.Codes, &p.Props); err != nil {
		return err
	}
	if len(p.Codes) == 0 { // [MQTT-3.9.3-1]
		return violation("SUBACK has no reason code")
	}
	return nil
}

// Parse reads the body of an UNSUBACK.
func (p *Unsuback) Parse(v Version, flags uint8, body []byte) (err error) {
	p.Props.Reset()
	p.PacketID, p.Codes = 0, keep(p.Codes)
	if err := checkFlags(UNSUBACK, v, flags); err != nil {
		return err
	}
	if p.PacketID, body, err = readID(body); err != nil {
		return err
	}
	if v != V5 {
		if len(body) > 0 {
			return malformed("UNSUBACK goes on after its last field")
		}
		return nil
	}
	if p.Codes, err = parseCodes(UNSUBACK, v, body, p.Codes, &p.Props); err != nil {
		return err
	}
	if len(p.Codes) == 0 { // [MQTT-3.11.3-1]
		return violation("UNSUBACK has no reason code")
	}
	return nil
}

// parseCodes reads the properties of version 5 and the codes, to the end.
func parseCodes(t Type, v Version, b []byte, codes []ReasonCode, props *Properties) ([]ReasonCode, error) {
	if v == V5 {
		n, err := props.Parse(b, PropertyContext(t))
		if err != nil {
			return codes, err
		}
		b = b[n:]
	}
	for _, c := range b {
		c := ReasonCode(c)
		if !c.ValidFor(t) || v != V5 && c > failureV3 { // [MQTT-3.9.3-2, MQTT-3.11.3-2]
			return codes, violation("reason code is none of " + t.String())
		}
		codes = append(codes, c)
	}
	return codes, nil
}

// Size is the bytes that Append writes.
func (p *Suback) Size(v Version) int { return whole(codesSize(SUBACK, v, p.Codes, &p.Props)) }

// Append writes the packet. Before version 5 every failure is 0x80.
func (p *Suback) Append(dst []byte, v Version) []byte {
	return appendCodes(dst, SUBACK, v, p.PacketID, p.Codes, &p.Props)
}

// Size is the bytes that Append writes.
func (p *Unsuback) Size(v Version) int { return whole(codesSize(UNSUBACK, v, p.Codes, &p.Props)) }

// Append writes the packet.
func (p *Unsuback) Append(dst []byte, v Version) []byte {
	return appendCodes(dst, UNSUBACK, v, p.PacketID, p.Codes, &p.Props)
}

func codesSize(t Type, v Version, codes []ReasonCode, props *Properties) int {
	switch {
	case v == V5:
		return add(add(2, props.Size()), len(codes))
	case t == UNSUBACK:
		return 2
	}
	return add(2, len(codes))
}

func appendCodes(dst []byte, t Type, v Version, id uint16, codes []ReasonCode, props *Properties) []byte {
	n := codesSize(t, v, codes, props)
	if n > MaxRemaining {
		return dst
	}
	dst = appendUint16(AppendHeader(dst, t, 0, n), id)
	if v == V5 {
		dst = props.Append(dst)
	} else if t == UNSUBACK {
		return dst
	}
	for _, c := range codes {
		if v != V5 && c.IsError() {
			c = failureV3
		}
		dst = append(dst, byte(c))
	}
	return dst
}
