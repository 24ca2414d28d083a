package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// refused fails the test unless err is a refusal with a code and a text.
func refused(t *testing.T, what string, err error, code uint8, text string) {
	t.Helper()
	var r *auth.Refusal
	if !errors.As(err, &r) || uint8(r.Code) != code || !strings.Contains(r.Text, text) {
		t.Errorf("%s: %v, want %#x %s", what, err, code, text)
	}
}

// A certificate and whoever has connected with it are judged alike, and told why.
func TestAdmitAndStands(t *testing.T) {
	b := newBench(t, Config{})
	judge := func(what string, leaf *x509.Certificate, restricted bool, text string) {
		t.Helper()
		narrow, err := b.Admit(leaf)
		again, err2 := b.Stands(principal(leaf))
		if text != "" {
			refused(t, what, err, 0x87, text)
			refused(t, what, err2, 0x98, text)
		} else if err != nil || err2 != nil || narrow != restricted || again != restricted {
			t.Errorf("%s: restricted %v, %v; %v, %v", what, narrow, again, err, err2)
		}
	}
	leaf, old := b.device("pump-17"), b.device("pump-18")
	judge("active", leaf, false, "")
	b.do(b.reg.Quarantine(b.ctx, "pump-17"))
	judge("quarantined", leaf, true, "")
	b.do(b.reg.Disable(b.ctx, "pump-17"))
	judge("disabled", leaf, false, "the device is disabled")
	b.do(b.reg.Update(b.ctx, "pump-17", func(d *registry.Device) error { d.State = registry.Pending; return nil }))
	judge("pending", leaf, false, "the device waits for approval: sealmq device enable pump-17")
	if _, err := b.Stands(&auth.Principal{Kind: "device", Name: "pump-17"}); err == nil {
		t.Error("a pending device without a certificate stands")
	}
	b.do(b.reg.Enable(b.ctx, "pump-17"))
	judge("enabled", leaf, false, "")
	b.do(b.reg.RevokeCertificate(b.ctx, serialOf(leaf.SerialNumber), pki.Unspecified))
	judge("revoked certificate", leaf, false, "this certificate is revoked")
	if _, err := b.Stands(&auth.Principal{Kind: "device", Name: "pump-17"}); err != nil {
		t.Error(err)
	}
	b.do(b.reg.Revoke(b.ctx, pki.Unspecified, "pump-17"))
	judge("revoked device", leaf, false, "this certificate is revoked")
	fresh := b.device("pump-18")
	b.do(b.reg.Supersede(b.ctx, "pump-18", serialOf(fresh.SerialNumber)))
	judge("superseded", old, false, "replaced by a newer one")
	judge("its successor", fresh, false, "")
	b.do(b.reg.Purge(b.ctx, "pump-18"))
	judge("purged", fresh, false, "this certificate is revoked")

	// What another CA issued is left to those who trust it.
	foreign := newBench(t, Config{}).device("stranger")
	judge("foreign", foreign, false, "")
	if _, err := b.Stands(&auth.Principal{Name: "alice", Method: "password"}); err != nil {
		t.Error(err)
	}
	b.open(Config{Strict: true})
	judge("foreign, strict", foreign, false, "")
	bundle, err := b.CA().IssueClient(pki.Device, "unknown", "")
	b.do(err)
	_, err = b.Admit(bundle.Leaf)
	refused(t, "ours, strict", err, 0x87, "this certificate is not registered")
}

// Certificates from before there was a registry are registered when they are seen first; claims are not, for there were none.
func TestAdopt(t *testing.T) {
	b := newBench(t, Config{})
	for kind, ok := range map[pki.Kind]bool{pki.Device: true, pki.Operator: true, pki.Claim: false} {
		bundle, err := b.CA().IssueClient(kind, "old", "")
		b.do(err)
		if _, err := b.Admit(bundle.Leaf); (err == nil) != ok {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := b.Stands(principal(bundle.Leaf)); (err == nil) != ok {
			t.Errorf("%s: %v", kind, err)
		}
		if d, found := b.reg.Get(registry.ID(kind, "old")); found != ok || ok && len(d.Certificates) != 1 {
			t.Errorf("%s: %+v", kind, d)
		}
	}
}

// The certificate that the folder has for its operator is registered, also when only those are let in, and not once more
// when it was revoked.
func TestOperatorFile(t *testing.T) {
	b := newBench(t, Config{Strict: true})
	b.due(b.ctx) // there is none yet
	if _, err := b.Folder().Operator(); err != nil {
		t.Fatal(err)
	}
	_, path, _ := b.Folder().OperatorFiles()
	text, err := os.ReadFile(path)
	b.do(err)
	chain, err := pki.ParseCertificates(text)
	b.do(err)
	_, err = b.Admit(chain[0])
	refused(t, "before", err, 0x87, "not registered")
	b.store.refuse.Store(true)
	b.due(b.ctx)
	b.store.refuse.Store(false)
	for range 2 {
		b.due(b.ctx)
		if _, err := b.Admit(chain[0]); err != nil {
			t.Error(err)
		}
		b.open(Config{Strict: true})
	}
	b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, "operator/operator"))
	b.log.take()
	b.due(b.ctx)
	if log := b.log.take(); strings.Contains(log, "not registered") {
		t.Error(log)
	}
	_, err = b.Admit(chain[0])
	refused(t, "revoked", err, 0x87, "revoked")
	b.do(os.WriteFile(path, []byte("rubbish"), 0o600))
	for range 3 {
		b.due(b.ctx)
	}
	if log := b.log.take(); strings.Count(log, "the operator's certificate is not registered") != 1 {
		t.Error(log)
	}
}

