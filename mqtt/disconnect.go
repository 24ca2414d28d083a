package mqtt

// Disconnect is a DISCONNECT packet. Before version 5 only clients send it, and it says nothing.
type Disconnect struct {
	Code  ReasonCode
	Props Properties
}

// Parse reads the body of a DISCONNECT. Which codes belong to the server, and that it must not send a Session Expiry
// Interval [MQTT-3.14.2-2], is the caller's to check.
func (p *Disconnect) Parse(v Version, flags uint8, body []byte) error {
	p.Props.Reset()
	p.Code = NormalDisconnection
	if err := checkFlags(DISCONNECT, v, flags); err != nil { // [MQTT-3.14.1-1]
		return err
	}
	return parseOutcome(DISCONNECT, v, body, &p.Code, &p.Props)
}

// Size is the bytes that Append writes.
func (p *Disconnect) Size(v Version) int { return whole(sizeOutcome(v, p.Code, &p.Props)) }

// Append writes the packet in the shortest form.
func (p *Disconnect) Append(dst []byte, v Version) []byte {
	n := sizeOutcome(v, p.Code, &p.Props)
	if n > MaxRemaining {
		return dst
	}
	return appendOutcome(AppendHeader(dst, DISCONNECT, 0, n), v, p.Code, &p.Props)
}
