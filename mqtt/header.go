package mqtt

import "errors"

// Header is the fixed header of a packet.
type Header struct {
	Type   Type
	Flags  uint8 // the lower four bits of the first byte
	Length int   // bytes of the body that follows, the standard's Remaining Length
	Size   int   // bytes of the header itself, 2..5
}

// ErrIncomplete tells that the bytes so far are good and more are needed.
var ErrIncomplete = errors.New("incomplete packet")

// anyFlags marks the type whose flags carry meaning.
const anyFlags = 0xFF

// fixedFlags are the flags that each type must have [MQTT-2.1.3-1].
var fixedFlags = [16]uint8{PUBLISH: anyFlags, PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}

// dupFlag is the re-delivery flag of PUBLISH; version 3.1 has it on every packet whose flags are 2 otherwise.
const dupFlag = 8

// ParseHeader reads the fixed header at the start of b. What the header alone shows to be wrong is an *Error, before
// the body is there: type 0, reserved flags, QoS 3, DUP with QoS 0, a PINGREQ or PINGRESP with a body, a Remaining
// Length of more than four bytes or of more than it needs. Any other packet may still have flags that its version
// forbids; Parse sees to that.
func ParseHeader(b []byte) (Header, error) {
	if len(b) == 0 {
		return Header{}, ErrIncomplete
	}
	h := Header{Type: Type(b[0] >> 4), Flags: b[0] & 15}
	if h.Type == PUBLISH {
		if err := publishFlags(h.Flags); err != nil {
			return h, err
		}
	} else if h.Flags != fixedFlags[h.Type] || h.Type == 0 {
		if err := oddFlags(h.Type, h.Flags); err != nil {
			return h, err
		}
	}
	if len(b) >= 2 && b[1] < 0x80 {
		h.Length, h.Size = int(b[1]), 2
	} else {
		n, size, err := ParseVarint(b[1:])
		if err == ErrIncomplete {
			return h, err
		} else if err != nil {
			return h, malformed("remaining length of " + h.Type.String() + ": " + err.(*Error).Text)
		}
		h.Length, h.Size = n, 1+size
	}
	if h.Length != 0 && (h.Type == PINGREQ || h.Type == PINGRESP) {
		return h, malformed(h.Type.String() + " has a body")
	}
	return h, nil
}

// oddFlags judges flags that are not those of versions 3.1.1 and 5.
func oddFlags(t Type, flags uint8) error {
	if t == 0 {
		return malformed("packet type 0 is reserved")
	}
	if fixedFlags[t] == 2 && flags == 2|dupFlag {
		return nil
	}
	return malformed("reserved flags of " + t.String() + " are wrong")
}

// checkFlags is what every Parse begins with: the flags that version v demands of type t.
func checkFlags(t Type, v Version, flags uint8) error {
	want := fixedFlags[t]
	if flags == want || (v == V31 && want == 2 && flags == 2|dupFlag) {
		return nil
	}
	return malformed("reserved flags of " + t.String() + " are wrong")
}

// AppendHeader writes the fixed header of a packet whose body has length bytes, 0..MaxRemaining.
func AppendHeader(dst []byte, t Type, flags uint8, length int) []byte {
	if uint(length) < 0x80 {
		return append(dst, byte(t)<<4|flags&15, byte(length))
	}
	return AppendVarint(append(dst, byte(t)<<4|flags&15), length)
}

// VarintLen is the bytes that AppendVarint writes, 1..4.
func VarintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// AppendVarint writes n, 0..MaxRemaining, as a variable byte integer, in as few bytes as it needs [MQTT-1.5.5-1].
func AppendVarint(dst []byte, n int) []byte {
	switch VarintLen(n) {
	case 1:
		return append(dst, byte(n)&0x7F)
	case 2:
		return append(dst, byte(n)|0x80, byte(n>>7)&0x7F)
	case 3:
		return append(dst, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)&0x7F)
	}
	return append(dst, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)&0x7F)
}

// ParseVarint reads a variable byte integer and the bytes it took. ErrIncomplete when b ends inside it; *Error when a
// fourth byte is not the last or the last of several is zero [MQTT-1.5.5-1].
func ParseVarint(b []byte) (v, n int, err error) {
	for n < 4 {
		if n >= len(b) {
			return 0, 0, ErrIncomplete
		}
		c := b[n]
		v |= int(c&0x7F) << (7 * n)
		n++
		if c < 0x80 {
			if c == 0 && n > 1 {
				return 0, 0, malformed("variable byte integer is longer than it needs to be")
			}
			return v, n, nil
		}
	}
	return 0, 0, malformed("variable byte integer has more than four bytes")
}
