package mqtt

// Unsubscribe is an UNSUBSCRIBE packet.
type Unsubscribe struct {
	PacketID uint16
	Props    Properties
	Filters  [][]byte // at least one
}

// Parse reads the body of an UNSUBSCRIBE.
func (p *Unsubscribe) Parse(v Version, flags uint8, body []byte) (err error) {
	p.Props.Reset()
	p.PacketID, p.Filters = 0, keep(p.Filters)
	if err := checkFlags(UNSUBSCRIBE, v, flags); err != nil { // [MQTT-3.10.1-1]
		return err
	}
	if p.PacketID, body, err = readID(body); err != nil {
		return err
	}
	if v == V5 {
		n, err := p.Props.Parse(body, PropertyContext(UNSUBSCRIBE))
		if err != nil {
			return err
		}
		body = body[n:]
	}
	if len(body) == 0 { // [MQTT-3.10.3-2]
		return violation("UNSUBSCRIBE has no topic filter")
	}
	for len(body) > 0 {
		var f []byte
		if f, body, err = readTopicFilter(body, v); err != nil {
			return err
		}
		p.Filters = append(p.Filters, f)
	}
	return nil
}

// Size is the bytes that Append writes.
func (p *Unsubscribe) Size(v Version) int { return whole(p.bodySize(v)) }

func (p *Unsubscribe) bodySize(v Version) int {
	n := 2
	if v == V5 {
		n = add(n, p.Props.Size())
	}
	for _, f := range p.Filters {
		n = add(n, sizeString(f))
	}
	return n
}

// Append writes the packet.
func (p *Unsubscribe) Append(dst []byte, v Version) []byte {
	n := p.bodySize(v)
	if n > MaxRemaining {
		return dst
	}
	dst = appendUint16(AppendHeader(dst, UNSUBSCRIBE, 2, n), p.PacketID)
	if v == V5 {
		dst = p.Props.Append(dst)
	}
	for _, f := range p.Filters {
		dst = appendString(dst, f)
	}
	return dst
}
