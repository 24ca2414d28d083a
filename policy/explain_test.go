package policy

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/auth"
)

const explained = `group sensors { cert.ou = sensors }
group ops { user = [alice, bob] }
bind client_id = ${device} or ${device}/*
policy sensors {
  allow publish dt/${device}/# qos<=1 size<=16KiB
  allow subscribe cmd/${device}/#
  deny publish dt/+/secret
  allow publish here listener=factory
  allow publish day days=mon
}
policy ops { allow subscribe dt/# }
policy everybody { allow publish in/${client_id} }
`

// The advice is for the client alone, not for everybody, and not to belong to a group that nobody can be put into.
func TestAdviceIsNarrow(t *testing.T) {
	p := compile(t, Starter())
	for _, c := range []struct {
		id   Identity
		want string
	}{
		{user("zoe"), "group new { user = zoe } policy new { allow publish home/${user}/x }"},
		{Identity{Method: "anonymous"}, "in policy anonymous: allow publish $SYS/zoe"},
		{device("zoe"), "in policy devices: allow publish home/${device}/x"},
	} {
		topic := "home/zoe/x"
		if c.id.Name == "" {
			topic = "$SYS/zoe"
		}
		if e := p.Explain(c.id, Request{Action: auth.Publish, Topic: topic}); e.Fix != c.want {
			t.Errorf("%s is advised: %s", client(&c.id), e.Fix)
		}
	}
}

// A client learns why if it is in a group that the policy tells, and nothing of what is allowed.
func TestTell(t *testing.T) {
	p := compile(t, "group a { user = alice }\ngroup b { user = bob }\npolicy a, b { allow publish x }\ntell b")
	for _, c := range []struct{ user, ask, want string }{
		{"alice", "publish y", ""},
		{"bob", "publish y", `DENY: no rule allows to publish "y"; the nearest is test.policy:3: allow publish x, which is "x" here; to allow it: in policy b: allow publish y`},
		{"bob", "publish x", ""},
		{"carol", "publish y", ""},
	} {
		r := ask(t, c.ask)
		if got := p.For(user(c.user)).Why(r.Action, r.Topic, r.QoS, r.Retain, r.Size); got != c.want {
			t.Errorf("%s, who may not %s, is told %q", c.user, c.ask, got)
		}
	}
}

