package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

// Finding is what looks wrong in a policy that says what it says.
type Finding struct {
	File   string
	Pos    Pos
	Text   string
	Advice string
	Broad  bool // a rule allows everybody too much; else something has not the effect that was meant
}

// String is FILE:LINE: TEXT; ADVICE.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s; %s", f.File, f.Pos.Line, f.Text, f.Advice)
}

// Lint finds rules that have no effect, that allow everybody everything, that speak of topics of the broker's own,
// placeholders that have no value for those whom the rule is for, and devices that cannot renew their certificates. The
// order is that of the file.
func (p *Policy) Lint() []Finding {
	l := &linter{p: p, covers: map[coverKey]*cover{}}
	for _, r := range p.rules {
		for a := auth.Publish; a <= auth.Receive; a++ {
			for _, g := range r.groups {
				if r.concerns(a) {
					l.cover(a, r.Allow, g).insert(standIns(r), r)
				}
			}
		}
	}
	for _, r := range p.rules {
		l.effect(r)
		l.everybody(r)
		l.own(r)
		l.placeholders(r)
	}
	l.renewal()
	l.groups()
	if len(p.rules) == 0 {
		l.add(Pos{1, 1}, "there is no rule, so that nobody may do anything", "write policy everybody { allow … }, or begin with the starter policy")
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int { return cmp.Compare(a.Pos.Line, b.Pos.Line) })
	return l.found
}

type linter struct {
	p      *Policy
	covers map[coverKey]*cover
	found  []Finding
}

func (l *linter) add(at Pos, text, advice string) {
	l.found = append(l.found, Finding{File: l.p.file.Name, Pos: at, Text: text, Advice: advice})
}

func (l *linter) broad(at Pos, text, advice string) {
	l.found = append(l.found, Finding{File: l.p.file.Name, Pos: at, Text: text, Advice: advice, Broad: true})
}

type coverKey struct {
	action auth.Action
	allow  bool
	group  string
}

func (l *linter) cover(a auth.Action, allow bool, group string) *cover {
	k := coverKey{a, allow, group}
	if l.covers[k] == nil {
		l.covers[k] = &cover{}
	}
	return l.covers[k]
}

// cover finds the rules whose filters contain another rule's, where a placeholder is a word like any other.
type cover struct {
	next        map[string]*cover
	here, below []*Rule
}

// standIns are the levels of a rule's filter, in which no placeholder begins with $.
func standIns(r *Rule) []string {
	out := make([]string, len(r.levels))
	for i, l := range r.levels {
		if out[i] = l.text; l.parts != nil {
			out[i] = "\x00" + l.text
		}
	}
	return out
}

func (c *cover) insert(levels []string, r *Rule) {
	for _, l := range levels {
		if l == "#" {
			c.below = append(c.below, r)
			return
		}
		if c.next == nil {
			c.next = map[string]*cover{}
		}
		if c.next[l] == nil {
			c.next[l] = &cover{}
		}
		c = c.next[l]
	}
	c.here = append(c.here, r)
}

// containing calls yield for the rules that contain the filter, until it returns false.
func (c *cover) containing(levels []string, first bool, yield func(*Rule) bool) bool {
	all := func(rules []*Rule) bool {
		for _, r := range rules {
			if !yield(r) {
				return false
			}
		}
		return true
	}
	if len(levels) == 0 {
		return all(c.here) && all(c.below)
	}
	l := levels[0]
	own := first && strings.HasPrefix(l, "$")
	if !own && !all(c.below) {
		return false
	}
	if l == "#" {
		return true
	}
	for _, way := range [...]string{"+", l} {
		if next := c.next[way]; next != nil && (way == l || !own) {
			if !next.containing(levels[1:], false, yield) {
				return false
			}
		}
		if l == "+" {
			break
		}
	}
	return true
}

// effect finds a rule that another one makes superfluous.
func (l *linter) effect(r *Rule) {
	for _, against := range [...]bool{!r.Allow, r.Allow} {
		if against && !r.Allow { // what a denial contradicts is there to be denied
			continue
		}
		var by *Rule
		for _, a := range r.Actions {
			if by = l.over(r, a, against); by == nil {
				break
			}
		}
		switch {
		case by == nil:
			continue
		case r.Allow && !by.Allow:
			l.add(r.Pos, fmt.Sprintf("%s never allows anything: %s denies all of it", quote(r.Text()), by), "remove it, or narrow the denial")
		case r.when.every > 0:
			l.add(r.Pos, fmt.Sprintf("the rate of %s has no effect: %s allows the same without", quote(r.Text()), by), "give that one a rate, or narrow it")
		default:
			l.add(r.Pos, fmt.Sprintf("%s has no effect: %s says it already", quote(r.Text()), by), "remove one of them")
		}
		return
	}
}

// over finds a rule that decides wherever r would, as far as groups, conditions and filters tell. Of two that say the same
// it is the first.
func (l *linter) over(r *Rule, a auth.Action, allow bool) (by *Rule) {
	levels := standIns(r)
	for _, g := range [...]string{everybody, r.groups[0]} {
		l.cover(a, allow, g).containing(levels, true, func(o *Rule) bool {
			if o != r && o.weak == r.weak && wider(o, r, a) &&
				(o.Pos.before(r.Pos) || !wider(r, o, a) || !slices.Equal(standIns(o), levels)) {
				by = o
			}
			return by == nil
		})
		if by != nil {
			break
		}
	}
	return by
}

