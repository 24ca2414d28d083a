package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestReasons(t *testing.T) {
	for i := range 12 {
		r := Reason(i)
		got, err := ParseReason(r.String())
		if r.valid() != (err == nil) || err == nil && got != r {
			t.Errorf("%d is %q, which is %v %v", i, r, got, err)
		}
	}
	if r, err := ParseReason("keyCompromise"); err != nil || r != KeyCompromise {
		t.Errorf("%v %v", r, err)
	}
	_, err := ParseReason("")
	wantError(t, err, "key-compromise, ca-compromise")
}

func TestSignCRL(t *testing.T) {
	a := newAuthority(t, at(testTime))
	der, err := a.SignCRL("device", CRL{Number: 7, Entries: []Revoked{
		{Serial: big.NewInt(300), At: testTime.Add(-day), Reason: Superseded},
		{Serial: big.NewInt(5)},
		{Serial: big.NewInt(6), At: testTime.Add(day), Reason: KeyCompromise},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckSignatureFrom(a.device.cert); err != nil {
		t.Error(err)
	}
	if r.Number.Int64() != 7 || !r.ThisUpdate.Equal(testTime) || !r.NextUpdate.Equal(testTime.Add(day)) || !bytes.Equal(r.AuthorityKeyId, a.device.cert.SubjectKeyId) {
		t.Errorf("%v %v %v", r.Number, r.ThisUpdate, r.NextUpdate)
	}
	type row struct {
		serial int64
		at     time.Time
		reason int
		ext    int
	}
	var got []row
	for _, e := range r.RevokedCertificateEntries {
		got = append(got, row{e.SerialNumber.Int64(), e.RevocationTime, e.ReasonCode, len(e.Extensions)})
	}
	want := []row{{300, testTime.Add(-day), 4, 1}, {5, testTime, 0, 0}, {6, testTime, 1, 1}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Error(diff)
	}
	for name, list := range map[string]CRL{
		"twice":     {Entries: []Revoked{{Serial: big.NewInt(1)}, {Serial: big.NewInt(1)}}},
		"no serial": {Entries: []Revoked{{}}},
		"negative":  {Entries: []Revoked{{Serial: big.NewInt(-1)}}},
		"long":      {Entries: []Revoked{{Serial: new(big.Int).Lsh(big.NewInt(1), 160)}}},
		"reason":    {Entries: []Revoked{{Serial: big.NewInt(1), Reason: removeFromCRL}}},
		"life":      {Life: time.Second},
	} {
		if _, err := a.SignCRL("device", list); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if _, err := a.SignCRL("root", CRL{}); err == nil {
		t.Error("of the root, whose key is not here")
	}
	if _, err := a.SignCRL("broker", CRL{}); err != nil {
		t.Error(err)
	}
}

// signList signs a list that may be anything.
func signList(t testing.TB, iss issuer, change func(l *x509.RevocationList)) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testTime, NextUpdate: testTime.Add(day)}
	change(l)
	der, err := x509.CreateRevocationList(rand.Reader, l, iss.cert, iss.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// scope is an issuing distribution point.
func scope(t testing.TB, value any) []pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}}
}

func TestParseCRLs(t *testing.T) {
	a := newAuthority(t, at(testTime))
	good := signList(t, a.device, func(*x509.RevocationList) {})
	entries := func(e x509.RevocationListEntry) []byte {
		e.SerialNumber, e.RevocationTime = big.NewInt(1), testTime
		return signList(t, a.device, func(l *x509.RevocationList) { l.RevokedCertificateEntries = []x509.RevocationListEntry{e} })
	}
	extended := func(e []pkix.Extension) []byte {
		return signList(t, a.device, func(l *x509.RevocationList) { l.ExtraExtensions = e })
	}
	critical := func(id ...int) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: true, Value: []byte{5, 0}}}
	}
	text := string(EncodeCRL(good))
	for _, test := range []struct {
		name string
		b    []byte
		n    int
		want string
	}{
		{"DER", good, 1, ""},
		{"PEM", []byte(text), 1, ""},
		{"two", []byte(text + "text between\n" + text), 2, ""},
		{"reason", entries(x509.RevocationListEntry{ReasonCode: 1}), 1, ""},
		{"users alone", extended(scope(t, struct {
			U bool `asn1:"tag:1"`
		}{true})), 1, ""},
		{"other extension", extended([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}), 1, ""},
		{"empty", nil, 0, "it is empty"},
		{"no PEM", []byte("hello"), 0, "parse revocation list"},
		{"certificate", a.RootPEM(), 0, `found a block "CERTIFICATE"`},
		{"cut off", []byte(text[:len(text)-10]), 0, "damaged PEM block"},
		{"too many", []byte(strings.Repeat(text, maxCRLs+1)), 0, "more than"},
		{"long", make([]byte, maxCRLFile+1), 0, "longer than"},
		{"unknown critical", extended(critical(1, 2, 3)), 0, "critical extension 1.2.3"},
		{"delta", extended(critical(2, 5, 29, 27)), 0, "a delta list"},
		{"CAs alone", extended(scope(t, struct {
			C bool `asn1:"tag:2"`
		}{true})), 0, "CA or attribute certificates alone"},
		{"some reasons", extended(scope(t, struct {
			R asn1.BitString `asn1:"tag:3"`
		}{asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}})), 0, "some reasons alone"},
		{"indirect", extended(scope(t, struct {
			I bool `asn1:"tag:4"`
		}{true})), 0, "an indirect list"},
		{"damaged scope", extended(critical(2, 5, 29, 28)), 0, "damaged issuing"},
		{"damaged point", extended(scope(t, struct{ P asn1.RawValue }{asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{5, 0}}})), 0, "damaged issuing"},
		{"entry of another issuer", entries(x509.RevocationListEntry{ExtraExtensions: critical(2, 5, 29, 29)}), 0, "entry 1: unknown critical"},
		{"reason that is none", entries(x509.RevocationListEntry{ReasonCode: 8}), 0, "entry 1: reason 8"},
	} {
		lists, err := parseCRLs(test.b)
		wantError(t, err, test.want)
		if len(lists) != test.n {
			t.Errorf("%s: %d lists, want %d", test.name, len(lists), test.n)
		}
	}
	for n := range good {
		if _, err := parseCRLs(good[:n]); err == nil {
			t.Fatalf("cut off at %d it is a list", n)
		}
	}
}

