package policy

import (
	"strings"
	"unicode/utf8"
)

// kind says what a token is.
type kind uint8

const (
	tokEnd kind = iota
	tokWord
	tokString
	tokSign // { } ( ) [ ] , = != < <= > >=
	tokBad  // a string that does not end, a lone !
)

// token is a piece of a policy file.
type token struct {
	kind kind
	text string // of a string: what it means
	pos  Pos
	off  int
	line int // where it ends
}

// lexer cuts a file into tokens. Comments are set aside for whoever asks.
type lexer struct {
	src       string
	off       int
	line, bol int      // the line, and where it begins
	lead      []string // the comment lines since the last token, "" for empty lines
	tail      string   // the comment on the line of the last token
	last      int      // the line on which the last token has ended
}

func newLexer(src string) *lexer { return &lexer{src: src, line: 1} }

func (l *lexer) pos() Pos { return Pos{l.line, l.off - l.bol + 1} }

// mark is a place to go back to.
func (l *lexer) mark() lexer { return *l }

// blanks goes over white space, and over comments if told.
func (l *lexer) blanks(comments bool) {
	empty := 0
	for l.off < len(l.src) {
		switch c := l.src[l.off]; {
		case c == '\n':
			l.off++
			l.line++
			l.bol = l.off
			if empty++; empty == 2 && comments {
				l.lead = append(l.lead, "")
			}
		case c == ' ' || c == '\t' || c == '\r':
			l.off++
		case c == '#' && comments:
			end := strings.IndexByte(l.src[l.off:], '\n')
			if end < 0 {
				end = len(l.src) - l.off
			}
			text := strings.TrimRight(l.src[l.off:l.off+end], " \t\r")
			if l.line == l.last && l.tail == "" {
				l.tail = text
			} else {
				l.lead = append(l.lead, text)
			}
			l.off += end
			empty = 0
		default:
			return
		}
	}
}

// next returns the next token.
func (l *lexer) next() token {
	l.blanks(true)
	t := token{pos: l.pos(), off: l.off}
	if l.off == len(l.src) {
		t.line = l.line
		return t
	}
	switch c := l.src[l.off]; {
	case c == '"':
		t.kind, t.text = l.quoted()
	case strings.IndexByte("{}()[],=", c) >= 0:
		t.kind, t.text = tokSign, l.src[l.off:l.off+1]
		l.off++
	case c == '<', c == '>', c == '!':
		n := 1
		if strings.HasPrefix(l.src[l.off+1:], "=") {
			n = 2
		}
		t.kind, t.text = tokSign, l.src[l.off:l.off+n]
		if t.text == "!" {
			t.kind = tokBad
		}
		l.off += n
	default:
		t.kind, t.text = tokWord, l.word()
	}
	t.line, l.last = l.line, l.line
	return t
}

// word reads to white space or a sign; a ${…} is part of it.
func (l *lexer) word() string {
	start := l.off
	for l.off < len(l.src) {
		if rest := l.src[l.off:]; strings.HasPrefix(rest, "${") {
			if end := strings.IndexAny(rest, "} \t\r\n\""); end > 0 && rest[end] == '}' {
				l.off += end + 1
				continue
			}
			l.off++ // the $; the brace ends the word
			continue
		}
		if strings.IndexByte(" \t\r\n\"{}()[],=!<>#", l.src[l.off]) >= 0 {
			break
		}
		l.off++
	}
	return l.src[start:l.off]
}

// filter reads a topic or filter: a string, or all up to white space, on the same line. It may contain any sign.
func (l *lexer) filter() token {
	for l.off < len(l.src) && (l.src[l.off] == ' ' || l.src[l.off] == '\t') {
		l.off++
	}
	t := token{pos: l.pos(), off: l.off, line: l.line}
	switch {
	case l.off == len(l.src) || l.src[l.off] == '\n' || l.src[l.off] == '\r':
		return t
	case l.src[l.off] == '"':
		t.kind, t.text = l.quoted()
	default:
		end := strings.IndexAny(l.src[l.off:], " \t\r\n")
		if end < 0 {
			end = len(l.src) - l.off
		}
		t.kind, t.text = tokWord, l.src[l.off:l.off+end]
		l.off += end
	}
	l.last = l.line
	return t
}

// quoted reads a string: \" and \\ stand for a quotation mark and a backslash. It ends on its line.
func (l *lexer) quoted() (kind, string) {
	var b strings.Builder
	l.off++
	for l.off < len(l.src) {
		c := l.src[l.off]
		switch {
		case c == '"':
			l.off++
			return tokString, b.String()
		case c == '\n':
			return tokBad, "\"" + b.String()
		case c == '\\':
			if l.off+1 < len(l.src) && (l.src[l.off+1] == '"' || l.src[l.off+1] == '\\') {
				l.off++
				c = l.src[l.off]
			}
		}
		b.WriteByte(c)
		l.off++
	}
	return tokBad, "\"" + b.String()
}

// skipLine goes to the end of the line.
func (l *lexer) skipLine() {
	end := strings.IndexByte(l.src[l.off:], '\n')
	if end < 0 {
		end = len(l.src) - l.off
	}
	l.off += end
	l.last = l.line
}

// comments takes the comment lines that were gathered.
func (l *lexer) comments() []string {
	c := l.lead
	l.lead = nil
	return c
}

// tailing takes the comment on the line of the last token.
func (l *lexer) tailing() string {
	c := l.tail
	l.tail = ""
	return c
}

// plain reports whether s can stand as it is: read again as a word, or a filter, it is s.
func plain(s string, filter bool) bool {
	if s == "" || s[0] == '"' {
		return false
	}
	l := newLexer(s)
	if filter {
		return l.filter().text == s && l.off == len(s) && balanced(s) && !strings.HasSuffix(s, ",") // which looks like a list's
	}
	return s[0] != '#' && l.word() == s && l.off == len(s)
}

// balanced reports whether every brace in a filter belongs to a placeholder: a brace that does not is more likely one of
// the block, written without a space.
func balanced(s string) bool {
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			return true
		}
		if s[i] == '}' || i == 0 || s[i-1] != '$' {
			return false
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return false
		}
		s = s[i+end+1:]
	}
	return true
}

// word writes s so that it is read as s again.
func word(s string, filter bool) string {
	if plain(s, filter) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// list writes the values of a comparison.
func list(values []string) string {
	if len(values) == 1 {
		return value(values[0])
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = value(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func value(s string) string { return word(s, false) }

// control finds a character that no policy file may have.
func control(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f {
			return i
		}
	}
	return -1
}
