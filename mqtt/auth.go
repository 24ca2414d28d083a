package mqtt

// Auth is an AUTH packet, of version 5 only.
type Auth struct {
	Code  ReasonCode // Success, ContinueAuthentication or ReAuthenticate
	Props Properties // Authentication Method always
}

// Parse reads the body of an AUTH. Without an Authentication Method it is a protocol error (section 3.15.2.2.2), so the
// form without a body is one, too.
func (p *Auth) Parse(v Version, flags uint8, body []byte) error {
	p.Props.Reset()
	p.Code = Success
	if v != V5 {
		return violation("AUTH before version 5")
	}
	if err := checkFlags(AUTH, v, flags); err != nil { // [MQTT-3.15.1-1]
		return err
	}
	if len(body) == 1 {
		return malformed("AUTH is cut short")
	}
	if err := parseOutcome(AUTH, v, body, &p.Code, &p.Props); err != nil {
		return err
	}
	if !p.Props.Has(PropAuthMethod) {
		return violation("AUTH without Authentication Method")
	}
	return nil
}

// Size is the bytes that Append writes.
func (p *Auth) Size(v Version) int {
	return whole(p.bodySize())
}

func (p *Auth) bodySize() int {
	if p.Code == Success && p.Props.Empty() {
		return 0
	}
	return add(1, p.Props.Size())
}

// Append writes the packet.
func (p *Auth) Append(dst []byte, v Version) []byte {
	n := p.bodySize()
	if n > MaxRemaining {
		return dst
	}
	dst = AppendHeader(dst, AUTH, 0, n)
	if n == 0 {
		return dst
	}
	return p.Props.Append(append(dst, byte(p.Code)))
}
