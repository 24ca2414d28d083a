package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// State of a CA folder while one root takes the place of another.
type State string

const (
	// Steady: there is one root.
	Steady State = "steady"
	// Announced: the next root is in ca.pem beside the present one, which issues.
	Announced State = "announced"
	// Switched: the next root's CAs issue. Devices that know the old root alone
	// accept the broker, as long as the old root signed the new broker CA.
	Switched State = "switched"
	// retiring: an interrupted Retire. The new root is the only one; its files
	// are on their way to their places.
	retiring State = "retiring"
)

const (
	nextName  = "next"  // folder of the next root and its issuing CAs
	stateName = "state" // file with the state, and the fingerprint of a root that retires
	crossExt  = "-cross.pem"
)

// readState reads DIR/state: none means steady.
func readState(dir string) (State, string, error) {
	path := filepath.Join(dir, stateName)
	b, err := readFile(path)
	if missing(err) {
		return Steady, "", nil
	}
	if err != nil {
		return "", "", err
	}
	s, print, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	switch State(s) {
	case Announced, Switched:
		if print == "" {
			return State(s), "", nil
		}
	case retiring:
		if len(print) == 64 && strings.Trim(print, "0123456789abcdef") == "" {
			return retiring, print, nil
		}
	}
	return "", "", fmt.Errorf("read %s: %q is no state", path, cut(string(b), 80))
}

func writeState(dir, s string) error {
	return writeAtomic(filepath.Join(dir, stateName), []byte(s+"\n"), 0o600)
}

// currentDir is the folder of the CAs that issue.
func currentDir(dir string) (string, error) {
	s, _, err := readState(dir)
	if s == Switched || s == retiring {
		dir = filepath.Join(dir, nextName)
	}
	return dir, err
}

// openOther reads the root that issues not yet or no longer. next is the
// folder with the newer one and its cross-signed certificates.
func (a *Authority) openOther(dir, next string) error {
	var err error
	if a.other, err = readCircle(dir); err != nil {
		return err
	}
	if exists(filepath.Join(dir, deviceName+".key")) {
		iss, err := openIssuer(dir, deviceName, a.other.device, a.cfg)
		if err != nil {
			return err
		}
		a.otherKey = iss.key
	}
	older := a.other
	if a.state == Announced {
		older = &circle{root: a.root}
	}
	cross := func(name string) (*x509.Certificate, error) {
		file := filepath.Join(next, name+crossExt)
		c, err := readCA(file)
		if missing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := c.CheckSignatureFrom(older.root); err != nil {
			return nil, fmt.Errorf("open %s: not signed by the older root: %w", file, err)
		}
		return c, nil
	}
	if a.cross, err = cross(rootName); err != nil {
		return err
	}
	if a.state == Switched {
		c, err := cross(brokerName)
		if err != nil {
			return err
		}
		if c != nil {
			if !bytes.Equal(c.RawSubject, a.broker.cert.RawSubject) || !samePublic(c, a.broker.key) {
				return fmt.Errorf("open %s: not the broker CA beside it", filepath.Join(next, brokerName+crossExt))
			}
			a.above = c
		}
	}
	return nil
}

// State is where the rollover stands; Steady without one.
func (a *Authority) State() State { return a.state }

// NextRoot is the root that takes over, or has taken over from another that is
// still trusted; nil when Steady.
func (a *Authority) NextRoot() *x509.Certificate {
	switch a.state {
	case Announced:
		return a.other.root
	case Switched:
		return a.root
	}
	return nil
}

// CrossRoot is the next root as signed by the old one: by it a device that
// knows the old root alone can tell that the new one is no impostor. Nil when
// Steady, or when the old root's key was not there.
func (a *Authority) CrossRoot() *x509.Certificate { return a.cross }

// Announcement are options of Announce.
type Announcement struct {
	// Root takes over; one is made when nil.
	Root *Root
	// WithoutOldKey goes on although the old root's key is lost. Nothing then
	// leads from the old root to the new one: every device must have the new
	// root before the switch.
	WithoutOldKey bool
}

