package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trusts checks the leaf of a bundle as a peer does that has roots, and was sent the rest of the chain.
func trusts(t testing.TB, roots *x509.CertPool, b *Bundle, use x509.ExtKeyUsage, now time.Time) error {
	t.Helper()
	chain, err := ParseCertificates(b.Cert)
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// Issuing CAs are renewed when it is time, with the keys and names they have,
// and end with their root.
func TestRenewIssuing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := Create(dir, at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		after time.Duration
		want  []string
	}{
		{0, nil},
		{3 * 365 * day, nil},
		{4 * 365 * day, []string{"broker", "device"}},
		{4*365*day + day, nil}, // they are young now
		{19 * 365 * day, []string{"broker", "device"}},
		{19*365*day + day, nil}, // they end with the root
	} {
		got, err := RenewIssuing(dir, false, at(testTime.Add(test.after)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("after %v: %s", test.after, diff)
		}
	}
	b, err := Open(dir, at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	if b.device.cert.Equal(a.device.cert) || !samePublic(b.device.cert, a.device.key) || b.device.cert.Subject.String() != a.device.cert.Subject.String() {
		t.Error("not the same CA with another end")
	}
	if b.device.cert.SerialNumber.Cmp(a.device.cert.SerialNumber) == 0 {
		t.Error("the serial was used again")
	}
	if !b.device.cert.NotAfter.Equal(b.root.NotAfter) {
		t.Errorf("it ends %v, the root %v", b.device.cert.NotAfter, b.root.NotAfter)
	}
	later, err := Open(dir, at(testTime.Add(19*365*day)))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := later.IssueClient(Device, "pump-18", "")
	if err != nil {
		t.Fatal(err)
	}
	now := testTime.Add(19 * 365 * day)
	if err := trusts(t, later.ClientCAs(), fresh, x509.ExtKeyUsageClientAuth, now); err != nil {
		t.Error(err)
	}
}

// What the old certificate of an issuing CA issued stays valid, by either of them.
func TestOldLeafUnderRenewedIssuer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := Create(dir, at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	device, err := a.IssueClient(Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	broker, err := a.IssueBroker([]string{"broker.lan"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RenewIssuing(dir, true, at(testTime.Add(day))); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir, at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	now := testTime.Add(2 * day)
	if err := trusts(t, b.ClientCAs(), device, x509.ExtKeyUsageClientAuth, now); err != nil {
		t.Error(err)
	}
	if err := trusts(t, poolOf(a.root), broker, x509.ExtKeyUsageServerAuth, now); err != nil {
		t.Error(err)
	}
	broker.Cert = encodeCertificates(broker.Leaf, b.broker.cert)
	if err := trusts(t, poolOf(a.root), broker, x509.ExtKeyUsageServerAuth, now); err != nil {
		t.Error(err)
	}
}

// The broker's chain has the renewed issuer in it: its certificate is issued again.
func TestServerFollowsRenewedIssuer(t *testing.T) {
	f := newFolder(t, at(testTime))
	old, _, err := f.Server()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RenewIssuing(filepath.Join(f.Path(), "ca"), true, at(testTime)); err != nil {
		t.Fatal(err)
	}
	g, err := OpenFolder(f.Path(), at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	fresh, issued, err := g.Server()
	if err != nil || !issued || string(fresh.Certificate[1]) == string(old.Certificate[1]) {
		t.Errorf("issued %v, %v", issued, err)
	}
}

func TestRenewIssuingWithoutRootKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, at(testTime)); err != nil {
		t.Fatal(err)
	}
	rootKey := filepath.Join(dir, "root.key")
	away := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(rootKey, away); err != nil {
		t.Fatal(err)
	}
	if done, err := RenewIssuing(dir, false, at(testTime)); err != nil || len(done) > 0 {
		t.Errorf("nothing is due: %v %v", done, err)
	}
	later := at(testTime.Add(4 * 365 * day))
	if _, err := RenewIssuing(dir, false, later); !errors.Is(err, ErrNoRootKey) {
		t.Errorf("got %v, want ErrNoRootKey", err)
	}
	a, err := Open(dir, later)
	if err != nil {
		t.Fatalf("a broker starts without the root's key: %v", err)
	}
	var due []string
	for _, l := range a.Lives() {
		if l.Due {
			due = append(due, l.Name)
		}
	}
	if diff := cmp.Diff([]string{"broker", "device"}, due); diff != "" {
		t.Error(diff)
	}

	// By CSR, on the machine that has the key.
	root, err := LoadRoot(filepath.Join(dir, "root.pem"), away, KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var answers []*x509.Certificate
	for _, name := range []string{"broker", "device"} {
		text, err := IssuingCSR(dir, name, later)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := ParseCSR(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := SignIssuing(root, name, csr, later)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, c)
	}
	b, err := Accept(dir, answers[1:], later)
	if err != nil || !b.device.cert.Equal(answers[1]) || b.broker.cert.Equal(answers[0]) {
		t.Fatalf("one of them: %v", err)
	}
	if b, err = Accept(dir, append(answers, root.Cert), later); err != nil || !b.broker.cert.Equal(answers[0]) {
		t.Fatalf("both, with the root: %v", err)
	}
	if err := copyFile(filepath.Join(dir, "device.key"), rootKey); err != nil {
		t.Fatal(err)
	}
	_, err = RenewIssuing(dir, true, later)
	wantError(t, err, "does not belong to root.pem")
}

func newRoot(t testing.TB, change func(c *x509.Certificate)) Root {
	t.Helper()
	key, _ := plainKey(t)
	c := caTemplate("Example Corp root", 1, rootLife, nil, testTime)
	if change != nil {
		change(c)
	}
	cert, err := signCA(c, key.Public(), nil, key)
	if err != nil {
		t.Fatal(err)
	}
	return Root{Cert: cert, Key: key}
}

func TestCreateUnder(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCert, err := signCA(caTemplate("Example RSA root", 1, rootLife, nil, testTime), rsaKey.Public(), nil, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384Cert, err := signCA(caTemplate("Example P-384 root", 3, rootLife, nil, testTime), p384.Public(), nil, p384)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []Root{newRoot(t, nil), {Cert: rsaCert, Key: rsaKey, Keep: true}, {Cert: p384Cert, Key: p384}} {
		dir := filepath.Join(t.TempDir(), "ca")
		a, err := CreateUnder(dir, root, at(testTime))
		if err != nil {
			t.Fatal(err)
		}
		if !a.Root().Equal(root.Cert) || exists(filepath.Join(dir, "root.key")) != root.Keep {
			t.Errorf("root %v, key kept %v", a.Root().Subject, exists(filepath.Join(dir, "root.key")))
		}
		b, err := a.IssueBroker([]string{"broker.lan"})
		if err != nil {
			t.Fatal(err)
		}
		if err := trusts(t, poolOf(root.Cert), b, x509.ExtKeyUsageServerAuth, testTime); err != nil {
			t.Error(err)
		}
		if root.Keep {
			if _, err := RenewIssuing(dir, true, at(testTime)); err != nil {
				t.Error(err)
			}
		}
		if _, err := CreateUnder(dir, root, at(testTime)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a second time: %v", err)
		}
	}
}

func TestCreateUnderRefuses(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edCert, err := signCA(caTemplate("Ed25519 root", 1, rootLife, nil, testTime), ed.Public(), nil, ed)
	if err != nil {
		t.Fatal(err)
	}
	other := newRoot(t, nil)
	mismatch := newRoot(t, nil)
	mismatch.Key = other.Key
	a := newAuthority(t, at(testTime))
	for _, test := range []struct {
		name string
		root Root
		want string
	}{
		{"Ed25519", Root{Cert: edCert, Key: ed}, "signed with Ed25519"},
		{"key of another", mismatch, "does not belong"},
		{"not self-signed", Root{Cert: a.device.cert, Key: a.device.key}, "not signed by itself"},
		{"no room below", newRoot(t, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), "allows no CA below it"},
		{"name constraints", newRoot(t, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} }), "name constraints"},
		{"clients alone", newRoot(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "leaves out servers"},
		{"expired", newRoot(t, func(c *x509.Certificate) { c.NotAfter = testTime.Add(-1) }), "expired on"},
		{"future", newRoot(t, func(c *x509.Certificate) { c.NotBefore = testTime.Add(day) }), "not valid before"},
		{"no CRLs", newRoot(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), "revocation lists"},
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		_, err := CreateUnder(dir, test.root, at(testTime))
		if err == nil {
			t.Errorf("%s was taken", test.name)
		}
		wantError(t, err, test.want)
		if exists(dir) {
			t.Errorf("%s: a folder was made", test.name)
		}
	}
}

// A root that is offline: CSRs out, certificates in.
func TestOfflineRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Prepare(dir, at(testTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, at(testTime)); !errors.Is(err, ErrWaiting) {
		t.Fatalf("got %v, want ErrWaiting", err)
	}
	if _, _, err := InitFolder(filepath.Dir(dir), at(testTime)); !errors.Is(err, ErrWaiting) {
		t.Fatalf("a start must not make another CA: %v", err)
	}
	root := newRoot(t, nil)
	answer := map[string]*x509.Certificate{}
	for _, name := range []string{"broker", "device"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".csr"))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := ParseCSR(text)
		if err != nil {
			t.Fatal(err)
		}
		if answer[name], err = SignIssuing(root, name, csr, at(testTime)); err != nil {
			t.Fatal(err)
		}
	}
	resign := func(name string, by Root, change func(c *x509.Certificate)) *x509.Certificate {
		c := issuingTemplate(name, "", testTime)
		c.Subject, c.RawSubject = answer[name].Subject, answer[name].RawSubject
		change(c)
		out, err := signCA(c, answer[name].PublicKey, by.Cert, by.Key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	stranger := newRoot(t, nil)
	for _, test := range []struct {
		name  string
		certs []*x509.Certificate
		want  string
	}{
		{"no root", []*x509.Certificate{answer["broker"], answer["device"]}, "the root is not among them"},
		{"one", []*x509.Certificate{root.Cert, answer["broker"]}, "none has the key of device.csr"},
		{"one too many", []*x509.Certificate{root.Cert, answer["broker"], answer["device"], stranger.Cert}, "1 belong to no key"},
		{"other root", []*x509.Certificate{stranger.Cert, answer["broker"], answer["device"]}, "the root did not sign it"},
		{"purposes exchanged", []*x509.Certificate{root.Cert, answer["broker"], resign("device", root, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})}, "leaves out its purpose"},
		{"no CA", []*x509.Certificate{root.Cert, answer["broker"], resign("device", root, func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen, c.MaxPathLenZero, c.KeyUsage = false, 0, false, x509.KeyUsageDigitalSignature
		})}, "not a CA"},
		{"no CRLs", []*x509.Certificate{root.Cert, answer["broker"], resign("device", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })}, "revocation lists"},
		{"name constraints", []*x509.Certificate{root.Cert, answer["device"], resign("broker", root, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"x"} })}, "name constraints"},
		{"good", []*x509.Certificate{answer["device"], root.Cert, answer["broker"]}, ""},
	} {
		a, err := Accept(dir, test.certs, at(testTime))
		if test.want != "" && err == nil {
			t.Fatalf("%s was accepted", test.name)
		}
		wantError(t, err, test.want)
		if err == nil {
			b, err := a.IssueBroker([]string{"broker.lan"})
			if err != nil {
				t.Fatal(err)
			}
			if err := trusts(t, poolOf(root.Cert), b, x509.ExtKeyUsageServerAuth, testTime); err != nil {
				t.Error(err)
			}
		}
	}
	// What a renewal must not change.
	renamed := resign("device", root, func(c *x509.Certificate) {
		c.RawSubject, c.Subject = nil, pkix.Name{CommonName: "another"}
	})
	_, err := Accept(dir, []*x509.Certificate{renamed}, at(testTime))
	wantError(t, err, "would lose its issuer")
	if left, _ := filepath.Glob(filepath.Join(dir, "*.csr")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The same with openssl as the offline root.
func TestOpenSSLSignsIssuingCAs(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Prepare(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	off := t.TempDir()
	run := func(arg ...string) {
		t.Helper()
		cmd := exec.Command(openssl, arg...)
		cmd.Dir = off
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", arg, err, out)
		}
	}
	run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.pem",
		"-subj", "/O=Example Corp/CN=Example root", "-days", "3650", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	var all []*x509.Certificate
	for _, name := range []string{"root", "broker", "device"} {
		if name != "root" {
			run("x509", "-req", "-in", filepath.Join(dir, name+".csr"), "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
				"-copy_extensions", "copyall", "-days", "1825", "-out", name+".pem")
		}
		b, err := os.ReadFile(filepath.Join(off, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := ParseCertificates(b)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, certs...)
	}
	a, err := Accept(dir, all, Config{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.IssueClient(Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := trusts(t, a.ClientCAs(), b, x509.ExtKeyUsageClientAuth, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestSignIssuingRefuses(t *testing.T) {
	root := newRoot(t, nil)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := plainKey(t)
	asRoot, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: root.Cert.RawSubject}, key)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ParseCSR(asRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		kind string
		csr  *x509.CertificateRequest
		want string
	}{
		{"root", newCSR(t, key), "broker or device wanted"},
		{"device", newCSR(t, ed), "Ed25519"},
		{"device", same, "subject"},
	} {
		_, err := SignIssuing(root, test.kind, test.csr, at(testTime))
		wantError(t, err, test.want)
	}
	c, err := SignIssuing(root, "device", newCSR(t, key), at(testTime))
	if err != nil || !c.IsCA || !c.MaxPathLenZero || len(c.DNSNames) > 0 {
		t.Errorf("%v %v", c, err)
	}
}
