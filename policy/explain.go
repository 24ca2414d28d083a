package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

// Explanation is a decision with its reason.
type Explanation struct {
	Allowed bool
	Request Request
	Rule    *Rule  // the one that has decided; nil if none allows it
	Nearest *Rule  // of a request that no rule allows: the one that is nearest to do so; nil if there is none
	Reason  string // why, in one sentence
	Fix     string // what would allow it; empty if it is allowed
}

// String is ALLOW or DENY, the reason and the fix in one line.
func (e Explanation) String() string {
	if e.Allowed {
		return "ALLOW: " + e.Reason
	}
	if e.Fix == "" {
		return "DENY: " + e.Reason
	}
	return "DENY: " + e.Reason + "; to allow it: " + e.Fix
}

// Explain decides as Check does, for a client that has published nothing yet, and tells why. Names and topics in its texts
// are quoted. It looks at every rule: it is for people.
func (p *Policy) Explain(id Identity, r Request) Explanation {
	e := Explanation{Request: r}
	if id.ClientID != "" {
		if err := p.Admit(id); err != nil {
			e.Reason, e.Fix = err.(*auth.Refusal).Text, "use such a client identifier"
			return e
		}
	}
	if text := validRequest(&r); text != "" {
		e.Reason, e.Fix = text, "ask for a valid one"
		return e
	}
	if r.Time.IsZero() {
		r.Time = p.now()
	}
	s := p.subject(&id)
	s.rehearsal = true
	d := s.check(&r)
	e.Allowed, e.Rule = d.Allowed, d.Rule
	asked := r.Action.String() + " " + quote(r.Topic)
	switch {
	case d.Allowed && d.Rule == p.file.granted:
		e.Reason = fmt.Sprintf("an ACL file lets everybody %s, and decides what is delivered", asked)
	case d.Allowed:
		e.Reason = fmt.Sprintf("%s allows to %s", d.Rule, asked)
	case d.Rule != nil:
		e.Reason = fmt.Sprintf("%s denies to %s", d.Rule, asked)
		if !s.matches(d.Rule, &r) {
			e.Reason += ": the name of the client must not stand in a topic, so that it denies all that it could mean"
		}
		e.Fix = fmt.Sprintf("narrow or remove %s:%d; nothing else overrides a denial", d.Rule.File, d.Rule.Pos.Line)
	default:
		s.nearest(&e, &r)
	}
	return e
}

// matches reports whether the filter of a rule matches, or contains, what is asked for.
func (s *subject) matches(rule *Rule, r *Request) bool {
	path := r.Topic
	test := topic.Match
	if r.Action == auth.Subscribe {
		_, path, _, _ = topic.ParseShare(path)
		test = topic.Contains
	}
	for g := -1; g < len(s.values.groups); g++ {
		if f := s.values.expand(rule.levels, g); !strings.Contains(f, "${") && test(f, path) {
			return true
		}
	}
	return false
}

// concerns reports whether a rule speaks of an action.
func (r *Rule) concerns(a auth.Action) bool {
	return slices.Contains(r.Actions, a) || a == auth.Receive && slices.Contains(r.Actions, auth.Subscribe) && (r.Allow || r.when.qos == 0)
}

// nearest finds the rule that is nearest to allow r, and says what is in the way.
func (s *subject) nearest(e *Explanation, r *Request) {
	const (
		stranger = iota + 1 // right, but for others
		member              // for this client, and another topic
		almost              // all but a condition
	)
	best, likeness := 0, -1
	for _, rule := range s.policy.rules {
		if !rule.Allow || !rule.concerns(r.Action) {
			continue
		}
		mine := s.mine(rule)
		matches := s.matches(rule, r)
		rank := 0
		switch {
		case mine && matches:
			rank = almost
		case mine:
			rank = member
		case matches:
			rank = stranger
		}
		like := common(s.values.expand(rule.levels, 0), r.Topic)
		if rank > best || rank == best && rank > 0 && like > likeness {
			best, likeness, e.Nearest = rank, like, rule
		}
	}
	n := e.Nearest
	asked := r.Action.String() + " " + quote(r.Topic)
	line := fmt.Sprintf("allow %s %s", r.Action, word(s.generalize(r), true))
	e.Fix = s.own(line)
	if n != nil && best != stranger {
		if in := n.groups[slices.IndexFunc(n.groups, s.in)]; in != everybody {
			e.Fix = "in policy " + in + ": " + line
		}
	}
	if s.policy.file.mosquitto {
		e.Fix = s.mosquittoFix(r)
	}
	switch best {
	case 0:
		e.Reason = fmt.Sprintf("no rule allows this client to %s at all", r.Action.String())
	case stranger:
		e.Reason = fmt.Sprintf("%s would allow to %s, but %s is not in group %s", n, asked, client(s.id), strings.Join(n.groups, " or "))
		if slices.ContainsFunc(n.groups, func(name string) bool { return s.policy.byName[name].expr.lists() }) {
			e.Fix += ", or put the client into the group"
		}
	case member:
		e.Reason = fmt.Sprintf("no rule allows to %s; the nearest is %s", asked, n)
		why := s.why(n.levels)
		if why == "" || !s.policy.file.mosquitto {
			e.Reason += fmt.Sprintf(", which is %s here", quote(s.values.expand(n.levels, 0)))
		}
		if why != "" {
			e.Reason += ", where " + why
		}
	case almost:
		which, text := n.when.failing(s.id, r, n.hears || r.Action != auth.Receive)
		e.Reason = fmt.Sprintf("%s would allow to %s, but %s", n, asked, text)
		e.Fix = fmt.Sprintf("change %s in %s:%d, or the request", which, n.File, n.Pos.Line)
	}
}

