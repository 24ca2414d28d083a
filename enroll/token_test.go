package enroll

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestToken(t *testing.T) {
	s := newSecret()
	text := s.String()
	if len(text) != 35 || strings.Count(text, "-") != 5 {
		t.Fatalf("token %q", text)
	}
	loose := strings.NewReplacer("-", " ", "0", "o", "1", "l").Replace(text)
	for _, form := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), loose} {
		if got, err := parseToken(form); err != nil || got != s {
			t.Errorf("%q: %x, %v", form, got, err)
		}
	}
	for _, bad := range []string{"", "-", text[1:], text + "0", strings.Repeat("0", 30), strings.Repeat("Z", 30), strings.Repeat("-", 65), "Ü" + text} {
		if _, err := parseToken(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A typing error is found out: one other character always, anything else almost always.
func TestTokenTypingErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s secret
		copy(s[:], rapid.SliceOfN(rapid.Byte(), secretSize, secretSize).Draw(t, "secret"))
		text := []byte(strings.ReplaceAll(s.String(), "-", ""))
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		other := tokenLetter[rapid.IntRange(0, 31).Draw(t, "other")]
		same := text[at] == other
		text[at] = other
		got, err := parseToken(string(text))
		if same != (err == nil) || same && got != s {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func FuzzToken(f *testing.F) {
	s := newSecret()
	f.Add(s.String())
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseToken(text)
		if err != nil {
			return
		}
		if again, err := parseToken(s.String()); err != nil || again != s {
			t.Fatalf("%q: %x, again %x, %v", text, s, again, err)
		}
	})
}
