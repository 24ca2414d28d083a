package password

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// prepare does to a password what clients do before SCRAM, RFC 4013: other spaces become spaces, what does not show is
// left out, and NFKC. What is not UTF-8 stays as it is.
func prepare(password []byte) []byte {
	if ascii(password) || !utf8.Valid(password) {
		return password
	}
	mapped := bytes.Map(func(r rune) rune {
		switch {
		case r == 0xad, r == 0x34f, r == 0x1806, r >= 0x180b && r <= 0x180d, r == 0x200b || r == 0x200c || r == 0x200d,
			r == 0x2060, r >= 0xfe00 && r <= 0xfe0f, r == 0xfeff: // RFC 3454 table B.1
			return -1
		case r > 0x7f && unicode.Is(unicode.Zs, r): // table C.1.2
			return ' '
		}
		return r
	}, password)
	return norm.NFKC.Bytes(mapped)
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// usable says what is wrong with the name of a user in a file.
func usable(user string) string {
	switch {
	case user == "":
		return "no user name before the colon"
	case len(user) > maxUser:
		return "a user name of more than 256 bytes"
	case !utf8.ValidString(user):
		return "a user name that is not UTF-8"
	case strings.ContainsRune(user, ':'):
		return "a user name with a colon"
	case user[0] == '#':
		return "a user name that begins with #, as comments do"
	case strings.ContainsFunc(user, unicode.IsControl), strings.TrimSpace(user) != user:
		return "a user name with control characters, or with spaces around it"
	}
	return ""
}
