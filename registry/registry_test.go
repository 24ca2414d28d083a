package registry

import (
	"crypto/ecdsa"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pki"
)

// A device from its beginning to its end; the registry that is opened again says the same at each step.
func TestLife(t *testing.T) {
	b := newBench(t, Options{})
	b.do(b.Add(b.ctx, Device{ID: "pump-17", Groups: []string{"z", "sensors", "z"}, Attributes: map[string]string{"site": "north"}, Note: "new"}))
	first := b.ca.issue(t, "device", "pump-17", 0)
	b.do(b.Issued(b.ctx, "pump-17", first))
	want := Device{ID: "pump-17", Groups: []string{"sensors", "z"}, Attributes: map[string]string{"site": "north"}, Note: "new", State: Active,
		Created: start, Changed: start, Certificates: []Certificate{{Serial: serialOf(first), Issuer: KeyID(b.ca.cert), SPKI: KeyID(first),
			NotBefore: first.NotBefore, NotAfter: first.NotAfter, State: CertActive}}}
	is := func(what string) {
		t.Helper()
		for range 2 {
			got, ok := b.Get("pump-17")
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Fatalf("%s: %s", what, diff)
			}
			b.reopen()
		}
	}
	is("added")

	b.clock.advance(time.Hour)
	want.Changed = b.clock.now()
	b.do(b.Update(b.ctx, "pump-17", func(d *Device) error {
		d.Groups, d.Note, d.ID, d.Certificates = append(d.Groups, "a"), "moved", "other", nil
		d.Attributes["site"] = "south"
		return nil
	}))
	want.Groups, want.Note, want.Attributes["site"] = []string{"a", "sensors", "z"}, "moved", "south"
	is("updated")

	second := b.ca.issue(t, "device", "pump-17", 1)
	b.do(b.Issued(b.ctx, "pump-17", second))
	b.do(b.Issued(b.ctx, "pump-17", second)) // again: nothing
	if v := b.Check(second); v.Decision != Allow || !v.Older || !v.Known {
		t.Errorf("%+v", v)
	}
	b.do(b.Supersede(b.ctx, "pump-17", serialOf(second)))
	if v := b.Check(second); v.Decision != Allow || v.Older {
		t.Errorf("%+v", v)
	}
	old := want.Certificates[0]
	old.State, old.Reason, old.RevokedAt = CertSuperseded, pki.Superseded, b.clock.now()
	want.Certificates = []Certificate{{Serial: serialOf(second), Issuer: KeyID(b.ca.cert), SPKI: KeyID(second), NotBefore: second.NotBefore,
		NotAfter: second.NotAfter, State: CertActive}, old}
	is("superseded")

	for _, step := range []struct {
		f     func() error
		state State
	}{
		{func() error { return b.Disable(b.ctx, "pump-17") }, Disabled}, {func() error { return b.Quarantine(b.ctx, "pump-17") }, Quarantined},
		{func() error { return b.Enable(b.ctx, "pump-17") }, Active},
	} {
		b.do(step.f())
		want.State = step.state
		is(string(step.state))
	}

	b.clock.advance(time.Hour)
	b.do(b.RevokeCertificate(b.ctx, serialOf(second), pki.KeyCompromise))
	b.clock.advance(time.Hour)
	b.do(b.Revoke(b.ctx, pki.CessationOfOperation, "pump-17"))
	want.State, want.Changed = Revoked, b.clock.now()
	want.Certificates[0].State, want.Certificates[0].Reason, want.Certificates[0].RevokedAt = CertRevoked, pki.KeyCompromise, b.clock.now().Add(-time.Hour)
	want.Certificates[1].State, want.Certificates[1].Reason = CertRevoked, pki.CessationOfOperation // since it was superseded
	is("revoked")
	for what, err := range map[string]error{
		"enabled": b.Enable(b.ctx, "pump-17"), "issued": b.Issued(b.ctx, "pump-17", b.ca.issue(t, "device", "pump-17", 3)),
		"updated": b.Update(b.ctx, "pump-17", func(d *Device) error { d.State = Active; return nil }),
	} {
		if !errors.Is(err, ErrRevoked) {
			t.Errorf("a revoked device is %s: %v", what, err)
		}
	}
}