// Announce makes the next root and its issuing CAs beside the present ones,
// and lets the present root sign them too. From the next Open on, RootPEM has
// both roots; nothing else changes. The old root's key must be there (ErrNoRootKey).
// The new keys are encrypted if the present ones are.
func Announce(dir string, how Announcement, cfg Config) error {
	cfg = cfg.withDefaults()
	a, err := Open(dir, cfg)
	if err != nil {
		return err
	}
	if err := stateIs(dir, Steady, "announce a new root"); err != nil {
		return err
	}
	now := cfg.Now()
	if how.Root != nil {
		if err := checkRoot(how.Root.Cert, now); err != nil {
			return err
		}
		if !samePublic(how.Root.Cert, how.Root.Key) {
			return errors.New("announce a new root: the key does not belong to the certificate")
		}
	}
	old, err := openRootKey(dir, a.root, cfg)
	if errors.Is(err, ErrNoRootKey) && how.WithoutOldKey {
		old, err = issuer{}, nil
	}
	if err != nil {
		return err
	}
	// Where the present keys are encrypted, so are the next.
	for _, name := range []string{brokerName, deviceName} {
		b, err := readSecret(filepath.Join(dir, name+".key"))
		if err != nil {
			return err
		}
		cfg.Seal = cfg.Seal || isSealed(b)
	}
	next := filepath.Join(dir, nextName)
	// What is there without a state was never announced, or has come to its place already.
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	err = install(next, cfg, func(tmp string) error {
		if err := newCircle(tmp, how.Root, cfg); err != nil {
			return err
		}
		fresh, err := readCircle(tmp)
		if err != nil {
			return err
		}
		for _, c := range []*x509.Certificate{fresh.root, fresh.broker, fresh.device} {
			for _, present := range a.own() {
				if k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(present.PublicKey) {
					return fmt.Errorf("announce a new root: %s has a key that is in use", c.Subject)
				}
			}
		}
		if old.key == nil {
			return nil
		}
		return crossSign(tmp, fresh, old)
	})
	if err != nil {
		return err
	}
	return writeState(dir, string(Announced))
}

// crossSign lets the old root sign the new CAs. An old root allows one CA below
// it, so the new broker CA is signed too: a chain by way of the new root would
// be too long. Each ends with the shorter of both lives.
func crossSign(dir string, fresh *circle, old issuer) error {
	for _, part := range []struct {
		name    string
		cert    *x509.Certificate
		pathLen int
	}{{rootName, fresh.root, 1}, {brokerName, fresh.broker, 0}} {
		t := caTemplate("", part.pathLen, 0, part.cert.ExtKeyUsage, part.cert.NotBefore)
		t.Subject, t.RawSubject, t.SubjectKeyId = part.cert.Subject, part.cert.RawSubject, part.cert.SubjectKeyId
		t.NotBefore, t.NotAfter = part.cert.NotBefore, part.cert.NotAfter
		c, err := signCA(t, part.cert.PublicKey, old.cert, old.key)
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(dir, part.name+crossExt), encodeCertificates(c), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Seen tells how many devices are known to have the new root.
type Seen struct{ Devices, Have int }

// ErrNotSeen: devices are left that are not ready for the new root.
var ErrNotSeen = errors.New("not every device is ready")

func (s Seen) all(what string, force bool) error {
	if s.Have >= s.Devices || force {
		return nil
	}
	return &hinted{
		err:  wrap(what, ErrNotSeen, fmt.Sprintf("%d of %d are known to have the new root", s.Have, s.Devices)),
		hint: "wait until the others have connected, or force it and give those their ca.pem by hand",
	}
}

// Switch lets the new root's CAs issue from the next Open on. Devices that
// have the old root alone still accept the broker when the old root signed the
// new broker CA; without that, every device must have the new root, or force be true.
func Switch(dir string, seen Seen, force bool, cfg Config) error {
	if err := stateIs(dir, Announced, "switch to the new root"); err != nil {
		return err
	}
	if !exists(filepath.Join(dir, nextName, brokerName+crossExt)) {
		if err := seen.all("switch to the new root", force); err != nil {
			return err
		}
	}
	// The new keys must work before anything depends on them.
	next := &Authority{cfg: cfg.withDefaults()}
	if err := next.openCircle(filepath.Join(dir, nextName)); err != nil {
		return err
	}
	if err := next.OpenKeys(); err != nil {
		return err
	}
	return writeState(dir, string(Switched))
}

// SwitchBack undoes Switch. Certificates that the new CAs issued stay valid.
func SwitchBack(dir string) error {
	if err := stateIs(dir, Switched, "switch back to the old root"); err != nil {
		return err
	}
	return writeState(dir, string(Announced))
}

// Withdraw undoes Announce. The next root's files go to DIR/retired-FINGERPRINT.
// After a SwitchBack, clients with certificates of its CA are refused.
func Withdraw(dir string) error {
	if err := stateIs(dir, Announced, "withdraw the new root"); err != nil {
		return err
	}
	next := filepath.Join(dir, nextName)
	root, err := readCA(filepath.Join(next, rootName+".pem"))
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, stateName)); err != nil {
		return err
	}
	if err := os.Rename(next, retiredDir(dir, Fingerprint(root))); err != nil {
		return err
	}
	return syncDir(dir)
}

