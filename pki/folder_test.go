package pki

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func newFolder(t *testing.T, cfg Config) *Folder {
	t.Helper()
	f, created, err := InitFolder(filepath.Join(t.TempDir(), "data"), cfg)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	return f
}

func TestSecondStartFindsTheFirst(t *testing.T) {
	f := newFolder(t, at(testTime))
	first, issued, err := f.Server()
	if err != nil || !issued {
		t.Fatal(issued, err)
	}
	if issued, err := f.Operator(); err != nil || !issued {
		t.Fatal(issued, err)
	}
	g, created, err := InitFolder(f.Path(), at(testTime.Add(day)))
	if err != nil || created {
		t.Fatal(created, err)
	}
	second, issued, err := g.Server()
	if err != nil || issued || !second.Leaf.Equal(first.Leaf) {
		t.Errorf("the server certificate was issued again: %v %v", issued, err)
	}
	if issued, err := g.Operator(); err != nil || issued {
		t.Errorf("the operator was issued again: %v %v", issued, err)
	}
	if len(first.Certificate) != 2 {
		t.Errorf("%d certificates are presented, want leaf and issuer", len(first.Certificate))
	}
	for _, h := range append(LocalHosts(), "localhost", "127.0.0.1", "::1") {
		if err := first.Leaf.VerifyHostname(h); err != nil {
			t.Error(err)
		}
		if !slices.Contains(first.Leaf.DNSNames, h) {
			t.Errorf("%s is not among the DNS names", h)
		}
	}
}

func TestServerIsReissued(t *testing.T) {
	for _, test := range []struct {
		name   string
		later  time.Duration
		change func(f *Folder) error
		want   bool
	}{
		{"young", 59 * day, nil, false},
		{"two thirds are over", 60 * day, nil, true},
		{"expired", 100 * day, nil, true},
		{"clock went back before it", -2 * day, nil, true},
		{"a host more", 0, func(f *Folder) error { return f.AddHosts([]string{"Broker.LAN.", "[fd00::7]"}) }, true},
		{"a host that it has", 0, func(f *Folder) error { return f.AddHosts([]string{"localhost"}) }, false},
		{"key not written", 0, func(f *Folder) error { return os.Remove(filepath.Join(f.path, "server", "key.pem")) }, true},
		{"key of another write", 0, func(f *Folder) error {
			return copyFile(filepath.Join(f.path, "ca", "root.key"), filepath.Join(f.path, "server", "key.pem"))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFolder(t, at(testTime))
			old, _, err := f.Server()
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				if err := test.change(f); err != nil {
					t.Fatal(err)
				}
			}
			if f, err = OpenFolder(f.Path(), at(testTime.Add(test.later))); err != nil {
				t.Fatal(err)
			}
			cert, issued, err := f.Server()
			if err != nil || issued != test.want || cert.Leaf.Equal(old.Leaf) == test.want {
				t.Fatalf("issued %v %v, want %v", issued, err, test.want)
			}
			if _, again, err := f.Server(); again || err != nil {
				t.Errorf("issued once more: %v %v", again, err)
			}
		})
	}
}

