package policy

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// Policy is a compiled policy file. It never changes.
type Policy struct {
	file   *File
	rules  []*Rule
	groups []*group
	byName map[string]*group
	// Groups of an identity are found by the anchors, the others are asked.
	anchors map[anchor][]*group
	asked   []*group
	binds   []bind
	seed    maphash.Seed
	fine    bool // some rule depends on QoS or retain
	now     func() time.Time
	// testOnlyFlip turns one of the evaluator's decisions round, to see that the tests notice.
	testOnlyFlip operator
}

// group is the rules that hold for one group, as a trie for each action.
type group struct {
	name  string
	order int
	uses  uint8 // a bit for each placeholder in its rules
	expr  *Expr // nil: of everybody
	tells bool  // its members may know why something is denied
	picks bool  // some rule keeps from its members what a subscription brings that they may have
	rules []*Rule
	tries [len(actionNames)]*node // nil: no rule
}

// bind is a Bind, its patterns split.
type bind struct {
	at       Pos
	patterns []pattern
}

type pattern struct {
	parts []part
	open  bool // more must follow
}

// Compile makes a policy of a file. It fails for a file that is not as Parse or ParseMosquitto has made it.
func Compile(f *File) (*Policy, error) {
	p := &Policy{file: f, byName: map[string]*group{}, anchors: map[anchor][]*group{}, seed: maphash.MakeSeed(), now: time.Now}
	p.asked = append(p.asked, p.group(everybody))
	for _, d := range f.Decls {
		if d.Group != nil {
			p.declare(d.Group)
		}
		if d.Bind != nil {
			b := bind{at: d.Pos}
			for _, s := range d.Bind.Patterns {
				body, open := strings.CutSuffix(s, "*")
				parts, text, _ := compileParts(body)
				if text != "" || parts == nil {
					return nil, fmt.Errorf("compile policy %s: line %d: a pattern that was not parsed: %s", f.Name, d.Pos.Line, quote(s))
				}
				b.patterns = append(b.patterns, pattern{parts, open})
			}
			p.binds = append(p.binds, b)
		}
	}
	for _, d := range f.Decls {
		for _, name := range d.Tell {
			g := p.byName[name]
			if g == nil {
				return nil, fmt.Errorf("compile policy %s: line %d: no group %s", f.Name, d.Pos.Line, quote(name))
			}
			g.tells = true
		}
		if d.Policy == nil {
			continue
		}
		for _, r := range d.Policy.Rules {
			if r.levels == nil {
				return nil, fmt.Errorf("compile policy %s: line %d: a rule that was not parsed", f.Name, r.Pos.Line)
			}
			p.rules = append(p.rules, r)
			p.fine = p.fine || r.when.qos != 0 || r.when.retain != 0
			for _, name := range d.Policy.Groups {
				g := p.byName[name]
				if g == nil {
					return nil, fmt.Errorf("compile policy %s: line %d: no group %s", f.Name, d.Pos.Line, quote(name))
				}
				g.insert(r)
			}
		}
	}
	return p, nil
}

func (p *Policy) group(name string) *group {
	g := &group{name: name, order: len(p.groups)}
	p.groups, p.byName[name] = append(p.groups, g), g
	return g
}

func (p *Policy) declare(d *Group) {
	g := p.group(d.Name)
	g.expr = d.Expr
	anchors := d.Expr.anchors()
	if anchors == nil {
		p.asked = append(p.asked, g)
		return
	}
	for _, a := range anchors {
		if of := p.anchors[a]; len(of) == 0 || of[len(of)-1] != g {
			p.anchors[a] = append(of, g)
		}
	}
}

// insert puts a rule into the tries of the actions that it concerns. Who may subscribe may hear what comes; a denial that
// depends on the QoS of the subscription says nothing of what comes through others.
func (g *group) insert(r *Rule) {
	g.rules, g.uses = append(g.rules, r), g.uses|uses(r.levels)
	g.picks = g.picks || r.picks()
	for _, a := range r.Actions {
		g.add(a, r)
		if a == auth.Subscribe && (r.Allow || r.when.qos == 0) && !slices.Contains(r.Actions, auth.Receive) {
			g.add(auth.Receive, r)
		}
	}
}

