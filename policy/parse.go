package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/auth"
)

// maxDepth is how deep parentheses may nest.
const maxDepth = 50

// Parse reads a policy file. name stands in messages. The error is Errors: all mistakes, not only the first.
func Parse(name string, text []byte) (*File, error) {
	p := &parser{file: &File{Name: name}}
	if !p.acceptable(text) {
		return nil, p.errs.err()
	}
	p.lexer = newLexer(strings.TrimPrefix(string(text), "\ufeff"))
	for p.decl() {
	}
	p.resolve()
	if err := p.errs.err(); err != nil {
		return nil, err
	}
	return p.file, nil
}

type parser struct {
	*lexer
	file  *File
	errs  Errors
	wrong int      // the line of the last mistake
	half  []string // groups whose declaration has a mistake
	rules int
}

// acceptable reports whether text is text at all, and not too long.
func (p *parser) acceptable(text []byte) bool {
	if len(text) > MaxSize {
		p.errs.add(p.file.Name, Pos{1, 1}, "use placeholders and groups in place of a rule for each client",
			"the file is longer than %d bytes", MaxSize)
		return false
	}
	s := string(text)
	if i := control(s); i >= 0 {
		line := strings.Count(s[:i], "\n")
		p.errs.add(p.file.Name, Pos{line + 1, i - strings.LastIndexByte(s[:i], '\n')}, "save the file as UTF-8 text",
			"a control character, or no UTF-8")
		return false
	}
	return true
}

// sign reads a sign, or notes that it is missing.
func (p *parser) sign(want, advice string) bool {
	t := p.next()
	if t.kind == tokSign && t.text == want {
		return true
	}
	p.unexpected(t, want, advice)
	return false
}

// top are the words that begin a declaration.
var top = [...]string{"group", "bind", "policy", "tell", "assert"}

// decl reads one declaration and reports whether there may be more.
func (p *parser) decl() bool {
	start := p.mark()
	t := p.next()
	d := &Decl{Pos: t.pos, Lead: p.comments()}
	ok := true
	switch {
	case t.kind == tokEnd:
		if len(d.Lead) > 0 {
			p.file.Decls = append(p.file.Decls, d)
		}
		return false
	case t.kind == tokWord && t.text == "group":
		d.Group, ok = p.group()
	case t.kind == tokWord && t.text == "bind":
		d.Bind, ok = p.bind()
	case t.kind == tokWord && t.text == "policy":
		d.Policy, ok = p.block()
	case t.kind == tokWord && t.text == "tell":
		d.Tell, ok = p.names()
	case t.kind == tokWord && t.text == "assert":
		d.Assert, ok = p.assert(t.pos)
	case t.kind == tokWord && (t.text == "allow" || t.text == "deny"):
		p.fail(t.pos, "write policy everybody { "+t.text+" … }, or name a group", "a rule outside of a policy")
		return true
	case t.kind == tokWord && (t.text == "topic" || t.text == "pattern" || t.text == "user"):
		p.fail(t.pos, "have it read as one: acl_file in place of policy, --mosquitto with a command", "a line of an ACL file of Mosquitto")
		return false
	default:
		p.unexpected(t, "group, bind, policy, tell or assert", meant(t.text, "begin with one of these words", top[:]...))
		ok = false
	}
	if !ok {
		p.afterDecl(start, t.pos.Line)
		return true
	}
	for _, c := range p.comments() { // from inside
		if c != "" {
			d.Lead = append(d.Lead, c)
		}
	}
	before := p.mark()
	p.next() // gathers the comment behind
	d.Tail = p.tailing()
	*p.lexer = before
	if d.Tail != "" { // read once, not again as a line of its own
		p.skipLine()
	}
	p.file.Decls = append(p.file.Decls, d)
	return true
}

// name reads the name of a group.
func (p *parser) name() (string, bool) {
	t := p.next()
	if t.kind != tokWord {
		p.unexpected(t, "the name of a group", "write for instance group sensors { … }")
		return "", false
	}
	if strings.ContainsFunc(t.text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		p.fail(t.pos, "use letters, digits, - _ and .", "no name of a group: %s", quote(t.text))
		return "", false
	}
	return t.text, true
}

