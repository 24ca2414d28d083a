package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// source is a Source of fixed certificates.
type source map[string]*tls.Certificate

func (s source) Get(h *tls.ClientHelloInfo) (*tls.Certificate, bool) {
	c, ok := s[h.ServerName]
	return c, ok
}

func (s source) ChallengeConfig(h *tls.ClientHelloInfo) *tls.Config {
	if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == "acme-tls/1" {
		return &tls.Config{}
	}
	return nil
}

func TestNames(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	first := d.pair("first", a.server("one.example.org", "*.example.org", "EXAMPLE.net", "192.0.2.1"))
	second := d.pair("second", a.server("two.example.org", "*.sub.example.org", "*.example.org"))
	acme := source{
		"acme.example.org": a.server("ACME"), "one.example.org": a.server("ACME one"), "wild.example.org": a.server("ACME wild"),
		"": a.server("ACME default"), "192.0.2.9": a.server("ACME address"),
	}
	f := folder(t)
	if err := f.AddHosts([]string{"broker.lan", "x.example.org"}); err != nil {
		t.Fatal(err)
	}
	own := func(o *Options) { o.Folder = func() *pki.Folder { return f } }
	const ours = "broker.lan" // the common name of our own certificate

	for _, rigged := range []struct {
		what string
		spec Spec
		want map[string]string
	}{
		{"all kinds", Spec{Pairs: []Pair{first, second}, Own: true, Source: acme}, map[string]string{
			"one.example.org": "one.example.org", "ONE.Example.ORG": "one.example.org", "two.example.org": "two.example.org",
			"three.example.org": "one.example.org", "a.sub.example.org": "two.example.org", "b.a.sub.example.org": "one.example.org",
			"example.net": "one.example.org", "example.org": "one.example.org", "acme.example.org": "ACME",
			"wild.example.org": "ACME wild", "x.example.org": "one.example.org", "broker.lan": ours, "localhost": ours,
			"": "one.example.org", "192.0.2.1": "one.example.org", "192.0.2.9": "one.example.org", "::1": "one.example.org",
			"127.0.0.1": "one.example.org", "nobody.invalid": "one.example.org", ".": "one.example.org", ".example.org": "one.example.org",
		}},
		{"files alone", Spec{Pairs: []Pair{second, first}}, map[string]string{
			"": "two.example.org", "one.example.org": "one.example.org", "broker.lan": "two.example.org", "x.example.org": "two.example.org",
		}},
		{"our own alone", Spec{}, map[string]string{"": ours, "localhost": ours, "nobody.invalid": ours, "127.0.0.1": ours}},
		{"our own and a source", Spec{Source: acme}, map[string]string{
			"": "ACME default", "192.0.2.9": "ACME address", "acme.example.org": "ACME", "localhost": ours, "nobody.invalid": ours, "192.0.2.1": ours,
		}},
		{"files and a source", Spec{Pairs: []Pair{second}, Source: acme}, map[string]string{
			"": "two.example.org", "acme.example.org": "ACME", "one.example.org": "ACME one", "localhost": "two.example.org",
		}},
	} {
		t.Run(rigged.what, func(t *testing.T) {
			r := newRig(t, rigged.spec, own)
			for name, want := range rigged.want {
				if got := r.shows(name); got != want {
					t.Errorf("%q is shown the certificate of %q, want %q", name, got, want)
				}
			}
			r.fine()
			if rigged.spec.Source == nil {
				if c := r.l.ChallengeConfig(&tls.ClientHelloInfo{SupportedProtos: []string{"acme-tls/1"}}); c != nil {
					t.Error("a challenge is answered without a source")
				}
			} else if r.l.ChallengeConfig(&tls.ClientHelloInfo{SupportedProtos: []string{"acme-tls/1"}}) == nil {
				t.Error("no challenge is answered")
			}
		})
	}
}

// Two pairs for one name: the client gets the one that it can verify.
func TestTwoKindsOfKey(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	leaf := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(99), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{"b.example.org"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, pub, a.key)
	ed := d.pair("ed", &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: priv})
	ec := d.pair("ec", a.server("b.example.org"))
	r := newRig(t, Spec{Pairs: []Pair{ed, ec}})
	for _, name := range []string{"b.example.org", ""} {
		small := &tls.ClientHelloInfo{
			ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		}
		c, err := r.l.GetCertificate(small)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok {
			t.Errorf("a client of %q without Ed25519 is shown %T", name, c.PrivateKey)
		}
		small.SignatureSchemes = append(small.SignatureSchemes, tls.Ed25519)
		if c, _ = r.l.GetCertificate(small); c.Leaf.SerialNumber.Int64() != 99 {
			t.Errorf("the first of two for %q was not preferred", name)
		}
	}
}

func TestGetCertificateDoesNotAllocate(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	r := newRig(t, Spec{
		Pairs: []Pair{d.pair("a", a.server("one.example.org", "*.example.org")), d.pair("b", a.server("two.example.org"))}, Source: source{},
	})
	for _, name := range []string{"", "one.example.org", "two.example.org", "three.example.org", "nobody.invalid", "192.0.2.1"} {
		h := &tls.ClientHelloInfo{ServerName: name}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := r.l.GetCertificate(h); err != nil {
				t.Fatal(err)
			}
			r.l.ClientCAs()
		}); n > 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

// Nor does the judgement of our own devices.
func TestVerifyConnectionDoesNotAllocate(t *testing.T) {
	f := folder(t)
	b, err := f.IssueDevice("pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Spec{TrustOwn: true}, func(o *Options) {
		o.Folder = func() *pki.Folder { return f }
		o.Verify = func(*x509.Certificate, bool) error { return nil }
	})
	cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{b.Leaf}, VerifiedChains: [][]*x509.Certificate{{b.Leaf, f.CA().DeviceCAs()[0]}}}
	if n := testing.AllocsPerRun(100, func() {
		if err := r.l.VerifyConnection(cs); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	a, d := newCA(b, "a"), newDir(b)
	r := newRig(b, Spec{Pairs: []Pair{d.pair("a", a.server("one.example.org", "*.example.org"))}})
	h := &tls.ClientHelloInfo{ServerName: "three.example.org"}
	b.ReportAllocs()
	for b.Loop() {
		r.l.GetCertificate(h)
	}
}
