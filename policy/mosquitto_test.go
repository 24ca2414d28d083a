package policy

import (
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth"
)

const acl = `# anonymous
topic read anon/#
topic   write  sp ace/x
topic deny anon/secret/#
topic trail/x  
topic $SYS/broker/version
topic read w/+
user bob
  topic readwrite bob/#
topic read pats/x
topic deny bob/no
user al ice
topic write alice/#
pattern write dev/%c/data
pattern read dev/%c/#
pattern deny pats/#
pattern readwrite mid/x%cy/z
pattern write u/%u/z
pattern readwrite nop/#
user bob
topic read bob2/#
`

func compileACL(t testing.TB, text string) *Policy {
	t.Helper()
	f, err := ParseMosquitto("acl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMosquitto has the answers of Mosquitto 2.0.11 with the same file.
func TestMosquitto(t *testing.T) {
	p := compileACL(t, acl)
	for _, c := range []struct {
		client, user, topic string
		want                bool
	}{
		{"c1", "", "anon/x", false}, {"c1", "", "sp ace/x", true}, {"c1", "", "trail/x", true}, {"c1", "", "trail/x  ", false},
		{"c1", "", "dev/c1/data", true}, {"c1", "", "mid/xc1y/z", true}, {"c1", "", "u//z", false}, {"c1", "", "nop/a", true},
		{"c+", "", "nop/a", false}, {"c#", "bob", "bob/x", true}, {"c+", "bob", "nop/x", false}, {"c1", "bob", "bob/x", true},
		{"c1", "bob", "bob/no", false}, {"c1", "bob", "u/bob/z", true}, {"c1", "al ice", "alice/x", true},
		{"c1", "carol", "trail/x", false}, {"c1", "carol", "nop/x", true}, {"c1", "bob", "pats/x", false},
		// There a name with a slash reaches into another level; here it matches nothing.
		{"c1", "x/y", "u/x/y/z", false}, {"a/b", "", "dev/a/b/data", false},
	} {
		perms := p.For(Identity{Name: c.user, Method: "password", ClientID: c.client})
		if got := perms.May(auth.Publish, c.topic, 1, false); got != c.want {
			t.Errorf("%s as %q publishes %q: %v", c.client, c.user, c.topic, got)
		}
		for _, f := range []string{"anon/#", "#", "zzz", "anon/secret/#", "$SYS/#", "$share/g/#"} {
			if !perms.May(auth.Subscribe, f, 1, false) {
				t.Errorf("%s may not subscribe to %q", c.client, f)
			}
		}
	}
	for line, want := range map[string]bool{
		"bob bob/x": true, "bob bob2/x": true, "bob pats/x": true, "bob dev/c1/x": true, "bob $SYS/broker/version": false, "bob bob/no": false,
		" anon/x": true, " anon/secret/x": false, " $SYS/broker/version": true, " w/x": true, " sp": false, "bob pats/y": false, "carol pats/x": false,
	} {
		name, topic, _ := strings.Cut(line, " ")
		if got := p.For(Identity{Name: name, ClientID: "c1"}).May(auth.Receive, topic, 1, true); got != want {
			t.Errorf("%s receives: %v", line, got)
		}
	}
	if e := p.Explain(user("bob"), Request{Action: auth.Publish, Topic: "pats/x"}); !strings.Contains(e.String(), "acl:16: pattern deny pats/#") {
		t.Error(e)
	}
	if e := p.Explain(user("carol"), Request{Action: auth.Publish, Topic: "bob/x"}); !strings.Contains(e.Fix, `"topic write bob/x" below "user carol"`) {
		t.Error(e)
	}
	nobody := Identity{Name: "carol", Method: "password"}
	if e := p.Explain(nobody, Request{Action: auth.Publish, Topic: "dev/c1/data"}); !strings.Contains(e.Reason, "where %c has no value for this client") {
		t.Error(e)
	}
	if string(Format(p.File())) != acl {
		t.Error("an ACL file is written otherwise")
	}
}

func TestMosquittoMistakes(t *testing.T) {
	_, err := ParseMosquitto("acl", []byte("topic\nuser \ntopics x\ntopic rw a b\ntopic read a/#/b\n  patterns read x\n   pattern read a%u/#b\ntopic deny \n"))
	want := `acl:1:6: a line without a topic
acl:2:5: a user line without a name
acl:3:1: no line of an ACL file: "topics"
acl:4:10: no kind of access: "rw"
acl:5:12: the topic has a # that is not alone in the last level
acl:6:3: no line of an ACL file: "patterns"
acl:7:17: the topic has a # that is not alone in the last level`
	var got []string
	for l := range strings.SplitSeq(err.Error(), "\n") {
		got = append(got, l[:strings.Index(l+"; ", "; ")])
	}
	if strings.Join(got, "\n") != want {
		t.Error(err)
	}
}

// What is said of an ACL file is said in its own words.
func TestMosquittoExplain(t *testing.T) {
	p := compileACL(t, "user alice\ntopic read x/#\npattern write own/%c\npattern read mine/%u/#\n")
	for _, c := range []struct {
		id   Identity
		asks string
		want string
	}{
		{user("alice"), "subscribe x/y", `ALLOW: an ACL file lets everybody subscribe "x/y", and decides what is delivered`},
		{user("alice"), "receive x/y", `ALLOW: acl:2: topic read x/# allows to receive "x/y"`},
		{Identity{Name: "alice"}, "publish own/c", `DENY: no rule allows to publish "own/c"; the nearest is acl:3: pattern write own/%c, where %c has no value for this client; to allow it: "topic write own/c" below "user alice"`},
		{user("alice"), "receive mine/al", `DENY: no rule allows to receive "mine/al"; the nearest is acl:4: pattern read mine/%u/#, which is "mine/alice/#" here; to allow it: "topic read mine/al" below "user alice"`},
		{Identity{}, "receive mine/x", `DENY: no rule allows to receive "mine/x"; the nearest is acl:4: pattern read mine/%u/#, where %u has no value for this client; to allow it: "topic read mine/x" before the first user line`},
	} {
		if got := p.Explain(c.id, ask(t, c.asks)).String(); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.asks, got, c.want)
		}
	}
}
