package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
	"pgregory.net/rapid"
)

// naive is the language's meaning for files whose rules have conditions on qos, retain and size alone.
func naive(f *File, id Identity, r Request) bool {
	allowed := false
	for _, d := range f.Decls {
		if d.Policy == nil || !naiveMember(f, d.Policy.Groups, &id) {
			continue
		}
		for _, rule := range d.Policy.Rules {
			acts := fmt.Sprint(rule.Actions)
			hears := strings.Contains(acts, fmt.Sprint(auth.Receive))
			asked := strings.Contains(acts, fmt.Sprint(r.Action))
			if r.Action == auth.Receive && !hears { // what a subscription brings
				asked = strings.Contains(acts, fmt.Sprint(auth.Subscribe)) && (rule.Allow || len(rule.Conds) == 0)
			} else if asked {
				for _, c := range rule.Conds {
					asked = asked && naiveCond(c, r)
				}
			}
			if !asked || !naiveFilter(rule, &id, r) {
				continue
			}
			if !rule.Allow {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

func naiveMember(f *File, groups []string, id *Identity) bool {
	for _, g := range groups {
		if g == everybody {
			return true
		}
		for _, d := range f.Decls {
			if d.Group != nil && d.Group.Name == g && d.Group.Expr.match(id) {
				return true
			}
		}
	}
	return false
}

func naiveCond(c Cond, r Request) bool {
	have, want := int(r.QoS), int(c.Values[0][0]-'0')
	switch c.Key {
	case "retain":
		return r.Retain == (c.Values[0] == "yes")
	case "size":
		have = r.Size
	}
	return map[string]bool{"=": have == want, "!=": have != want, "<": have < want, "<=": have <= want, ">": have > want,
		">=": have >= want}[c.Op]
}

// naiveFilter puts values in the placeholders of the rule's filter, and compares it with what is asked for.
func naiveFilter(rule *Rule, id *Identity, r Request) bool {
	for _, g := range append([]string{""}, id.Groups...) {
		device, user := id.Name, ""
		if id.Kind != "device" {
			device, user = "", id.Name
		}
		var out []string
		ok, damaged := true, false
		for i, l := range strings.Split(rule.Filter, "/") {
			for name, v := range map[string]string{"${device}": device, "${user}": user, "${group}": g} {
				if strings.Contains(l, name) && v == "" {
					ok = false
				} else if strings.Contains(l, name) && strings.ContainsAny(v, "/+#$") {
					if damaged = true; i == 0 && !rule.Allow {
						return true // anything, also what begins with $
					}
				}
				l = strings.ReplaceAll(l, name, v)
			}
			if damaged { // any text, and all below
				out, ok = append(out, "+", "#"), ok && !rule.Allow
				break
			}
			out = append(out, l)
		}
		f := strings.Join(out, "/")
		if ok && (r.Action == auth.Subscribe && naiveContains(f, r.Topic) || r.Action != auth.Subscribe && naiveMatch(f, r.Topic)) {
			return true
		}
	}
	return false
}

func naiveMatch(filter, name string) bool {
	return levelsMatch(strings.Split(filter, "/"), strings.Split(name, "/"))
}

func levelsMatch(f, n []string) bool {
	if strings.HasPrefix(n[0], "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i := range f {
		if f[i] == "#" {
			return true
		}
		if i == len(n) || f[i] != "+" && f[i] != n[i] {
			return false
		}
	}
	return len(f) == len(n)
}

// naiveContains asks the names that tell filters of the tests' alphabet apart.
func naiveContains(outer, inner string) bool {
	for _, n := range telling {
		if n != "" && naiveMatch(inner, n) && !naiveMatch(outer, n) {
			return false
		}
	}
	return true
}

// telling are the topic names of up to four levels out of what filters spell and two words that none spells.
var telling = names([]string{"a", "b", "", "$x", "z", "$z", "dev", "ann", "red", "red2"}, 4)

func names(alphabet []string, depth int) []string {
	var out, last []string
	for d := range depth {
		next := alphabet
		if d > 0 {
			next = nil
			for _, p := range last {
				for _, l := range alphabet {
					next = append(next, p+"/"+l)
				}
			}
		}
		out, last = append(out, next...), next
	}
	return out
}

var drawIdentity = rapid.Custom(func(t *rapid.T) Identity {
	id := Identity{Method: "password"}
	switch rapid.IntRange(0, 3).Draw(t, "who") {
	case 0:
		id.Name, id.Kind = "dev", "device"
	case 1:
		id.Name = "ann"
	case 2:
		id.Name = rapid.SampledFrom([]string{"+", "#", "a/b", "$x", "dev/+"}).Draw(t, "bad")
		if rapid.Bool().Draw(t, "device") {
			id.Kind = "device"
		}
	}
	id.Groups = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"red", "red2", "a", "+"}), 0, 2, rapid.ID).Draw(t, "groups")
	return id
})

var drawLevel = rapid.SampledFrom([]string{"a", "b", "", "$x", "+", "a", "${device}", "${user}", "${group}", "r${group}"})

func drawFilter(levels *rapid.Generator[string], most int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		l := rapid.SliceOfN(levels, 1, most).Draw(t, "levels")
		if rapid.IntRange(0, 2).Draw(t, "all below") == 0 {
			l[len(l)-1] = "#"
		}
		if len(l) == 1 && l[0] == "" {
			l[0] = "a"
		}
		return strings.Join(l, "/")
	})
}