func (p *parser) group() (*Group, bool) {
	at := p.pos()
	name, ok := p.name()
	if !ok {
		return nil, false
	}
	if name == everybody {
		p.fail(at, "take another name", "everybody is the group of all clients, and cannot be another")
		return nil, false
	}
	const advice = `write group sensors { cert.ou = "sensors" }`
	if !p.sign("{", advice) {
		return nil, false
	}
	e, ok := p.expr(0)
	if !ok || !p.sign("}", advice) {
		p.half = append(p.half, name)
		return nil, false
	}
	return &Group{name, e}, true
}

// expr reads comparisons with or between them, which binds less than and.
func (p *parser) expr(depth int) (*Expr, bool) {
	if depth > maxDepth {
		p.fail(p.pos(), "write more groups", "more than %d parentheses in one another", maxDepth)
		return nil, false
	}
	var any []*Expr
	for {
		e, ok := p.all(depth)
		if !ok {
			return nil, false
		}
		if e.Any != nil {
			any = append(any, e.Any...)
		} else {
			any = append(any, e)
		}
		if before := p.mark(); p.next().text != "or" {
			*p.lexer = before
			break
		}
	}
	if len(any) == 1 {
		return any[0], true
	}
	return &Expr{Pos: any[0].Pos, Any: any}, true
}

// all reads comparisons that must all be true; and between them may be left out.
func (p *parser) all(depth int) (*Expr, bool) {
	var all []*Expr
	for {
		e, ok := p.comparison(depth)
		if !ok {
			return nil, false
		}
		if e.All != nil {
			all = append(all, e.All...)
		} else {
			all = append(all, e)
		}
		before := p.mark()
		t := p.next()
		if t.kind == tokWord && t.text == "and" {
			continue
		}
		*p.lexer = before
		if t.kind != tokWord && t.text != "(" || t.kind == tokWord && (t.text == "or" || slices.Contains(top[:], t.text)) {
			break
		}
	}
	if len(all) == 1 {
		return all[0], true
	}
	return &Expr{Pos: all[0].Pos, All: all}, true
}

func (p *parser) comparison(depth int) (*Expr, bool) {
	t := p.next()
	if t.kind == tokSign && t.text == "(" {
		e, ok := p.expr(depth + 1)
		return e, ok && p.sign(")", "every ( needs its )")
	}
	if t.kind != tokWord {
		p.unexpected(t, "a comparison", `write for instance cert.ou = "sensors"; there are `+attributeNames)
		return nil, false
	}
	if !p.compared() {
		advice := `write for instance cert.ou = "sensors"; there are ` + attributeNames
		if t.text == "has" {
			advice = "name the attribute each time: groups has a and groups has b"
		}
		p.unexpected(t, "a comparison", meant(t.text, advice))
		return nil, false
	}
	c, ok := p.cond(t)
	if !ok {
		return nil, false
	}
	e := &Expr{Pos: t.pos, Attr: c.Key, Op: c.Op, Values: c.Values}
	if text, advice := e.compile(); text != "" {
		p.errs.add(p.file.Name, t.pos, advice, "%s", text)
	}
	return e, true
}

// compared reports whether an operator follows.
func (p *parser) compared() bool {
	before := p.mark()
	op := p.next()
	*p.lexer = before
	return op.kind == tokWord && op.text == "has" || op.kind == tokSign && strings.ContainsAny(op.text, "=<>")
}

// cond reads what follows the key of a comparison or condition.
func (p *parser) cond(key token) (c Cond, ok bool) {
	operator := p.compared()
	op := p.next()
	if !operator {
		p.unexpected(op, "=, !=, <=, >= or has", "write for instance "+key.text+" = …")
		return c, false
	}
	c = Cond{Key: key.text, Op: op.text}
	t := p.next()
	if t.kind != tokSign || t.text != "[" {
		if t.kind != tokWord && t.kind != tokString {
			p.unexpected(t, "a value", `write it as it is, in quotation marks, or several as ["a", "b"]`)
			return c, false
		}
		c.Values = []string{t.text}
		return c, true
	}
	for {
		t := p.next()
		if t.kind == tokSign && t.text == "]" && len(c.Values) > 0 {
			return c, true
		}
		if t.kind != tokWord && t.kind != tokString {
			p.unexpected(t, "a value", `write ["a", "b"]`)
			return c, false
		}
		c.Values = append(c.Values, t.text)
		switch t = p.next(); {
		case t.kind == tokSign && t.text == "]":
			return c, true
		case t.kind != tokSign || t.text != ",":
			p.unexpected(t, ", or ]", `write ["a", "b"]`)
			return c, false
		}
	}
}

