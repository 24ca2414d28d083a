package policy

import (
	"fmt"
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

// anonymousGroup is the group of the topic lines before the first user line. No name of a group in the language has a space.
const (
	anonymousGroup = "anonymous clients"
	userGroup      = "user "
)

// ParseMosquitto reads an ACL file of Mosquitto. What it means is what it means there: topic lines before the first user
// line are for clients without a name, those after it for that user; patterns are for everybody, and asked when no topic
// line has decided; a denial goes before what the same kind of line allows; every subscription is granted, and what is not
// readable is not delivered. Names that could widen a pattern find none that matches.
//
// The error is Errors: all mistakes, not only the first.
func ParseMosquitto(name string, text []byte) (*File, error) {
	p := &aclParser{file: &File{Name: name, mosquitto: true, text: string(text)}, blocks: map[string]*Block{}}
	check := parser{file: p.file}
	if !check.acceptable(text) {
		return nil, check.errs.err()
	}
	p.block(anonymousGroup, func(id *Identity) bool { return id.Name == "" })
	p.section = anonymousGroup
	all := &Block{Groups: []string{everybody}}
	p.file.Decls = append(p.file.Decls, &Decl{Policy: all})
	p.patterns = all
	p.file.granted = &Rule{File: name, Pos: Pos{1, 1}, Allow: true, Actions: []auth.Action{auth.Subscribe}, Filter: "#",
		wrote: "an ACL file grants every subscription, and decides what is delivered", groups: all.Groups}
	n := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(string(text), "\ufeff"), "\n") {
		n++
		p.line(n, line)
	}
	if err := p.errs.err(); err != nil {
		return nil, err
	}
	return p.file, nil
}

type aclParser struct {
	file     *File
	errs     Errors
	blocks   map[string]*Block
	patterns *Block
	section  string // the group of topic lines
	rules    int
}

// block returns the rules of a group, and declares it.
func (p *aclParser) block(name string, test func(*Identity) bool) *Block {
	if b := p.blocks[name]; b != nil {
		return b
	}
	b := &Block{Groups: []string{name}}
	p.blocks[name] = b
	e := &Expr{test: test}
	if user, ok := strings.CutPrefix(name, userGroup); ok {
		e.Attr, e.Op, e.Values = nameAttribute, "=", []string{user}
	}
	p.file.Decls = append(p.file.Decls, &Decl{Group: &Group{name, e}}, &Decl{Policy: b})
	return b
}

func (p *aclParser) line(n int, line string) {
	line = strings.TrimRight(line, " \t\r\v\f")
	indent := len(line)
	line = strings.TrimLeft(line, " ")
	indent -= len(line)
	if line == "" || line[0] == '#' {
		return
	}
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " ")
	at := Pos{n, indent + len(line) - len(rest) + 1}
	switch word {
	case "user":
		if rest == "" {
			p.errs.add(p.file.Name, at, "write user NAME", "a user line without a name")
			return
		}
		p.section = userGroup + rest
		p.block(p.section, func(id *Identity) bool { return id.Name == rest })
	case "topic", "pattern":
		p.rule(at, line, word == "pattern", rest)
	default:
		p.errs.add(p.file.Name, Pos{n, indent + 1}, "a line begins with topic, user, pattern or #", "no line of an ACL file: %s", quote(word))
	}
}

func (p *aclParser) rule(at Pos, line string, pattern bool, rest string) {
	if p.rules++; p.rules == MaxRules+1 {
		p.errs.add(p.file.Name, at, "use patterns in place of a rule for each client", "more than %d rules", MaxRules)
	}
	access := "readwrite"
	if first, more, spaced := strings.Cut(rest, " "); spaced {
		access, rest = first, strings.TrimLeft(more, " ")
		at.Column += len(first) + 1 + len(more) - len(rest)
	}
	r := &Rule{File: p.file.Name, Pos: at, Allow: true, Filter: rest, weak: pattern, wrote: line, hears: true}
	switch access {
	case "read":
		r.Actions = []auth.Action{auth.Receive}
	case "write":
		r.Actions = []auth.Action{auth.Publish}
	case "readwrite":
		r.Actions = []auth.Action{auth.Publish, auth.Receive}
	case "deny":
		r.Allow, r.Actions = false, []auth.Action{auth.Publish, auth.Receive}
	default:
		p.errs.add(p.file.Name, at, "write read, write, readwrite or deny before a topic with spaces", "no kind of access: %s", quote(access))
		return
	}
	sample := rest
	if pattern {
		sample = strings.NewReplacer("%u", "x", "%c", "x").Replace(rest)
	}
	if rest == "" {
		p.errs.add(p.file.Name, at, "write topic read FILTER", "a line without a topic")
		return
	}
	if err := topic.ValidFilter(sample); err != nil {
		p.errs.add(p.file.Name, at, "+ and # stand alone in their levels, # at the end", "the topic %v", err)
		return
	}
	for l := range strings.SplitSeq(rest, "/") {
		r.levels = append(r.levels, aclLevel(l, pattern))
	}
	r.when, _, _, _ = compileConditions(r)
	b := p.patterns
	if !pattern {
		b = p.blocks[p.section]
	}
	r.groups = b.Groups
	b.Rules = append(b.Rules, r)
}

// aclLevel is a level of a pattern, with %u for the name and %c for the client identifier.
func aclLevel(s string, pattern bool) level {
	l := level{text: s}
	if !pattern || !strings.Contains(s, "%u") && !strings.Contains(s, "%c") {
		return l
	}
	start := 0
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '%' || s[i+1] != 'u' && s[i+1] != 'c' {
			continue
		}
		if i > start {
			l.parts = append(l.parts, part{text: s[start:i]})
		}
		v := varName
		if s[i+1] == 'c' {
			v = varClient
		}
		l.parts = append(l.parts, part{v: v})
		start, i = i+2, i+1
	}
	if start < len(s) {
		l.parts = append(l.parts, part{text: s[start:]})
	}
	return l
}

// barred reports whether the patterns of an ACL file say nothing of the client: its name or identifier has a wildcard.
func (s *subject) barred(r *Rule) bool {
	return r.weak && (strings.ContainsAny(s.id.Name, "+#") || strings.ContainsAny(s.id.ClientID, "+#"))
}

// mosquittoFix is the line that would allow r.
func (s *subject) mosquittoFix(r *Request) string {
	access := "write"
	if r.Action != auth.Publish {
		access = "read"
	}
	line := fmt.Sprintf("topic %s %s", access, r.Topic)
	if s.id.Name == "" {
		return quote(line) + " before the first user line"
	}
	return quote(line) + " below " + quote("user "+s.id.Name)
}