// Whoever is registered is judged without garbage.
func TestAllocs(t *testing.T) {
	b := newBench(t, Config{})
	for _, kind := range []pki.Kind{pki.Device, pki.Operator, pki.Claim} {
		leaf := b.must(Order{ID: strings.Repeat("i", 64), Kind: kind, CSR: newCSR(t)}).Leaf
		p := principal(leaf)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := b.Admit(leaf); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Stands(p); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

// certificates tells the states of a device's certificates, the newest first.
func (b *bench) certificates(id string) string {
	d, _ := b.reg.Get(id)
	var all []string
	for _, c := range d.Certificates {
		all = append(all, string(c.State))
	}
	return strings.Join(all, " ")
}

// The first connection with a certificate ends those before it; that of an operator does not.
func TestSaw(t *testing.T) {
	b := newBench(t, Config{})
	b.run()
	b.device("d")
	b.advance(time.Minute)
	second := b.device("d")
	b.advance(time.Minute)
	third := b.device("d")
	b.Saw(second, registry.Seen{Address: "192.0.2.1:5"})
	until(t, "the first is superseded", func() bool { return b.certificates("d") == "active active superseded" })
	d, _ := b.reg.Get("d")
	if d.Seen.Address != "192.0.2.1:5" || d.Seen.Serial != serialOf(second.SerialNumber) {
		t.Errorf("%+v", d.Seen)
	}
	b.Saw(third, registry.Seen{})
	until(t, "the second is superseded", func() bool { return b.certificates("d") == "active superseded superseded" })

	var ops [2]*x509.Certificate
	for i := range ops {
		ops[i] = b.must(Order{ID: "alice", Kind: pki.Operator, CSR: newCSR(t)}).Leaf
		b.advance(time.Minute)
	}
	b.Saw(ops[1], registry.Seen{})
	if len(b.replaced) != 0 || b.certificates("operator/alice") != "active active" {
		t.Error(b.certificates("operator/alice"))
	}
}

// Certificates end when their overlap is over, though the new one was not used, and no sooner; and those of many devices do
// though no more are remembered.
func TestOverlap(t *testing.T) {
	b := newBench(t, Config{Overlap: 48 * time.Hour})
	b.device("d")
	b.advance(time.Hour)
	b.device("d")
	b.advance(24 * time.Hour)
	b.device("d")
	for _, c := range []struct {
		wait time.Duration
		want string
	}{
		{0, "active active active"}, {23 * time.Hour, "active active active"}, {2 * time.Hour, "active active superseded"},
		{24 * time.Hour, "active superseded superseded"}, {24 * time.Hour, "active superseded superseded"},
	} {
		b.advance(c.wait)
		b.sweep(b.ctx)
		if got := b.certificates("d"); got != c.want {
			t.Errorf("after %v more: %s, want %s", c.wait, got, c.want)
		}
	}
	for i := range maxReplaced + 10 {
		b.replace(fmt.Sprint(i), "01")
	}
	b.open(Config{Overlap: -1})
	b.device("e")
	b.advance(time.Second)
	b.device("e")
	b.run()
	until(t, "without overlap the first is superseded", func() bool { return b.certificates("e") == "active superseded" })
}

// Judging a session again, as the broker does with all of them after a change.
func BenchmarkStands(b *testing.B) {
	e := newBench(b, Config{})
	p := principal(e.device("d"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Stands(p); err != nil {
			b.Fatal(err)
		}
	}
}
