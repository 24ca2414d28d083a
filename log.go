package sealmq

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/config"
)

// newLog returns a log on standard error whose level can be changed later.
func newLog(c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	setLevel(level, c)
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: legible}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), level
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o)), level
}

// maxLogged is how many bytes of a value a line has: names that clients choose have up to 65,535.
const maxLogged = 1024

// legible cuts a value that is too long, and writes out what would change how a line looks, such as signs that turn the
// direction of text.
func legible(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); !plainEnough(s) {
			a.Value = slog.StringValue(legibleText(s))
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case []string:
			for i, s := range v {
				if plainEnough(s) {
					continue
				}
				out := append([]string(nil), v...)
				for j := i; j < len(out); j++ {
					out[j] = legibleText(out[j])
				}
				a.Value = slog.AnyValue(out)
				break
			}
		case error:
			if s := v.Error(); !plainEnough(s) {
				a.Value = slog.StringValue(legibleText(s))
			}
		}
	}
	return a
}

// plainEnough reports whether a text can stand in a line as it is: nearly all can.
func plainEnough(s string) bool {
	if len(s) > maxLogged {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return !strings.ContainsFunc(s[i:], hidden)
		}
	}
	return true
}

// hidden are the signs that are not seen and change what is.
func hidden(r rune) bool { return unicode.Is(unicode.Cf, r) }

func legibleText(s string) string {
	left := 0
	if len(s) > maxLogged {
		at := maxLogged
		for at > maxLogged-utf8.UTFMax && !utf8.RuneStart(s[at]) {
			at--
		}
		s, left = s[:at], len(s)-at
	}
	if strings.ContainsFunc(s, hidden) {
		var b strings.Builder
		for _, r := range s {
			if hidden(r) {
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteRune(r)
			}
		}
		s = b.String()
	}
	if left > 0 {
		s += fmt.Sprintf("… and %d bytes", left)
	}
	return s
}

func setLevel(v *slog.LevelVar, c config.Log) {
	var l slog.Level
	if l.UnmarshalText([]byte(c.Level)) == nil { // checked by Validate
		v.Set(l)
	}
}
