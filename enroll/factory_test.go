package enroll

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// maker is the CA of a device maker.
type maker struct {
	t    testing.TB
	b    *bench
	cert *x509.Certificate
	key  key
	next int64
}

func newMaker(b *bench, name string) *maker {
	m := &maker{t: b.t, b: b, key: newKey(b.t), next: 1000}
	m.cert = m.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &m.key.PublicKey)
	return m
}

func (m *maker) sign(tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey) *x509.Certificate {
	m.t.Helper()
	m.next++
	tmpl.SerialNumber = big.NewInt(m.next)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = m.b.clock.now().Add(-time.Hour), m.b.clock.now().AddDate(20, 0, 0)
	}
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, m.key)
	m.b.must(err)
	c, err := x509.ParseCertificate(der)
	m.b.must(err)
	return c
}

// leaf is a device's certificate.
func (m *maker) leaf(cn string, change func(*x509.Certificate)) *x509.Certificate {
	k := newKey(m.t)
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: cn, SerialNumber: "sn-" + cn}, DNSNames: []string{"dns-" + cn},
		URIs: []*url.URL{{Scheme: "urn", Opaque: "dev:uri-" + cn}}}
	if change != nil {
		change(tmpl)
	}
	return m.sign(tmpl, m.cert, &k.PublicKey)
}