// What is signed is found, and nothing else.
func TestCRLFinds(t *testing.T) {
	a := newAuthority(t, at(testTime))
	rapid.Check(t, func(t *rapid.T) {
		model := map[string]Reason{}
		var entries []Revoked
		serial := rapid.Custom(func(t *rapid.T) *big.Int {
			b := rapid.SliceOfN(rapid.Byte(), 1, 19).Draw(t, "serial")
			return new(big.Int).SetBytes(append([]byte{1}, b...))
		})
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			s := serial.Draw(t, "s")
			if _, ok := model[s.String()]; ok || s.BitLen() > 159 {
				continue
			}
			r := rapid.SampledFrom([]Reason{Unspecified, KeyCompromise, Superseded, CertificateHold}).Draw(t, "reason")
			model[s.String()] = r
			entries = append(entries, Revoked{Serial: s, At: testTime.Add(-time.Hour), Reason: r})
		}
		der, err := a.SignCRL("device", CRL{Number: 1, Entries: entries})
		if err != nil {
			t.Fatal(err)
		}
		lists, err := parseCRLs(der)
		if err != nil || len(lists[0].entries) != len(entries) {
			t.Fatal(err)
		}
		for _, e := range entries {
			got, ok := lists[0].find(e.Serial)
			if !ok || Reason(got.reason) != e.Reason || got.at != e.At.Unix() {
				t.Fatalf("%v: %v %v", e, got, ok)
			}
			near := new(big.Int).Add(e.Serial, big.NewInt(1))
			if _, ok := lists[0].find(near); ok != slices.ContainsFunc(entries, func(o Revoked) bool { return o.Serial.Cmp(near) == 0 }) {
				t.Fatalf("%v: %v", near, ok)
			}
		}
	})
}

