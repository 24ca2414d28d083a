package sealmq

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

// A line of the log is never much longer than what is worth reading, and shows what it says.
func TestLegible(t *testing.T) {
	long := strings.Repeat("ä", 65535/2)
	for _, v := range []any{long, errors.New(long), []string{"short", long}} {
		got := legible(nil, slog.Any("topic", v)).Value.String()
		if len(got) > maxLogged+40 || !strings.Contains(got, "bytes") || !utf8.ValidString(got) {
			t.Errorf("%T becomes %d bytes: %.40q…", v, len(got), got)
		}
	}
	for in, want := range map[string]string{
		"pump-17": "pump-17", "Pumpe größer": "Pumpe größer", "a\u202eb": `a\u202eb`, "a\u200bb": `a\u200bb`,
	} {
		if got := legible(nil, slog.String("client", in)).Value.String(); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	a := slog.String("client", "pump-17")
	if n := testing.AllocsPerRun(100, func() { legible(nil, a) }); n > 0 {
		t.Errorf("an ordinary value costs %v allocations", n)
	}
}
