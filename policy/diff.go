package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/auth"
)

// Change is a decision that differs between two policies, for one or more clients.
type Change struct {
	Client   Identity // one of them
	Clients  int      // how many
	Request  Request  // what that one could ask; its Action is 0 if the client identifier itself is
	Allowed  bool     // by the newer policy
	Old, New *Rule    // that have decided; nil if none allows it
}

// String tells the change in one line.
func (c *Change) String() string {
	who := client(&c.Client)
	if c.Clients > 1 {
		who = fmt.Sprintf("%s and %d more", who, c.Clients-1)
	}
	what := "connect as " + quote(c.Client.ClientID)
	if c.Request.Action != 0 {
		what = actionName(c.Request.Action) + " " + quote(c.Request.Topic)
		if c.Request.QoS > 0 {
			what += fmt.Sprintf(" with QoS %d", c.Request.QoS)
		}
		if c.Request.Retain {
			what += " with retain"
		}
		if c.Request.Size > 0 {
			what += fmt.Sprintf(" with %d bytes", c.Request.Size)
		}
	}
	now, by := "no longer", "no rule"
	if c.Allowed {
		now = "now"
	}
	rule := c.New
	if rule == nil && !c.Allowed {
		rule, by = c.Old, "not any more by "
	} else if rule != nil {
		by = "by "
	}
	if rule != nil {
		by += rule.String()
	}
	if c.Request.Action == 0 {
		by = "by the bind lines"
	}
	return fmt.Sprintf("%s may %s %s (%s)", who, now, what, by)
}

// Diff tells what the newer policy decides otherwise for the given clients. Without probes it asks what the rules of both
// policies speak of, with a word in place of each wildcard and with values beside the bounds of their conditions, at the
// present time. Clients for whom the same rules decide otherwise are one Change, so that a change of one line is one line.
func Diff(older, newer *Policy, clients iter.Seq[Identity], probes []Request) []*Change {
	type key struct {
		old, new *Rule
		action   auth.Action
		allowed  bool
	}
	found := map[key]*Change{}
	var out []*Change
	note := func(id *Identity, r Request, was, is Decision) {
		k := key{was.Rule, is.Rule, r.Action, is.Allowed}
		c := found[k]
		if c == nil {
			c = &Change{Client: *id, Request: r, Allowed: is.Allowed, Old: was.Rule, New: is.Rule}
			found[k] = c
			out = append(out, c)
		}
		c.Clients++
	}
	for id := range clients {
		a, b := older.subject(&id), newer.subject(&id)
		a.unlimited, b.unlimited = true, true
		if id.ClientID != "" {
			before, after := older.Admit(id) == nil, newer.Admit(id) == nil
			if before != after {
				note(&id, Request{}, Decision{}, Decision{Allowed: after})
			}
			if !before || !after {
				continue
			}
		}
		ask := probes
		if ask == nil {
			ask = derive(older.fine || newer.fine, a, b)
		}
		seen := map[key]bool{}
		for _, r := range ask {
			was, is := a.check(&r), b.check(&r)
			k := key{was.Rule, is.Rule, r.Action, is.Allowed}
			if was.Allowed != is.Allowed && !seen[k] {
				seen[k] = true
				note(&id, r, was, is)
			}
		}
	}
	return out
}

// derive makes requests out of the rules of two subjects of one identity; fine says that QoS and retain make a difference.
func derive(fine bool, subjects ...*subject) []Request {
	seen := map[Request]bool{}
	var out []Request
	for _, s := range subjects {
		for _, g := range s.groups {
			for _, rule := range g.rules {
				for r := range s.probes(rule, fine) {
					if !seen[r] {
						seen[r] = true
						out = append(out, r)
					}
				}
			}
		}
	}
	return out
}

// probes are requests that a rule speaks of.
func (s *subject) probes(rule *Rule, fine bool) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		sizes := []int{0}
		if rule.when.sized {
			for _, n := range []int{rule.when.min - 1, rule.when.min, rule.when.max, rule.when.max + 1} {
				if n > 0 && n <= 1<<31 {
					sizes = append(sizes, n)
				}
			}
		}
		levels, retains := []uint8{0}, []bool{false}
		if fine {
			levels, retains = []uint8{0, 1, 2}, []bool{false, true}
		}
		for g := range max(1, len(s.values.groups)) {
			filter := s.values.expand(rule.levels, g)
			if strings.Contains(filter, "${") {
				return
			}
			for a := auth.Publish; a <= auth.Receive; a++ {
				topics := []string{filter}
				if a != auth.Subscribe {
					topics = examples(filter)
				}
				for _, t := range topics {
					for _, size := range sizes {
						for _, qos := range levels {
							for _, retain := range retains {
								if rule.concerns(a) && (!retain || a != auth.Subscribe) && (size == 0 || a == auth.Publish) &&
									!yield(Request{Action: a, Topic: t, QoS: qos, Retain: retain, Size: size}) {
									return
								}
							}
						}
					}
				}
			}
			if !slices.ContainsFunc(rule.levels, func(l level) bool { return grouped(l.parts) }) {
				return
			}
		}
	}
}

// examples are topic names that a filter matches.
func examples(filter string) []string {
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if l == "+" {
			levels[i] = "x"
		}
	}
	if levels[len(levels)-1] != "#" {
		return []string{strings.Join(levels, "/")}
	}
	above := strings.Join(levels[:len(levels)-1], "/")
	if above == "" && len(levels) == 1 {
		return []string{"x", "x/y"}
	}
	out := []string{above + "/x", above + "/x/y"}
	if above != "" {
		out = append(out, above)
	}
	return out
}
