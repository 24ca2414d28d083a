package policy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

func device(name string) Identity {
	return Identity{Name: name, Kind: "device", Method: "certificate", ClientID: name, Proven: true}
}

func user(name string) Identity { return Identity{Name: name, Method: "password", ClientID: "c"} }

// a question in one line: publish TOPIC [qos N] [retain] [size N] [at RFC3339]
func ask(t testing.TB, line string) Request {
	t.Helper()
	f := strings.Fields(line)
	r := Request{Action: auth.Action(indexOf(actionNames[:], f[0])), Topic: f[1]}
	for _, c := range f[2:] {
		key, v, _ := strings.Cut(c, "=")
		if text, _ := r.set(Cond{key, "=", []string{v}}); text != "" {
			t.Fatal(text)
		}
	}
	return r
}

func check(t testing.TB, p *Policy, id Identity, yes, no []string) {
	t.Helper()
	perms := p.For(id)
	for _, line := range yes {
		if d := perms.Check(ask(t, line)); !d.Allowed {
			t.Errorf("%s may not %s: %v; %v", id.Name, line, d.Rule, p.Explain(id, ask(t, line)))
		}
	}
	for _, line := range no {
		if d := perms.Check(ask(t, line)); d.Allowed {
			t.Errorf("%s may %s by %v", id.Name, line, d.Rule)
		}
	}
}

const model = `
group sensors { cert.issuer = "device-ca"  cert.ou = "sensors" }
group ops     { user = ["alice", "bob"] or jwt.groups has "ops" }
bind client_id = ${device} or ${device}/*   # devices alone

policy sensors "own topics" {
  allow publish   dt/${device}/#    qos<=1 retain=no size<=16KiB rate<=20/s
  allow subscribe cmd/${device}/#
}
policy ops { allow publish cmd/+/#   allow subscribe dt/#   deny subscribe $SYS/#   deny subscribe dt/secret/# }
`

func TestModel(t *testing.T) {
	p := compile(t, model)
	pump := device("pump-17")
	pump.Cert = Cert{Issuer: "device-ca", OU: []string{"x", "sensors"}}
	check(t, p, pump, []string{
		"publish dt/pump-17", "publish dt/pump-17/temp qos=1", "publish dt/pump-17/a/b size=16384", "subscribe cmd/pump-17/#",
		"subscribe cmd/pump-17/+/x", "subscribe $share/g/cmd/pump-17/x", "receive cmd/pump-17/x qos=2 retain=yes",
	}, []string{
		"publish dt/pump-18/temp", "publish dt/pump-17/temp qos=2", "publish dt/pump-17/temp retain=yes", "publish dt/pump-17/x size=16385",
		"subscribe cmd/#", "subscribe cmd/+/x", "subscribe cmd/pump-1/#", "subscribe #", "receive cmd/pump-1/x", "publish cmd/pump-17/x",
		"subscribe $share/g/cmd/#", "receive dt/pump-17/temp",
	})
	other := device("pump-17")
	other.Cert = Cert{Issuer: "other", OU: []string{"sensors"}}
	check(t, p, other, nil, []string{"publish dt/pump-17/temp", "subscribe cmd/pump-17/#"})
	ops := []string{"publish cmd/x/on", "subscribe dt/#", "receive dt/x", "subscribe dt/+/secret"}
	not := []string{"subscribe $SYS/#", "receive dt/secret/x", "subscribe dt/secret/#", "subscribe dt/secret/x", "receive dt/secret", "subscribe #", "publish dt/x"}
	check(t, p, user("alice"), ops, not)
	token := user("carol")
	token.Claims = map[string][]string{"groups": {"dev", "ops"}}
	check(t, p, token, ops, not)
	check(t, p, user("carol"), nil, append(ops, not...))
	check(t, p, device("alice"), nil, append(ops, not...))
	check(t, p, Identity{}, nil, append(ops, not...))
}