func (p *parser) bind() (*Bind, bool) {
	const advice = "write bind client_id = ${device} or ${device}/*"
	if t := p.next(); t.kind != tokWord || t.text != "client_id" {
		p.unexpected(t, "client_id", advice)
		return nil, false
	}
	if !p.sign("=", advice) {
		return nil, false
	}
	b := &Bind{}
	for {
		t := p.next()
		if t.kind != tokWord && t.kind != tokString {
			p.unexpected(t, "a pattern", advice)
			return nil, false
		}
		if err, hint := checkPattern(t.text); err != "" {
			p.fail(t.pos, hint, "%s", err)
			return nil, false
		}
		b.Patterns = append(b.Patterns, t.text)
		before := p.mark()
		if t = p.next(); t.kind != tokWord || t.text != "or" {
			*p.lexer = before
			return b, true
		}
	}
}

// checkPattern tells what is wrong with a pattern for client identifiers.
func checkPattern(s string) (text, advice string) {
	parts, text, advice := compileParts(s)
	if text != "" {
		return text, advice
	}
	set := uses([]level{{parts: parts}})
	switch star := strings.IndexByte(s, '*'); {
	case set&(1<<varClient) != 0:
		return "a client identifier that is bound to itself", "bind it to ${device} or ${user}"
	case set&(1<<varGroup) != 0:
		return "a client identifier bound to a group, which many have", "bind it to ${device} or ${user}"
	case set == 0:
		return "a pattern without placeholder: " + quote(s), "bind it to ${device} or ${user}"
	case star >= 0 && star != len(s)-1:
		return "a * before the end of the pattern", "* stands for what follows, at the end"
	case star == 0 || star > 0 && s[star-1] == '}':
		return "a * right behind a placeholder: one client could take the identifier of another whose name begins alike",
			"put a sign between that names do not have: ${device}/*"
	}
	return "", ""
}

// names reads the names of groups.
func (p *parser) names() (names []string, ok bool) {
	for {
		at := p.pos()
		name, ok := p.name()
		if !ok {
			return nil, false
		}
		if slices.Contains(names, name) {
			p.errs.add(p.file.Name, at, "name it once", "group %s is named twice", name)
		}
		names = append(names, name)
		before := p.mark()
		if t := p.next(); t.kind != tokSign || t.text != "," {
			*p.lexer = before
			return names, true
		}
	}
}

func (p *parser) block() (*Block, bool) {
	const advice = "write policy sensors { allow publish dt/${device}/# }"
	groups, ok := p.names()
	if !ok {
		return nil, false
	}
	b := &Block{Groups: groups}
	before := p.mark()
	if t := p.next(); t.kind == tokString {
		b.Title = t.text
	} else {
		*p.lexer = before
	}
	if !p.sign("{", advice) {
		return nil, false
	}
	for {
		before := p.mark()
		t := p.next()
		if len(b.Rules) > 0 {
			if last := b.Rules[len(b.Rules)-1]; last.Tail == "" {
				last.Tail = p.tailing()
			}
		}
		if tail := p.tailing(); tail != "" { // behind the opening brace
			p.lead = append([]string{tail}, p.lead...)
		}
		switch {
		case t.kind == tokSign && t.text == "}":
			b.End = p.comments()
			return b, true
		case t.kind == tokWord && (t.text == "allow" || t.text == "deny"):
			r, ok := p.rule(t)
			if !ok {
				p.afterRule(before, t.pos.Line)
				continue
			}
			r.groups = b.Groups
			b.Rules = append(b.Rules, r)
		case t.kind == tokEnd, t.kind == tokWord && slices.Contains(top[:], t.text):
			*p.lexer = before
			p.errs.add(p.file.Name, t.pos, "end the policy with }", "a policy without its }")
			return b, true
		case t.kind == tokWord && len(b.Rules) > 0:
			p.neither(t)
		default:
			p.unexpected(t, "allow, deny or }", meant(t.text, advice, "allow", "deny"))
		}
	}
}

