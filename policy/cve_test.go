package policy

import (
	"slices"
	"testing"

	"github.com/sealmq/sealmq/auth"
)

// The ways in which the permissions of other brokers were got round, as far as a policy decides them; each test has the name
// of its report.

// Names with wildcards widen what a pattern allows.
func TestCVE_2017_7650(t *testing.T) {
	p := compile(t, "policy everybody { allow publish,subscribe dt/${user}/#\n allow publish,subscribe c/${client_id}/#\n deny publish no/${user}\n allow publish no/# }")
	a := compileACL(t, "pattern readwrite dt/%u/#\npattern readwrite c/%c/#\n")
	for _, name := range []string{"+", "#", "+/+", "a/#", "a/b", "$SYS", "x\x00", "x\n", ""} {
		id := Identity{Name: name, Method: "password", ClientID: name, Proven: true}
		check(t, p, id, nil, []string{"publish dt/x/y", "publish c/x/y", "subscribe dt/+/#", "subscribe dt/#", "subscribe c/+/x", "receive dt/x/y", "receive c/x/y"})
		for _, topic := range []string{"dt/x/y", "c/x/y", "dt/a/b", "dt/a/b/c"} {
			if perms := a.For(id); perms.May(auth.Publish, topic, 0, false) || perms.May(auth.Receive, topic, 0, false) {
				t.Errorf("by an ACL file %q reaches %s", name, topic)
			}
		}
		if bad := p.For(id).Unusable(); name != "" && !slices.Equal(bad, []string{"${user}", "${client_id}"}) {
			t.Errorf("of %q unusable: %v", name, bad)
		}
		if name != "" && p.For(id).May(auth.Publish, "no/x", 0, false) {
			t.Errorf("%q is not denied what a denial could mean", name)
		}
	}
	root := compile(t, "policy everybody { allow publish,subscribe ${user}/# }")
	check(t, root, user("$SYS"), nil, []string{"subscribe $SYS/#", "receive $SYS/x", "publish $SYS/x"})
}

// An empty file allows everything.
func TestCVE_2018_12550(t *testing.T) {
	for _, p := range []*Policy{compile(t, ""), compile(t, "# nothing\n"), compile(t, "policy everybody {}"), compileACL(t, ""), compileACL(t, "# x\n")} {
		for _, id := range []Identity{{}, user("ann"), device("d"), {Name: "op", Kind: "operator"}} {
			check(t, p, id, nil, []string{"publish a", "receive a", "publish $SYS/x", "receive $pki/x"})
			if !p.file.mosquitto {
				check(t, p, id, nil, []string{"subscribe a", "subscribe #"})
			}
		}
	}
}

// What was retained, or subscribed to, outlives the permission.
func TestCVE_2018_12546_CVE_2021_34434(t *testing.T) {
	live := NewLive(compile(t, "policy everybody { allow publish,subscribe a/# }"))
	perms := live.For(user("ann"))
	for _, a := range []auth.Action{auth.Publish, auth.Subscribe, auth.Receive} {
		if !perms.May(a, "a/x", 1, true) {
			t.Fatal("not allowed at first")
		}
	}
	live.Swap(compile(t, "policy everybody { allow publish,subscribe a/#\n deny publish,subscribe a/x }"))
	for _, a := range []auth.Action{auth.Publish, auth.Subscribe, auth.Receive} {
		if perms.May(a, "a/x", 1, true) {
			t.Errorf("%s is still allowed", a.String())
		}
	}
}

// A denial does not hold for what is replayed to a wildcard subscription.
func TestGHSA_7qmq_8cc4_hxwg(t *testing.T) {
	p := compile(t, "policy everybody { allow subscribe dt/#\n deny subscribe dt/secret/#\n deny receive dt/+/key }")
	check(t, p, user("ann"), []string{"subscribe dt/#", "subscribe dt/+/key", "receive dt/x retain=yes"}, []string{
		"receive dt/secret/x", "receive dt/secret/x retain=yes qos=2", "receive dt/secret", "receive dt/a/key retain=yes",
		"subscribe dt/secret/#", "subscribe dt/secret/x",
	})
}

// A shared subscription gets round a denial.
func TestGHSA_jx8g_9g95_6322(t *testing.T) {
	p := compile(t, "policy everybody { allow subscribe dt/#\n deny subscribe dt/secret/# }")
	check(t, p, user("ann"), []string{"subscribe $share/g/dt/#"}, []string{"subscribe $share/g/dt/secret/#", "subscribe $share/dt/secret/x", "subscribe $share/g/#"})
}

// Topics that begin with $ are not covered by what is said of all topics: neither may be granted by it.
func TestCVE_2026_33217(t *testing.T) {
	p := compile(t, "policy everybody { allow publish,subscribe,receive #\n allow publish,subscribe,receive +/# }")
	for _, name := range []string{"$MQTT/sub", "$SYS/x", "$CONTROL/dynamic-security/v1", "$pki/enroll/x/request", "$share", "$", "$/", "$x"} {
		check(t, p, user("ann"), nil, []string{"publish " + name, "subscribe " + name, "receive " + name, "subscribe " + name + "/#"})
	}
	if a := compileACL(t, "topic readwrite #\n").For(Identity{}); a.May(auth.Publish, "$CONTROL/x", 0, false) || a.May(auth.Receive, "$SYS/x", 0, false) {
		t.Error("topic # of an ACL file is $ topics as well")
	}
}

// A distinguished name is compared as one string, so that one of its parts can pretend to be another.
func TestCVE_2026_33248(t *testing.T) {
	p := compile(t, `group sensors { cert.ou = sensors cert.o = acme } policy sensors { allow publish a }`)
	for _, c := range []Cert{
		{CN: "x,OU=sensors,O=acme"}, {CN: "sensors", O: []string{"acme"}}, {OU: []string{"sensors,O=acme"}}, {OU: []string{"acme"}, O: []string{"sensors"}},
		{OU: []string{"sensors*"}, O: []string{"acme"}}, {OU: []string{"sensors\x00x"}, O: []string{"acme"}},
	} {
		id := device("d")
		id.Cert = c
		check(t, p, id, nil, []string{"publish a"})
	}
	id := device("d")
	id.Cert = Cert{OU: []string{"other", "sensors"}, O: []string{"acme"}}
	check(t, p, id, []string{"publish a"}, nil)
}