func TestStarter(t *testing.T) {
	p := compile(t, Starter())
	for _, f := range p.Test() {
		t.Error(f)
	}
	if len(p.Lint()) > 0 {
		t.Error(p.Lint())
	}
	unsaid := Identity{Name: "pump-17", Method: "certificate"}
	for _, id := range []Identity{device("pump-17"), unsaid} {
		check(t, p, id, []string{
			"publish pump-17", "publish pump-17/temp qos=2 retain=yes", "subscribe pump-17/#", "publish $pki/renew/request",
			"subscribe $pki/renew/+", "subscribe $pki/cacerts", "publish $pki/cacerts/seen", "receive $pki/renew/advice",
		}, []string{"publish pump-1/temp", "subscribe #", "subscribe $SYS/#", "publish $pki/enroll/x/request", "subscribe +/temp"})
	}
	operator := Identity{Name: "alice", Kind: "operator", Method: "certificate"}
	check(t, p, operator, []string{"subscribe #", "subscribe $SYS/#", "publish a/b retain=yes", "receive pump-17/temp", "subscribe $share/g/+/x"}, nil)
	nothing := []string{"publish a", "subscribe a", "receive a", "publish pump-17/temp", "publish $pki/renew/request"}
	anyone := Identity{Method: "anonymous", ClientID: "pump-17"}
	check(t, p, anyone, []string{"publish a", "subscribe #"}, []string{"subscribe $SYS/#", "publish $pki/renew/request", "subscribe $pki/cacerts"})
	check(t, p, Identity{Name: "pump-17", Method: "password", ClientID: "pump-17"}, nil, nothing)
	check(t, p, Identity{Name: "pump-17", Kind: "claim", Method: "certificate"}, nil, nothing)
}

// TestContainment asks for every filter of up to four levels with a rule for every other one, and compares with the names
// that they match.
func TestContainment(t *testing.T) {
	depth := 4
	if testing.Short() || raceEnabled {
		depth = 3
	}
	var filters []string
	for _, f := range append(names([]string{"a", "b", "", "$x", "+"}, depth), "") {
		if f != "" {
			filters = append(filters, f)
		}
		if strings.Count(f, "/") < depth-1 && (f != "" || len(filters) > 0) {
			filters = append(filters, strings.TrimPrefix(f+"/#", "/"))
		}
	}
	var all []string
	for _, n := range names([]string{"a", "b", "", "$x", "z", "$z"}, depth+1) {
		if n != "" {
			all = append(all, n)
		}
	}
	split := make([][]string, len(all))
	for i, n := range all {
		split[i] = strings.Split(n, "/")
	}
	bits := make([][]uint64, len(filters))
	for i, f := range filters {
		bits[i] = make([]uint64, (len(all)+63)/64)
		levels := strings.Split(f, "/")
		for k, n := range split {
			if levelsMatch(levels, n) {
				bits[i][k/64] |= 1 << (k % 64)
			}
		}
	}
	for o, outer := range filters {
		p := compile(t, "policy everybody { allow subscribe "+word(outer, true)+"\n}")
		s := p.For(Identity{}).current()
		for i, inner := range filters {
			want := true
			for k, w := range bits[i] {
				if w&^bits[o][k] != 0 {
					want = false
					break
				}
			}
			q := question{topic: inner, action: auth.Subscribe, wild: true}
			var out outcome
			if s.ask(&q, &out); (out.allow != nil) != want {
				t.Fatalf("allow subscribe %s, subscribe %s: %v", outer, inner, !want)
			}
			if c := topic.Contains(outer, inner); c != want {
				t.Fatalf("topic.Contains(%q, %q) = %v", outer, inner, c)
			}
		}
	}
}

func TestConditions(t *testing.T) {
	p := compile(t, `policy everybody {
		allow publish net  address = 10.0.0.0/8
		allow publish net6 address = [2001:db8::/32, 192.0.2.7]
		allow publish off  address != 10.0.0.0/8
		allow publish tls  tls>=1.3
		allow publish old  tls<1.3
		allow publish plain tls=none
		allow publish here listener=["a", "b"]
		allow publish ws   transport=wss
		allow publish work time=08:00-18:00 days=mon-fri
		allow publish night time=22:00-06:00 days=fri zone=Europe/Berlin
		allow publish weekend days=[sat, sun]
		allow publish always time=00:00-24:00
		allow publish size size>2 size<=4
		deny  publish big/# size>1kB
		allow publish big/#
		allow publish,receive keep retain=yes
		deny  subscribe low qos>=1
		allow subscribe low
	}`)
	id := Identity{Address: netip.MustParseAddr("10.1.2.3"), TLS: tls.VersionTLS13, Listener: "b", Transport: "wss"}
	check(t, p, id, []string{
		"publish net", "publish tls", "publish here", "publish ws", "publish work time=2026-01-05T08:00:00Z", "publish work time=2026-01-09T17:59:00Z",
		"publish weekend time=2026-01-10T00:00:00Z", "publish night time=2026-01-09T21:30:00Z", "publish night time=2026-01-10T04:59:00Z",
		"publish always time=2026-01-09T23:59:59Z", "publish size size=3", "publish size size=4", "publish big/x size=1000", "publish keep retain=yes",
		"receive keep retain=yes", "subscribe low qos=0", "receive low qos=2",
	}, []string{
		"publish net6", "publish off", "publish old", "publish plain", "publish work time=2026-01-05T07:59:00Z", "publish work time=2026-01-05T18:00:00Z",
		"publish work time=2026-01-10T12:00:00Z", "publish weekend time=2026-01-09T23:00:00Z", "publish night time=2026-01-10T21:30:00Z",
		"publish night time=2026-01-09T04:00:00Z", "publish night time=2026-01-10T05:00:00Z", "publish size size=2", "publish size size=5",
		"publish big/x size=1001", "publish keep", "receive keep", "subscribe low qos=1", "subscribe low qos=2",
	})
	id = Identity{Address: netip.MustParseAddr("2001:db8::1"), Transport: "tcp"}
	check(t, p, id, []string{"publish net6", "publish off", "publish old", "publish plain"}, []string{"publish net", "publish tls", "publish here", "publish ws"})
	check(t, p, Identity{}, []string{"publish off"}, []string{"publish net", "publish net6"})
	perms := p.For(id)
	if perms.May(auth.Publish, "size", 0, false) || perms.May(auth.Publish, "big/x", 0, false) {
		t.Error("May allows what depends on a size that it does not know")
	}
}

