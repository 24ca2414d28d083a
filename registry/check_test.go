package registry

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Who may connect.
func TestCheck(t *testing.T) {
	b := newBench(t, Options{})
	other := newCA(t, "other CA")
	for _, c := range []struct {
		name   string
		change func(id string) error
		want   Verdict
		text   string
	}{
		{"active", func(string) error { return nil }, Verdict{Decision: Allow}, ""},
		{"disabled", func(id string) error { return b.Disable(b.ctx, id) }, Verdict{Cause: CauseDisabled}, "device disabled is disabled"},
		{"pending", func(id string) error {
			return b.Update(b.ctx, id, func(d *Device) error { d.State = Pending; return nil })
		}, Verdict{Cause: CausePending}, "device pending is pending"},
		{"quarantined", func(id string) error { return b.Quarantine(b.ctx, id) }, Verdict{Decision: Quarantine, Cause: CauseQuarantined}, ""},
		{"revoked", func(id string) error { return b.Revoke(b.ctx, pki.KeyCompromise, id) }, Verdict{Cause: CauseRevoked}, "certificate of revoked is revoked"},
		{"superseded", func(id string) error {
			next := b.ca.issue(t, "device", id, 1)
			return errors.Join(b.Issued(b.ctx, id, next), b.Supersede(b.ctx, id, serialOf(next)))
		}, Verdict{Cause: CauseSuperseded}, "certificate of superseded is superseded"},
		{"lost", func(id string) error {
			d, _ := b.Get(id)
			return b.RevokeCertificate(b.ctx, d.Certificates[0].Serial, pki.KeyCompromise)
		}, Verdict{Cause: CauseRevoked}, "certificate of lost is revoked"},
	} {
		leaf := b.device(c.name)
		b.do(c.change(c.name))
		c.want.Device, c.want.Known = c.name, true
		for range 2 {
			v := b.Check(leaf)
			if v != c.want {
				t.Errorf("%s: %+v", c.name, v)
			}
			err := v.Err()
			var r *Refused
			if (err != nil) != (c.want.Decision == Refuse) || err != nil && (!errors.As(err, &r) || err.Error() != c.text) {
				t.Errorf("%s: %v", c.name, err)
			}
			b.reopen()
		}
		// A certificate of a foreign CA does not help a device that may not connect.
		foreign := other.issue(t, "device", c.name, 0)
		v := b.Check(foreign)
		want := Verdict{Decision: Allow, Device: c.name}
		if d, _ := b.Get(c.name); d.State != Active {
			want.Decision, want.Cause = c.want.Decision, c.want.Cause
		}
		if v != want {
			t.Errorf("%s with a foreign certificate: %+v", c.name, v)
		}
	}
}