// prove signs a registration code as a certificate.
func (m *maker) prove(code string) []byte {
	c := m.leaf(code, nil)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func (m *maker) register(f Factory) Factory {
	m.t.Helper()
	code, _, err := m.b.Challenge(m.b.ctx)
	m.b.must(err)
	f.CA = m.cert
	made, err := m.b.RegisterFactory(m.b.ctx, f, m.prove(code))
	m.b.must(err)
	return made
}

func TestRegisterFactory(t *testing.T) {
	b := newBench(t, Config{})
	changes := 0
	b.opt.Changed = func() { changes++ }
	b.reopen()
	m, other := newMaker(b, "maker"), newMaker(b, "other")
	code, until, err := b.Challenge(b.ctx)
	b.must(err)
	if !until.Equal(b.clock.now().Add(time.Hour)) {
		t.Errorf("until %v", until)
	}
	csr := func(m *maker, cn string) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, m.key)
		b.must(err)
		return der
	}
	f := Factory{Name: "acme", CA: m.cert, Serials: []string{"0A:0b", "1"}}
	for name, proof := range map[string][]byte{
		"nothing": nil, "noise": []byte("-----BEGIN"), "the CA": m.cert.Raw, "another's certificate": other.prove(code), "another's CSR": csr(other, code),
		"another code": m.prove("code"), "CSR of another code": csr(m, "code"), "too long": make([]byte, maxProof+1),
	} {
		if _, err := b.RegisterFactory(b.ctx, f, proof); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(b.Factories()) != 0 || changes != 0 {
		t.Fatal("registered")
	}
	b.reopen() // a code outlives a restart
	made, err := b.RegisterFactory(b.ctx, f, csr(m, code))
	b.must(err)
	if made.IDFrom != FromCN || made.State != registry.Pending || made.Serials[0] != "01" || made.Serials[1] != "0a0b" || changes != 1 {
		t.Errorf("registered %+v", made)
	}
	if _, err := b.RegisterFactory(b.ctx, Factory{Name: "third", CA: other.cert}, other.prove(code)); !errors.Is(err, ErrProof) {
		t.Errorf("used twice: %v", err)
	}
	late, _, err := b.Challenge(b.ctx)
	b.must(err)
	if _, err := b.RegisterFactory(b.ctx, f, m.prove(late)); !errors.Is(err, ErrFactory) {
		t.Errorf("the same name: %v", err)
	}
	f.Name = "again"
	if _, err := b.RegisterFactory(b.ctx, f, m.prove(late)); !errors.Is(err, ErrFactory) {
		t.Errorf("the same key: %v", err)
	}
	b.clock.advance(time.Hour)
	if _, err := b.RegisterFactory(b.ctx, Factory{Name: "other", CA: other.cert}, other.prove(late)); !errors.Is(err, ErrProof) {
		t.Errorf("late: %v", err)
	}
	leaf := newKey(t)
	for _, bad := range []Factory{{}, {Name: "x"}, {Name: "x", CA: m.sign(&x509.Certificate{}, m.cert, &leaf.PublicKey)}, {Name: "a/b", CA: m.cert},
		{Name: "x", CA: m.cert, IDFrom: "ou"}, {Name: "x", CA: m.cert, State: registry.Revoked}, {Name: "x", CA: m.cert, Prefix: "a/"},
		{Name: "x", CA: m.cert, Serials: []string{"xyz"}}, {Name: "x", CA: m.cert, MaxPerHour: -1}, {Name: "x", CA: m.cert, Groups: []string{"/"}}} {
		if _, err := b.RegisterFactory(b.ctx, bad, m.prove("x")); err == nil || errors.Is(err, ErrProof) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	b.reopen()
	if all := b.Factories(); len(all) != 1 || all[0].Name != "acme" || !all[0].CA.Equal(m.cert) {
		t.Errorf("after a restart %+v", all)
	}
	if err := b.RemoveFactory(b.ctx, "x"); !errors.Is(err, ErrNoFactory) {
		t.Errorf("removed: %v", err)
	}
	b.must(b.RemoveFactory(b.ctx, "acme"))
	b.reopen()
	if all := b.Factories(); len(all) != 0 || changes != 2 {
		t.Errorf("left %+v", all)
	}
}

func TestFactoryDevice(t *testing.T) {
	b := newBench(t, Config{})
	m := newMaker(b, "maker")
	made := m.register(Factory{Name: "acme", Prefix: "acme-", Groups: []string{"new"}, Attributes: map[string]string{"made": "2026"}, State: registry.Active, OnlyEnroll: true})
	leaf := m.leaf("7", nil)
	id, state, err := b.Factory(leaf)
	if err != nil || id != "acme-7" || state != registry.Active {
		t.Fatalf("%s %s %v", id, state, err)
	}
	d, _ := b.reg.Get(id)
	if d.Groups[0] != "new" || d.Attributes["made"] != "2026" || d.Attributes["factory"] != "acme" {
		t.Errorf("registered %+v", d)
	}
	if f, ok := b.FactoryOf(leaf); !ok || f.Name != made.Name || !f.OnlyEnroll {
		t.Errorf("of %+v", f)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: b.Pool(), CurrentTime: b.clock.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	b.must(b.reg.Disable(b.ctx, id))
	b.reopen()
	if _, state, err := b.Factory(leaf); state != registry.Disabled || err != nil {
		t.Errorf("%s %v", state, err)
	}
	b.must(b.reg.Enable(b.ctx, id))
	// it gets a certificate of ours with the factory's
	c := client{id: id, name: "7", cert: leaf, serial: "03e9"}
	g := b.wants(b.renewal(c, newKey(t)), "accepted", "")
	if g.Device != id {
		t.Errorf("device %s", g.Device)
	}
	if _, state, err = b.Factory(leaf); state != registry.Active || err != nil {
		t.Errorf("after enrolment: %s %v", state, err)
	}
	// and no claim gets its name
	token, _ := b.token(Claim{})
	b.wants(b.enrol(client{id: id}, newKey(t), token), "rejected", CodeIDTaken)

	b.must(b.reg.Add(b.ctx, registry.Device{ID: "acme-8"}))
	if id, state, err := b.Factory(m.leaf("8", nil)); err != nil || id != "acme-8" || state != registry.Active {
		t.Errorf("prepared: %s %s %v", id, state, err)
	}
	other, _ := b.device("acme-9")
	for name, leaf := range map[string]*x509.Certificate{
		"another key": m.leaf("7", nil),
		"one of ours": m.leaf("9", nil),
		"no id":       m.leaf("", nil),
		"bad id":      m.leaf("a/b", nil),
		"expired": m.leaf("10", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = b.clock.now().AddDate(-1, 0, 0), b.clock.now().Add(-time.Minute)
		}),
		"for servers": m.leaf("11", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"a CA": m.leaf("12", func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		}),
		"another maker":  newMaker(b, "maker").leaf("13", nil),
		"our own device": other.cert,
	} {
		if id, state, err := b.Factory(leaf); err == nil {
			t.Errorf("%s: %s %s", name, id, state)
		}
	}
	// a certificate of the maker that claims to be another device is what the template says it is
	forged := m.leaf("14", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "mqtts:default:device:acme-9"}} })
	as14 := b.wants(b.renewal(client{id: "acme-9", kind: "device", name: "acme-9", cert: forged}, newKey(t)), "accepted", "")
	if as14.Device != "acme-14" {
		t.Errorf("device %s", as14.Device)
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if !b.Stands(id, key) {
		t.Error("it does not stand")
	}
	b.must(b.RemoveFactory(b.ctx, "acme"))
	if _, _, err := b.Factory(leaf); err == nil || b.Stands(id, key) {
		t.Error("removed, and still trusted")
	}
	if !b.Stands(id, sha256.Sum256(parsePEM(t, g.Certificate).RawSubjectPublicKeyInfo)) || !b.Stands("x", key) {
		t.Error("one with a certificate of ours does not stand")
	}
}

