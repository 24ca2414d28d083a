// Package mqtt is the wire protocol: MQTT 3.1, 3.1.1 and 5 control packets, their properties and reason codes.
//
// Every packet type has the same verbs. Parse reads the body of one packet, checks all that the packet alone can tell,
// and keeps views into that body: they are valid as long as the caller leaves the bytes alone. The receiver is reset
// first and its lists are reused, so a packet struct that is parsed into again and again allocates nothing. Append
// writes the whole packet with its fixed header; Size tells how long that will be.
//
// Parse returns *Error, which carries the reason code that a peer of version 5 is told. It never panics, whatever the
// bytes are. Client and server parse with the same code, so what only one of the two may send is checked by the caller.
//
// Append writes what it is given. A packet that cannot be expressed (a string above 65,535 bytes, more than 268,435,455
// bytes in all) is not written at all: dst comes back as it was, and Size is above MaxPacketSize.
//
// The package starts no goroutines and keeps no state; any package may use it.
package mqtt

// Version is the protocol level of a connection. It decides the form of every packet after CONNECT.
type Version uint8

// The three versions, by the protocol level in CONNECT.
const (
	V31  Version = 3 // protocol name "MQIsdp"
	V311 Version = 4
	V5   Version = 5
)

func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5"
	}
	return "unknown"
}

// Type is the kind of a control packet: the upper four bits of its first byte.
type Type uint8

// The control packet types. Zero is reserved; 15 is used by version 5 alone.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

var typeNames = [16]string{
	"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

func (t Type) String() string { return typeNames[t&15] }

// Limits of the encoding.
const (
	MaxString     = 65_535               // bytes of a string or of binary data
	MaxRemaining  = 268_435_455          // bytes of a packet's body, and the largest variable byte integer
	MaxPacketSize = 1 + 4 + MaxRemaining // bytes of a whole packet
)
