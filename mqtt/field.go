package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/sealmq/sealmq/topic"
)

// tooLong is a size above every limit: sums of sizes stop there, so that they cannot overflow.
const tooLong = MaxRemaining + 1

// maxKept bounds the lists that a packet struct keeps for reuse, in entries.
const maxKept = 1024

// keep empties a list for reuse, unless one large packet has made it too large to keep.
func keep[T any](s []T) []T {
	if cap(s) > maxKept {
		return nil
	}
	return s[:0]
}

// cut splits off a field of two length bytes and its content. ok is false when b is too short.
func cut(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	n := 2 + (int(b[0])<<8 | int(b[1]))
	if n > len(b) {
		return nil, b, false
	}
	return b[2:n:n], b[n:], true
}

// readText splits off a UTF-8 string [MQTT-1.5.4-1, MQTT-1.5.4-2]; what names it in the error.
func readText(b []byte, what string) (s, rest []byte, err error) {
	s, rest, ok := cut(b)
	if !ok {
		return nil, nil, malformed(what + " is cut short")
	}
	if !ValidString(s) {
		return nil, nil, badText(s, what)
	}
	return s, rest, nil
}

func readBinary(b []byte, what string) (s, rest []byte, err error) {
	s, rest, ok := cut(b)
	if !ok {
		return nil, nil, malformed(what + " is cut short")
	}
	return s, rest, nil
}

func badText(s []byte, what string) error {
	if bytes.IndexByte(s, 0) >= 0 {
		return malformed(what + " contains U+0000")
	}
	return malformed(what + " is not well-formed UTF-8")
}

// ValidString tells whether s may be the content of a UTF-8 Encoded String: well formed, without U+0000. Its length
// is not looked at. U+FEFF and control characters are as good as any other [MQTT-1.5.4-3].
func ValidString(s []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	rest := s
	for len(rest) >= 8 {
		w := binary.LittleEndian.Uint64(rest)
		if (w|(w-ones))&tops != 0 {
			return utf8.Valid(rest) && bytes.IndexByte(rest, 0) < 0
		}
		rest = rest[8:]
	}
	for i, c := range rest {
		if c-1 >= 0x7F {
			return utf8.Valid(rest[i:]) && bytes.IndexByte(rest[i:], 0) < 0
		}
	}
	return true
}

// readTopicName splits off a Topic Name.
func readTopicName(b []byte, what string) (s, rest []byte, err error) {
	s, rest, ok := cut(b)
	if !ok {
		return nil, nil, malformed(what + " is cut short")
	}
	if err := topic.ValidName(s); err != nil {
		return nil, nil, badTopic(s, what, TopicNameInvalid, err)
	}
	return s, rest, nil
}

// readTopicFilter splits off a Topic Filter; version 5 knows the form of shared ones.
func readTopicFilter(b []byte, v Version) (s, rest []byte, err error) {
	s, rest, ok := cut(b)
	if !ok {
		return nil, nil, malformed("topic filter is cut short")
	}
	err = topic.ValidFilter(s)
	if err == nil && v == V5 && isShared(s) {
		err = validShare(s)
	}
	if err != nil {
		return nil, nil, badTopic(s, "topic filter", TopicFilterInvalid, err)
	}
	return s, rest, nil
}

// badTopic tells ill-formed strings, which are malformed, from topics that are wrong.
func badTopic(s []byte, what string, code ReasonCode, err error) error {
	if !ValidString(s) {
		return badText(s, what)
	}
	return &Error{code, what + " " + err.Error()}
}

const sharePrefix = "$share/"

func isShared(filter []byte) bool {
	return len(filter) >= len(sharePrefix) && string(filter[:len(sharePrefix)]) == sharePrefix
}

// validShare is topic.ParseShare without the string it needs [MQTT-4.8.2-1, MQTT-4.8.2-2].
func validShare(filter []byte) error {
	tail := filter[len(sharePrefix):]
	n := bytes.IndexByte(tail, '/')
	if n < 0 {
		n = len(tail)
	}
	switch group := tail[:n]; {
	case n == 0 || bytes.IndexByte(group, '+') >= 0 || bytes.IndexByte(group, '#') >= 0:
		return topic.ErrShareName
	case n+1 >= len(tail):
		return topic.ErrShareEmpty
	}
	return nil
}

// readID reads a Packet Identifier, which is never zero [MQTT-2.2.1-3].
func readID(b []byte) (id uint16, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, malformed("packet identifier is cut short")
	}
	id = binary.BigEndian.Uint16(b)
	if id == 0 {
		return 0, nil, violation("packet identifier is zero")
	}
	return id, b[2:], nil
}

func appendUint16(dst []byte, n uint16) []byte { return append(dst, byte(n>>8), byte(n)) }

func appendString(dst, s []byte) []byte {
	return append(append(dst, byte(len(s)>>8), byte(len(s))), s...)
}

// sizeString is the bytes that appendString writes, tooLong when it cannot.
func sizeString(s []byte) int {
	if len(s) > MaxString {
		return tooLong
	}
	return 2 + len(s)
}

// add sums sizes without ever passing tooLong, also where int has 32 bits.
func add(n, m int) int { return min(n+min(m, tooLong), tooLong) }

// whole is the size of a packet with a body of n bytes.
func whole(n int) int {
	if n > MaxRemaining {
		return MaxPacketSize + 1
	}
	return 1 + VarintLen(n) + n
}
