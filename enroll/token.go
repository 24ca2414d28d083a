package enroll

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
)

// A token is 128 random bits and 22 bits of a checksum, in Crockford's base 32: six groups of five characters. Who types
// it may use small letters, O for 0 and I or L for 1, and leave the hyphens out.
const (
	secretSize  = 16
	tokenChars  = 30
	tokenGroup  = 5
	tokenLabel  = "sealmq enrolment token" // before the secret, in the checksum
	maxToken    = 64                       // bytes of a token as sent
	tokenLetter = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

type secret [secretSize]byte

// errMistyped: the text is no token at all. That is no secret: everybody can compute the checksum.
var errMistyped = errors.New("the token is mistyped")

func newSecret() (s secret) {
	rand.Read(s[:])
	return s
}

// bits returns bit n of the secret and the checksum behind it.
func (s *secret) bits() (all [20]byte) {
	sum := sha256.Sum256(append([]byte(tokenLabel), s[:]...))
	copy(all[:], s[:])
	copy(all[secretSize:], sum[:])
	return all
}

// String is the token.
func (s *secret) String() string {
	all := s.bits()
	var b strings.Builder
	for i := range tokenChars {
		if i > 0 && i%tokenGroup == 0 {
			b.WriteByte('-')
		}
		v := byte(0)
		for k := range 5 {
			n := i*5 + k
			v = v<<1 | all[n/8]>>(7-n%8)&1
		}
		b.WriteByte(tokenLetter[v])
	}
	return b.String()
}

// hash is what is kept of a secret. It is random enough that no salt or slow function is needed.
func (s *secret) hash() [sha256.Size]byte { return sha256.Sum256(s[:]) }

// parseToken reads a token. It fails with errMistyped.
func parseToken(text string) (s secret, err error) {
	if len(text) > maxToken {
		return secret{}, errMistyped
	}
	var all [20]byte
	n := 0
	for _, c := range []byte(text) {
		switch {
		case c == '-' || c == ' ':
			continue
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		switch c {
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		v := strings.IndexByte(tokenLetter, c)
		if v < 0 || n == tokenChars {
			return secret{}, errMistyped
		}
		for k := range 5 {
			at := n*5 + k
			all[at/8] |= byte(v>>(4-k)&1) << (7 - at%8)
		}
		n++
	}
	copy(s[:], all[:])
	want := s.bits()
	want[18] &= 0xFC // 150 bits
	want[19] = 0
	if n != tokenChars || all != want {
		return secret{}, errMistyped
	}
	return s, nil
}