func TestRate(t *testing.T) {
	p := compile(t, "policy everybody { allow publish a rate<=3/s\n allow publish free rate<=1/h\n allow publish free }")
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	p.now = func() time.Time { return now }
	perms := p.For(Identity{})
	may := func() bool { return perms.May(auth.Publish, "a", 0, false) }
	for i := range 3 {
		if !may() {
			t.Fatalf("message %d of 3 is too many", i+1)
		}
	}
	if d := perms.Check(Request{Action: auth.Publish, Topic: "a"}); !d.Limited() {
		t.Fatalf("the fourth message in no time: %+v", d)
	}
	now = now.Add(334 * time.Millisecond)
	if !may() || may() {
		t.Error("a third of a second is not one message")
	}
	now = now.Add(time.Hour)
	n := 0
	for may() {
		n++
	}
	if n != 3 {
		t.Errorf("%d messages at once after an hour", n)
	}
	for range 5 {
		if !perms.May(auth.Publish, "free", 0, false) {
			t.Error("a rule without rate does not allow")
		}
	}
	if ok, limited := perms.MayPublish("a", 0, false, 10); ok || !limited {
		t.Errorf("one too many: %v, limited: %v", ok, limited)
	}
	if ok, limited := perms.MayPublish("b", 0, false, 10); ok || limited {
		t.Errorf("what no rule allows: %v, limited: %v", ok, limited)
	}
	if !p.For(Identity{}).May(auth.Publish, "a", 0, false) {
		t.Error("clients share a rate")
	}
}

func TestGroupPlaceholder(t *testing.T) {
	p := compile(t, `policy everybody {
		allow publish   site/${group}/x
		allow subscribe both/${group}/and/${group}
		allow publish   r${group}d/#
		deny  publish   site/${group}/x/${user}
	}`)
	id := user("ann")
	id.Groups = []string{"north", "south", "", "e"}
	check(t, p, id, []string{"publish site/north/x", "publish site/south/x", "subscribe both/south/and/south", "publish red/y"},
		[]string{"publish site/east/x", "subscribe both/north/and/south", "publish site//x", "subscribe both/+/and/north", "publish rd/y"})
	check(t, p, user("ann"), nil, []string{"publish site//x", "publish site/${group}/x", "publish rd/y"})
}

func TestAdmit(t *testing.T) {
	p := compile(t, "bind client_id = ${device} or ${device}/*\nbind client_id = ${user}.*\npolicy everybody { allow publish c/${client_id} }")
	for _, c := range []struct {
		id Identity
		as string
		ok bool
	}{
		{device("pump"), "pump", true}, {device("pump"), "pump/1", true}, {device("pump"), "pump/", false}, {device("pump"), "pump2", false},
		{device("pump"), "", false}, {user("ann"), "ann.x", true}, {user("ann"), "ann", false}, {user("ann"), "annx", false},
		{user("a/b"), "a/b.x", false}, {Identity{}, "whatever", true}, {Identity{Name: "claim", Kind: "claim"}, "x", true},
	} {
		c.id.ClientID, c.id.Proven = c.as, false
		err := p.Admit(c.id)
		if (err == nil) != c.ok {
			t.Errorf("%s as %q: %v", c.id.Name, c.as, err)
		}
		proven := c.ok && c.id.Name != "" && c.id.Kind != "claim" && !strings.Contains(c.as, "/")
		if got := p.For(c.id).May(auth.Publish, "c/"+c.as, 0, false); got != proven {
			t.Errorf("%s as %q has ${client_id}: %v", c.id.Name, c.as, got)
		}
	}
	if free := compile(t, "policy everybody { allow publish c/${client_id} }"); free.For(user("ann")).May(auth.Publish, "c/c", 0, false) ||
		!free.For(device("d")).May(auth.Publish, "c/d", 0, false) {
		t.Error("${client_id} is not what the authenticator has proven")
	}
}