// What a purge leaves: nothing, but for revocation lists until the certificates expire.
func TestPurge(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("pump-17", "sensors")
	b.do(b.Add(b.ctx, Device{ID: "bare"}))
	b.Saw("pump-17", Seen{Address: "192.0.2.1"})
	b.do(b.Purge(b.ctx, "pump-17", "bare"))
	gone := func() {
		t.Helper()
		if _, ok := b.Get("pump-17"); ok || b.Len() != 0 {
			t.Error("the device is there")
		}
		if all, err := b.List(Query{}); err != nil || len(all) != 0 {
			t.Errorf("listed: %v %v", all, err)
		}
		if v := b.Check(leaf); v.Decision != Refuse || v.Cause != CauseRevoked {
			t.Errorf("%+v", v)
		}
		if v := b.Check(b.ca.issue(t, "device", "pump-17", 1)); v.Decision != Refuse {
			t.Errorf("another certificate: %+v", v)
		}
		if l := b.Revoked(KeyID(b.ca.cert)); len(l) != 1 || l[0].Serial.Cmp(leaf.SerialNumber) != 0 || l[0].Reason != pki.CessationOfOperation {
			t.Errorf("revocation list: %v", l)
		}
		if id, _ := b.Holder(pki.SPKI(mustKey(t, KeyID(leaf)))); id != "pump-17" {
			t.Errorf("the key's holder is %q", id)
		}
	}
	gone()
	b.reopen()
	gone()
	for name, err := range map[string]error{"purge": b.Purge(b.ctx, "pump-17"), "disable": b.Disable(b.ctx, "pump-17"),
		"update": b.Update(b.ctx, "bare", func(*Device) error { return nil })} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}

	b.do(b.Add(b.ctx, Device{ID: "pump-17"}))
	d, ok := b.Get("pump-17")
	if !ok || len(d.Groups) > 0 || d.State != Active || len(d.Certificates) != 1 || !d.Seen.At.IsZero() {
		t.Errorf("added again: %+v", d)
	}
	if v := b.Check(leaf); v.Decision != Refuse || v.Cause != CauseRevoked {
		t.Errorf("the old certificate: %+v", v)
	}
	fresh := b.ca.issue(t, "device", "pump-17", 2)
	b.do(b.Issued(b.ctx, "pump-17", fresh))
	if v := b.Check(fresh); v.Decision != Allow {
		t.Errorf("%+v", v)
	}

	b.do(b.Purge(b.ctx, "pump-17"))
	b.clock.advance(400 * 24 * time.Hour)
	if l := b.Revoked(KeyID(b.ca.cert)); len(l) != 0 {
		t.Errorf("expired ones are listed: %v", l)
	}
	b.reopen()
	n := 0
	if err := b.s.Records("", func(string, []byte) bool { n++; return true }); err != nil || n != 0 {
		t.Errorf("%d records are left, %v", n, err)
	}
}