// Certificates that the registry does not know.
func TestCheckOfStrangers(t *testing.T) {
	b := newBench(t, Options{})
	other, liar := newCA(t, "other CA"), newCA(t, "device CA") // the same names, another key
	ours, op := b.ca.issue(t, "device", "new", 0), b.ca.issue(t, "operator", "new", 0)
	if v := b.Check(ours); v != (Verdict{Decision: Allow, Device: "new", Known: true}) {
		t.Errorf("%+v", v)
	}
	if v := b.Check(op); v != (Verdict{Decision: Allow, Device: "operator/new", Known: true}) {
		t.Errorf("%+v", v)
	}
	if d, ok := b.Get("new"); !ok || d.State != Active || len(d.Certificates) != 1 {
		t.Errorf("%+v", d)
	}
	if ev := b.events(); len(ev) != 2 || ev[0].What != "register" || ev[0].Was != "" || ev[0].State != Active {
		t.Errorf("%+v", ev)
	}
	b.do(b.Quarantine(b.ctx, "new"))
	if v := b.Check(b.ca.issue(t, "device", "new", 1)); v != (Verdict{Decision: Quarantine, Cause: CauseQuarantined, Device: "new", Known: true}) {
		t.Errorf("%+v", v)
	}
	for name, leaf := range map[string]*x509.Certificate{
		"foreign": other.issue(t, "device", "x", 0), "liar": liar.issue(t, "device", "x", 0), "no id": other.issue(t, "device", "", 0),
		"unusable id": b.ca.issue(t, "device", "a b", 0), "slash": b.ca.issue(t, "device", "operator/new", 0),
	} {
		if v := b.Check(leaf); v.Decision != Allow || v.Known {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if n := b.Len(); n != 2 {
		t.Errorf("%d are registered", n)
	}
	b.o.Strict = true
	b.reopen()
	if v := b.Check(ours); v.Decision != Quarantine {
		t.Errorf("%+v", v)
	}
	if v := b.Check(other.issue(t, "device", "x", 0)); v.Decision != Allow || v.Known {
		t.Errorf("strict, foreign: %+v", v)
	}
	for _, leaf := range []*x509.Certificate{b.ca.issue(t, "device", "new", 1), b.ca.issue(t, "device", "newer", 1), b.ca.issue(t, "device", "a b", 1),
		liar.issue(t, "device", "x", 0)} {
		if v := b.Check(leaf); v.Decision != Refuse || v.Cause != CauseUnknown && v.Cause != CauseQuarantined {
			t.Errorf("strict: %+v", v)
		}
	}
	if b.Len() != 2 {
		t.Error("a stranger was registered")
	}
}

// A certificate of another CA with serial and name, or serial and key, of a registered one is another certificate.
func TestCheckOfImpostors(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("d")
	b.do(b.RevokeCertificate(b.ctx, serialOf(leaf), pki.KeyCompromise))
	same := b.ca.issue(t, "device", "d", 1)
	same.SerialNumber = leaf.SerialNumber
	if b.issuerOf(same) == nil {
		t.Fatal("not of our CA")
	}
	for range 2 {
		if v := b.Check(same); v.Known {
			t.Errorf("%+v", v)
		}
	}
	if v := b.Check(&x509.Certificate{}); v.Known || v.Device != "" {
		t.Errorf("%+v", v)
	}
}

// Many connect for the first time at once, some with the same certificate.
func TestCheckAtOnce(t *testing.T) {
	b := newBench(t, Options{})
	b.Registry.watch.fns = nil // the events are not for several goroutines
	leaf := b.ca.issue(t, "device", "d", 0)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v := b.Check(leaf); v.Decision != Allow || !v.Known {
				t.Errorf("%+v", v)
			}
		})
	}
	wg.Wait()
	if d, _ := b.Get("d"); len(d.Certificates) != 1 {
		t.Errorf("%+v", d)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	b := newBench(t, Options{})
	leaf := b.device("pump-17")
	op := b.ca.issue(t, "operator", "alice", 0)
	b.do(b.Issued(b.ctx, "operator/alice", op))
	for name, c := range map[string]*x509.Certificate{"device": leaf, "operator": op} {
		if n := testing.AllocsPerRun(100, func() {
			if b.Check(c).Decision != Allow {
				t.Fatal("refused")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What was revoked is forgotten after it has expired; whoever shows it then does not begin anew by it.
func TestCheckOfExpired(t *testing.T) {
	b := newBench(t, Options{})
	purged, evicted, never := b.device("purged"), b.device("evicted"), b.ca.issue(t, "device", "never", 0)
	foreign := newCA(t, "other CA").issue(t, "device", "foreign", 0)
	b.do(b.Purge(b.ctx, "purged"))
	b.do(b.RevokeCertificate(b.ctx, serialOf(evicted), pki.KeyCompromise))
	b.clock.advance(366 * 24 * time.Hour)
	for i := range MaxCertificates {
		b.do(b.Issued(b.ctx, "evicted", b.ca.issue(t, "device", "evicted", 365+i)))
	}
	b.reopen()
	if v := b.Check(purged); v.Cause != CauseRevoked || !v.Known {
		t.Errorf("within the grace: %+v", v)
	}
	b.clock.advance(lingers * time.Second)
	b.reopen()
	for _, leaf := range []*x509.Certificate{purged, evicted, never} {
		v := b.Check(leaf)
		if v.Decision != Refuse || v.Known || v.Cause != CauseExpired {
			t.Errorf("%s: %+v", leaf.Subject.CommonName, v)
		}
		if err := v.Err(); err == nil || err.Error() != "certificate of "+leaf.Subject.CommonName+" has expired and is not registered" {
			t.Error(err)
		}
	}
	if v := b.Check(foreign); v.Decision != Allow { // its dates are for others to judge
		t.Errorf("foreign: %+v", v)
	}
	if b.Len() != 1 {
		t.Errorf("%d are registered", b.Len())
	}
}

// While the store refuses changes certificates of ours are let in, which is said once.
func TestCheckWithoutAStore(t *testing.T) {
	b := newBench(t, Options{})
	store, warned := b.s, func() int { return strings.Count(b.log.take(), "let in unregistered") }
	for _, id := range []string{"a", "b"} {
		store.set(errFull)
		for i := range 3 {
			if v := b.Check(b.ca.issue(t, "device", id, i)); v.Decision != Allow || v.Known {
				t.Errorf("%+v", v)
			}
		}
		if n := warned(); n != 1 {
			t.Errorf("%d lines", n)
		}
		store.err.Store(nil)
		if v := b.Check(b.ca.issue(t, "device", id, 0)); !v.Known {
			t.Errorf("%+v", v)
		}
	}
}

// A CA of ours may have issued for other tenants: their certificates are refused whatever is registered, and never are. A
// CA that is not ours may write what it likes, which makes no certificate of it one of ours.
func TestTenants(t *testing.T) {
	b := newBench(t, Options{})
	other := newCA(t, "other CA")
	mine := b.device("pump")
	key, ok := mine.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatal("no key")
	}
	for i, id := range []string{"pump", "new"} {
		theirs := b.ca.issueIn(t, "other", key, "device", id, 0, int64(5000+i))
		if v := b.Check(theirs); v != (Verdict{Cause: CauseTenant, Device: id}) || v.Err() == nil || !strings.Contains(v.Err().Error(), "another tenant") {
			t.Errorf("%+v", v)
		}
		if err := b.Issued(b.ctx, id, theirs); !errors.Is(err, ErrIssuer) {
			t.Errorf("%v, want ErrIssuer", err)
		}
	}
	for _, tenant := range []string{"default", "other"} {
		key := other.issue(t, "device", "x", 0).PublicKey.(*ecdsa.PublicKey)
		if v := b.Check(other.issueIn(t, tenant, key, "device", "pump", 0, 6000)); v.Known || v.Decision != Allow {
			t.Errorf("a foreign certificate for tenant %s: %+v", tenant, v)
		}
	}
	if d, _ := b.Get("pump"); len(d.Certificates) != 1 {
		t.Errorf("%+v", d.Certificates)
	}
	if _, ok := b.Get("new"); ok {
		t.Error("a device of another tenant is registered")
	}
	if v := b.Check(mine); !v.Known || v.Decision != Allow {
		t.Errorf("%+v", v)
	}

	b.o.Tenant = "other"
	if v := b.Check(mine); v.Cause != CauseTenant {
		t.Errorf("to another tenant: %+v", v)
	}
}
