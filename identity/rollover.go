package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// takeover is a root that takes another's place.
type takeover struct {
	root     [32]byte // SHA-256 of the next root's certificate
	device   []byte   // key identifier of its device CA
	outgoing [32]byte // SHA-256 of the public key of the old root's device CA
	issues   bool     // the next root's CAs do
}

// takeoverOf is nil while there is one root.
func takeoverOf(ca *pki.Authority) *takeover {
	next := ca.NextRoot()
	if next == nil {
		return nil
	}
	fresh, old := ca.DeviceCAs()[0], ca.DeviceCAs()[1]
	if ca.State() == pki.Announced {
		fresh, old = old, fresh
	}
	return &takeover{root: sha256.Sum256(next.Raw), device: fresh.SubjectKeyId, outgoing: sha256.Sum256(old.RawSubjectPublicKeyInfo),
		issues: ca.State() == pki.Switched}
}

// Status tells where the CA stands.
type Status struct {
	State pki.State    `json:"state"`
	Roots []RootStatus `json:"roots"` // the older first
	CAs   []CAStatus   `json:"cas"`   // those that issue, the root first
	// Devices may connect: they are active or quarantined.
	Devices int `json:"devices"`
	// Renewed have no certificate, or not of the old root's device CA alone. It is told while a root is replaced.
	Renewed int `json:"renewed"`
	// Missing are some of the devices that are not ready for the end of the old root, in order: not known to have the
	// next one or, once its CAs issue, not renewed.
	Missing []string `json:"missing,omitempty"`
}

// RootStatus is a root that clients trust.
type RootStatus struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
	Subject     string    `json:"subject"`
	NotAfter    time.Time `json:"not_after"`
	Issues      bool      `json:"issues"` // its CAs issue
	// Seen counts the devices that are known to have it.
	Seen int `json:"seen"`
}