func TestHostsFile(t *testing.T) {
	f := newFolder(t, at(testTime))
	if err := f.AddHosts([]string{"broker.lan", "192.168.1.10"}); err != nil {
		t.Fatal(err)
	}
	if err := f.AddHosts([]string{"*.example.org"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(f.Path(), "server", "hosts"))
	if want := hostsHeader + "broker.lan\n192.168.1.10\n*.example.org\n"; err != nil || string(b) != want {
		t.Errorf("got %q %v", b, err)
	}
	cert, _, err := f.Server()
	if err != nil || cert.Leaf.Subject.CommonName != "broker.lan" {
		t.Fatalf("common name %v, want the first host asked for: %v", cert.Leaf.Subject, err)
	}
	for _, bad := range []string{"a b", "mqtts://x", "a..b", "", "x/y", strings.Repeat("a.", 130)} {
		if err := f.AddHosts([]string{bad}); err == nil {
			t.Errorf("host %q was accepted", bad)
		}
	}
	if err := os.WriteFile(filepath.Join(f.Path(), "server", "hosts"), []byte("a/b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Server(); err == nil || !strings.Contains(err.Error(), "server/hosts: host \"a/b\"") {
		t.Errorf("got %v", err)
	}
}

// Files that somebody put there are refused, never replaced.
func TestForeignFilesStay(t *testing.T) {
	f, other := newFolder(t, at(testTime)), newFolder(t, at(testTime))
	for _, g := range []*Folder{f, other} {
		if _, _, err := g.Server(); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Operator(); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"server", "operator"} {
		for _, name := range []string{"cert.pem", "key.pem"} {
			if err := copyFile(filepath.Join(other.Path(), part, name), filepath.Join(f.Path(), part, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := f.Server(); err == nil || !strings.Contains(err.Error(), "not issued by the CA of this folder") {
		t.Errorf("server: %v", err)
	}
	if _, err := f.Operator(); err == nil || !strings.Contains(err.Error(), "not issued by the CA of this folder") {
		t.Errorf("operator: %v", err)
	}
	os.Remove(filepath.Join(f.Path(), "server", "cert.pem"))
	if _, _, err := f.Server(); err == nil || !strings.Contains(err.Error(), "a key without its certificate") {
		t.Errorf("lone key: %v", err)
	}
	a, _ := os.ReadFile(filepath.Join(other.Path(), "server", "key.pem"))
	b, _ := os.ReadFile(filepath.Join(f.Path(), "server", "key.pem"))
	if string(a) != string(b) {
		t.Error("the key was replaced")
	}
}

func TestReadableServerKeyIsRefused(t *testing.T) {
	f := newFolder(t, at(testTime))
	if _, _, err := f.Server(); err != nil {
		t.Fatal(err)
	}
	_, key := f.ServerFiles()
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	var h interface{ Hint() string }
	if _, _, err := f.Server(); !errors.As(err, &h) || h.Hint() != "chmod 600 "+quote(key) {
		t.Errorf("got %v", err)
	}
}

func TestOpenFolderSaysHowToMakeOne(t *testing.T) {
	_, err := OpenFolder(filepath.Join(t.TempDir(), "a b"), Config{})
	var h interface{ Hint() string }
	if !errors.Is(err, ErrNoCA) || !errors.As(err, &h) || !strings.HasSuffix(h.Hint(), "a b'") || !strings.HasPrefix(h.Hint(), "sealmq init --data '") {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentFirstStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	roots := make([]string, 8)
	for i := range roots {
		wg.Go(func() {
			f, _, err := InitFolder(path, Config{})
			if err != nil {
				t.Error(err)
				return
			}
			roots[i] = Fingerprint(f.CA().Root())
		})
	}
	wg.Wait()
	if slices.ContainsFunc(roots, func(r string) bool { return r != roots[0] }) {
		t.Error("several CAs were made")
	}
}

func TestDeviceBundle(t *testing.T) {
	f := newFolder(t, Config{})
	b, err := f.IssueDevice("pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "x", "pump-17")
	if err := b.Write(dir, File{Name: "note.txt", Content: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "key.pem")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key.pem: %v %v", fi.Mode(), err)
	}
	if _, err := LoadServer(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), time.Now()); err == nil {
		t.Error("a device certificate was taken for a broker's")
	}
	// One file that is there already: none is written.
	again := t.TempDir()
	if err := os.WriteFile(filepath.Join(again, "note.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(again, File{Name: "note.txt"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if left, _ := os.ReadDir(again); len(left) != 1 {
		t.Errorf("half a bundle was written: %v", left)
	}
	for _, id := range []string{"localhost", "LOCALHOST", "127.0.0.1"} {
		if _, err := f.IssueDevice(id, ""); err == nil {
			t.Errorf("device %q would pass for the broker", id)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := writeNew(path, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeNew(path, []byte("2"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "1" {
		t.Errorf("got %q", b)
	}
	if err := writeAtomic(path, []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("temporary files stay behind: %v", left)
	}
}

// A folder issues as it is told to, and the one before goes on as it did.
func TestFolderWith(t *testing.T) {
	f := newFolder(t, at(testTime))
	key, _ := plainKey(t)
	other := f.With(Config{CRL: "http://example.org/device.crl", Holder: func(SPKI) (string, error) { return "urn:mqtts:default:claim:line", nil }})
	b, err := other.Sign(Request{Kind: Claim, ID: "line", CSR: newCSR(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Leaf.CRLDistributionPoints) != 1 || b.Leaf.URIs[0].String() != "urn:mqtts:default:claim:line" {
		t.Error(b.Leaf.CRLDistributionPoints, b.Leaf.URIs)
	}
	_, err = other.Sign(Request{Kind: Device, ID: "line", CSR: newCSR(t, key)})
	wantError(t, err, "claim:line has it already")
	if b, err = f.Sign(Request{Kind: Device, ID: "line", CSR: newCSR(t, key)}); err != nil || len(b.Leaf.CRLDistributionPoints) != 0 {
		t.Error(b, err)
	}
}
