package policy

import (
	"fmt"
	"iter"
	"math"
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
		what = c.Request.Action.String() + " " + quote(c.Request.Topic)
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
		a.rehearsal, b.rehearsal = true, true
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
			if was.Allowed == is.Allowed {
				continue
			}
			if k := (key{was.Rule, is.Rule, r.Action, is.Allowed}); !seen[k] {
				seen[k] = true
				note(&id, r, was, is)
			}
		}
	}
	return out
}

// derive makes requests out of the rules of two subjects of one identity; fine says that QoS and retain make a difference.
func derive(fine bool, subjects ...*subject) []Request {
	var out []Request
	for _, s := range subjects {
		for _, sp := range s.spoken() {
			out = slices.AppendSeq(out, sp.requests(fine))
		}
	}
	return out
}

// spoken is what a rule speaks of, with the names of one client in it.
type spoken struct {
	rule   *Rule
	filter string
}

// maxMeetings bounds how many pairs of rules are looked at for one client.
const maxMeetings = 10_000

// spoken returns what the subject's rules speak of, and where a denial meets what is allowed.
func (s *subject) spoken() []spoken {
	var out, denials []spoken
	for _, g := range s.groups {
		for _, r := range g.rules {
			for i := range max(1, len(s.values.groups)) {
				f := s.values.expand(r.levels, i)
				if strings.Contains(f, "${") {
					break
				}
				if out = append(out, spoken{r, f}); !r.Allow {
					denials = append(denials, spoken{r, f})
				}
				if uses(r.levels)&(1<<varGroup) == 0 {
					break
				}
			}
		}
	}
	if all := len(out); len(denials)*all <= maxMeetings {
		for _, d := range denials {
			for _, o := range out[:all:all] {
				if f, ok := meet(d.filter, o.filter); ok && o.rule.Allow && f != o.filter {
					out = append(out, spoken{o.rule, f})
				}
			}
		}
	}
	return out
}

// meet returns a filter for what two filters have in common.
func meet(a, b string) (string, bool) {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for _, w := range [...][2]string{{a, b}, {b, a}} {
		if strings.HasPrefix(w[0], "$") && (w[1][0] == '+' || w[1][0] == '#') { // [MQTT-4.7.2-1]
			return "", false
		}
	}
	var out []string
	for i := 0; ; i++ {
		switch {
		case i < len(x) && x[i] == "#":
			return strings.Join(append(out, y[i:]...), "/"), len(out)+len(y[i:]) > 0
		case i < len(y) && y[i] == "#":
			return strings.Join(append(out, x[i:]...), "/"), len(out)+len(x[i:]) > 0
		case i == len(x) || i == len(y):
			return strings.Join(out, "/"), len(x) == len(y)
		case x[i] == y[i] || y[i] == "+":
			out = append(out, x[i])
		case x[i] == "+":
			out = append(out, y[i])
		default:
			return "", false
		}
	}
}

// requests are what a client could ask.
func (sp *spoken) requests(fine bool) iter.Seq[Request] {
	sizes, qos, retains := []int{0}, []uint8{0}, []bool{false}
	if when := &sp.rule.when; when.sized {
		for _, n := range []int{when.min - 1, when.min, when.max, when.max + 1} {
			if n > 0 && n < math.MaxInt32 {
				sizes = append(sizes, n)
			}
		}
	}
	if fine {
		qos, retains = []uint8{0, 1, 2}, []bool{false, true}
	}
	return func(yield func(Request) bool) {
		for a := auth.Publish; a <= auth.Receive; a++ {
			if !sp.rule.concerns(a) {
				continue
			}
			topics := []string{sp.filter}
			if a != auth.Subscribe {
				topics = examples(sp.filter)
			}
			for _, t := range topics {
				for _, size := range sizes {
					for _, q := range qos {
						for _, retain := range retains {
							if (retain && a == auth.Subscribe || size > 0 && a != auth.Publish) ||
								yield(Request{Action: a, Topic: t, QoS: q, Retain: retain, Size: size}) {
								continue
							}
							return
						}
					}
				}
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
