package topic

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// clauses: MQTT5 [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3] [MQTT-3.3.2-2]
// clauses: MQTT311 [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.3-3] [MQTT-3.3.2-2]
func TestValidName(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
	}{
		{"a", nil},
		{"/", nil},
		{"a/b c/ä/漢/\U0001F600", nil},
		{"$SYS/x", nil},
		{"\ufeffa", nil},
		{"a\x01\x1f\u007f\u0085", nil},
		{"\uffff\ufdd0", nil},
		{strings.Repeat("/", MaxLen), nil},
		{"", ErrEmpty},
		{strings.Repeat("a", MaxLen+1), ErrTooLong},
		{"a\x00", ErrNull},
		{"\x00bcdefghijk", ErrNull},
		{"abcdefg\x00", ErrNull},
		{"a/+/b", ErrWildcard},
		{"a+", ErrWildcard},
		{"abcdefgh#", ErrWildcard},
		{"#bcdefgh", ErrWildcard},
		{"abc\xed\xa0\x80", ErrUTF8},
		{"\xc0\x80", ErrUTF8},
		{"\xf4\x90\x80\x80", ErrUTF8},
		{"abcdefgh\xe6\xbc", ErrUTF8},
		{"\x80", ErrUTF8},
	} {
		if err := ValidName(c.name); err != c.want {
			t.Errorf("ValidName(%.20q) = %v, want %v", c.name, err, c.want)
		}
		if err := ValidName([]byte(c.name)); err != c.want {
			t.Errorf("ValidName of the bytes of %.20q = %v, want %v", c.name, err, c.want)
		}
	}
}

// clauses: MQTT5 [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] MQTT311 [MQTT-4.7.1-2] [MQTT-4.7.1-3]
func TestValidFilter(t *testing.T) {
	for _, c := range []struct {
		filter string
		want   error
	}{
		{"a", nil}, {"+", nil}, {"#", nil}, {"/", nil}, {"//#", nil}, {"+/+", nil}, {"/+", nil}, {"+/", nil},
		{"sport/tennis/#", nil}, {"+/tennis/#", nil}, {"sport/+/player1", nil}, {"$SYS/#", nil},
		{"abcdefgh/+/漢/+/#", nil},
		{"", ErrEmpty},
		{strings.Repeat("+/", MaxLen/2+1), ErrTooLong},
		{"sport+", ErrPlus}, {"+a", ErrPlus}, {"a/b+/c", ErrPlus}, {"++", ErrPlus}, {"+#", ErrPlus}, {"abcdefg+", ErrPlus},
		{"sport/tennis#", ErrHash}, {"sport/tennis/#/ranking", ErrHash}, {"#/", ErrHash}, {"##", ErrHash}, {"#+", ErrHash},
		{"a\x00", ErrNull},
		{"+/\xff", ErrUTF8},
	} {
		if err := ValidFilter(c.filter); err != c.want {
			t.Errorf("ValidFilter(%.20q) = %v, want %v", c.filter, err, c.want)
		}
		if err := ValidFilter([]byte(c.filter)); err != c.want {
			t.Errorf("ValidFilter of the bytes of %.20q = %v, want %v", c.filter, err, c.want)
		}
	}
}

// clauses: MQTT5 [MQTT-4.8.2-1] [MQTT-4.8.2-2]
func TestParseShare(t *testing.T) {
	for _, c := range []struct {
		filter, group, rest string
		shared              bool
		err                 error
	}{
		{"a/b", "", "a/b", false, nil},
		{"$share", "", "$share", false, nil},
		{"$shared/a/b", "", "$shared/a/b", false, nil},
		{"$share/g/a/b", "g", "a/b", true, nil},
		{"$share/g//", "g", "/", true, nil},
		{"$share/g/$SYS/#", "g", "$SYS/#", true, nil},
		{"$share/g/#", "g", "#", true, nil},
		{"$share/", "", "", true, ErrShareName},
		{"$share//a", "", "", true, ErrShareName},
		{"$share/+/a", "", "", true, ErrShareName},
		{"$share/#", "", "", true, ErrShareName},
		{"$share/g", "", "", true, ErrShareEmpty},
		{"$share/g/", "", "", true, ErrShareEmpty},
	} {
		group, rest, shared, err := ParseShare(c.filter)
		if group != c.group || rest != c.rest || shared != c.shared || !errors.Is(err, c.err) {
			t.Errorf("ParseShare(%q) = %q, %q, %v, %v", c.filter, group, rest, shared, err)
		}
	}
}

// slowName and slowFilter say the same one rule after the other.
func slowName(s string) bool {
	return s != "" && len(s) <= MaxLen && utf8.ValidString(s) && !strings.ContainsAny(s, "\x00+#")
}

func slowFilter(s string) bool {
	if s == "" || len(s) > MaxLen || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return false
	}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		switch {
		case l == "+", l == "#" && i == len(levels)-1:
		case strings.ContainsAny(l, "+#"):
			return false
		}
	}
	return true
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{"a/b", "+/#", "$share/g/a", "abcdefgh/\xc3\xa4", "abcdefg\x00ij", "12345678+", "\x80\x80\x80\x80\x80\x80\x80\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := ValidName(s) == nil; got != slowName(s) {
			t.Errorf("ValidName(%q) = %v", s, got)
		}
		if got := ValidFilter(s) == nil; got != slowFilter(s) {
			t.Errorf("ValidFilter(%q) = %v", s, got)
		}
		if ValidName(s) != ValidName([]byte(s)) || ValidFilter(s) != ValidFilter([]byte(s)) {
			t.Errorf("%q is not judged as its bytes are", s)
		}
		if group, rest, shared, err := ParseShare(s); shared && err == nil {
			if "$share/"+group+"/"+rest != s || slowFilter(s) && !slowFilter(rest) {
				t.Errorf("ParseShare(%q) = %q, %q", s, group, rest)
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b", "a/b/c")
	f.Add("#", "$x", "+/#")
	f.Add("//", "//", "/+/")
	f.Fuzz(func(t *testing.T, filter, name, other string) {
		if ValidFilter(filter) != nil {
			return
		}
		if ValidName(name) == nil && Match(filter, name) != naive(filter, name) {
			t.Errorf("Match(%q, %q) = %v", filter, name, Match(filter, name))
		}
		if ValidFilter(other) == nil && ValidName(name) == nil && Contains(filter, other) && Match(other, name) && !Match(filter, name) {
			t.Errorf("%q contains %q, but does not match %q", filter, other, name)
		}
	})
}

func TestValidAllocatesNothing(t *testing.T) {
	name := []byte("fleet/truck-17/engine/temperature/mésure/" + strings.Repeat("x", 100))
	if n := testing.AllocsPerRun(100, func() {
		if ValidName(name) != nil || ValidFilter(name) != nil {
			t.Error("invalid")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkValidName(b *testing.B) {
	name := []byte("fleet/truck-17/engine/temperature")
	for b.Loop() {
		if ValidName(name) != nil {
			b.Fatal("invalid")
		}
	}
}