func TestExplain(t *testing.T) {
	p := compile(t, explained)
	sensor := device("pump-17")
	sensor.Cert.OU = []string{"sensors"}
	stranger := user("eve")
	bad := user("a/b")
	renamed := sensor
	renamed.ClientID = "pump-18"
	for _, c := range []struct {
		id        Identity
		ask, want string
	}{
		{sensor, "subscribe cmd/pump-17/x", `ALLOW: test.policy:6: allow subscribe cmd/${device}/# allows to subscribe "cmd/pump-17/x"`},
		{sensor, "subscribe dt/#", `DENY: no rule allows to subscribe "dt/#"; the nearest is test.policy:6: allow subscribe cmd/${device}/#, which is "cmd/pump-17/#" here; to allow it: in policy sensors: allow subscribe dt/#`},
		{sensor, "publish cmd/pump-17/x", `DENY: no rule allows to publish "cmd/pump-17/x"; the nearest is test.policy:5: allow publish dt/${device}/# qos<=1 size<=16KiB, which is "dt/pump-17/#" here; to allow it: in policy sensors: allow publish cmd/${device}/x`},
		{sensor, "publish dt/pump-17/secret", `DENY: test.policy:7: deny publish dt/+/secret denies to publish "dt/pump-17/secret"; to allow it: narrow or remove test.policy:7; nothing else overrides a denial`},
		{sensor, "publish dt/pump-17/x qos=2", `DENY: test.policy:5: allow publish dt/${device}/# qos<=1 size<=16KiB would allow to publish "dt/pump-17/x", but not with QoS 2; to allow it: change qos in test.policy:5, or the request`},
		{sensor, "publish dt/pump-17/x size=17000", `DENY: test.policy:5: allow publish dt/${device}/# qos<=1 size<=16KiB would allow to publish "dt/pump-17/x", but not with 17000 bytes; to allow it: change size in test.policy:5, or the request`},
		{sensor, "publish here", `DENY: test.policy:8: allow publish here listener=factory would allow to publish "here", but not without listener; to allow it: change listener in test.policy:8, or the request`},
		{sensor, "publish day time=2026-01-06T10:00:00Z", `DENY: test.policy:9: allow publish day days=mon would allow to publish "day", but not on Tue 10:00 UTC; to allow it: change time in test.policy:9, or the request`},
		{stranger, "subscribe dt/x", `DENY: test.policy:11: allow subscribe dt/# would allow to subscribe "dt/x", but user "eve" is not in group ops; to allow it: group new { user = eve } policy new { allow subscribe dt/x }, or put the client into the group`},
		{stranger, "publish in/c", `DENY: no rule allows to publish "in/c"; the nearest is test.policy:12: allow publish in/${client_id}, which is "in/${client_id}" here, where ${client_id} has no value, since no bind line proves the client identifier; to allow it: group new { user = eve } policy new { allow publish in/c }`},
		{bad, "subscribe $share/g/x/a/b", `DENY: no rule allows this client to subscribe at all; to allow it: group new { user = a/b } policy new { allow subscribe x/a/b }`},
		{Identity{}, "subscribe dt/x", `DENY: test.policy:11: allow subscribe dt/# would allow to subscribe "dt/x", but an anonymous client is not in group ops; to allow it: in policy everybody: allow subscribe dt/x, or put the client into the group`},
		{renamed, "publish dt/pump-17/x", `DENY: client identifier "pump-18" is not one of "pump-17" (test.policy:3); to allow it: use such a client identifier`},
		{sensor, "publish dt/#", `DENY: the topic contains a wildcard; to allow it: ask for a valid one`},
	} {
		if diff := cmp.Diff(c.want, p.Explain(c.id, ask(t, c.ask)).String()); diff != "" {
			t.Errorf("%s %s: %s", c.id.Name, c.ask, diff)
		}
	}
	limited := compile(t, "policy everybody { allow publish a rate<=1/h }")
	for range 3 {
		if e := limited.Explain(Identity{}, ask(t, "publish a")); !e.Allowed {
			t.Error("to explain uses up the rate")
		}
	}
	if e := compile(t, "policy everybody { allow publish x/#\n deny publish x/${user} }").Explain(bad, ask(t, "publish x/y")); !strings.Contains(e.Reason, "must not stand in a topic") {
		t.Error(e)
	}
}