// wider reports whether o is for all groups that r is for, under no other conditions.
func wider(o, r *Rule, a auth.Action) bool {
	if !slices.Contains(o.groups, everybody) && slices.ContainsFunc(r.groups, func(g string) bool { return !slices.Contains(o.groups, g) }) {
		return false
	}
	if a == auth.Receive && !o.hears {
		return len(o.when.who) == 0 && !o.when.timed()
	}
	return r.when.within(&o.when)
}

func (l *linter) everybody(r *Rule) {
	if r.Allow && !r.weak && slices.Contains(r.groups, everybody) && (r.Filter == "#" || r.Filter == "+/#") {
		l.broad(r.Pos, fmt.Sprintf("%s is for all clients, anonymous ones too", quote(r.Text())), "name a group, or the topics that are meant")
	}
}

// renewal finds that no rule lets devices ask for their next certificate. Whether a denial is in the way is not asked.
func (l *linter) renewal() {
	const request = "$pki/renew/request"
	var first *Rule
	for _, r := range l.p.rules {
		if !r.Allow || l.p.file.mosquitto {
			continue
		}
		if r.concerns(auth.Publish) && topic.Match(r.Filter, request) && !l.all(r, "user") {
			return
		}
		if first == nil && (uses(r.levels)&(1<<varDevice) != 0 || l.all(r, "device")) {
			first = r
		}
	}
	if first != nil {
		l.add(first.Pos, "no rule lets devices publish "+request+": their certificates cannot be renewed over MQTT",
			"write allow publish, subscribe $pki/renew/#")
	}
}

// all reports whether only identities with a value of the attribute are in the groups of a rule.
func (l *linter) all(r *Rule, attr string) bool {
	return !slices.ContainsFunc(r.groups, func(name string) bool {
		return name == everybody || !demands(l.p.byName[name].expr, attr)
	})
}

// own finds rules about what the broker alone publishes.
func (l *linter) own(r *Rule) {
	if !r.Allow || !slices.Contains(r.Actions, auth.Publish) {
		return
	}
	switch r.levels[0].text {
	case "$SYS", "$CONTROL":
		l.add(r.Pos, fmt.Sprintf("%s: the broker alone publishes there", quote(r.Text())), "allow to subscribe, not to publish")
	case "$pki":
		if len(r.levels) > 1 && slices.Contains([]string{"renew", "cacerts", "enroll"}, r.levels[1].text) {
			return
		}
		l.add(r.Pos, fmt.Sprintf("%s: publishing to $pki is asking for certificates", quote(r.Text())), "allow $pki/renew/# and $pki/cacerts/#")
	}
}

// placeholders finds those that never have a value.
func (l *linter) placeholders(r *Rule) {
	set := uses(r.levels)
	if l.p.file.mosquitto {
		switch {
		case r.weak && set == 0:
			l.broad(r.Pos, fmt.Sprintf("%s is for every client, since it has neither %%u nor %%c", quote(r.Text())), "write topic, below the user who is meant")
		case set&(1<<varClient) != 0:
			l.add(r.Pos, fmt.Sprintf("%s: a client identifier is what a client says it is", quote(r.Text())), "write %u")
		}
		return
	}
	if set&(1<<varClient) != 0 && len(l.p.binds) == 0 {
		l.add(r.Pos, fmt.Sprintf("%s: without a bind line ${client_id} has a value for devices alone", quote(r.Text())), "write bind client_id = ${user}-*, or ${device} in place of it")
	}
	for v, excluded := range map[variable]string{varDevice: "user", varUser: "device"} {
		if set&(1<<v) != 0 && l.all(r, excluded) {
			l.add(r.Pos, fmt.Sprintf("%s matches nothing: ${%s} has no value for a %s", quote(r.Text()), variableNames[v], excluded), "write ${"+excluded+"}")
		}
	}
}

// demands reports whether only identities with a value of the attribute, or of that kind, can be in the group.
func demands(e *Expr, attr string) bool {
	switch {
	case e.All != nil:
		return slices.ContainsFunc(e.All, func(x *Expr) bool { return demands(x, attr) })
	case e.Any != nil:
		return !slices.ContainsFunc(e.Any, func(x *Expr) bool { return !demands(x, attr) })
	case e.Op == "!=":
		return false
	case e.Attr == "kind":
		return !slices.ContainsFunc(e.Values, func(v string) bool { return (v == "device") != (attr == "device") })
	}
	return e.Attr == attr
}

// groups finds groups that no policy names.
func (l *linter) groups() {
	used := map[string]bool{}
	for _, d := range l.p.file.Decls {
		if d.Policy != nil {
			for _, g := range d.Policy.Groups {
				used[g] = true
			}
		}
	}
	for _, d := range l.p.file.Decls {
		for _, name := range d.Tell { // who has no rule is told so
			used[name] = true
		}
	}
	for _, d := range l.p.file.Decls {
		if d.Group != nil && !used[d.Group.Name] {
			l.add(d.Pos, fmt.Sprintf("no policy is for group %s", d.Group.Name), "write policy "+d.Group.Name+" { … }, or remove it")
		}
	}
}