func mustKey(t *testing.T, s string) [keySize]byte {
	t.Helper()
	k, err := parseKey("key", s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Each change is told with what must end, and has a line in the log with who made it.
func TestEventsAndLog(t *testing.T) {
	b := newBench(t, Options{})
	b.do(b.Add(b.ctx, Device{ID: "d"}))
	first, second := b.ca.issue(t, "device", "d", 0), b.ca.issue(t, "device", "d", 1)
	one, two := serialOf(first), serialOf(second)
	b.do(b.Issued(b.ctx, "d", first))
	b.do(b.Issued(b.ctx, "d", second))
	b.do(b.Supersede(b.ctx, "d", two))
	b.do(b.Quarantine(b.ctx, "d"))
	b.do(b.Quarantine(b.ctx, "d")) // nothing
	b.do(b.Enable(b.ctx, "d"))
	b.do(b.Disable(b.ctx, "d"))
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "d"))
	b.do(b.Purge(b.ctx, "d"))
	want := []Event{
		{What: "add", State: Active},
		{What: "issue", Was: Active, State: Active},
		{What: "issue", Was: Active, State: Active},
		{What: "supersede", Was: Active, State: Active, Serials: []string{one}, Cause: CauseSuperseded, Reason: pki.Superseded},
		{What: "quarantine", Was: Active, State: Quarantined, Whole: true, Cause: CauseQuarantined},
		{What: "enable", Was: Quarantined, State: Active},
		{What: "disable", Was: Active, State: Disabled, Whole: true, Cause: CauseDisabled},
		{What: "revoke", Was: Disabled, State: Revoked, Whole: true, Serials: []string{two}, Cause: CauseRevoked, Reason: pki.KeyCompromise},
		{What: "purge", Was: Revoked, Whole: true, Cause: CauseRevoked, Reason: pki.CessationOfOperation},
	}
	for i := range want {
		want[i].Who, want[i].Device = "alice", "d"
	}
	if diff := cmp.Diff(want, b.events()); diff != "" {
		t.Error(diff)
	}
	wantLog := strings.NewReplacer("ONE", one, "TWO", two).Replace(`msg="device changed" who=alice what=add device=d state=active
msg="device changed" who=alice what=issue device=d state=active serials=[ONE]
msg="device changed" who=alice what=issue device=d state=active serials=[TWO]
msg="device changed" who=alice what=supersede device=d state=active serials=[ONE] reason=superseded
msg="device changed" who=alice what=quarantine device=d state=quarantined
msg="device changed" who=alice what=enable device=d state=active
msg="device changed" who=alice what=disable device=d state=disabled
msg="device changed" who=alice what=revoke device=d state=revoked serials=[TWO] reason=key-compromise
msg="device changed" who=alice what=purge device=d reason=cessation-of-operation
`)
	if diff := cmp.Diff(wantLog, b.log.take()); diff != "" {
		t.Error(diff)
	}
}

// A change that the store refuses changes nothing, and is told to nobody but the log.
func TestStoreRefuses(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("d", "g")
	before, _ := b.Get("d")
	b.events()
	b.log.take()
	b.s.set(errFull)
	for what, err := range map[string]error{
		"add": b.Add(b.ctx, Device{ID: "new"}), "revoke": b.Revoke(b.ctx, pki.KeyCompromise, "d"), "purge": b.Purge(b.ctx, "d"),
		"issue": b.Issued(b.ctx, "d", b.ca.issue(t, "device", "d", 1)),
	} {
		if !errors.Is(err, errFull) || !strings.HasPrefix(err.Error(), what+" device ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	unknown := b.ca.issue(t, "device", "unknown", 1)
	if v := b.Check(unknown); v.Decision != Allow || v.Known {
		t.Errorf("not registered: %+v", v)
	}
	if b.Len() != 1 || len(b.events()) != 0 || strings.Count(b.log.take(), `msg="device not changed"`) != 4 {
		t.Error("something happened")
	}
	after, _ := b.Get("d")
	if diff := cmp.Diff(before, after); diff != "" || b.Check(leaf).Decision != Allow {
		t.Error(diff)
	}
	b.s.set(nil)
	b.Saw("d", Seen{Address: "192.0.2.7"})
	if d, _ := b.Get("d"); d.Seen.Address == "" {
		t.Error("after a purge that failed nothing is noted")
	}
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "d"))
	if v := b.Check(unknown); v.Decision != Allow || !v.Known {
		t.Errorf("registered later: %+v", v)
	}
}

