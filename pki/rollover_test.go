package pki

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A device at one moment of a rollover: what it trusts, and its certificate.
type rolling struct {
	name  string
	roots *x509.CertPool
	cert  *Bundle
	stays bool // after the old root was retired too
}

// In every state of a rollover, devices with the old root, the new one or both
// accept the broker, and the broker accepts the certificates of both device CAs.
func TestRollover(t *testing.T) {
	data := filepath.Join(t.TempDir(), "[a]*?") // no pattern
	cfg := at(testTime)
	f, _, err := InitFolder(data, cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(data, "ca")
	oldRoot := f.CA().Root()
	issue := func(f *Folder, id string) *Bundle {
		t.Helper()
		b, err := f.IssueDevice(id, "")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	trust := func(b *Bundle) *x509.CertPool {
		p := x509.NewCertPool()
		if !p.AppendCertsFromPEM(b.CA) {
			t.Fatal("ca.pem")
		}
		return p
	}
	open := func() *Folder {
		t.Helper()
		f, err := OpenFolder(data, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	check := func(what string, f *Folder, devices []rolling, oldStays bool) {
		t.Helper()
		server, _, err := f.Server()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := f.Operator(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, again, err := f.Server(); again || err != nil {
			t.Errorf("%s: issued once more: %v", what, err)
		}
		if len(server.Certificate) != 2 {
			t.Errorf("%s: a chain of %d, small devices want leaf and issuer", what, len(server.Certificate))
		}
		between, err := x509.ParseCertificate(server.Certificate[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			_, err := server.Leaf.Verify(x509.VerifyOptions{Roots: d.roots, Intermediates: poolOf(between), CurrentTime: testTime, DNSName: "localhost"})
			if want := d.stays || oldStays; (err == nil) != want {
				t.Errorf("%s: %s accepts the broker: %v, want %v", what, d.name, err, want)
			}
			err = trusts(t, f.CA().ClientCAs(), d.cert, x509.ExtKeyUsageClientAuth, testTime)
			if want := d.stays || oldStays; (err == nil) != want {
				t.Errorf("%s: the broker accepts %s: %v, want %v", what, d.name, err, want)
			}
		}
	}

	before := issue(f, "before")
	devices := []rolling{{"before", trust(before), before, false}}
	check("steady", f, devices, true)
	if s := f.CA().State(); s != Steady || f.CA().NextRoot() != nil || f.CA().CrossRoot() != nil {
		t.Errorf("state %s", s)
	}

	if err := Announce(dir, Announcement{}, cfg); err != nil {
		t.Fatal(err)
	}
	if err := Announce(dir, Announcement{}, cfg); err == nil {
		t.Error("announced twice")
	}
	f = open()
	if f.CA().State() != Announced || !f.CA().Root().Equal(oldRoot) || len(f.CA().Roots()) != 2 {
		t.Errorf("state %s, %d roots", f.CA().State(), len(f.CA().Roots()))
	}
	newRoot := f.CA().NextRoot()
	cross := f.CA().CrossRoot()
	if err := cross.CheckSignatureFrom(oldRoot); err != nil || string(cross.RawSubject) != string(newRoot.RawSubject) || string(cross.RawSubjectPublicKeyInfo) != string(newRoot.RawSubjectPublicKeyInfo) {
		t.Errorf("the old root does not vouch for the new one: %v", err)
	}
	during := issue(f, "during")
	devices = append(devices, rolling{"announced, old certificate", trust(during), during, false})
	check("announced", f, devices, true)

	for range 2 { // there and back and there again
		if err := Switch(dir, Seen{2, 1}, false, cfg); err != nil {
			t.Fatal(err)
		}
		f = open()
		if f.CA().State() != Switched || !f.CA().Root().Equal(newRoot) || !f.CA().Roots()[0].Equal(oldRoot) {
			t.Errorf("state %s", f.CA().State())
		}
		after := issue(f, "after")
		check("switched", f, append(devices, rolling{"switched", trust(after), after, true}), true)
		if err := SwitchBack(dir); err != nil {
			t.Fatal(err)
		}
		check("switched back", open(), append(devices, rolling{"switched", trust(after), after, true}), true)
	}
	if err := Switch(dir, Seen{}, false, cfg); err != nil {
		t.Fatal(err)
	}
	f = open()
	after := issue(f, "after")
	devices = append(devices, rolling{"switched", trust(after), after, true})
	if done, err := RenewIssuing(dir, true, cfg); err != nil || len(done) != 2 {
		t.Errorf("renewed during a rollover: %v %v", done, err)
	}
	check("switched and renewed", open(), devices, true)

	if err := Retire(dir, Seen{10, 9}, false); !errors.Is(err, ErrNotSeen) {
		t.Fatalf("got %v, want ErrNotSeen", err)
	}
	if err := Retire(dir, Seen{10, 10}, false); err != nil {
		t.Fatal(err)
	}
	f = open()
	if f.CA().State() != Steady || len(f.CA().Roots()) != 1 || !f.CA().Root().Equal(newRoot) || len(f.CA().DeviceCAs()) != 1 {
		t.Errorf("state %s", f.CA().State())
	}
	devices[1].roots, devices[1].cert = trust(after), after // it was renewed in time
	devices[1].stays = true
	check("retired", f, devices, false)
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"broker.key", "broker.pem", "device.key", "device.pem", "retired-" + Fingerprint(oldRoot)[:16], "root.key", "root.pem"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	// And once more, from the new root.
	if err := Announce(dir, Announcement{}, cfg); err != nil {
		t.Error(err)
	}
}

// A broker that did not run between Switch and Retire has a certificate of the
// retired CA: it is replaced, not taken for a stranger's.
func TestServerOfRetiredCA(t *testing.T) {
	f := newFolder(t, at(testTime))
	dir := filepath.Join(f.Path(), "ca")
	if _, _, err := f.Server(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Operator(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Announce(dir, Announcement{}, at(testTime)), Switch(dir, Seen{}, false, at(testTime)), Retire(dir, Seen{}, false)); err != nil {
		t.Fatal(err)
	}
	g, err := OpenFolder(f.Path(), at(testTime))
	if err != nil {
		t.Fatal(err)
	}
	if _, issued, err := g.Server(); err != nil || !issued {
		t.Errorf("server: %v %v", issued, err)
	}
	if issued, err := g.Operator(); err != nil || !issued {
		t.Errorf("operator: %v %v", issued, err)
	}
}

// An interruption at any moment of Retire leaves a CA that opens with the new
// root alone, and that another Retire completes.
func TestRetireInterrupted(t *testing.T) {
	master := filepath.Join(t.TempDir(), "ca")
	cfg := at(testTime)
	a, err := Create(master, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Announce(master, Announcement{}, cfg), Switch(master, Seen{}, false, cfg)); err != nil {
		t.Fatal(err)
	}
	b, err := Open(master, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for done := range len(circleFiles()) + 2 { // that many files are in their places
		dir := filepath.Join(t.TempDir(), "ca")
		if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{dir, filepath.Join(dir, nextName)} {
			if err := os.Chmod(d, 0o700); err != nil {
				t.Fatal(err)
			}
			keys, _ := filepath.Glob(filepath.Join(d, "*.key"))
			for _, k := range keys {
				if err := os.Chmod(k, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := writeState(dir, string(retiring)+" "+Fingerprint(a.Root())); err != nil {
			t.Fatal(err)
		}
		if done > 0 {
			if err := keepRetired(dir, retiredDir(dir, Fingerprint(a.Root()))); err != nil {
				t.Fatal(err)
			}
			for _, name := range circleFiles()[:done-1] {
				if err := copyOver(filepath.Join(dir, nextName, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 { // the second after the completion
			c, err := Open(dir, cfg)
			if err != nil || !c.Root().Equal(b.Root()) || len(c.Roots()) != 1 || c.State() != Steady {
				t.Fatalf("after %d: %v", done, err)
			}
			if exists(filepath.Join(dir, stateName)) {
				if err := Announce(dir, Announcement{}, cfg); err == nil {
					t.Error("announced while a root retires")
				}
				if err := Retire(dir, Seen{1, 0}, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		old, err := readCA(filepath.Join(retiredDir(dir, Fingerprint(a.Root())), "root.pem"))
		if err != nil || !old.Equal(a.Root()) {
			t.Errorf("after %d: the old root was not kept: %v", done, err)
		}
	}
}

func TestRolloverWithoutOldKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := at(testTime)
	if _, err := Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	if err := Announce(dir, Announcement{}, cfg); !errors.Is(err, ErrNoRootKey) {
		t.Fatalf("got %v, want ErrNoRootKey", err)
	}
	if exists(filepath.Join(dir, nextName)) {
		t.Error("half an announcement")
	}
	mine := newRoot(t, nil)
	if err := Announce(dir, Announcement{Root: &mine, WithoutOldKey: true}, cfg); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, cfg)
	if err != nil || a.CrossRoot() != nil || !a.NextRoot().Equal(mine.Cert) {
		t.Fatalf("%v", err)
	}
	if err := Switch(dir, Seen{3, 2}, false, cfg); !errors.Is(err, ErrNotSeen) {
		t.Errorf("got %v, want ErrNotSeen", err)
	}
	if err := Withdraw(dir); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(dir, cfg); err != nil || a.State() != Steady || len(a.Roots()) != 1 {
		t.Errorf("%v", err)
	}
	if err := Announce(dir, Announcement{Root: &mine, WithoutOldKey: true}, cfg); err != nil {
		t.Fatal(err)
	}
	if err := Switch(dir, Seen{3, 2}, true, cfg); err != nil {
		t.Fatal(err)
	}
	if err := Withdraw(dir); err == nil {
		t.Error("withdrawn after the switch")
	}
}

func TestAnnounceRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := at(testTime)
	a, err := Create(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	root, err := openRootKey(dir, a.root, a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, Announce(dir, Announcement{Root: &Root{Cert: root.cert, Key: root.key}}, cfg), "a key that is in use")
	other := newRoot(t, nil)
	wantError(t, Announce(dir, Announcement{Root: &Root{Cert: other.Cert, Key: root.key}}, cfg), "does not belong")
	wantError(t, SwitchBack(dir), "steady, not switched")
	wantError(t, Retire(dir, Seen{}, true), "steady, not switched")
	for _, text := range []string{"x", "announced x", "retiring", "retiring zz", ""} {
		if err := os.WriteFile(filepath.Join(dir, stateName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, cfg)
		wantError(t, err, "is no state")
	}
}

// openssl, as a device that has the old root alone, accepts the switched broker.
func TestOpenSSLVerifiesCrossSigned(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	dir := filepath.Join(t.TempDir(), "ca")
	old, err := Create(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Announce(dir, Announcement{}, Config{}), Switch(dir, Seen{}, false, Config{})); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.IssueBroker([]string{"broker.lan"})
	if err != nil {
		t.Fatal(err)
	}
	if size := len(b.Leaf.Raw) + len(a.above.Raw); size > 2048 {
		t.Errorf("the chain has %d bytes, small devices want at most 2048", size)
	}
	tmp := t.TempDir()
	for name, roots := range map[string][]byte{"old": old.RootPEM(), "both": a.RootPEM()} {
		ca := writeFile(t, filepath.Join(tmp, name), roots, 0o600)
		chain := writeFile(t, filepath.Join(tmp, "chain"), b.Cert, 0o600)
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "broker.lan",
			"-CAfile", ca, "-untrusted", chain, chain).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// While one root takes another's place both device CAs sign their lists, and the folder opens without the key of the one
// that does not issue.
func TestSignCRLOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := at(testTime)
	before, err := Create(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := Announce(dir, Announcement{}, cfg); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{func() error { return nil }, func() error { return Switch(dir, Seen{}, false, cfg) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		a, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range a.DeviceCAs() {
			der, err := a.SignCRLOf(c, CRL{Number: 1})
			if err != nil {
				t.Fatal(err)
			}
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(c); err != nil {
				t.Error(err)
			}
		}
		_, err = a.SignCRLOf(a.Root(), CRL{Number: 1})
		wantError(t, err, "none of this folder")
	}
	if err := os.Remove(filepath.Join(dir, "device.key")); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.SignCRLOf(a.DeviceCAs()[0], CRL{Number: 1}); err != nil {
		t.Error(err)
	}
	_, err = a.SignCRLOf(before.DeviceCAs()[0], CRL{Number: 1})
	wantError(t, err, "is not here")
}

func FuzzState(f *testing.F) {
	f.Add([]byte("announced\n"))
	f.Add([]byte("retiring 00\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, stateName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, print, err := readState(dir)
		if err == nil && s == retiring && len(print) != 64 {
			t.Fatalf("%q", print)
		}
	})
}
