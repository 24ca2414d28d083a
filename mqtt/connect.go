package mqtt

import "encoding/binary"

// Connect is a CONNECT packet.
type Connect struct {
	Version     Version // 0 after a Parse that did not find a known protocol name
	Bridge      bool    // a Mosquitto bridge: level 0x83 or 0x84
	CleanStart  bool    // Clean Session before version 5
	KeepAlive   uint16  // s, 0: none
	ClientID    []byte
	HasWill     bool
	Will        Will
	HasUsername bool
	HasPassword bool
	Username    []byte
	Password    []byte
	Props       Properties
}

// Will is the message that the server publishes when the connection is lost.
type Will struct {
	QoS      uint8 // 0..2
	Retain   bool
	Topic    []byte
	Payload  []byte
	Props    Properties
	RawProps []byte // as in Publish
}

// AppendForwardProps is that of Publish; the will delay stays behind as well.
func (w *Will) AppendForwardProps(dst []byte) []byte {
	return appendForwardProps(dst, &w.Props, w.RawProps)
}

// The bits of the Connect Flags, section 3.1.2.3.
const (
	flagReserved   = 1 << 0
	flagCleanStart = 1 << 1
	flagWill       = 1 << 2
	flagWillQoS    = 3 << 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7

	bridgeBit = 0x80
)

// Parse reads the body of a CONNECT. It finds the version itself; v is not looked at. When it fails, Version is the one
// whose form a refusal must have: that of the packet, or for a level that is not supported, the nearest. It is 0 when
// the protocol name is unknown or not there: such a peer is best closed without a word [MQTT-3.1.2-1].
//
// What 3.1 leaves undefined is not held against its clients: the reserved bit of the Connect Flags, the will bits
// without Will Flag, and a user name or password whose flag is set at the end of the packet.
func (p *Connect) Parse(v Version, flags uint8, body []byte) error {
	p.reset()
	name, b, ok := cut(body)
	if !ok {
		return malformed("protocol name is cut short")
	}
	if len(b) > 0 {
		p.protocol(string(name), b[0])
	}
	if err := checkFlags(CONNECT, p.Version, flags); err != nil { // [MQTT-3.1.2-12]
		return err
	}
	switch {
	case string(name) != "MQTT" && string(name) != "MQIsdp":
		return &Error{UnsupportedProtocolVersion, "protocol name is neither MQTT nor MQIsdp"}
	case len(b) == 0:
		return malformed("protocol version is cut short")
	case !p.supported(b[0]): // [MQTT-3.1.2-2]
		return &Error{UnsupportedProtocolVersion, "protocol version is none of 3 (MQIsdp), 4 and 5 (MQTT)"}
	case len(b) < 4:
		return malformed("CONNECT is cut short")
	}
	bits := b[1]
	p.KeepAlive = binary.BigEndian.Uint16(b[2:])
	if err := p.connectFlags(bits); err != nil {
		return err
	}
	b = b[4:]
	if p.Version == V5 {
		n, err := p.Props.Parse(b, PropertyContext(CONNECT))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	b, err := p.payload(b)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		return malformed("CONNECT goes on after its last field")
	}
	if len(p.ClientID) == 0 && (p.Version == V31 || p.Version == V311 && !p.CleanStart) { // [MQTT311 MQTT-3.1.3-8]
		return &Error{ClientIDNotValid, "client identifier is empty"}
	}
	return nil
}

// reset keeps the lists of the properties.
func (p *Connect) reset() {
	p.Props.Reset()
	p.Will.Props.Reset()
	*p = Connect{Props: p.Props, Will: Will{Props: p.Will.Props}}
}

// protocol sets Version and Bridge from name and level, the nearest version for a level that is not supported.
func (p *Connect) protocol(name string, level byte) {
	switch {
	case name == "MQIsdp":
		p.Version, p.Bridge = V31, level == bridgeBit|byte(V31)
	case name == "MQTT" && (level <= byte(V311) || level == bridgeBit|byte(V311)):
		p.Version, p.Bridge = V311, level == bridgeBit|byte(V311)
	case name == "MQTT":
		p.Version = V5
	}
}

func (p *Connect) supported(level byte) bool {
	return level == byte(p.Version) || p.Bridge
}