// Two certificates of one second: the one registered last is the newer one, whichever connects first.
func TestSupersedeOfTheSameSecond(t *testing.T) {
	b := newBench(t, Options{})
	for _, id := range []string{"a", "b", "c", "d"} {
		first := b.device(id)
		second := b.ca.issue(t, "device", id, 0)
		b.do(b.Issued(b.ctx, id, second))
		b.reopen()
		if b.Check(first).Older || !b.Check(second).Older {
			t.Errorf("%+v, %+v", b.Check(first), b.Check(second))
		}
		b.do(b.Supersede(b.ctx, id, serialOf(first)))
		if b.Check(first).Decision != Allow || b.Check(second).Decision != Allow {
			t.Error("the newer one is superseded")
		}
		b.do(b.Supersede(b.ctx, id, serialOf(second)))
		if b.Check(first).Cause != CauseSuperseded || b.Check(second).Decision != Allow {
			t.Error("the older one is not superseded")
		}
	}
}

// After Close nothing changes any more, and nothing is submitted.
func TestClose(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("d")
	b.Close()
	b.s.set(errFull)
	if err := b.Disable(b.ctx, "d"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if v := b.Check(leaf); v.Decision != Allow {
		t.Errorf("%+v", v)
	}
	if v := b.Check(b.ca.issue(t, "device", "x", 0)); v.Decision != Allow || v.Known {
		t.Errorf("%+v", v)
	}
	b.Close()
}

// What is wrong is said, and nothing is changed.
func TestRefusals(t *testing.T) {
	b := newBench(t, Options{})
	other := newCA(t, "other CA")
	b.device("d")
	long := strings.Repeat("x", 65)
	many := map[string]string{}
	for i := range MaxAttributes + 1 {
		many[strings.Repeat("a", i+1)] = ""
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{b.Add(b.ctx, Device{}), "empty"},
		{b.Add(b.ctx, Device{ID: "a/b"}), "only A-Z"},
		{b.Add(b.ctx, Device{ID: "operator/a/b"}), "only A-Z"},
		{b.Add(b.ctx, Device{ID: long}), "at most 64"},
		{b.Add(b.ctx, Device{ID: "d"}), "exists"},
		{b.Add(b.ctx, Device{ID: "e", State: Revoked}), "revoke it instead"},
		{b.Add(b.ctx, Device{ID: "e", State: "odd"}), "state"},
		{b.Add(b.ctx, Device{ID: "e", Groups: []string{"a b"}}), "group"},
		{b.Add(b.ctx, Device{ID: "e", Attributes: map[string]string{"a b": ""}}), "attribute"},
		{b.Add(b.ctx, Device{ID: "e", Attributes: map[string]string{"a": "\x00"}}), "printable"},
		{b.Add(b.ctx, Device{ID: "e", Attributes: map[string]string{"a": strings.Repeat("x", MaxAttribute+1)}}), "at most 256"},
		{b.Add(b.ctx, Device{ID: "e", Attributes: many}), "at most 32"},
		{b.Add(b.ctx, Device{ID: "e", Note: "\xff"}), "printable"},
		{b.Update(b.ctx, "d", func(d *Device) error { d.State = Revoked; return nil }), "revoke it instead"},
		{b.Update(b.ctx, "d", func(*Device) error { return errFull }), "disk full"},
		{b.Issued(b.ctx, "e", b.ca.issue(t, "device", "d", 0)), `the certificate is of "d"`},
		{b.Issued(b.ctx, "d", b.ca.issue(t, "operator", "d", 0)), `the certificate is of "operator/d"`},
		{b.Issued(b.ctx, "d", other.issue(t, "device", "d", 0)), "none of our CAs"},
		{b.Revoke(b.ctx, pki.CertificateHold, "d"), "disable the device instead"},
		{b.Revoke(b.ctx, 7, "d"), "reason 7"},
		{b.Revoke(b.ctx, pki.KeyCompromise, "nobody"), "no such device"},
		{b.RevokeCertificate(b.ctx, "xyz", pki.KeyCompromise), "hexadecimal"},
		{b.RevokeCertificate(b.ctx, "1234", pki.KeyCompromise), "no device has it"},
		{b.Supersede(b.ctx, "d", "1234"), "it has no certificate 1234"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v: %q wanted", c.err, c.want)
		}
	}
	err := b.Disable(b.ctx, "d", "nobody", "neither")
	if err == nil || strings.Count(err.Error(), "no such device") != 2 {
		t.Error(err)
	}
	if d, _ := b.Get("d"); d.State != Disabled || b.Len() != 1 {
		t.Error("the one that there is was not disabled, or there are others")
	}
}

// Queries choose by all that they say.
func TestQueries(t *testing.T) {
	b := newBench(t, Options{})
	b.device("pump-1", "sensors", "north")
	b.device("pump-2", "sensors")
	b.do(b.Add(b.ctx, Device{ID: "valve", State: Pending}))
	op := b.ca.issue(t, "operator", "alice", 0)
	b.do(b.Issued(b.ctx, "operator/alice", op))
	late := b.ca.issue(t, "device", "pump-2", 30)
	b.do(b.Issued(b.ctx, "pump-2", late))
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, "pump-1 pump-2 valve"},
		{Query{Group: "sensors"}, "pump-1 pump-2"},
		{Query{Group: "north"}, "pump-1"},
		{Query{State: Pending}, "valve"},
		{Query{ID: "pump"}, "pump-1 pump-2"},
		{Query{ID: "*-[2-9]"}, "pump-2"},
		{Query{ID: "?alve"}, "valve"},
		{Query{ID: "operator/"}, "operator/alice"},
		{Query{ID: "operator/*"}, "operator/alice"},
		{Query{ID: "pump", Group: "none"}, ""},
		{Query{ExpiringBefore: start.AddDate(1, 0, 1)}, "pump-1"},
		{Query{ExpiringBefore: start.AddDate(2, 0, 0)}, "pump-1 pump-2"},
	} {
		ids, err := b.IDs(c.q)
		if got := strings.Join(ids, " "); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c.q, got, err)
		}
		all, _ := b.List(c.q)
		if len(all) != len(ids) {
			t.Errorf("%+v: %d devices", c.q, len(all))
		}
	}
	if _, err := b.List(Query{ID: "[x"}); err == nil {
		t.Error("a bad pattern is taken")
	}
	if err := b.Each(Query{}, func(Device) bool { return false }); err != nil {
		t.Error(err)
	}
	if groups, state := b.Groups("pump-1"); len(groups) != 2 || state != Active {
		t.Error(groups, state)
	}
	if _, state := b.Groups("none"); state != "" {
		t.Error(state)
	}
}

