package policy

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sealmq/sealmq/auth"
	"pgregory.net/rapid"
)

// sections cuts a file at lines of ==== into cases, and each at ---- into input and expectation.
func sections(t *testing.T, path string) (cases [][2]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for c := range strings.SplitSeq(string(text), "====\n") {
		in, want, ok := strings.Cut(c, "----\n")
		if !ok {
			t.Fatalf("%s: a case without ----: %q", path, c)
		}
		cases = append(cases, [2]string{in, want})
	}
	return cases
}

func TestMistakes(t *testing.T) {
	for _, c := range sections(t, "testdata/mistakes.txt") {
		_, err := Parse("p", []byte(c[0]))
		got := "none"
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(strings.TrimSpace(c[1]), got); diff != "" {
			t.Errorf("in\n%s%s", c[0], diff)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range sections(t, "testdata/format.txt") {
		f, err := Parse("p", []byte(c[0]))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(c[1], string(Format(f))); diff != "" {
			t.Errorf("of\n%s%s", c[0], diff)
		}
		again(t, f)
	}
	f, err := Parse("p", []byte(Starter()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Starter(), string(Format(f))); diff != "" {
		t.Errorf("the starter policy is not in its canonical form: %s", diff)
	}
}

// again checks that what Format writes is read as the same, and written as the same.
func again(t interface{ Fatalf(string, ...any) }, f *File) {
	out := Format(f)
	g, err := Parse(f.Name, out)
	if err != nil {
		t.Fatalf("Format wrote what cannot be read: %v\n%s", err, out)
	}
	if twice := Format(g); !bytes.Equal(twice, out) {
		t.Fatalf("formatted again it is another:\n%s\n%s", out, twice)
	}
	if a, b := meaning(f), meaning(g); a != b {
		t.Fatalf("formatted it means something else:\n%s\n%s", a, b)
	}
}

// meaning is all of a file but comments and places.
func meaning(f *File) string {
	var b strings.Builder
	for _, d := range f.Decls {
		switch {
		case d.Group != nil:
			b.WriteString("group " + d.Group.Name + " " + d.Group.Expr.String() + "\n")
		case d.Bind != nil:
			b.WriteString("bind " + strings.Join(d.Bind.Patterns, "|") + "\n")
		case d.Tell != nil:
			b.WriteString("tell " + strings.Join(d.Tell, ",") + "\n")
		case d.Assert != nil:
			b.WriteString(d.Assert.Text() + "\n")
		case d.Policy != nil:
			b.WriteString("policy " + strings.Join(d.Policy.Groups, ",") + " " + d.Policy.Title + "\n")
			for _, r := range d.Policy.Rules {
				b.WriteString(r.Text() + "\n")
			}
		}
	}
	return b.String()
}

func TestBounds(t *testing.T) {
	if _, err := Parse("p", bytes.Repeat([]byte(" "), MaxSize+1)); err == nil {
		t.Error("a file beyond the bound is read")
	}
	many := "policy everybody {\n" + strings.Repeat("deny receive a\n", MaxRules/2)
	if len(many) > MaxSize {
		many = many[:strings.LastIndexByte(many[:MaxSize-2], '\n')+1]
	}
	if _, err := Parse("p", []byte(many+"}")); err != nil {
		t.Error(err)
	}
	acl := []byte(strings.Repeat("topic a\n", MaxRules+1))
	if _, err := ParseMosquitto("p", acl); err == nil {
		t.Error("an ACL file with too many rules is read")
	}
	if _, err := ParseMosquitto("p", acl[:len(acl)-len("topic a\n")]); err != nil {
		t.Error(err)
	}
	_, err := Parse("p", []byte(strings.Repeat("x\n", 1000)))
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors {
		t.Errorf("%d mistakes of a thousand", len(all))
	}
	var one *Error
	if !errors.As(err, &one) || one.Advice == "" || one.Pos != (Pos{1, 1}) {
		t.Errorf("the first is %v", one)
	}
	_, err = Parse("p", []byte("# mine\nuser alice\ntopic read a/#\npattern write b/%u\n"))
	if want := "p:2:1: a line of an ACL file of Mosquitto; have it read as one: acl_file in place of policy, --mosquitto with a command"; err == nil || err.Error() != want {
		t.Errorf("an ACL file: %v", err)
	}
	_, err = Parse("p", []byte("group g { "+strings.Repeat("(", 100_000)+" }"))
	if err == nil || !strings.Contains(err.Error(), "parentheses") {
		t.Errorf("deep parentheses: %v", err)
	}
}

// TestWord reads again what the formatter writes of any word.
func TestWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-z ${}"\\#+/=<>!,()\[\]]{1,12}`).Draw(t, "word")
		l := newLexer(word(s, true) + " x")
		if got := l.filter(); got.text != s || got.kind == tokWord && !balanced(s) {
			t.Fatalf("filter %q is read as %q", word(s, true), got.text)
		}
		l = newLexer(word(s, false) + " x")
		if got := l.next(); got.text != s {
			t.Fatalf("word %q is read as %q", word(s, false), got.text)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Starter()))
	f.Add([]byte(model))
	for _, path := range []string{"testdata/mistakes.txt", "testdata/format.txt"} {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for c := range strings.SplitSeq(string(text), "====\n") {
			in, _, _ := strings.Cut(c, "----\n")
			f.Add([]byte(in))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("p", text)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("not Errors: %v", err)
			}
			for _, e := range all {
				if e.Pos.Line < 1 || e.Pos.Column < 1 {
					t.Fatalf("nowhere: %v", e)
				}
			}
			return
		}
		again(t, file)
		sound(t, file)
	})
}