func (p *Connect) connectFlags(bits byte) error {
	p.CleanStart = bits&flagCleanStart != 0
	p.HasUsername, p.HasPassword = bits&flagUsername != 0, bits&flagPassword != 0
	if p.HasWill = bits&flagWill != 0; p.HasWill {
		p.Will.QoS, p.Will.Retain = bits&flagWillQoS>>3, bits&flagWillRetain != 0
	}
	switch {
	case bits&flagReserved != 0 && p.Version != V31: // [MQTT-3.1.2-3]
		return malformed("reserved bit of the connect flags is set")
	case p.Will.QoS == 3:
		return malformed("will has QoS 3")
	case !p.HasWill && bits&(flagWillQoS|flagWillRetain) != 0 && p.Version != V31: // [MQTT-3.1.2-7, MQTT-3.1.2-8]
		return malformed("will QoS or will retain without will flag")
	case p.HasPassword && !p.HasUsername && p.Version != V5: // [MQTT311 MQTT-3.1.2-22]
		return malformed("password without user name")
	}
	return nil
}

// payload reads the fields of the payload in their order [MQTT-3.1.3-1].
func (p *Connect) payload(b []byte) (rest []byte, err error) {
	if p.ClientID, b, err = readText(b, "client identifier"); err != nil {
		return nil, err
	}
	if p.HasWill {
		if b, err = p.Will.parse(b, p.Version); err != nil {
			return nil, err
		}
	}
	if p.Version == V31 && len(b) == 0 {
		p.HasUsername = false
	}
	if p.HasUsername {
		if p.Username, b, err = readText(b, "user name"); err != nil {
			return nil, err
		}
	}
	if p.Version == V31 && len(b) == 0 {
		p.HasPassword = false
	}
	if p.HasPassword {
		if p.Password, b, err = readBinary(b, "password"); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (w *Will) parse(b []byte, v Version) (rest []byte, err error) {
	if v == V5 {
		raw, n, err := cutProperties(b)
		if err != nil {
			return nil, err
		}
		if err := w.Props.parse(raw, InWill); err != nil {
			return nil, err
		}
		w.RawProps, b = raw, b[n:]
	}
	if w.Topic, b, err = readTopicName(b, "will topic"); err != nil {
		return nil, err
	}
	w.Payload, b, err = readBinary(b, "will payload")
	return b, err
}

// version is the one that Append and Size go by.
func (p *Connect) version(v Version) Version {
	if p.Version != 0 {
		return p.Version
	}
	return v
}

func protocolName(v Version) string {
	if v == V31 {
		return "MQIsdp"
	}
	return "MQTT"
}

// Size is the bytes that Append writes.
func (p *Connect) Size(v Version) int { return whole(p.bodySize(p.version(v))) }

func (p *Connect) bodySize(v Version) int {
	n := add(2+len(protocolName(v))+4, sizeString(p.ClientID))
	if v == V5 {
		n = add(n, p.Props.Size())
	}
	if p.HasWill {
		if v == V5 {
			n = add(n, p.Will.Props.Size())
		}
		n = add(n, sizeString(p.Will.Topic))
		n = add(n, sizeString(p.Will.Payload))
	}
	if p.HasUsername {
		n = add(n, sizeString(p.Username))
	}
	if p.HasPassword {
		n = add(n, sizeString(p.Password))
	}
	return n
}

// Append writes the packet in the form of p.Version, or of v when that is 0.
func (p *Connect) Append(dst []byte, v Version) []byte {
	v = p.version(v)
	n := p.bodySize(v)
	if n > MaxRemaining {
		return dst
	}
	dst = AppendHeader(dst, CONNECT, 0, n)
	name := protocolName(v)
	dst = append(append(dst, 0, byte(len(name))), name...)
	level := byte(v)
	if p.Bridge && v != V5 {
		level |= bridgeBit
	}
	dst = appendUint16(append(dst, level, p.flags()), p.KeepAlive)
	if v == V5 {
		dst = p.Props.Append(dst)
	}
	dst = appendString(dst, p.ClientID)
	if p.HasWill {
		if v == V5 {
			dst = p.Will.Props.Append(dst)
		}
		dst = appendString(appendString(dst, p.Will.Topic), p.Will.Payload)
	}
	if p.HasUsername {
		dst = appendString(dst, p.Username)
	}
	if p.HasPassword {
		dst = appendString(dst, p.Password)
	}
	return dst
}

func (p *Connect) flags() (bits byte) {
	if p.CleanStart {
		bits |= flagCleanStart
	}
	if p.HasWill {
		bits |= flagWill | p.Will.QoS&3<<3
		if p.Will.Retain {
			bits |= flagWillRetain
		}
	}
	if p.HasPassword {
		bits |= flagPassword
	}
	if p.HasUsername {
		bits |= flagUsername
	}
	return bits
}