// The revocation list has what was revoked, in order, by issuer; compromised keys are known.
func TestRevoked(t *testing.T) {
	b := newBench(t, Options{})
	other := newCA(t, "other CA")
	b.SetIssuers(b.ca.cert, other.cert)
	one, two := b.device("one"), b.device("two")
	foreign := other.issue(t, "device", "one", 0)
	b.do(b.Issued(b.ctx, "one", foreign))
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "two"))
	b.clock.advance(time.Minute)
	b.do(b.Revoke(b.ctx, pki.Unspecified, "one"))
	list := b.Revoked(KeyID(b.ca.cert))
	if len(list) != 2 || list[0].Serial.Cmp(two.SerialNumber) != 0 || list[1].Serial.Cmp(one.SerialNumber) != 0 ||
		list[0].Reason != pki.KeyCompromise || !list[1].At.Equal(b.clock.now()) {
		t.Errorf("%v", list)
	}
	if list := b.Revoked(KeyID(other.cert)); len(list) != 1 || list[0].Serial.Cmp(foreign.SerialNumber) != 0 {
		t.Errorf("%v", list)
	}
	if list := b.Revoked("nonsense"); list != nil {
		t.Errorf("%v", list)
	}
	for _, c := range []struct {
		key  string
		id   string
		lost bool
	}{{KeyID(two), "two", true}, {KeyID(one), "one", false}, {KeyID(other.cert), "", false}} {
		if id, lost := b.Holder(mustKey(t, c.key)); id != c.id || lost != c.lost {
			t.Errorf("%s: %q, %v", c.id, id, lost)
		}
	}
	again := b.ca.issueFor(t, two.PublicKey.(*ecdsa.PublicKey), "device", "three", 1)
	if err := b.Issued(b.ctx, "three", again); !errors.Is(err, ErrKey) {
		t.Errorf("a compromised key is registered: %v", err)
	}
	if v := b.Check(again); v.Decision != Refuse || v.Cause != CauseRevoked {
		t.Errorf("a compromised key: %+v", v)
	}
}