// drawBody is a rule without its verdict.
var drawBody = rapid.Custom(func(t *rapid.T) string {
	acts := rapid.SampledFrom([]string{"publish", "subscribe", "receive", "publish, subscribe"}).Draw(t, "actions")
	rule := acts + " " + word(drawFilter(drawLevel, 3).Draw(t, "filter"), true)
	if acts == "publish" || acts == "receive" {
		rule += rapid.SampledFrom([]string{"", "", "", " retain=no", " retain=yes"}).Draw(t, "retain")
	}
	if acts == "publish" {
		rule += rapid.SampledFrom([]string{"", "", "", " size<=3", " size>=3", " size<2"}).Draw(t, "size")
	}
	return rule + rapid.SampledFrom([]string{"", "", "", " qos<=1", " qos=0", " qos!=1", " qos>1"}).Draw(t, "qos")
})

var drawRule = rapid.Custom(func(t *rapid.T) string {
	return rapid.SampledFrom([]string{"allow ", "allow ", "deny "}).Draw(t, "verdict") + drawBody.Draw(t, "rule")
})

var drawPolicy = rapid.Custom(func(t *rapid.T) string {
	var b strings.Builder
	b.WriteString("group devices { kind = device }\ngroup reds { groups = [red, red2] or user = ann }\n")
	for range rapid.IntRange(1, 3).Draw(t, "policies") {
		fmt.Fprintf(&b, "policy %s {\n", rapid.SampledFrom([]string{"devices", "reds", "everybody", "devices, reds"}).Draw(t, "groups"))
		for _, r := range rapid.SliceOfN(drawRule, 0, 6).Draw(t, "rules") {
			b.WriteString(r + "\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
})

var drawRequest = rapid.Custom(func(t *rapid.T) Request {
	r := Request{
		Action: auth.Action(rapid.IntRange(1, 3).Draw(t, "action")), QoS: uint8(rapid.IntRange(0, 2).Draw(t, "qos")),
		Retain: rapid.Bool().Draw(t, "retain"), Size: rapid.IntRange(0, 5).Draw(t, "size"),
	}
	levels := []string{"a", "b", "", "$x", "dev", "ann", "red", "red2"}
	if r.Action == auth.Subscribe {
		r.Topic = drawFilter(rapid.SampledFrom(append(levels, "+", "+")), 3).Draw(t, "filter")
		return r
	}
	if r.Topic = strings.Join(rapid.SliceOfN(rapid.SampledFrom(levels), 1, 3).Draw(t, "levels"), "/"); r.Topic == "" {
		r.Topic = "a"
	}
	return r
})

func compile(t testing.TB, text string) *Policy {
	t.Helper()
	f, err := Parse("test.policy", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	p, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustCompile is compile inside of a property.
func mustCompile(t *rapid.T, text string) *Policy {
	f, err := Parse("test.policy", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	p, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestNaive compares the evaluator with the language's meaning, asked twice so that the cache answers too.
func TestNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := mustCompile(t, drawPolicy.Draw(t, "policy"))
		id := drawIdentity.Draw(t, "identity")
		perms := p.For(id)
		for range 10 {
			r := drawRequest.Draw(t, "request")
			want := naive(p.file, id, r)
			for _, asked := range []string{"first", "second"} {
				if got := perms.Check(r); got.Allowed != want || got.Allowed && got.Rule == nil {
					t.Fatalf("%s answer %+v, want %v", asked, got, want)
				}
			}
			if e := p.Explain(id, r); e.Allowed != want || e.Reason == "" || !want && e.Fix == "" {
				t.Fatalf("explained %+v, want %v", e, want)
			}
		}
	})
}

// TestDenyNeverGrants adds a denial to a policy.
func TestDenyNeverGrants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, id := drawPolicy.Draw(t, "policy"), drawIdentity.Draw(t, "identity")
		deny := "deny " + drawBody.Draw(t, "denial")
		before, after := mustCompile(t, text).For(id), mustCompile(t, text+"policy everybody {\n"+deny+"\n}\n").For(id)
		for range 4 {
			if r := drawRequest.Draw(t, "request"); after.Check(r).Allowed && !before.Check(r).Allowed {
				t.Fatalf("%s grants %+v", deny, r)
			}
		}
	})
}

// TestOrderSaysNothing turns the rules of a policy round.
func TestOrderSaysNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(drawRule, 2, 8).Draw(t, "rules")
		id := drawIdentity.Draw(t, "identity")
		one := mustCompile(t, "policy everybody {\n"+strings.Join(rules, "\n")+"\n}").For(id)
		turned := rapid.Permutation(rules).Draw(t, "turned")
		other := mustCompile(t, "policy everybody {\n"+strings.Join(turned, "\n")+"\n}").For(id)
		for range 4 {
			if r := drawRequest.Draw(t, "request"); one.Check(r).Allowed != other.Check(r).Allowed {
				t.Fatalf("%+v is answered otherwise", r)
			}
		}
	})
}

