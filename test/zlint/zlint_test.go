// Package zlint checks every kind of certificate and revocation list that the
// CA makes with zlint. Findings that hold for the public web alone are listed
// in allowed.txt with the reason; any other error, and any line of the list
// that nothing needs, is a failure.
package zlint

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/sealmq/sealmq/pki"
)

// allowed reads lines "lint-name reason".
func allowed(t *testing.T) map[string]bool {
	t.Helper()
	f, err := os.Open("allowed.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		if reason == "" || out[name] {
			t.Errorf("allowed.txt: %s has no reason or comes twice", name)
		}
		out[name] = false
	}
	return out
}

type item struct {
	name string
	der  []byte
}

// everything is a certificate of each profile.
func everything(t *testing.T) (certs, lists []item) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := pki.Config{CRL: "http://broker.example.org/pki/device.crl"}
	a, err := pki.Create(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, c *x509.Certificate) { certs = append(certs, item{name, c.Raw}) }
	for _, l := range a.Lives() {
		add(l.Name, l.Cert)
	}
	issue := func(name string, r pki.Request) {
		t.Helper()
		b, err := a.Sign(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		add(name, b.Leaf)
	}
	issue("broker", pki.Request{Hosts: []string{"broker.example.org", "192.168.1.10", "2001:db8::1"}})
	issue("broker of a bare name", pki.Request{Hosts: []string{"localhost", "broker.local"}})
	issue("device", pki.Request{Kind: pki.Device, ID: "pump-17", Group: "sensors"})
	issue("operator", pki.Request{Kind: pki.Operator, ID: "operator"})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"P-384": p384, "Ed25519": ed, "RSA": rsaKey} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.ParseCSR(der)
		if err != nil {
			t.Fatal(err)
		}
		issue("device with "+name, pki.Request{CSR: csr, Kind: pki.Device, ID: "pump-17"})
	}

	crl, err := a.SignCRL("device", pki.CRL{Number: 1, Entries: []pki.Revoked{{Serial: big.NewInt(1 << 40), Reason: pki.KeyCompromise}, {Serial: big.NewInt(1 << 41)}}})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := a.SignCRL("broker", pki.CRL{Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	lists = append(lists, item{"device CRL", crl}, item{"empty CRL", empty})

	if _, err := pki.RenewIssuing(dir, true, cfg); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(pki.Announce(dir, pki.Announcement{}, cfg), pki.Switch(dir, pki.Seen{}, false, cfg)); err != nil {
		t.Fatal(err)
	}
	if a, err = pki.Open(dir, cfg); err != nil {
		t.Fatal(err)
	}
	add("cross-signed root", a.CrossRoot())
	b, err := a.IssueBroker([]string{"broker.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseCertificates(b.Cert)
	if err != nil {
		t.Fatal(err)
	}
	add("cross-signed broker CA", chain[1])
	add("renewed device CA", a.DeviceCAs()[1])
	return certs, lists
}

func TestZlint(t *testing.T) {
	ok := allowed(t)
	certs, lists := everything(t)
	report := func(name string, rs *zlint.ResultSet) {
		var found []string
		for id, r := range rs.Results {
			if r.Status != lint.Error && r.Status != lint.Fatal {
				continue
			}
			if _, is := ok[id]; is {
				ok[id] = true
				continue
			}
			found = append(found, id+" "+r.Details)
		}
		slices.Sort(found)
		for _, f := range found {
			t.Errorf("%s: %s", name, f)
		}
	}
	for _, c := range certs {
		parsed, err := zx509.ParseCertificate(c.der)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		report(c.name, zlint.LintCertificate(parsed))
	}
	for _, l := range lists {
		parsed, err := zx509.ParseRevocationList(l.der)
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		report(l.name, zlint.LintRevocationList(parsed))
	}
	for id, used := range ok {
		if !used {
			t.Errorf("allowed.txt: nothing needs %s", id)
		}
		if l := lint.GlobalRegistry().CertificateLints().ByName(id); l == nil || l.Source != lint.CABFBaselineRequirements {
			t.Errorf("allowed.txt: %s is no rule for the public web alone", id)
		}
	}
	t.Logf("%d certificates and %d revocation lists, %d lints allowed", len(certs), len(lists), len(ok))
}
