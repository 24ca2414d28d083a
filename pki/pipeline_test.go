package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// newCSR asks for everything that it should not get.
func newCSR(t testing.TB, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "broker.lan", Organization: []string{"evil"}, OrganizationalUnit: []string{"admins"}},
		DNSNames:    []string{"broker.lan"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:        []*url.URL{urn("default", Operator, "operator")},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}, // CA
			{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}},
		},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseCSR(encodeCSR(der))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func codeOf(err error) Code {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// Nothing of a CSR but its key gets into the certificate.
func TestCSRIsReplaced(t *testing.T) {
	cfg := at(testTime)
	cfg.CRL = "http://broker.lan:8884/pki/device.crl"
	a := newAuthority(t, cfg)
	key, _ := plainKey(t)
	csr := newCSR(t, key)
	b, err := a.Sign(Request{CSR: csr, Kind: Device, ID: "pump-17", Group: "sensors", Life: 30 * day})
	if err != nil {
		t.Fatal(err)
	}
	c := b.Leaf
	if b.Key != nil || !key.PublicKey.Equal(c.PublicKey) {
		t.Error("not the key of the CSR")
	}
	if got := c.Subject.String(); got != "CN=pump-17,OU=sensors,O=default" {
		t.Errorf("subject %q", got)
	}
	if len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) != 0 || len(c.URIs) != 1 || c.URIs[0].String() != "urn:mqtts:default:device:pump-17" {
		t.Errorf("names %q %v %v", c.DNSNames, c.IPAddresses, c.URIs)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Error("it can do more than a client")
	}
	if !c.NotAfter.Equal(testTime.Add(30 * day)) {
		t.Errorf("ends %v", c.NotAfter)
	}
	var got []string
	for _, e := range c.Extensions {
		got = append(got, e.Id.String())
	}
	// key usage, extended, constraints, key ids, names, CRL: and none of the CSR's.
	want := []string{"2.5.29.15", "2.5.29.37", "2.5.29.19", "2.5.29.14", "2.5.29.35", "2.5.29.17", "2.5.29.31"}
	if !slices.Equal(got, want) {
		t.Errorf("extensions %v, want %v", got, want)
	}
	if !slices.Equal(c.CRLDistributionPoints, []string{cfg.CRL}) {
		t.Errorf("CRL at %q", c.CRLDistributionPoints)
	}

	b, err = a.Sign(Request{CSR: csr, Hosts: []string{"Node-1.lan"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Leaf.Subject.String(); got != "CN=node-1.lan" || !slices.Equal(b.Leaf.DNSNames, []string{"node-1.lan"}) || len(b.Leaf.URIs) > 0 || len(b.Leaf.CRLDistributionPoints) > 0 {
		t.Errorf("broker %q %q", got, b.Leaf.DNSNames)
	}
	if chain, err := ParseCertificates(b.Cert); err != nil || len(chain) != 2 {
		t.Errorf("a broker sends its issuer: %d %v", len(chain), err)
	}
}

func TestCSRKeyKinds(t *testing.T) {
	a := newAuthority(t, at(testTime))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{rsaKey, ed, p384} {
		b, err := a.Sign(Request{CSR: newCSR(t, key), Kind: Device, ID: "pump-17"})
		if err != nil || b.Leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 || b.Leaf.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("%T: %v", key, err)
		}
	}
	if _, err := a.Sign(Request{CSR: newCSR(t, p521), Kind: Device, ID: "pump-17"}); codeOf(err) != CodeKeyKind {
		t.Errorf("P-521: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	own, _ := plainKey(t)
	taken, _ := plainKey(t)
	takenSPKI, err := SPKIOf(taken.Public())
	if err != nil {
		t.Fatal(err)
	}
	cfg := at(testTime)
	cfg.Holder = func(k SPKI) (string, error) {
		switch k {
		case takenSPKI:
			return "urn:mqtts:default:device:pump-1", nil
		}
		return "", nil
	}
	a := newAuthority(t, cfg)
	broken := *newCSR(t, own)
	broken.Signature = slices.Clone(broken.Signature)
	broken.RawTBSCertificateRequest = append(slices.Clone(broken.RawTBSCertificateRequest), 0)
	for _, test := range []struct {
		name string
		r    Request
		code Code
		step string
	}{
		{"good", Request{CSR: newCSR(t, own), Kind: Device, ID: "pump-1"}, "", ""},
		{"renewal with the same key", Request{CSR: newCSR(t, taken), Kind: Device, ID: "pump-1"}, "", ""},
		{"key of another device", Request{CSR: newCSR(t, taken), Kind: Device, ID: "pump-2"}, CodeKeyUsed, "check who has the key"},
		{"key of another kind", Request{CSR: newCSR(t, taken), Kind: Operator, ID: "pump-1"}, CodeKeyUsed, "check who has the key"},
		{"key of the CA", Request{CSR: newCSR(t, a.device.key), Kind: Device, ID: "pump-2"}, CodeKeyUsed, "check who has the key"},
		{"signature", Request{CSR: &broken, Kind: Device, ID: "pump-2"}, CodeSignature, "check the CSR's signature"},
		{"id", Request{CSR: newCSR(t, own), Kind: Device, ID: "a/b"}, CodeIdentity, "check the identity"},
		{"group", Request{CSR: newCSR(t, own), Kind: Device, ID: "a", Group: "#"}, CodeIdentity, "check the identity"},
		{"kind", Request{CSR: newCSR(t, own), Kind: "root", ID: "a"}, CodeIdentity, "check the identity"},
		{"no kind", Request{CSR: newCSR(t, own), ID: "a"}, CodeIdentity, "check the identity"},
		{"host", Request{CSR: newCSR(t, own), Hosts: []string{"a b"}}, CodeIdentity, "check the identity"},
		{"short", Request{CSR: newCSR(t, own), Kind: Device, ID: "a", Life: time.Minute}, CodeLifetime, "check the lifetime"},
		{"long", Request{CSR: newCSR(t, own), Kind: Device, ID: "a", Life: 6 * 365 * day}, CodeLifetime, "check the lifetime"},
		{"negative", Request{CSR: newCSR(t, own), Kind: Device, ID: "a", Life: -day}, CodeLifetime, "check the lifetime"},
	} {
		_, err := a.Sign(test.r)
		var r *Refusal
		if test.code == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if !errors.As(err, &r) || r.Code != test.code || r.Step != test.step {
			t.Errorf("%s: %v, want %s by %q", test.name, err, test.code, test.step)
		}
	}
	if _, err := a.Sign(Request{Public: own.Public(), Kind: Device, ID: "a"}); err == nil {
		t.Error("a key without proof of possession")
	}
	for _, tenant := range []string{"a:b", "a b", strings.Repeat("x", 65)} {
		if _, err := Create(filepath.Join(t.TempDir(), "ca"), Config{Tenant: tenant}); err == nil {
			t.Errorf("tenant %q", tenant)
		}
	}
}

// Whatever a caller's modifier does, the enforcers see it.
func TestModifiersAreEnforced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, at(testTime)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(c *x509.Certificate)
		ok     bool
	}{
		"nothing":             {func(c *x509.Certificate) {}, true},
		"shorter":             {func(c *x509.Certificate) { c.NotAfter = testTime.Add(day) }, true},
		"policy":              {func(c *x509.Certificate) { c.Policies = []x509.OID{must(x509.ParseOID("1.2.3"))} }, true},
		"own extension":       {func(c *x509.Certificate) { c.ExtraExtensions = ext(1, 3, 6, 1, 4, 1, 55555, 1) }, true},
		"CA":                  {func(c *x509.Certificate) { c.IsCA = true }, false},
		"signs certificates":  {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, false},
		"server":              {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, false},
		"no purpose":          {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, false},
		"longer":              {func(c *x509.Certificate) { c.NotAfter = testTime.Add(6 * 365 * day) }, false},
		"over":                {func(c *x509.Certificate) { c.NotAfter = testTime.Add(-1) }, false},
		"future":              {func(c *x509.Certificate) { c.NotBefore = testTime.Add(1) }, false},
		"host name":           {func(c *x509.Certificate) { c.DNSNames = []string{"broker.lan"} }, false},
		"other identity":      {func(c *x509.Certificate) { c.URIs = []*url.URL{urn("default", Device, "pump-2")} }, false},
		"other subject":       {func(c *x509.Certificate) { c.Subject.CommonName = "pump-2" }, false},
		"raw subject":         {func(c *x509.Certificate) { c.RawSubject = []byte{0x30, 0} }, false},
		"serial":              {func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) }, false},
		"serial in place":     {func(c *x509.Certificate) { c.SerialNumber.SetInt64(1) }, false},
		"key identifier":      {func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} }, false},
		"standard extension":  {func(c *x509.Certificate) { c.ExtraExtensions = ext(2, 5, 29, 17) }, false},
		"name constraints":    {func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"x"} }, false},
		"weak signature wish": {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }, true},
		"zero path length":    {func(c *x509.Certificate) { c.MaxPathLenZero = true }, false},
		"critical extension":  {func(c *x509.Certificate) { c.ExtraExtensions = ext(1, 2, 3); c.ExtraExtensions[0].Critical = true }, false},
		"unknown purpose":     {func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }, false},
		"subject's extra name": {func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "x"}}
		}, false},
	} {
		cfg := at(testTime)
		cfg.Policy.Modifiers = []Step{{Name: "harm", Check: func(_ *Request, c *x509.Certificate) error { test.change(c); return nil }}}
		a, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		b, err := a.IssueClient(Device, "pump-1", "")
		if (err == nil) != test.ok || err != nil && codeOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && b.Leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 {
			t.Errorf("%s: signed with %v", name, b.Leaf.SignatureAlgorithm)
		}
	}
	cfg := at(testTime)
	cfg.Policy.Validators = []Step{{Name: "ask the registry", Check: func(r *Request, c *x509.Certificate) error {
		if c != nil || r.Identity() != "urn:mqtts:default:device:pump-1" || r.SPKI() == (SPKI{}) {
			t.Errorf("a validator sees %+v", r)
		}
		return errors.New("it is quarantined")
	}}}
	a, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.IssueClient(Device, "pump-1", "")
	wantError(t, err, "issue certificate: ask the registry: it is quarantined")
	if codeOf(err) != CodePolicy {
		t.Errorf("code %q", codeOf(err))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ext(id ...int) []pkix.Extension {
	return []pkix.Extension{{Id: id, Value: []byte{5, 0}}}
}

// Any id, group, life and key: the certificate has them, and Go's verifier takes it for a client alone.
func TestAnyClient(t *testing.T) {
	a := newAuthority(t, at(testTime))
	keys := []crypto.Signer{}
	for range 4 {
		k, _ := plainKey(t)
		keys = append(keys, k)
	}
	serials := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,63}`).Draw(t, "id")
		life := time.Duration(rapid.Int64Range(int64(minLife), int64(issuerLife)).Draw(t, "life"))
		r := Request{Kind: rapid.SampledFrom([]Kind{Device, Operator, Claim}).Draw(t, "kind"), ID: id, Life: life}
		if i := rapid.IntRange(-1, len(keys)-1).Draw(t, "key"); i >= 0 {
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, keys[i])
			if err != nil {
				t.Fatal(err)
			}
			if r.CSR, err = ParseCSR(der); err != nil {
				t.Fatal(err)
			}
		}
		b, err := a.Sign(r)
		if err != nil {
			t.Fatal(err)
		}
		c := b.Leaf
		if c.Subject.CommonName != id || c.URIs[0].String() != "urn:mqtts:default:"+string(r.Kind)+":"+id || serials[c.SerialNumber.String()] {
			t.Fatalf("%v %v", c.Subject, c.URIs)
		}
		serials[c.SerialNumber.String()] = true
		opts := x509.VerifyOptions{Roots: a.ClientCAs(), CurrentTime: testTime, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := c.Verify(opts); err != nil {
			t.Fatal(err)
		}
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if _, err := c.Verify(opts); err == nil {
			t.Fatal("a client is a server")
		}
	})
}

func TestParseCSR(t *testing.T) {
	key, plain := plainKey(t)
	csr := newCSR(t, key)
	text := encodeCSR(csr.Raw)
	for _, test := range []struct {
		name, want string
		b          []byte
	}{
		{"PEM", "", text},
		{"PEM behind text", "", append([]byte("subject=x\n"), text...)},
		{"old PEM", "", []byte(strings.ReplaceAll(string(text), "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"))},
		{"DER", "", csr.Raw},
		{"two", "more than one block", append(slices.Clone(text), text...)},
		{"key", `found a block "PRIVATE KEY"`, plain},
		{"cut off", "damaged PEM block", text[:len(text)-10]},
		{"trailing byte", "parse CSR", append(slices.Clone(csr.Raw), 0)},
		{"empty", "parse CSR", nil},
		{"long", "longer than", make([]byte, maxCSR+1)},
	} {
		_, err := ParseCSR(test.b)
		if test.want == "" && err != nil || test.want != "" && (codeOf(err) != CodeCSR || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	for n := range csr.Raw {
		if _, err := ParseCSR(csr.Raw[:n]); err == nil {
			t.Fatalf("cut off at %d it is a CSR", n)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	a, err := Create(filepath.Join(f.TempDir(), "ca"), at(testTime))
	if err != nil {
		f.Fatal(err)
	}
	key, _ := plainKey(f)
	csr := newCSR(f, key)
	f.Add(csr.Raw)
	f.Add(encodeCSR(csr.Raw))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(newCSR(f, rsaKey).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		csr, err := ParseCSR(b)
		if (err == nil) != (csr != nil) {
			t.Fatal(csr, err)
		}
		if err != nil {
			return
		}
		out, err := a.Sign(Request{CSR: csr, Kind: Device, ID: "pump-17"})
		if err != nil {
			if codeOf(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if c := out.Leaf; c.Subject.String() != "CN=pump-17,O=default" || c.IsCA || len(c.Extensions) != 6 {
			t.Fatalf("%v", c.Subject)
		}
	})
}

func BenchmarkSignCSR(b *testing.B) {
	a, err := Create(filepath.Join(b.TempDir(), "ca"), at(testTime))
	if err != nil {
		b.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ecKey, _ := plainKey(b)
	for name, key := range map[string]crypto.Signer{"P256": ecKey, "RSA2048": rsaKey} {
		text := encodeCSR(newCSR(b, key).Raw)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				csr, err := ParseCSR(text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.Sign(Request{CSR: csr, Kind: Device, ID: "pump-17"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