// A CA that is removed, or was not registered after all, is no stranger whom a listener may take: its devices are refused.
func TestFactoryGone(t *testing.T) {
	b := newBench(t, Config{})
	m := newMaker(b, "maker")
	leaf := m.leaf("7", nil)
	refused := func() bool {
		_, ok := b.FactoryOf(leaf)
		_, _, err := b.Factory(leaf)
		return ok && errors.Is(err, errRemoved)
	}
	refuse := func(key string) error {
		if strings.HasPrefix(key, factoryPrefix) {
			return errors.New("disk broken")
		}
		return nil
	}
	code, _, err := b.Challenge(b.ctx)
	b.must(err)
	b.store.refuse.Store(&refuse)
	if _, err := b.RegisterFactory(b.ctx, Factory{Name: "acme", CA: m.cert}, m.prove(code)); err == nil || !refused() || len(b.Factories()) != 0 {
		t.Errorf("%v", err)
	}
	b.store.refuse.Store(nil)
	for range 2 {
		m.register(Factory{Name: "acme", State: registry.Active})
		if _, state, err := b.Factory(leaf); state != registry.Active {
			t.Error(err)
		}
		b.store.refuse.Store(&refuse)
		if err := b.RemoveFactory(b.ctx, "acme"); err == nil || refused() {
			t.Errorf("%v", err)
		}
		b.store.refuse.Store(nil)
		b.must(b.RemoveFactory(b.ctx, "acme"))
		if !refused() {
			t.Error("taken")
		}
	}
	b.reopen()
	if _, ok := b.FactoryOf(leaf); ok {
		t.Error("remembered")
	}
}

// A purge does not make a revoked device of a maker a new one.
func TestFactoryPurge(t *testing.T) {
	b := newBench(t, Config{})
	m := newMaker(b, "maker")
	m.register(Factory{Name: "acme", State: registry.Active})
	leaf := m.leaf("7", nil)
	meet := func(want registry.State) {
		t.Helper()
		if _, state, err := b.Factory(leaf); state != want || err != nil {
			t.Errorf("%s, %v", state, err)
		}
	}
	meet(registry.Active)
	b.must(b.reg.Purge(b.ctx, "7"))
	meet(registry.Active)
	b.must(b.reg.Revoke(b.ctx, pki.KeyCompromise, "7"))
	err := b.reg.Purge(b.ctx, "7")
	var h interface{ Hint() string }
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), "sealmq factory remove acme") {
		t.Error(err)
	}
	meet(registry.Revoked)
	b.must(b.RemoveFactory(b.ctx, "acme"))
	b.must(b.reg.Purge(b.ctx, "7"))
}

func TestFactoryIDs(t *testing.T) {
	for from, want := range map[IDFrom]string{FromCN: "7", FromSerial: "sn-7", FromDNS: "dns-7", FromURI: "uri-7"} {
		b := newBench(t, Config{})
		m := newMaker(b, "maker")
		m.register(Factory{Name: "acme", IDFrom: from})
		leaf := m.leaf("7", nil)
		if id, state, err := b.Factory(leaf); err != nil || id != want || state != registry.Pending {
			t.Errorf("%s: %q %s %v", from, id, state, err)
		}
		g := b.wants(b.renewal(client{id: want, cert: leaf}, newKey(t)), "rejected", CodeNotActive)
		if g.RetryAfter == 0 {
			t.Error("it shall ask again")
		}
	}
}

func TestFactoryLimits(t *testing.T) {
	b := newBench(t, Config{})
	m := newMaker(b, "maker")
	one, two, three := m.leaf("1", nil), m.leaf("2", nil), m.leaf("3", nil)
	m.register(Factory{Name: "acme", MaxPerHour: 1, Serials: []string{one.SerialNumber.Text(16), two.SerialNumber.Text(16)}})
	if _, _, err := b.Factory(three); err == nil {
		t.Error("a serial that is not in the list")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := b.Factory(one); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, _, err := b.Factory(two); err == nil {
		t.Error("more than one an hour")
	}
	b.clock.advance(time.Hour)
	if _, _, err := b.Factory(two); err != nil {
		t.Error(err)
	}
}