// TestFix follows the advice of an explanation: what it gives allows what was refused, and for this client.
func TestFix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, id := drawPolicy.Draw(t, "policy"), drawIdentity.Draw(t, "identity")
		p := mustCompile(t, text)
		for range 4 {
			r := drawRequest.Draw(t, "request")
			e := p.Explain(id, r)
			fix, _, _ := strings.Cut(e.Fix, ", or put")
			if in, ok := strings.CutPrefix(fix, "in policy "); ok {
				group, line, _ := strings.Cut(in, ": ")
				fix = "policy " + group + " {\n" + line + "\n}"
			} else if !strings.HasPrefix(fix, "group ") {
				continue
			}
			if e.Rule != nil {
				continue
			}
			if after := mustCompile(t, text+fix); !after.For(id).Check(r).Allowed {
				t.Fatalf("%v is refused with %q: %v", r, fix, after.Explain(id, r))
			}
		}
	})
}

// Who hears is told to may receive all that comes by a subscription that is allowed.
func TestHears(t *testing.T) {
	heard := 0
	rapid.Check(t, func(t *rapid.T) {
		p := mustCompile(t, drawPolicy.Draw(t, "policy"))
		perms := p.For(drawIdentity.Draw(t, "identity"))
		if !perms.Hears() {
			return
		}
		for range 20 {
			r := drawRequest.Draw(t, "request")
			if strings.ContainsAny(r.Topic, "+#") {
				continue
			}
			filter := drawFilter(rapid.SampledFrom([]string{"a", "b", "$x", "+", "+"}), 3).Draw(t, "filter")
			if rapid.Bool().Draw(t, "exact") {
				filter = r.Topic
			}
			if !topic.Match(filter, r.Topic) || !perms.May(auth.Subscribe, filter, uint8(rapid.IntRange(0, 2).Draw(t, "granted")), false) {
				continue
			}
			heard++
			if !perms.May(auth.Receive, r.Topic, r.QoS, r.Retain) {
				t.Fatalf("%q may not be received by %q", r.Topic, filter)
			}
		}
	})
	if heard == 0 {
		t.Error("nothing was tried")
	}
}