// What openssl says of our lists, and we of its.
func TestOpenSSLReadsCRL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	a := newAuthority(t, Config{})
	b, err := a.IssueClient(Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := a.IssueClient(Device, "pump-18", "")
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.SignCRL("device", CRL{Number: 258, Entries: []Revoked{{Serial: b.Leaf.SerialNumber, Reason: KeyCompromise}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	crl := writeFile(t, dir+"/crl.pem", EncodeCRL(der), 0o600)
	chain := writeFile(t, dir+"/ca.pem", encodeCertificates(a.device.cert, a.root), 0o600)
	out, err := exec.Command(openssl, "crl", "-in", crl, "-CAfile", chain, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"verify OK", "Version 2", "ecdsa-with-SHA256", "Key Compromise", "X509v3 CRL Number", "258", "X509v3 Authority Key Identifier"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl crl does not say %q:\n%s", want, out)
		}
	}
	for _, test := range []struct {
		cert []byte
		want string
	}{{b.Cert, "certificate revoked"}, {other.Cert, ": OK"}} {
		leaf := writeFile(t, dir+"/leaf.pem", test.cert, 0o600)
		out, _ := exec.Command(openssl, "verify", "-crl_check", "-CRLfile", crl, "-CAfile", chain, leaf).CombinedOutput()
		if !strings.Contains(string(out), test.want) {
			t.Errorf("openssl verify -crl_check: want %q:\n%s", test.want, out)
		}
	}

	// A CA of openssl's, with its own list.
	run := func(arg ...string) {
		t.Helper()
		cmd := exec.Command(openssl, arg...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", arg, err, out)
		}
	}
	writeFile(t, dir+"/ca.cnf", []byte(`[ca]
default_ca = x
[x]
database = index.txt
crlnumber = number
default_md = sha256
default_crl_days = 30
certificate = cert.pem
private_key = key.pem
new_certs_dir = .
serial = serial
policy = p
default_days = 30
[p]
commonName = supplied
`), 0o600)
	writeFile(t, dir+"/index.txt", nil, 0o600)
	writeFile(t, dir+"/number", []byte("0A\n"), 0o600)
	writeFile(t, dir+"/serial", []byte("1234\n"), 0o600)
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=their CA", "-days", "30",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign")
	run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "dev.key", "-out", "dev.csr", "-subj", "/CN=theirs")
	run("ca", "-config", "ca.cnf", "-batch", "-notext", "-in", "dev.csr", "-out", "dev.pem")
	run("ca", "-config", "ca.cnf", "-revoke", "dev.pem", "-crl_reason", "superseded")
	run("ca", "-config", "ca.cnf", "-gencrl", "-out", "their.crl")
	run("crl", "-in", "their.crl", "-outform", "DER", "-out", "their.der")
	read := func(name string) *x509.Certificate {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := ParseCertificates(text)
		if err != nil {
			t.Fatal(err)
		}
		return certs[0]
	}
	for _, name := range []string{"their.crl", "their.der"} {
		r, err := OpenRevocations(RevocationsConfig{Files: []string{filepath.Join(dir, name)}, Issuers: []*x509.Certificate{read("cert.pem")}})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, r.Check(read("dev.pem"), read("cert.pem")), "the certificate is revoked: superseded on")
	}
}

func FuzzParseCRLs(f *testing.F) {
	a, err := Create(filepath.Join(f.TempDir(), "ca"), at(testTime))
	if err != nil {
		f.Fatal(err)
	}
	der, err := a.SignCRL("device", CRL{Number: 1, Entries: []Revoked{{Serial: big.NewInt(1), Reason: KeyCompromise}, {Serial: big.NewInt(2)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(EncodeCRL(der))
	f.Add(signList(f, a.device, func(l *x509.RevocationList) {
		l.ExtraExtensions = scope(f, struct {
			P asn1.RawValue
			U bool `asn1:"tag:1"`
		}{asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{0xa0, 2, 0x86, 0}}, true})
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := parseCRLs(b)
		if (err == nil) != (len(lists) > 0) {
			t.Fatalf("%d lists, %v", len(lists), err)
		}
		for _, l := range lists {
			for _, e := range l.entries {
				if _, ok := l.find(new(big.Int).SetBytes(e.serial[:])); !ok {
					t.Fatal("an entry is not found")
				}
			}
			_ = l.verify(a.device.cert)
		}
	})
}

func BenchmarkParseCRL100k(b *testing.B) {
	der := bigCRL(b, 100_000)
	b.ReportAllocs()
	b.SetBytes(int64(len(der)))
	for b.Loop() {
		if _, err := parseCRLs(der); err != nil {
			b.Fatal(err)
		}
	}
}

func bigCRL(t testing.TB, n int) []byte {
	t.Helper()
	a, err := Create(filepath.Join(t.TempDir(), "ca"), at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]Revoked, n)
	for i := range entries {
		s, err := newSerial()
		if err != nil {
			t.Fatal(err)
		}
		entries[i] = Revoked{Serial: s, Reason: Superseded}
	}
	der, err := a.SignCRL("device", CRL{Number: 1, Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
