package mqtt

// Subscribe is a SUBSCRIBE packet.
type Subscribe struct {
	PacketID uint16
	Props    Properties
	Filters  []Subscription // at least one
}

// Subscription is one Topic Filter and its options; all but the QoS are of version 5.
type Subscription struct {
	Filter            []byte
	QoS               uint8 // 0..2
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8 // 0..2
}

// The Subscription Options, section 3.8.3.1.
const (
	optionQoS            = 3
	optionNoLocal        = 1 << 2
	optionAsPublished    = 1 << 3
	optionRetainHandling = 3 << 4
	optionReserved       = 3 << 6
)

// Parse reads the body of a SUBSCRIBE. Shared filters are looked into in version 5 only, the others do not know them.
func (p *Subscribe) Parse(v Version, flags uint8, body []byte) (err error) {
	p.Props.Reset()
	p.PacketID, p.Filters = 0, keep(p.Filters)
	if err := checkFlags(SUBSCRIBE, v, flags); err != nil { // [MQTT-3.8.1-1]
		return err
	}
	if p.PacketID, body, err = readID(body); err != nil {
		return err
	}
	if v == V5 {
		n, err := p.Props.Parse(body, PropertyContext(SUBSCRIBE))
		if err != nil {
			return err
		}
		body = body[n:]
	}
	if len(body) == 0 { // [MQTT-3.8.3-2]
		return violation("SUBSCRIBE has no topic filter")
	}
	for len(body) > 0 {
		var s Subscription
		if s.Filter, body, err = readTopicFilter(body, v); err != nil {
			return err
		}
		if len(body) == 0 {
			return malformed("subscription options are cut short")
		}
		if err := s.options(v, body[0]); err != nil {
			return err
		}
		body = body[1:]
		p.Filters = append(p.Filters, s)
	}
	return nil
}

// options reads the byte behind a filter. Version 3.1 leaves all but the QoS undefined.
func (s *Subscription) options(v Version, b byte) error {
	s.QoS = b & optionQoS
	if v != V5 {
		if s.QoS == 3 || b&^optionQoS != 0 && v != V31 { // [MQTT311 MQTT-3.8.3-4]
			return malformed("requested QoS is none of 0, 1 and 2")
		}
		return nil
	}
	s.NoLocal, s.RetainAsPublished = b&optionNoLocal != 0, b&optionAsPublished != 0
	s.RetainHandling = b & optionRetainHandling >> 4
	switch {
	case b&optionReserved != 0: // [MQTT-3.8.3-5]
		return malformed("reserved subscription options are set")
	case s.QoS == 3:
		return violation("subscription has QoS 3")
	case s.RetainHandling == 3:
		return violation("subscription has retain handling 3")
	case s.NoLocal && isShared(s.Filter): // [MQTT-3.8.3-4]
		return violation("no local on a shared subscription")
	}
	return nil
}

// Size is the bytes that Append writes.
func (p *Subscribe) Size(v Version) int { return whole(p.bodySize(v)) }

func (p *Subscribe) bodySize(v Version) int {
	n := 2
	if v == V5 {
		n = add(n, p.Props.Size())
	}
	for i := range p.Filters {
		n = add(n, 1+sizeString(p.Filters[i].Filter))
	}
	return n
}

// Append writes the packet; options that the version does not know are left out.
func (p *Subscribe) Append(dst []byte, v Version) []byte {
	n := p.bodySize(v)
	if n > MaxRemaining {
		return dst
	}
	dst = appendUint16(AppendHeader(dst, SUBSCRIBE, 2, n), p.PacketID)
	if v == V5 {
		dst = p.Props.Append(dst)
	}
	for i := range p.Filters {
		s := &p.Filters[i]
		b := s.QoS & optionQoS
		if v == V5 {
			if s.NoLocal {
				b |= optionNoLocal
			}
			if s.RetainAsPublished {
				b |= optionAsPublished
			}
			b |= s.RetainHandling & 3 << 4
		}
		dst = append(appendString(dst, s.Filter), b)
	}
	return dst
}