func FuzzParseMosquitto(f *testing.F) {
	f.Add([]byte(acl))
	f.Add([]byte("user x\npattern %u%c%\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if file, err := ParseMosquitto("p", text); err == nil {
			sound(t, file)
		}
	})
}

// sound asks all that can be asked of a policy, and checks that the answers agree.
func sound(t *testing.T, file *File) {
	p, err := Compile(file)
	if err != nil {
		t.Fatalf("parsed and not compiled: %v", err)
	}
	p.Lint()
	p.Test()
	ann := user("ann")
	ann.Groups = []string{"g", "+"}
	for _, id := range []Identity{device("d"), ann, user("a+"), {}} {
		perms := p.For(id)
		for _, r := range p.Rules()[:min(len(p.Rules()), 20)] {
			for a := auth.Publish; a <= auth.Receive; a++ {
				q := Request{Action: a, Topic: r.Filter, Size: 5, Time: time.Unix(1e9, 0)}
				d, e := p.For(id).Check(q), p.Explain(id, q)
				if p.Admit(id) == nil && (d.Allowed != e.Allowed || d.Rule != e.Rule) {
					t.Fatalf("%+v is explained as %v", d, e)
				}
				if perms.May(a, r.Filter, 0, false) && !p.For(id).Check(Request{Action: a, Topic: r.Filter, Size: 1 << 20}).Allowed && !p.timed() {
					t.Fatal("May allows what Check does not")
				}
			}
		}
	}
}

// timed reports whether a rule depends on the time or a rate, so that two questions may have two answers.
func (p *Policy) timed() bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool { return r.when.timed() || r.when.every > 0 })
}

// FuzzDecide asks with any name, group and topic: nothing panics, the cache and the explanation agree, and a name opens no
// topic that it is not in.
func FuzzDecide(f *testing.F) {
	f.Add("ann", "g", "home/ann/x", uint8(1), uint8(0))
	f.Add("+", "#", "$share/g/home/+/#", uint8(2), uint8(1))
	f.Add("$SYS", "a/b", "$SYS/#", uint8(3), uint8(7))
	p := compile(f, `policy everybody {
		allow publish,subscribe home/${user}/#
		allow publish,subscribe ${user}
		allow publish,subscribe in/a${group}b/${group}/+
		deny  publish home/${user}/x${group}
	}`)
	f.Fuzz(func(t *testing.T, name, group, topic string, action, qos uint8) {
		id := Identity{Name: name, Method: "password", ClientID: "c", Groups: []string{group}}
		r := Request{Action: auth.Action(action % 5), Topic: topic, QoS: qos}
		perms := p.For(id)
		first, second, e := perms.Check(r), perms.Check(r), p.Explain(id, r)
		if first != second || first.Allowed != e.Allowed || first.Rule != e.Rule || perms.May(r.Action, topic, qos, false) != first.Allowed {
			t.Fatalf("%v, then %v, explained %v", first, second, e)
		}
		if first.Allowed && !strings.Contains(topic, name) && !strings.Contains(topic, group) {
			t.Fatalf("%q in %q may %v", name, group, r)
		}
	})
}