// The place in the file is for the owner of the policy, and for those whom it tells.
func TestAdmitTells(t *testing.T) {
	p := compile(t, "group ops { user = ann }\nbind client_id = ${user}\ntell ops\npolicy everybody { allow publish c }")
	for name, want := range map[string]string{
		"ann": `client identifier "x" is not one of "ann" (test.policy:2)`,
		"bob": `client identifier "x" is not one of "bob"`,
		"a/b": `no client identifier is one of "a/b", which must not stand in a topic`,
	} {
		id := user(name)
		id.ClientID = "x"
		var no *auth.Refusal
		if err := p.For(id).Admit(); !errors.As(err, &no) || no.Text != want {
			t.Errorf("%s is told %v", name, err)
		}
		if err := p.Admit(id); !errors.As(err, &no) || !strings.HasSuffix(no.Text, " (test.policy:2)") {
			t.Errorf("of %s is told %v", name, err)
		}
	}
}

func TestLive(t *testing.T) {
	one, two := compile(t, "policy everybody { allow publish a }"), compile(t, "bind client_id = ${user}-*\npolicy everybody { allow publish b }")
	live := NewLive(one)
	perms := live.For(user("ann"))
	if !perms.May(auth.Publish, "a", 0, false) || perms.May(auth.Publish, "b", 0, false) || perms.Admit() != nil {
		t.Fatal("not by the first policy")
	}
	if live.Swap(two) != one || live.Policy() != two {
		t.Fatal("not replaced")
	}
	if perms.May(auth.Publish, "a", 0, false) || !perms.May(auth.Publish, "b", 0, false) || perms.Admit() == nil {
		t.Fatal("not by the second policy")
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 500 {
				if i == 0 {
					live.Swap([]*Policy{one, two}[k%2])
					continue
				}
				perms.May(auth.Publish, fmt.Sprint("t", k%200), 0, false)
				a, b := perms.May(auth.Publish, "a", 0, false), perms.May(auth.Publish, "b", 0, false)
				_, _ = a, b
			}
		})
	}
	wg.Wait()
	live.Swap(one)
	if !perms.May(auth.Publish, "a", 0, false) || perms.May(auth.Publish, "b", 0, false) {
		t.Error("not by the last policy")
	}
}

// TestCache asks more questions than the cache has places for.
func TestCache(t *testing.T) {
	p := compile(t, "policy everybody { allow publish yes/+\n allow publish never/+ size<=10 }")
	perms := p.For(Identity{})
	for range 3 {
		for i := range 1000 {
			for _, topic := range []string{"yes/", "no/"} {
				if got := perms.May(auth.Publish, fmt.Sprint(topic, i), 1, false); got != (topic == "yes/") {
					t.Fatalf("%s%d: %v", topic, i, got)
				}
			}
		}
	}
	if n := len(perms.current().cache.Load().slots); n != maxCached {
		t.Errorf("%d places", n)
	}
	name := []byte("yes/x")
	for range 2 { // the topic is the caller's memory
		if !perms.May(auth.Publish, string(name), 0, false) {
			t.Error("forgotten")
		}
	}
	long := "yes/" + strings.Repeat("x", 1000)
	if !perms.May(auth.Publish, long, 0, false) || perms.current().cached(&question{topic: long, action: auth.Publish}) != nil {
		t.Error("a long topic is kept")
	}
}

func TestInvalidTopics(t *testing.T) {
	p := compile(t, "policy everybody { allow publish,subscribe,receive # }")
	perms := p.For(Identity{})
	for _, s := range []string{"", "a/+", "#", "a\x00b", "\xff"} {
		if perms.May(auth.Publish, s, 0, false) || perms.May(auth.Receive, s, 0, false) {
			t.Errorf("%q may be published", s)
		}
	}
	for _, s := range []string{"", "a#", "a/#/b", "$share", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$SYS/#", "$share/g/$SYS/#"} {
		if s != "$share" && perms.May(auth.Subscribe, s, 0, false) {
			t.Errorf("%q may be subscribed to", s)
		}
	}
	if perms.May(0, "a", 0, false) || perms.May(4, "a", 0, false) || perms.May(255, "a", 0, false) {
		t.Error("an unknown action is allowed")
	}
	deep := strings.Repeat("/", topic.MaxLen)
	if !perms.May(auth.Publish, deep, 0, false) || !perms.May(auth.Subscribe, deep, 0, false) {
		t.Error("a deep topic is not one")
	}
}
