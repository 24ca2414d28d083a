package policy

import (
	"slices"
	"strings"
)

// fail notes a mistake and goes to the next line, from where reading goes on.
func (p *parser) fail(at Pos, advice, format string, args ...any) {
	p.errs.add(p.file.Name, at, advice, format, args...)
	p.wrong = at.Line
	p.skipLine()
}

// unexpected notes a token that cannot stand where it stands.
func (p *parser) unexpected(t token, wanted, advice string) {
	switch {
	case t.kind == tokEnd:
		p.fail(t.pos, advice, "the file ends where %s is expected", wanted)
	case t.kind == tokBad && t.text != "!":
		p.fail(t.pos, `end it with "; \" stands for a quotation mark inside`, "a string that does not end on its line")
	default:
		p.fail(t.pos, advice, "%s where %s is expected", quote(t.text), wanted)
	}
}

// neither notes a word behind a rule that begins no other one and is no condition.
func (p *parser) neither(t token) {
	advice := "conditions are " + strings.Join(conditionKeys[:], ", ")
	switch t.text {
	case "and":
		advice = "leave it out: all conditions of a rule have to hold"
	case "or":
		advice = "write a rule for each"
	}
	words := append([]string{"allow", "deny"}, top[:]...)
	p.fail(t.pos, meant(t.text, advice, append(words, conditionKeys[:]...)...), "%s is neither a rule nor a condition", quote(t.text))
}

// meant is the advice for a word that is none of those that may stand there: the one that it resembles, else what is given.
func meant(got, otherwise string, words ...string) string {
	if strings.HasPrefix(got, "//") || strings.HasPrefix(got, "/*") || strings.HasPrefix(got, ";") {
		return "a comment begins with #"
	}
	best, least := "", 3
	for _, w := range words {
		if d := distance(strings.ToLower(got), w); d < least && 2*d < len(w) {
			best, least = w, d
		}
	}
	if best == "" {
		return otherwise
	}
	return "did you mean " + best + "?"
}

// distance is how many letters have to be put in, left out, changed, or to change places with the next, for a to become b.
// It is 9 if they differ in length by more than 2.
func distance(a, b string) int {
	if max(len(a)-len(b), len(b)-len(a)) > 2 {
		return 9
	}
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(above[j+1], row[j]) + 1
			if a[i] == b[j] {
				row[j+1] = above[j]
			} else {
				row[j+1] = min(row[j+1], above[j]+1)
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// afterRule goes on behind the line of a mistake in a rule, but not beyond a brace that ends the policy, nor beyond the
// line on which another statement begins.
func (p *parser) afterRule(start lexer, line int) {
	*p.lexer = start
	for {
		before := p.mark()
		t := p.next()
		first := t.pos.Line > max(line, before.last)
		switch {
		case t.kind == tokEnd, t.pos.Line > p.wrong,
			t.kind == tokSign && t.text == "}" && strings.IndexByte(" \t\r\n", p.src[t.off-1]) >= 0,
			first && t.kind == tokWord && (t.text == "allow" || t.text == "deny" || slices.Contains(top[:], t.text)):
			*p.lexer = before
			return
		}
	}
}

// afterDecl goes on behind a declaration with a mistake: behind its braces, if its first line opens them, but not beyond
// a line that begins another one.
func (p *parser) afterDecl(start lexer, line int) {
	end := p.off
	*p.lexer = start
	for p.line < line {
		p.nextLine()
	}
	text := p.nextLine()
	text, _, _ = strings.Cut(text, " #")
	open := strings.HasSuffix(strings.TrimSpace(text), "{")
	for p.off < len(p.src) && (open || p.off < end) {
		before := p.mark()
		text := strings.TrimLeft(p.nextLine(), " \t")
		if slices.ContainsFunc(top[:], func(w string) bool { return strings.HasPrefix(text, w+" ") }) {
			*p.lexer = before
			return
		}
		if open && strings.HasPrefix(text, "}") {
			return
		}
	}
}

// nextLine goes to the next line, and returns what was left of this one.
func (l *lexer) nextLine() string {
	start := l.off
	l.skipLine()
	text := l.src[start:l.off]
	if l.off < len(l.src) {
		l.off++
		l.line++
		l.bol = l.off
	}
	return text
}
