package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxLen is the length in bytes of the longest topic name or filter, bounded
// by the two length bytes of an MQTT string [MQTT-4.7.3-3].
const MaxLen = 65535

// What [ValidName], [ValidFilter] and [ParseShare] find. The texts follow
// "topic name" or "topic filter" in a message.
var (
	ErrEmpty      = errors.New("is empty")                                              // [MQTT-4.7.3-1]
	ErrTooLong    = errors.New("is longer than 65,535 bytes")                           // [MQTT-4.7.3-3]
	ErrNull       = errors.New("contains U+0000")                                       // [MQTT-4.7.3-2]
	ErrUTF8       = errors.New("is not well-formed UTF-8")                              // [MQTT-1.5.4-1]
	ErrWildcard   = errors.New("contains a wildcard")                                   // [MQTT-3.3.2-2]
	ErrPlus       = errors.New("has a + that is not alone in its level")                // [MQTT-4.7.1-2]
	ErrHash       = errors.New("has a # that is not alone in the last level")           // [MQTT-4.7.1-1]
	ErrShareName  = errors.New("has a share name that is empty or contains a wildcard") // [MQTT-4.8.2-1]
	ErrShareEmpty = errors.New("has no filter after the share name")                    // [MQTT-4.8.2-2]
)

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain reports whether eight bytes are all ASCII and none is U+0000, + or #.
// Among ASCII bytes the borrow trick has no false negatives.
func plain(w uint64) bool {
	plus, hash := w^('+'*lows), w^('#'*lows)
	return (w|(w-lows)|(plus-lows)&^plus|(hash-lows)&^hash)&highs == 0
}

// ValidName tells why s cannot be the topic name of a PUBLISH, nil if it can.
func ValidName[T ~string | ~[]byte](s T) error {
	if len(s) == 0 {
		return ErrEmpty
	}
	if len(s) > MaxLen {
		return ErrTooLong
	}
	for i := 0; i < len(s); {
		if i+8 <= len(s) && plain(word(s, i)) {
			i += 8
			continue
		}
		switch c := s[i]; {
		case c == 0:
			return ErrNull
		case c == '+' || c == '#':
			return ErrWildcard
		case c < utf8.RuneSelf:
			i++
		default:
			n := runeLen(s, i)
			if n == 0 {
				return ErrUTF8
			}
			i += n
		}
	}
	return nil
}

// ValidFilter tells why s cannot be a topic filter, nil if it can. A shared
// one ($share/...) must also pass [ParseShare].
func ValidFilter[T ~string | ~[]byte](s T) error {
	if len(s) == 0 {
		return ErrEmpty
	}
	if len(s) > MaxLen {
		return ErrTooLong
	}
	for i := 0; i < len(s); {
		if i+8 <= len(s) && plain(word(s, i)) {
			i += 8
			continue
		}
		switch c := s[i]; {
		case c == 0:
			return ErrNull
		case c == '+':
			if i > 0 && s[i-1] != '/' || i+1 < len(s) && s[i+1] != '/' {
				return ErrPlus
			}
			i++
		case c == '#':
			if i > 0 && s[i-1] != '/' || i+1 < len(s) {
				return ErrHash
			}
			i++
		case c < utf8.RuneSelf:
			i++
		default:
			n := runeLen(s, i)
			if n == 0 {
				return ErrUTF8
			}
			i += n
		}
	}
	return nil
}

// word loads eight bytes at once, which the compiler makes one instruction.
func word[T ~string | ~[]byte](s T, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// runeLen returns the length of the code point at s[i], 0 if it is ill-formed.
// Surrogates and overlong forms are; U+FEFF and non-characters are not.
func runeLen[T ~string | ~[]byte](s T, i int) int {
	r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	if r == utf8.RuneError && n <= 1 {
		return 0
	}
	return n
}

// ParseShare splits the filter of a shared subscription, $share/GROUP/REST.
// shared tells whether filter has that form at all; if not, rest is filter.
// The syntax of rest is that of filter: [ValidFilter] has checked it.
func ParseShare(filter string) (group, rest string, shared bool, err error) {
	tail, shared := strings.CutPrefix(filter, "$share/")
	if !shared {
		return "", filter, false, nil
	}
	group, rest, found := strings.Cut(tail, "/")
	switch {
	case group == "" || strings.ContainsAny(group, "+#"):
		return "", "", true, ErrShareName
	case !found || rest == "":
		return "", "", true, ErrShareEmpty
	}
	return group, rest, true, nil
}
