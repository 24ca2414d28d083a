package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// A certificate is for who was ordered, registered when it is returned, and its signature is in the log once.
func TestIssue(t *testing.T) {
	b := newBench(t, Config{CRL: "http://broker.lan/pki/device.crl"})
	csr := newCSR(t)
	got := b.must(Order{ID: "pump-17", CSR: csr, Groups: []string{"sensors", "hall"}, Attributes: map[string]string{"site": "north"}, Via: "claim 3f2a"})
	leaf := got.Leaf
	if !got.New || got.Device != "pump-17" || leaf.Subject.CommonName != "pump-17" || leaf.Subject.OrganizationalUnit[0] != "hall" {
		t.Errorf("%+v, subject %s", got, leaf.Subject)
	}
	if len(leaf.CRLDistributionPoints) != 1 || !leaf.NotAfter.Equal(start.AddDate(1, 0, 0)) {
		t.Errorf("CRL %v, until %v", leaf.CRLDistributionPoints, leaf.NotAfter)
	}
	if want := start.Add(365 * 24 * time.Hour / 3 * 2); !got.RenewAt.Equal(want) {
		t.Errorf("renew at %v, want %v", got.RenewAt, want)
	}
	if string(got.CA) != string(b.CA().RootPEM()) || !strings.HasPrefix(string(got.Cert), "-----BEGIN CERTIFICATE") {
		t.Errorf("CA %q, certificate %q", got.CA, got.Cert)
	}
	d, ok := b.reg.Get("pump-17")
	if !ok || len(d.Certificates) != 1 || d.Attributes["site"] != "north" || d.State != registry.Active {
		t.Errorf("%+v", d)
	}
	block, _ := pem.Decode(csr)
	sum := sha256.Sum256(block.Bytes)
	log := b.log.take()
	want := fmt.Sprintf(`msg="certificate signed" device=pump-17 serial=%s csr=%s via="claim 3f2a"`, d.Certificates[0].Serial, hex.EncodeToString(sum[:]))
	if strings.Count(log, "certificate signed") != 1 || !strings.Contains(log, want) {
		t.Errorf("log %s\nwithout %s", log, want)
	}
	// What a device that is there says of groups does not count.
	b.do(func() error {
		_, err := b.Issue(context.Background(), Order{ID: "pump-17", CSR: newCSR(t), Groups: []string{"other"}, Via: "renewal"})
		return err
	}())
	if d, _ = b.reg.Get("pump-17"); len(d.Groups) != 2 || len(d.Certificates) != 2 {
		t.Errorf("%+v", d)
	}
	if log := b.log.take(); !strings.Contains(log, "who=renewal") {
		t.Error(log)
	}
}

// Operators and claims are kept apart from devices, and listed when asked for.
func TestIssueKinds(t *testing.T) {
	b := newBench(t, Config{})
	b.device("line")
	op := b.must(Order{ID: "line", Kind: pki.Operator, CSR: newCSR(t)}).Leaf
	claim := b.must(Order{ID: "line", Kind: pki.Claim, CSR: newCSR(t), Must: BeNew}).Leaf
	for query, want := range map[string]string{"": "[line]", "operator/": "[operator/line]", "claim/*": "[claim/line]"} {
		if ids, err := b.reg.IDs(registry.Query{ID: query}); err != nil || fmt.Sprint(ids) != want {
			t.Errorf("%q: %v, %v", query, ids, err)
		}
	}
	if claim.URIs[0].String() != "urn:mqtts:default:claim:line" || op.URIs[0].String() != "urn:mqtts:default:operator:line" {
		t.Error(claim.URIs, op.URIs)
	}
	if restricted, err := b.Admit(claim); !restricted || err != nil {
		t.Error(restricted, err)
	}
	b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, "claim/line"))
	if _, err := b.Admit(claim); err == nil {
		t.Error("a revoked claim is admitted")
	}
	if restricted, err := b.Admit(op); restricted || err != nil {
		t.Error(restricted, err)
	}
}

