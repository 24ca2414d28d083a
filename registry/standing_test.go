package registry

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// standing judges whoever has connected with a certificate.
func standing(r *Registry, leaf *x509.Certificate) Verdict {
	kind, name := Split(IDOf(leaf))
	return r.Standing(kind, name, serialOf(leaf), leafKey(leaf))
}

// Without a certificate the device is judged; what is not registered stands where Check leaves it to others.
func TestStanding(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("d")
	b.device("gone")
	foreign := newCA(t, "foreign CA").issue(t, "device", "d", 0)
	var key [32]byte
	check := func(what string, got Verdict, want Decision, cause Cause) {
		t.Helper()
		if got.Decision != want || got.Cause != cause {
			t.Errorf("%s: %+v", what, got)
		}
	}
	check("registered", standing(b.Registry, leaf), Allow, "")
	check("foreign", standing(b.Registry, foreign), Allow, "")
	check("device alone", b.Standing(pki.Device, "d", "", key), Allow, "")
	check("unknown device alone", b.Standing(pki.Device, "x", "", key), Allow, "")
	check("unknown", b.Standing(pki.Device, "x", "01", key), Allow, "")
	check("claim", b.Standing(pki.Claim, "x", "01", key), Refuse, CauseUnknown)
	check("no serial", b.Standing(pki.Device, "d", "xyz", key), Allow, "")
	check("a long name", b.Standing(pki.Device, strings.Repeat("d", 500), "01", key), Allow, "")
	b.do(b.Add(b.ctx, Device{ID: "claim/line"}))
	check("claim with another certificate", b.Standing(pki.Claim, "line", "01", key), Refuse, CauseUnknown)
	b.do(b.Quarantine(b.ctx, "d"))
	check("quarantined, foreign", standing(b.Registry, foreign), Quarantine, CauseQuarantined)
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "gone"))
	d, _ := b.Get("gone")
	lost, err := parseKey("", d.Certificates[0].SPKI)
	b.do(err)
	check("another's lost key", b.Standing(pki.Device, "d", "01", lost), Refuse, CauseRevoked)
	check("revoked device alone", b.Standing(pki.Device, "gone", "", key), Refuse, CauseRevoked)
	b.open(Options{Strict: true, Issuers: []*x509.Certificate{b.ca.cert}, Log: b.o.Log, Now: b.clock.now})
	check("strict, registered", standing(b.Registry, leaf), Quarantine, CauseQuarantined)
	check("strict, foreign", standing(b.Registry, foreign), Quarantine, CauseQuarantined)
	check("strict, unknown", b.Standing(pki.Device, "x", "01", key), Allow, "")
	check("strict, device alone", b.Standing(pki.Device, "x", "", key), Allow, "")

	b.Retire(b.ca.cert)
	check("of a retired CA", standing(b.Registry, leaf), Refuse, CauseRetired)
	check("of a retired CA", b.Check(leaf), Refuse, CauseRetired)
	if err := b.Check(leaf).Err(); !strings.Contains(err.Error(), "of a CA that is trusted no longer") {
		t.Error(err)
	}
	b.Retire()
	check("of a CA that is back", b.Check(leaf), Quarantine, CauseQuarantined)
	serial, spki := serialOf(leaf), leafKey(leaf)
	if n := testing.AllocsPerRun(100, func() { b.Standing(pki.Device, "d", serial, spki) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// readSerial reads what serialText writes, and nothing else.
func TestReadSerial(t *testing.T) {
	for _, s := range []string{"01", "00", "80000000000000000000000000000001", strings.Repeat("7f", serialSize)} {
		b, ok := readSerial(s)
		if !ok || serialText(b) != s {
			t.Errorf("%s became %s, %v", s, serialText(b), ok)
		}
	}
	for _, s := range []string{"", "1", "0g", "0A", "01:02", " 01", strings.Repeat("00", serialSize+1)} {
		if _, ok := readSerial(s); ok {
			t.Errorf("%q was read", s)
		}
	}
}

// Ids of operators and claims are those of no device, and back.
func TestIDs(t *testing.T) {
	b := newBench(t, Options{})
	for kind, id := range map[pki.Kind]string{pki.Device: "a", pki.Operator: "operator/a", pki.Claim: "claim/a"} {
		if got := ID(kind, "a"); got != id {
			t.Error(got)
		}
		if k, name := Split(id); k != kind || name != "a" {
			t.Error(k, name)
		}
		leaf := b.ca.issue(t, string(kind), "a", 0)
		if got := IDOf(leaf); got != id {
			t.Error(got)
		}
		b.do(b.Issued(b.ctx, id, leaf))
		if v := b.Check(leaf); v.Decision != Allow || v.Device != id {
			t.Errorf("%+v", v)
		}
	}
	for query, want := range map[string]string{"": "[a]", "*": "[a]", "claim/": "[claim/a]", "claim/?": "[claim/a]", "operator/": "[operator/a]"} {
		if ids, err := b.IDs(Query{ID: query}); err != nil || fmt.Sprint(ids) != want {
			t.Errorf("%q: %v %v", query, ids, err)
		}
	}
	if v := b.Check(b.ca.issue(t, "claim", "b", 0)); v.Decision != Refuse || v.Cause != CauseUnknown {
		t.Errorf("a claim that is not registered: %+v", v)
	}
}

// The condition of Register sees the state that the certificate is registered in, and what it refuses leaves nothing.
func TestRegister(t *testing.T) {
	b := newBench(t, Options{})
	leaf := func(id string) *x509.Certificate { return b.ca.issue(t, "device", id, 0) }
	var saw []State
	allow := func(s State) error { saw = append(saw, s); return nil }
	no := errors.New("no")
	if err := b.Register(b.ctx, Device{ID: "d"}, leaf("d"), func(State) error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
	if _, ok := b.Get("d"); ok {
		t.Error("it is there")
	}
	b.do(b.Register(b.ctx, Device{ID: "d", State: Pending, Groups: []string{"g"}, Note: "n"}, leaf("d"), allow))
	b.do(b.Register(b.ctx, Device{ID: "d", Groups: []string{"other"}}, leaf("d"), allow))
	d, _ := b.Get("d")
	if d.State != Pending || fmt.Sprint(d.Groups) != "[g]" || d.Note != "n" || len(d.Certificates) != 2 || !slices.Equal(saw, []State{"", Pending}) {
		t.Errorf("%+v, saw %q", d, saw)
	}
	b.do(b.Purge(b.ctx, "d"))
	b.do(b.Register(b.ctx, Device{ID: "d"}, leaf("d"), allow))
	if saw[2] != "" {
		t.Error(saw)
	}
	if err := b.Register(b.ctx, Device{ID: "d", Groups: []string{"a b"}}, leaf("d"), allow); err == nil {
		t.Error("a group that is none")
	}
	b.s.set(errFull)
	if err := b.Ready(); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// Devices are named whose newer certificate began before a time, with the certificate that ends the others.
func TestOverlaps(t *testing.T) {
	b := newBench(t, Options{})
	at := func(days int) string {
		var found []string
		b.Overlaps(start.AddDate(0, 0, days), func(id, serial string) { found = append(found, id+" "+serial) })
		return strings.Join(found, ", ")
	}
	var serials []string
	for _, n := range []int{0, 10, 20} {
		leaf := b.ca.issue(t, "device", "d", n)
		serials = append(serials, serialOf(leaf))
		b.do(b.Issued(b.ctx, "d", leaf))
		op := b.ca.issue(t, "operator", "alice", n)
		b.do(b.Issued(b.ctx, "operator/alice", op))
	}
	b.device("other")
	for days, want := range map[int]string{0: "", 10: "", 11: "d " + serials[1], 20: "d " + serials[1], 21: "d " + serials[2]} {
		if got := at(days); got != want {
			t.Errorf("%d: %q, want %q", days, got, want)
		}
	}
	b.do(b.SupersedeAll(b.ctx, map[string]string{"d": serials[1]}))
	if got := at(20); got != "" {
		t.Error(got)
	}
	b.clock.advance(374 * 24 * time.Hour) // the second has all but ended
	if got := at(30); got != "d "+serials[2] {
		t.Error(got)
	}
	b.clock.advance(2 * 24 * time.Hour)
	if got := at(30); got != "" {
		t.Error(got)
	}
}

// Of several devices each is superseded for itself.
func TestSupersedeAll(t *testing.T) {
	b := newBench(t, Options{})
	all := map[string]string{"none": "01", "bad": "x"}
	for i := range 20 {
		id := fmt.Sprint("d", i)
		b.device(id)
		leaf := b.ca.issue(t, "device", id, 1)
		b.do(b.Issued(b.ctx, id, leaf))
		all[id] = serialOf(leaf)
	}
	b.events()
	err := b.SupersedeAll(b.ctx, all)
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `serial "x"`) {
		t.Error(err)
	}
	if told := b.events(); len(told) != 20 || len(told[0].Serials) != 1 || told[0].Cause != CauseSuperseded {
		t.Errorf("%d events", len(told))
	}
}

// Roots that devices have are counted, kept, and bounded.
func TestRoots(t *testing.T) {
	b := newBench(t, Options{})
	one, two := [32]byte{1}, [32]byte{2}
	for _, id := range []string{"a", "b", "c", "off", "operator/o"} {
		b.do(b.Add(b.ctx, Device{ID: id}))
	}
	b.do(b.Disable(b.ctx, "off"))
	b.do(b.Quarantine(b.ctx, "c"))
	count := func(what, want string) {
		t.Helper()
		var missing []string
		n, have := 0, [2]int{}
		b.Holdings(func(h Holding) {
			n++
			if h.Root(&one) {
				have[0]++
			}
			if h.Root(&two) {
				have[1]++
			} else {
				missing = append(missing, h.ID())
			}
		})
		slices.Sort(missing)
		if got := fmt.Sprint(n, have, missing); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	count("nothing", "3 [0 0] [a b c]")
	b.SawRoots("a", false, one, two, two)
	b.SawRoots("b", false, one)
	b.SawRoots("off", false, one)
	b.SawRoots("none", false, one)
	count("told", "3 [2 1] [b c]")
	b.SawRoots("b", true, two)
	count("more", "3 [2 2] [c]")
	b.SawRoots("a", false, two)
	b.Saw("c", Seen{Address: "x"})
	count("others", "3 [1 2] [c]")
	b.reopen()
	count("read again", "3 [1 2] [c]")
	b.Saw("a", Seen{Address: "y"})
	b.reopen()
	count("after a connection", "3 [1 2] [c]")
	var many [][32]byte
	for i := range 20 {
		many = append(many, [32]byte{0, byte(i)})
	}
	b.SawRoots("c", true, many...)
	if n := len(b.index.get("c").last.roots); n != maxRoots*keySize {
		t.Errorf("%d bytes", n)
	}
	b.do(b.Purge(b.ctx, "b"))
	b.SawRoots("b", true, two)
	b.do(b.Add(b.ctx, Device{ID: "b"}))
	count("purged", "3 [0 1] [b c]")
	b.reopen()
	count("purged, read again", "3 [0 1] [b c]")
}

// A device depends on a CA when it has certificates of that one alone.
func TestDepends(t *testing.T) {
	b := newBench(t, Options{})
	next := newCA(t, "next CA")
	b.SetIssuers(b.ca.cert, next.cert)
	b.device("old")
	b.device("both")
	b.device("new")
	b.do(b.Add(b.ctx, Device{ID: "none"}))
	for _, id := range []string{"both", "new"} {
		leaf := next.issue(t, "device", id, 1)
		b.do(b.Issued(b.ctx, id, leaf))
		if id == "new" {
			b.do(b.Supersede(b.ctx, id, serialOf(leaf)))
		}
	}
	depend := func(c *ca, after time.Time) string {
		var ids []string
		key := leafKey(c.cert)
		b.Holdings(func(h Holding) {
			if h.Depends((*[32]byte)(&key), after) {
				ids = append(ids, h.ID())
			}
		})
		slices.Sort(ids)
		return fmt.Sprint(ids)
	}
	if one, two := depend(b.ca, start), depend(next, start); one != "[old]" || two != "[new]" {
		t.Error(one, two)
	}
	if got := depend(b.ca, start.AddDate(1, 0, 0)); got != "[]" {
		t.Error(got)
	}
}