// own is a rule for the client, of a group of its own if it is in none.
func (s *subject) own(line string) string {
	if last := s.groups[len(s.groups)-1].name; last != everybody {
		return "in policy " + last + ": " + line
	}
	for _, attr := range [...]string{"device", "user", "method"} {
		if values, _ := attribute(s.id, attr); len(values) > 0 {
			return fmt.Sprintf("group new { %s = %s } policy new { %s }", attr, value(values[0]), line)
		}
	}
	return "in policy " + everybody + ": " + line
}

// mine reports whether the rule is for a group of the subject.
func (s *subject) mine(rule *Rule) bool {
	return slices.ContainsFunc(rule.groups, s.in) && !s.barred(rule)
}

// in reports whether the subject is in the group.
func (s *subject) in(name string) bool {
	return slices.ContainsFunc(s.groups, func(g *group) bool { return g.name == name })
}

// why says which placeholders of a filter have no value, or one that cannot be in a topic.
func (s *subject) why(levels []level) string {
	v := &s.values
	set := uses(levels)
	for i := range variables {
		name := "${" + variableNames[i] + "}"
		if s.policy.file.mosquitto {
			name = map[variable]string{varName: "%u", varClient: "%c"}[variable(i)]
		}
		switch {
		case set&(1<<i) == 0:
		case v.bad[i]:
			return name + " is a name with / + # or other signs that cannot stand in a level"
		case i != int(varGroup) && v.one[i] == "" && i == int(varClient) && s.id.ClientID != "":
			return name + " has no value, since no bind line proves the client identifier"
		case i != int(varGroup) && v.one[i] == "", i == int(varGroup) && len(v.groups) == 0:
			return name + " has no value for this client"
		}
	}
	return ""
}

// client names a client for people.
func client(id *Identity) string {
	switch {
	case id.Name == "":
		return "an anonymous client"
	case id.device() != "":
		return "device " + quote(id.Name)
	}
	return "user " + quote(id.Name)
}

// generalize is the topic asked for, with placeholders where it has the client's own name.
func (s *subject) generalize(r *Request) string {
	path := r.Topic
	if r.Action == auth.Subscribe {
		_, path, _, _ = topic.ParseShare(path)
	}
	levels := strings.Split(path, "/")
	for i, l := range levels {
		for _, v := range [...]variable{varDevice, varUser} {
			if l != "" && l == s.values.one[v] {
				levels[i] = "${" + variableNames[v] + "}"
			}
		}
	}
	return strings.Join(levels, "/")
}

// common is how many levels two paths have in common from their beginning, where + is like anything.
func common(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	n := 0
	for n < len(x) && n < len(y) && (x[n] == y[n] || x[n] == "+" || y[n] == "+") {
		n++
	}
	return n
}

// failing names a condition that does not hold, and says why.
func (c *conditions) failing(id *Identity, r *Request, request bool) (which, text string) {
	switch {
	case request && !c.request(r.QoS, c.retain > 0):
		return "qos", fmt.Sprintf("not with QoS %d", r.QoS)
	case request && !c.request(r.QoS, r.Retain):
		return "retain", map[bool]string{true: "not with retain", false: "only with retain"}[r.Retain]
	case !c.fits(r.Size, true) && r.Size < 0:
		return "size", "the size is not known"
	case !c.fits(r.Size, true):
		return "size", fmt.Sprintf("not with %d bytes", r.Size)
	case !c.open(r.Time):
		return "time", fmt.Sprintf("not on %s", r.Time.In(c.zone).Format("Mon 15:04 MST"))
	}
	for _, e := range c.who {
		if !e.test(id) {
			have, _ := attribute(id, e.Attr)
			if e.Attr == "address" && id.Address.IsValid() {
				have = []string{id.Address.String()}
			}
			if len(have) == 0 {
				return e.Attr, "not without " + e.Attr
			}
			return e.Attr, fmt.Sprintf("not with %s %s", e.Attr, quote(strings.Join(have, ", ")))
		}
	}
	return "rate", fmt.Sprintf("not more often than %d in %v", c.burst, c.every*time.Duration(c.burst))
}