const retiredPrefix = "retired-"

func retiredDir(dir, print string) string { return filepath.Join(dir, retiredPrefix+print[:16]) }

// retiredDirs are the folders that Retire has made.
func retiredDirs(dir string) (dirs []string, err error) {
	all, err := os.ReadDir(dir) // the path may have what is a pattern to filepath.Glob
	for _, e := range all {
		if strings.HasPrefix(e.Name(), retiredPrefix) {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	return dirs, err
}

// retiredCAs are the certificates of an issuing CA of roots that are no longer
// trusted: a leaf of theirs is one that we issued.
func retiredCAs(dir, name string) []*x509.Certificate {
	dirs, err := retiredDirs(dir)
	if err != nil {
		return nil
	}
	var out []*x509.Certificate
	for _, in := range dirs {
		if c, err := readCA(filepath.Join(in, name+".pem")); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// Retire ends the trust in the old root: ca.pem has the new one alone, and
// clients with certificates of the old device CA are refused. It demands that
// every device is known to have the new root, unless force is true. The old
// files go to DIR/retired-FINGERPRINT. An interrupted Retire is completed by another.
func Retire(dir string, seen Seen, force bool) error {
	state, print, err := readState(dir)
	if err != nil {
		return err
	}
	if state != retiring {
		if err := stateIs(dir, Switched, "retire the old root"); err != nil {
			return err
		}
		if err := seen.all("retire the old root", force); err != nil {
			return err
		}
		old, err := readCA(filepath.Join(dir, rootName+".pem"))
		if err != nil {
			return err
		}
		print = Fingerprint(old)
		if err := writeState(dir, string(retiring)+" "+print); err != nil {
			return err
		}
	}
	if err := keepRetired(dir, retiredDir(dir, print)); err != nil {
		return err
	}
	for _, name := range circleFiles() {
		from, to := filepath.Join(dir, nextName, name), filepath.Join(dir, name)
		if err := copyOver(from, to); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, stateName)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, nextName))
}

func circleFiles() []string {
	var out []string
	for _, name := range []string{rootName, brokerName, deviceName} {
		out = append(out, name+".pem", name+".key")
	}
	return out
}

// keepRetired copies the old files aside, once: later they are overwritten.
func keepRetired(dir, to string) error {
	if exists(to) {
		return nil
	}
	tmp, err := os.MkdirTemp(dir, ".retired.*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, name := range circleFiles() {
		if err := copyOver(filepath.Join(dir, name), filepath.Join(tmp, name)); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	return syncDir(dir)
}

// copyOver makes to a copy of from, or removes it when from is missing, as a
// root's key is that is kept elsewhere.
func copyOver(from, to string) error {
	b, err := readFile(from)
	if missing(err) {
		if err := os.Remove(to); err != nil && !missing(err) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	if strings.HasSuffix(from, ".key") {
		return writeAtomic(to, b, 0o600)
	}
	return writeAtomic(to, b, 0o644)
}

func stateIs(dir string, want State, what string) error {
	s, _, err := readState(dir)
	if err != nil {
		return err
	}
	if s == retiring {
		return &hinted{err: fmt.Errorf("%s: the old root is being retired", what), hint: "complete that first: retire it once more"}
	}
	if s != want {
		return fmt.Errorf("%s: the CA is %s, not %s", what, s, want)
	}
	return nil
}
