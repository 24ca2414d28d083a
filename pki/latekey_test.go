package pki

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// impatient has keys that were not there tried again at once.
func (a *Authority) impatient() {
	for _, key := range []crypto.Signer{a.broker.key, a.device.key, a.otherKey} {
		if late, ok := key.(*lateKey); ok {
			late.tried = time.Time{}
		}
	}
}

// A CA whose keys are elsewhere, or encrypted, is opened, refuses to sign with the reason, and signs once they are there.
func TestLateKeys(t *testing.T) {
	phrase := ""
	cfg := Config{Seal: true, Keys: KeyOptions{Work: minSealWork, Passphrase: func(string) ([]byte, error) {
		if phrase == "" {
			return nil, errors.New("nobody is there")
		}
		return []byte(phrase), nil
	}}}
	move := func(from, to string) func(string) error {
		return func(dir string) error { return os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)) }
	}
	for _, test := range []struct {
		name         string
		before, then func(dir string) error
		want         string
	}{
		{"elsewhere", move("device.key", "away"), move("away", "device.key"), "bring it back"},
		{"no passphrase", func(string) error { phrase = ""; return nil }, func(string) error { phrase = "secret"; return nil }, "nobody is there"},
		{"program", func(d string) error {
			if err := move("device.key", "away")(d); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "device.key"), []byte("exec:/nonexistent/program\n"), 0o600)
		}, move("away", "device.key"), "/nonexistent/program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			phrase = "secret"
			dir := filepath.Join(t.TempDir(), "ca")
			if _, err := Create(dir, cfg); err != nil {
				t.Fatal(err)
			}
			if err := test.before(dir); err != nil {
				t.Fatal(err)
			}
			a, err := Open(dir, cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = a.OpenKeys()
			var hint interface{ Hint() string }
			if errors.As(err, &hint); err == nil || hint == nil && !strings.Contains(err.Error(), test.want) || hint != nil && !strings.Contains(hint.Hint(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			_, issued := a.IssueClient(Device, "pump-17", "")
			_, listed := a.SignCRLOf(a.DeviceCAs()[0], CRL{Number: 1})
			for _, err := range []error{err, issued, listed} {
				if !errors.Is(err, ErrNoKey) {
					t.Errorf("%v, want ErrNoKey", err)
				}
			}
			if err := test.then(dir); err != nil {
				t.Fatal(err)
			}
			if err := a.OpenKeys(); err == nil {
				t.Error("the key is asked for all the time")
			}
			a.impatient()
			if err := a.OpenKeys(); err != nil {
				t.Fatal(err)
			}
			b, err := a.IssueClient(Device, "pump-17", "")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Leaf.CheckSignatureFrom(a.DeviceCAs()[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

// What comes late must be the right key, that nobody else can read.
func TestLateKeyOfAnother(t *testing.T) {
	dir, cfg := filepath.Join(t.TempDir(), "ca"), Config{}
	if _, err := Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "device.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return copyFile(filepath.Join(dir, "broker.key"), key) }, "does not belong"},
		{func() error { return os.Chmod(key, 0o644) }, "open to others"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		a.impatient()
		wantError(t, a.OpenKeys(), step.want)
		_, err := a.IssueClient(Device, "pump-17", "")
		wantError(t, err, step.want)
	}
}

// Without the CA's keys the pairs of a folder stay in use, whether they are due or not; one that has expired is of no use.
func TestFolderWithoutKeys(t *testing.T) {
	now := testTime
	cfg := Config{Now: func() time.Time { return now }}
	dir := t.TempDir()
	f, _, err := InitFolder(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := f.Server()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Operator(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"broker.key", "device.key"} {
		path := filepath.Join(dir, "ca", name)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
	for _, day := range []int{0, 60, 80, 89} {
		now = testTime.AddDate(0, 0, day)
		if f, err = OpenFolder(dir, cfg); err != nil {
			t.Fatal(err)
		}
		c, issued, err := f.Server("another.example")
		if err != nil || issued || !c.Leaf.Equal(first.Leaf) {
			t.Fatalf("after %d days: issued %v, %v", day, issued, err)
		}
		if issued, err := f.Operator(); issued || err != nil {
			t.Errorf("after %d days: operator issued %v, %v", day, issued, err)
		}
	}
	now = testTime.AddDate(0, 0, 91)
	if _, _, err := f.Server(); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v, want ErrNoKey", err)
	}
}

// No root takes over whose keys are not there.
func TestSwitchNeedsKeys(t *testing.T) {
	dir, cfg := filepath.Join(t.TempDir(), "ca"), at(testTime)
	if _, err := Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	if err := Announce(dir, Announcement{}, cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "next", "broker.key")); err != nil {
		t.Fatal(err)
	}
	if err := Switch(dir, Seen{}, true, cfg); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v, want ErrNoKey", err)
	}
}
