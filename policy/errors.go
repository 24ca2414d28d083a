package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a policy file; both count from 1, columns in bytes.
type Pos struct{ Line, Column int }

func (p Pos) before(q Pos) bool { return p.Line < q.Line || p.Line == q.Line && p.Column < q.Column }

// Error is one mistake in a policy file.
type Error struct {
	File   string
	Pos    Pos
	Text   string
	Advice string // what to write instead; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Pos.Line, e.Pos.Column, e.Text)
}

// maxErrors is how many mistakes of a file are told.
const maxErrors = 100

// Errors are the mistakes of a policy file in the order of their places, at most 100.
type Errors []*Error

// Error has a line for each mistake, with its advice.
func (e Errors) Error() string {
	var b strings.Builder
	for i, err := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
		if err.Advice != "" {
			b.WriteString("; " + err.Advice)
		}
	}
	return b.String()
}

// Unwrap gives errors.As each mistake.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i := range e {
		out[i] = e[i]
	}
	return out
}

func (e *Errors) add(file string, at Pos, advice, format string, args ...any) {
	if len(*e) < maxErrors {
		*e = append(*e, &Error{file, at, fmt.Sprintf(format, args...), advice})
	}
}

// err returns the mistakes as an error, nil if there are none.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return e
}

// quote bounds and quotes what stands in a file or comes from a client, for a message.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:77] + "…"
	}
	return fmt.Sprintf("%q", s)
}