// CAStatus is the life of a CA.
type CAStatus struct {
	Name        string    `json:"name"` // root, broker, device
	Fingerprint string    `json:"fingerprint"`
	Subject     string    `json:"subject"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Due         bool      `json:"due"` // less than a third of its life remains
}

// maxMissing is how many devices Status names.
const maxMissing = 20

// Status tells where the CA stands, and how many devices have the roots.
func (s *Service) Status() Status {
	ca := s.CA()
	st := Status{State: ca.State()}
	var prints [][32]byte
	for _, r := range ca.Roots() {
		prints = append(prints, sha256.Sum256(r.Raw))
		st.Roots = append(st.Roots, RootStatus{Fingerprint: pki.Fingerprint(r), Subject: r.Subject.String(), NotAfter: r.NotAfter, Issues: r.Equal(ca.Root())})
	}
	for _, l := range ca.Lives() {
		st.CAs = append(st.CAs, CAStatus{l.Name, pki.Fingerprint(l.Cert), l.Cert.Subject.String(), l.Cert.NotBefore, l.Cert.NotAfter, l.Due})
	}
	t := s.takeover.Load()
	after := s.o.Now().Add(-s.grace)
	s.o.Registry.Holdings(func(h registry.Holding) {
		st.Devices++
		for i := range prints {
			if h.Root(&prints[i]) {
				st.Roots[i].Seen++
			}
		}
		if t == nil {
			return
		}
		depends := h.Depends(&t.outgoing, after)
		if !depends {
			st.Renewed++
		}
		if h.Root(&t.root) && (!depends || st.State != pki.Switched) {
			return
		}
		if st.Missing = append(st.Missing, h.ID()); len(st.Missing) == 50*maxMissing {
			slices.Sort(st.Missing)
			st.Missing = st.Missing[:maxMissing]
		}
	})
	slices.Sort(st.Missing)
	st.Missing = st.Missing[:min(len(st.Missing), maxMissing)]
	return st
}

// SawRoots notes which roots a device says to have, by the SHA-256 of each in hex. Those that are none of ours are not
// looked at, nor are more than 64.
func (s *Service) SawRoots(id string, fingerprints []string) {
	var known [][32]byte
	for _, r := range s.CA().Roots() {
		print := sha256.Sum256(r.Raw)
		if slices.ContainsFunc(fingerprints[:min(len(fingerprints), 64)], func(f string) bool { return samePrint(f, &print) }) {
			known = append(known, print)
		}
	}
	s.o.Registry.SawRoots(id, false, known...)
}

// samePrint compares with a fingerprint as tools write it, in either case and with or without colons.
func samePrint(f string, print *[32]byte) bool {
	if len(f) > 95 {
		return false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
	return err == nil && string(b) == string(print[:])
}

// Outgoing reports whether certificates of an issuer, named as in registry.Certificate, are to be renewed before their time:
// the CAs of another root have begun to issue, and the trust in this one is going to end.
func (s *Service) Outgoing(issuer string) bool {
	t := s.takeover.Load()
	return t != nil && t.issues && issuer == hex.EncodeToString(t.outgoing[:])
}

// seen counts the devices that have the next root.
func (s *Service) seen() (seen pki.Seen) {
	if t := s.takeover.Load(); t != nil {
		s.o.Registry.Holdings(func(h registry.Holding) {
			seen.Devices++
			if h.Root(&t.root) {
				seen.Have++
			}
		})
	}
	return seen
}

// Announce makes the next root, which is trusted beside the present one from then on.
func (s *Service) Announce(ctx context.Context, how pki.Announcement) error {
	return s.change(ctx, "announce", func(dir string, cfg pki.Config) error { return pki.Announce(dir, how, cfg) })
}

// Switch lets the next root's CAs issue. It fails with pki.ErrNotSeen if the old root did not sign the new broker CA, and
// devices are left that are not known to have the new root, unless force is true.
func (s *Service) Switch(ctx context.Context, force bool) error {
	return s.change(ctx, "switch", func(dir string, cfg pki.Config) error { return pki.Switch(dir, s.seen(), force, cfg) })
}

// SwitchBack undoes Switch.
func (s *Service) SwitchBack(ctx context.Context) error {
	return s.change(ctx, "switch back", func(dir string, _ pki.Config) error { return pki.SwitchBack(dir) })
}

// Withdraw undoes Announce. What the next root's CA has issued is refused from then on.
func (s *Service) Withdraw(ctx context.Context) error {
	return s.change(ctx, "withdraw", func(dir string, _ pki.Config) error { return pki.Withdraw(dir) })
}

// Retire ends the trust in the old root, and in what its CA has issued. It fails with pki.ErrNotSeen if devices are left
// that are not known to have the new root, or that have no certificate but of the old one's CA, unless force is true.
func (s *Service) Retire(ctx context.Context, force bool) error {
	return s.change(ctx, "retire", func(dir string, _ pki.Config) error {
		if st := s.Status(); !force && st.State == pki.Switched && s.seen().Have == st.Devices && st.Renewed < st.Devices {
			return &hinted{fmt.Errorf("retire the old root: %w: %d of %d have a certificate of the new one", pki.ErrNotSeen, st.Renewed, st.Devices),
				"wait until the others have renewed theirs, or force it and give those new ones by hand"}
		}
		return pki.Retire(dir, s.seen(), force)
	})
}

// RenewIssuing renews the issuing CAs that are due, or all, and returns the names of those renewed.
func (s *Service) RenewIssuing(ctx context.Context, all bool) (names []string, err error) {
	err = s.change(ctx, "renew", func(dir string, cfg pki.Config) error {
		names, err = pki.RenewIssuing(dir, all, cfg)
		return err
	})
	return names, err
}

// IssuingCSR is a request, PEM, to renew the issuing CA name ("broker" or "device") for a root that is elsewhere. Accept
// takes the answer.
func (s *Service) IssuingCSR(name string) ([]byte, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	return pki.IssuingCSR(s.caDir(), name, s.pki())
}

// Accept takes the certificates that a root elsewhere made from IssuingCSR.
func (s *Service) Accept(ctx context.Context, certs []*x509.Certificate) error {
	return s.change(ctx, "accept", func(dir string, cfg pki.Config) error {
		_, err := pki.Accept(dir, certs, cfg)
		return err
	})
}

// change changes the CA folder, and puts in force what has become of it. When f fails that may be a part.
func (s *Service) change(ctx context.Context, what string, f func(dir string, cfg pki.Config) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	failed := f(s.caDir(), s.pki())
	folder, err := pki.OpenFolder(s.Folder().Path(), s.pki())
	if err != nil {
		if failed == nil {
			failed = err
		}
		s.report("folder", "the CA cannot be opened again", err)
		return failed
	}
	s.report("folder", "", nil)
	before, after := s.CA(), folder.CA()
	same := before.State() == after.State() && slices.EqualFunc(held(before), held(after), (*x509.Certificate).Equal)
	if same {
		return failed
	}
	s.install(folder)
	s.lists.changed()
	s.o.Log.LogAttrs(ctx, slog.LevelInfo, "CA changed", slog.String("who", registry.Actor(ctx)), slog.String("what", what),
		slog.String("state", string(after.State())), slog.String("root", pki.Fingerprint(after.Root())))
	s.warn()
	s.o.Changed()
	return failed
}

// held are the certificates of a CA.
func held(ca *pki.Authority) []*x509.Certificate {
	return slices.Concat(ca.Roots(), ca.DeviceCAs(), ca.BrokerCAs())
}