func (g *group) add(a auth.Action, r *Rule) {
	if g.tries[a] == nil {
		g.tries[a] = &node{}
	}
	g.tries[a].insert(r.levels, r)
}

// members returns the groups of an identity, in the order of the file.
func (p *Policy) members(id *Identity) []*group {
	var out []*group
	for _, g := range p.asked {
		if g.expr == nil || g.expr.match(id) {
			out = append(out, g)
		}
	}
	if len(p.anchors) > 0 {
		for _, attr := range anchored {
			values, _ := attribute(id, attr)
			for _, v := range values {
				for _, g := range p.anchors[anchor{attr, v}] {
					if !slices.Contains(out, g) && g.expr.match(id) {
						out = append(out, g)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *group) int { return a.order - b.order })
	return out
}

// Admit reports whether the identity may have its client identifier. The error is an *auth.Refusal.
func (p *Policy) Admit(id Identity) error {
	_, err := p.bound(&id)
	return err
}

// bound reports whether a bind line proves the identity's client identifier, and refuses one that it forbids.
func (p *Policy) bound(id *Identity) (proven bool, err error) {
	if len(p.binds) == 0 {
		return false, nil
	}
	v := newValues(id, false)
	for _, b := range p.binds {
		meant, matched := false, false
		for _, pat := range b.patterns {
			set := uses([]level{{parts: pat.parts}})
			has := true
			for i := range varClient {
				if set&(1<<i) != 0 && v.one[i] == "" && !v.bad[i] {
					has = false
				}
			}
			meant = meant || has
			matched = matched || has && pat.match(&v, id.ClientID)
		}
		if meant && !matched {
			return false, misnamed(id, &v, fmt.Sprintf(" (%s:%d)", p.file.Name, b.at.Line))
		}
		proven = proven || matched
	}
	return proven, nil
}

// misnamed refuses a client identifier that a bind line does not give to the identity, with the place of that line.
func misnamed(id *Identity, v *values, place string) *auth.Refusal {
	text := fmt.Sprintf("client identifier %s is not one of %s", quote(id.ClientID), quote(id.Name))
	if v.bad[varName] {
		text = fmt.Sprintf("no client identifier is one of %s, which must not stand in a topic", quote(id.Name))
	}
	return &auth.Refusal{Code: mqtt.ClientIDNotValid, Text: text + place}
}

func (pat *pattern) match(v *values, s string) bool {
	rest, f := v.begins(pat.parts, s, -1)
	return f == fits && (rest != "") == pat.open
}

// Rules returns all rules in the order of the file.
func (p *Policy) Rules() []*Rule { return p.rules }

// File returns what the policy was compiled from.
func (p *Policy) File() *File { return p.file }

// For returns the permissions of an identity. It does not ask Admit.
func (p *Policy) For(id Identity) *Permissions {
	perms := &Permissions{id: id}
	perms.now.Store(p.subject(&perms.id))
	return perms
}

// Live is the policy in force, which another one may replace.
type Live struct{ policy atomic.Pointer[Policy] }

// NewLive returns a Live with its first policy.
func NewLive(p *Policy) *Live {
	l := &Live{}
	l.policy.Store(p)
	return l
}

// Policy returns the policy in force.
func (l *Live) Policy() *Policy { return l.policy.Load() }

// Swap puts p in force, also for the permissions that For has returned, and returns the policy before. Questions under way
// are answered by the one or the other.
func (l *Live) Swap(p *Policy) (before *Policy) { return l.policy.Swap(p) }

// For returns the permissions of an identity by the policy that is in force when they are asked.
func (l *Live) For(id Identity) *Permissions {
	perms := &Permissions{id: id, live: l}
	perms.now.Store(l.Policy().subject(&perms.id))
	return perms
}