// What is done under a condition is asked for the state, and refused by its error.
func TestConditions(t *testing.T) {
	b := newBench(t, Options{})
	no := errors.New("no")
	unless := func(not State) func(State) error {
		return func(s State) error {
			if s == not {
				return no
			}
			return nil
		}
	}
	leaf := b.device("d")
	b.do(b.Disable(b.ctx, "d"))
	for _, err := range []error{b.PurgeIf(b.ctx, "d", unless(Disabled)), b.Withdraw(b.ctx, "d", unless(Disabled))} {
		if !errors.Is(err, no) || b.Check(leaf).Cause != CauseDisabled {
			t.Errorf("%v, %+v", err, b.Check(leaf))
		}
	}
	b.do(b.Withdraw(b.ctx, "d", unless(Active)))
	if d, _ := b.Get("d"); d.State != Active || b.Check(leaf).Cause != CauseSuperseded {
		t.Errorf("%+v, %+v", d, b.Check(leaf))
	}
	b.do(b.Withdraw(b.ctx, "d", unless(Disabled))) // nothing is left to do
	b.Guard(func(d Device) error {
		if d.Note == "keep" {
			return no
		}
		return nil
	})
	b.do(b.Update(b.ctx, "d", func(d *Device) error { d.Note = "keep"; return nil }))
	b.device("e")
	if err := b.Purge(b.ctx, "d", "e"); !errors.Is(err, no) || b.Len() != 1 {
		t.Errorf("%v, %d are left", err, b.Len())
	}
	b.Guard(nil)
	b.do(b.PurgeIf(b.ctx, "d", unless(Disabled)))
	b.device("r")
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "r"))
	if err := b.Withdraw(b.ctx, "r", unless(Disabled)); !errors.Is(err, ErrRevoked) {
		t.Error(err)
	}
}

// Certificates that were ended do not keep a device from getting another, and stay in revocation lists. There is a bound.
func TestManyCertificates(t *testing.T) {
	b := newBench(t, Options{})
	b.device("d")
	var serial string
	next := func() error {
		leaf := b.ca.issue(t, "device", "d", 1)
		serial = serialOf(leaf)
		return b.Issued(b.ctx, "d", leaf)
	}
	for range maxKept - MaxCertificates {
		b.do(next())
		b.do(b.RevokeCertificate(b.ctx, serial, pki.Superseded))
	}
	for range MaxCertificates - 1 {
		b.do(next())
	}
	if err := next(); err == nil || !strings.Contains(err.Error(), "it has 96 certificates that have not expired, 32 of them active") {
		t.Error(err)
	}
	b.reopen()
	if n := len(b.Revoked(KeyID(b.ca.cert))); n != maxKept-MaxCertificates {
		t.Errorf("%d are in revocation lists", n)
	}
	b.clock.advance(367 * 24 * time.Hour)
	b.do(b.Issued(b.ctx, "d", b.ca.issue(t, "device", "d", 366)))
}