func TestAsserts(t *testing.T) {
	p := compile(t, explained+`
assert allow { device = pump-17 cert.ou = sensors } publish dt/pump-17/x qos=1 size=16KiB
assert deny  { device = pump-17 cert.ou = sensors } publish dt/pump-17/x qos=2
assert allow { device = pump-17 cert.ou = sensors client_id = pump-18 } publish dt/pump-17/x
assert deny  { user = alice } subscribe $share/g/dt/#
assert allow { user = alice address = 10.0.0.1 tls = 1.3 transport = ws jwt.a = [b, c] } subscribe dt/#
`)
	var got []string
	for _, f := range p.Test() {
		got = append(got, f.Error())
	}
	want := []string{
		`test.policy:16: assert allow { device = pump-17 cert.ou = sensors client_id = pump-18 } publish dt/pump-17/x: DENY: client identifier "pump-18" is not one of "pump-17" (test.policy:3); to allow it: use such a client identifier`,
		`test.policy:17: assert deny { user = alice } subscribe $share/g/dt/#: ALLOW: test.policy:11: allow subscribe dt/# allows to subscribe "$share/g/dt/#"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseIdentity(t *testing.T) {
	id, err := ParseIdentity(`device = pump-17 cert.ou = [sensors, "a b"] and tls = 1.3 client_id = pump-17/x`)
	want := Identity{Name: "pump-17", Kind: "device", Method: "certificate", ClientID: "pump-17/x", Proven: true, Cert: Cert{OU: []string{"sensors", "a b"}}, TLS: tls.VersionTLS13}
	if diff := cmp.Diff(want, id, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, text := range []string{"device", "device =", "device = x }", "colour = red", "and", "\x00"} {
		if _, err := ParseIdentity(text); err == nil {
			t.Errorf("%q is a client", text)
		}
	}
	if id, err := ParseIdentity(""); err != nil || id.Name != "" {
		t.Errorf("nobody: %v, %v", id, err)
	}
}

func TestLint(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{explained, ""},
		{"", "test.policy:1: there is no rule"},
		{"policy everybody {\nallow publish a/#\nallow publish a/b\n}", `:3: "allow publish a/b" has no effect: test.policy:2`},
		{"policy everybody {\nallow publish a/b\nallow publish a/#\n}", `:2: "allow publish a/b" has no effect: test.policy:3`},
		{"policy everybody {\nallow publish a\nallow publish a\n}", ":3: "},
		{"policy everybody {\nallow publish a/${device}\nallow publish a/+\n}", `:2: "allow publish a/${device}" has no effect`},
		{"policy everybody {\nallow publish a/+\nallow publish ${device}/x\n allow publish +/x }", `:3: "allow publish ${device}/x" has no effect`},
		{"policy everybody {\nallow publish a/# qos=1\nallow publish a/b\n}", ""},
		{"policy everybody {\nallow publish a/# qos<=1\nallow publish a/b qos=0\n}", ":3: "},
		{"policy everybody {\nallow publish a/# size<=9\nallow publish a/b size<9\n}", ":3: "},
		{"policy everybody {\nallow publish a/b rate<=1/s\nallow publish a/#\n}", `:2: the rate of "allow publish a/b rate<=1/s" has no effect`},
		{"policy everybody {\nallow publish a/b\ndeny publish a/#\n}", `:2: "allow publish a/b" never allows anything: test.policy:3`},
		{"policy everybody {\nallow publish a/b\ndeny publish a/# days=mon\n}", ""},
		{"policy everybody {\nallow publish $SYS/x\ndeny publish +/x\n}", `:2: "allow publish $SYS/x": the broker alone`},
		{"policy everybody {\nallow subscribe a/#\nallow receive a/b qos=1\n}", ":3: "},
		{"policy everybody {\nallow subscribe a/b\nallow receive a/#\n}", ""},
		{"policy everybody {\nallow publish,subscribe a/b\nallow publish a/#\n}", ""},
		{"group g { user = x }\npolicy g {\nallow publish a\n}\npolicy everybody { allow publish a }", ":3: "},
		{"group g { user = x }\npolicy everybody {\nallow publish a\n}\npolicy g { allow publish a }", ":5: "},
		{"group g { user = x }\ngroup h { user = y }\npolicy g { allow publish a }\npolicy h { allow publish a }", ""},
		{"policy everybody {\nallow subscribe #\n}", `:2: "allow subscribe #" is for all clients`},
		{"group g { user = x }\npolicy g { allow subscribe # }", ""},
		{"policy everybody { allow publish $SYS/x/# }", "the broker alone publishes there"},
		{"policy everybody { allow publish $pki/# }", "asking for certificates"},
		{"policy everybody { allow publish $pki/renew/request }", ""},
		{"policy everybody { allow publish a/${client_id} }", "without a bind line"},
		{"bind client_id = ${user}.*\npolicy everybody { allow publish a/${client_id} }", ""},
		{"group g { user = x and tls >= 1.2 }\npolicy g { allow publish a/${device} }", "${device} has no value for a user"},
		{"group g { kind = device }\npolicy g { allow publish a/${user} }", "${user} has no value for a device"},
		{"group g { kind = operator or user != x }\npolicy g { allow publish a/${device} }", ""},
		{"group g { user = x }\npolicy everybody { allow publish a }", ":1: no policy is for group g"},
	} {
		found := slices.DeleteFunc(compile(t, c.text).Lint(), renewal)
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%s\nfound %v", c.text, found)
		case c.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), c.want)):
			t.Errorf("%s\nfound %v", c.text, found)
		}
	}
	var all []string
	for _, f := range compileACL(t, "topic read #\npattern read a/%c\npattern read b\npattern write %u/#\n").Lint() {
		all = append(all, f.String()[:6])
	}
	if !slices.Equal(all, []string{"acl:2:", "acl:3:"}) {
		t.Error(all)
	}
}

// renewal tells a finding about devices that cannot renew their certificates.
func renewal(f Finding) bool {
	return strings.HasPrefix(f.Text, "no rule lets devices publish $pki/renew/request")
}

func TestLintRenewal(t *testing.T) {
	for _, c := range []struct {
		text string
		line int // of the finding; 0: none
	}{
		{"group g { kind = device }\npolicy everybody { allow publish b }\npolicy g { allow publish a }", 3},
		{"group g { kind = operator }\npolicy everybody { allow publish ${device} }\npolicy g { allow publish $pki/renew/# }", 2},
		{"policy everybody { allow publish ${device}\ndeny publish $pki/renew/# }", 1},
		{"policy everybody { allow publish ${device}\nallow publish $pki/renew/+ }", 0},
		{"group g { kind = device and cert.ou = x }\npolicy g { allow publish ${device}\nallow publish $pki/# }", 0},
		{"group g { user = x }\npolicy g { allow publish a }", 0},
		{Starter(), 0},
	} {
		line := 0
		for _, f := range compile(t, c.text).Lint() {
			if renewal(f) {
				line = f.Pos.Line
			}
		}
		if line != c.line {
			t.Errorf("%s\nfound in line %d", c.text, line)
		}
	}
	if f := compileACL(t, "pattern write d/%u/#").Lint(); len(f) > 0 {
		t.Errorf("of an ACL file: %v", f)
	}
}

func TestLintBroad(t *testing.T) {
	for text, broad := range map[string]bool{
		"policy everybody { allow subscribe # }":                true,
		"policy everybody { allow publish a\nallow publish a }": false,
	} {
		if f := compile(t, text).Lint(); len(f) != 1 || f[0].Broad != broad {
			t.Errorf("%s: %+v", text, f)
		}
	}
	if f := compileACL(t, "pattern read b").Lint(); len(f) != 1 || !f[0].Broad {
		t.Errorf("a pattern for everybody: %+v", f)
	}
}

func TestDiff(t *testing.T) {
	older := compile(t, explained)
	text := strings.Replace(explained, "allow subscribe cmd/${device}/#", "allow subscribe cmd/${device}/+", 1)
	text = strings.Replace(text, "qos<=1 size<=16KiB", "qos<=2 size<=16KiB", 1)
	text = strings.Replace(text, "  deny publish dt/+/secret\n", "", 1)
	newer := compile(t, text)
	var clients []Identity
	for _, name := range []string{"a", "b", "c"} {
		id := device(name)
		id.Cert.OU = []string{"sensors"}
		clients = append(clients, id)
	}
	clients = append(clients, user("alice"), Identity{})
	var got []string
	for _, c := range Diff(older, newer, slices.Values(clients), nil) {
		got = append(got, c.String())
	}
	want := []string{
		`device "a" and 2 more may now publish "dt/a/x" with QoS 2 (by test.policy:5: allow publish dt/${device}/# qos<=2 size<=16KiB)`,
		`device "a" and 2 more may no longer subscribe "cmd/a/#" (not any more by test.policy:6: allow subscribe cmd/${device}/#)`,
		`device "a" and 2 more may no longer receive "cmd/a/x/y" (not any more by test.policy:6: allow subscribe cmd/${device}/#)`,
		`device "a" and 2 more may now publish "dt/a/secret" (by test.policy:5: allow publish dt/${device}/# qos<=2 size<=16KiB)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c := Diff(older, older, slices.Values(clients), nil); len(c) > 0 {
		t.Errorf("from itself: %v", c[0])
	}
	asked := Diff(older, newer, slices.Values(clients), []Request{ask(t, "publish dt/a/secret")})
	if len(asked) != 1 || asked[0].Clients != 1 || !asked[0].Allowed {
		t.Errorf("asked: %v", asked)
	}
	unbound := Diff(older, compile(t, strings.Replace(explained, "bind client_id = ${device} or ${device}/*\n", "bind client_id = ${device}/*\n", 1)), slices.Values(clients), nil)
	if len(unbound) != 1 || unbound[0].Clients != 3 || !strings.Contains(unbound[0].String(), `may no longer connect as "a"`) {
		t.Errorf("unbound: %v", unbound)
	}
}

// TestMeet compares what two filters have in common with the names that both match.
func TestMeet(t *testing.T) {
	filters := []string{"a", "a/b", "a/+", "+", "+/+", "#", "a/#", "+/b", "+/#", "a/+/c", "a/b/#", "+/b/+", "/", "/#", "$x/+", "$x/#"}
	all := names([]string{"a", "b", "c", "", "$x"}, 4)
	for _, a := range filters {
		for _, b := range filters {
			f, ok := meet(a, b)
			for _, n := range all {
				both := n != "" && naiveMatch(a, n) && naiveMatch(b, n)
				if got := ok && n != "" && naiveMatch(f, n); got && !both {
					t.Errorf("%s and %s meet in %s, which matches %s", a, b, f, n)
				} else if both && !ok {
					t.Errorf("%s and %s have %s in common", a, b, n)
				}
			}
		}
	}
}