// rule reads what follows allow or deny.
func (p *parser) rule(t token) (*Rule, bool) {
	if p.rules++; p.rules == MaxRules+1 {
		p.errs.add(p.file.Name, t.pos, "use placeholders and groups in place of a rule for each client", "more than %d rules", MaxRules)
	}
	r := &Rule{File: p.file.Name, Pos: t.pos, Lead: p.comments(), Allow: t.text == "allow"}
	for {
		a, ok := p.action()
		if !ok {
			return nil, false
		}
		if !slices.Contains(r.Actions, a) {
			r.Actions = append(r.Actions, a)
		}
		before := p.mark()
		if t := p.next(); t.kind != tokSign || t.text != "," {
			*p.lexer = before
			break
		}
	}
	r.hears = slices.Contains(r.Actions, auth.Receive)
	f, ok := p.topic()
	if !ok {
		return nil, false
	}
	r.Filter = f.text
	var text, advice string
	if r.levels, text, advice = compileLevels(f.text); text != "" {
		p.errs.add(p.file.Name, f.pos, advice, "%s", text)
	}
	places, ok := p.conds(&r.Conds)
	if !ok {
		return nil, false
	}
	var bad int
	if r.when, bad, text, advice = compileConditions(r); text != "" {
		p.errs.add(p.file.Name, places[bad], advice, "%s", text)
	}
	return r, true
}

func (p *parser) action() (auth.Action, bool) {
	t := p.next()
	i := slices.Index(actionNames[1:], t.text)
	if t.kind != tokWord || i < 0 {
		p.unexpected(t, "publish, subscribe or receive", meant(t.text, "write for instance allow publish dt/${device}/#", actionNames[1:]...))
		return 0, false
	}
	return auth.Action(i + 1), true
}

// topic reads a topic or filter.
func (p *parser) topic() (token, bool) {
	t := p.filter()
	switch {
	case t.kind == tokEnd:
		p.fail(t.pos, "write it on the same line", "a topic is expected")
	case t.kind == tokBad:
		p.unexpected(t, "", "")
	case t.kind == tokWord && strings.HasSuffix(t.text, ","):
		p.fail(t.pos, "write a rule for each, or a topic that ends with a comma in quotation marks", "a rule has one topic, without a comma behind it: %s", quote(t.text))
	case t.kind == tokWord && !balanced(t.text):
		p.fail(t.pos, "put a space before the brace, or the topic into quotation marks", "a brace inside a topic: %s", quote(t.text))
	default:
		return t, true
	}
	return t, false
}

// conds reads conditions up to the next statement, and tells where they begin.
func (p *parser) conds(all *[]Cond) (places []Pos, ok bool) {
	for {
		before := p.mark()
		t := p.next()
		if t.kind != tokWord || t.text == "allow" || t.text == "deny" || slices.Contains(top[:], t.text) {
			*p.lexer = before
			return places, true
		}
		if !slices.Contains(conditionKeys[:], t.text) && !p.compared() {
			if t.pos.Line > before.last { // no part of this statement
				*p.lexer = before
				return places, true
			}
			p.neither(t)
			return nil, false
		}
		c, ok := p.cond(t)
		if !ok {
			return nil, false
		}
		*all, places = append(*all, c), append(places, t.pos)
	}
}

// resolve checks what one declaration says of another.
func (p *parser) resolve() {
	groups := map[string]*Decl{}
	for _, d := range p.file.Decls {
		if d.Group == nil {
			continue
		}
		if first := groups[d.Group.Name]; first != nil {
			p.errs.add(p.file.Name, d.Pos, "join them with or, or take another name", "group %s was declared in line %d", d.Group.Name, first.Pos.Line)
			continue
		}
		groups[d.Group.Name] = d
	}
	for _, d := range p.file.Decls {
		names := d.Tell
		if d.Policy != nil {
			names = d.Policy.Groups
		}
		for _, g := range names {
			if g != everybody && groups[g] == nil && !slices.Contains(p.half, g) {
				p.errs.add(p.file.Name, d.Pos, fmt.Sprintf(`declare it: group %s { device = "…" }; everybody is all clients`, g), "no group %s", g)
			}
		}
	}
}