// What is refused is refused before anything is signed, with an error that callers can tell.
func TestIssueRefuses(t *testing.T) {
	b := newBench(t, Config{Life: 48 * time.Hour})
	key := newKey(t)
	used := b.must(Order{ID: "known", CSR: csrOf(t, key)})
	for _, id := range []string{"off", "wait", "gone", "odd"} {
		b.device(id)
	}
	b.do(b.reg.Disable(b.ctx, "off"))
	b.do(b.reg.Update(b.ctx, "wait", func(d *registry.Device) error { d.State = registry.Pending; return nil }))
	b.do(b.reg.Revoke(b.ctx, pki.Unspecified, "gone"))
	b.do(b.reg.Quarantine(b.ctx, "odd"))
	lost := newKey(t)
	b.must(Order{ID: "lost", CSR: csrOf(t, lost)})
	b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, "lost"))
	b.log.take()
	var refused *pki.Refusal
	for name, c := range map[string]struct {
		o    Order
		is   error
		code pki.Code
		text string
	}{
		"new":        {Order{ID: "known", Must: BeNew}, registry.ErrExists, "", "exists"},
		"known":      {Order{ID: "new", Must: BeKnown}, registry.ErrUnknown, "", "no such device"},
		"disabled":   {Order{ID: "off"}, ErrDisabled, "", "it is disabled"},
		"pending":    {Order{ID: "wait"}, ErrDisabled, "", "it is pending"},
		"revoked":    {Order{ID: "gone"}, registry.ErrRevoked, "", "revoked"},
		"id":         {Order{ID: "a/b"}, nil, pki.CodeIdentity, "only A-Z"},
		"operator":   {Order{ID: "operator/x"}, nil, pki.CodeIdentity, "only A-Z"},
		"kind":       {Order{ID: "x", Kind: "broker"}, nil, pki.CodeIdentity, "kind"},
		"group":      {Order{ID: "x", Groups: []string{"a b"}}, nil, pki.CodeIdentity, "group"},
		"life":       {Order{ID: "x", Life: 49 * time.Hour}, nil, pki.CodeLifetime, "at most 48h"},
		"short life": {Order{ID: "x", Life: time.Minute}, nil, pki.CodeLifetime, "between"},
		"no CSR":     {Order{ID: "x", CSR: []byte("x")}, nil, pki.CodeCSR, "parse CSR"},
		"key":        {Order{ID: "x", CSR: csrOf(t, key)}, nil, pki.CodeKeyUsed, "device:known has it already"},
		"lost key":   {Order{ID: "x", CSR: csrOf(t, lost)}, registry.ErrKey, pki.CodeKeyUsed, "others know it"},
		"state":      {Order{ID: "x", State: registry.Revoked}, nil, pki.CodeIdentity, "revoke it instead"},
	} {
		if c.o.CSR == nil {
			c.o.CSR = newCSR(t)
		}
		_, err := b.Issue(b.ctx, c.o)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || !IsRefusal(err) {
			t.Errorf("%s: %v", name, err)
		}
		if c.code != "" && (!errors.As(err, &refused) || refused.Code != c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Issue(ended, Order{ID: "x", CSR: newCSR(t)}); !errors.Is(err, context.Canceled) || IsRefusal(err) {
		t.Error(err)
	}
	b.store.refuse.Store(true)
	if _, err := b.Issue(b.ctx, Order{ID: "x", CSR: newCSR(t)}); !errors.Is(err, errFull) {
		t.Error(err)
	}
	b.store.refuse.Store(false)
	if log := b.log.take(); strings.Contains(log, "signed") {
		t.Error(log)
	}
	if _, ok := b.reg.Get("x"); ok {
		t.Error("a device of an order that was refused")
	}
	// The same device with the key that it has, and one in quarantine, may renew.
	if again := b.must(Order{ID: "known", CSR: csrOf(t, key), Must: BeKnown}); again.New || again.Leaf.Equal(used.Leaf) {
		t.Error(again)
	}
	b.must(Order{ID: "odd", CSR: newCSR(t), Must: BeKnown})
	// So may one whose certificate was revoked for another reason than its key, if the device was not.
	b.do(b.reg.RevokeCertificate(b.ctx, serialOf(used.Leaf.SerialNumber), pki.Superseded))
	b.must(Order{ID: "known", CSR: csrOf(t, key)})
}

// Of many who order one new device one gets it, and of many who use one key for several.
func TestIssueOnce(t *testing.T) {
	b := newBench(t, Config{})
	key := newKey(t)
	var won, same atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		csr, shared := newCSR(t), csrOf(t, key)
		all.Go(func() {
			switch _, err := b.Issue(b.ctx, Order{ID: "one", CSR: csr, Must: BeNew}); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, registry.ErrExists):
				t.Error(err)
			}
			if _, err := b.Issue(b.ctx, Order{ID: fmt.Sprint("many-", i), CSR: shared}); err == nil {
				same.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || same.Load() != 1 {
		t.Errorf("%d devices, %d with one key", won.Load(), same.Load())
	}
	if d, _ := b.reg.Get("one"); len(d.Certificates) != 1 {
		t.Errorf("%d certificates", len(d.Certificates))
	}
}

// A device that is revoked while its certificate is being signed does not get it.
func TestIssueRevokedMeanwhile(t *testing.T) {
	b := newBench(t, Config{})
	b.device("d")
	cfg := b.pki()
	cfg.Policy.Enforcers = []pki.Step{{Name: "revoke", Check: func(*pki.Request, *x509.Certificate) error {
		return b.reg.Revoke(b.ctx, pki.Unspecified, "d")
	}}}
	b.folder.Store(b.Folder().With(cfg))
	if _, err := b.Issue(b.ctx, Order{ID: "d", CSR: newCSR(t)}); !errors.Is(err, registry.ErrRevoked) {
		t.Error(err)
	}
}

// Signatures a second, with the request checked and the certificate registered.
func BenchmarkIssue(b *testing.B) {
	csrs := make([][]byte, 1024)
	for i := range csrs {
		csrs[i] = newCSR(b)
	}
	var e *bench
	n := 0
	for b.Loop() {
		if n%(len(csrs)*registry.MaxCertificates) == 0 { // no device can have more
			b.StopTimer()
			e = newBench(b, Config{})
			e.log = nil
			e.open(Config{})
			b.StartTimer()
		}
		e.must(Order{ID: fmt.Sprint("d-", n%len(csrs)), CSR: csrs[n%len(csrs)]})
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "signatures/s")
}
