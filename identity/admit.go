package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Reason codes of MQTT 5: of a CONNECT that is refused, and of a connection that is ended.
const (
	notAuthorized        = 0x87
	administrativeAction = 0x98
)

// Admit says whether the holder of a certificate, whose chain and dates were checked, may connect: nil, an *auth.Refusal
// (0x87, not authorized), or restricted to enrolment and renewal. It neither blocks nor allocates for one that is
// registered and active; one of our CA that is not registered yet is, unless Config.Strict, which waits for the store.
func (s *Service) Admit(leaf *x509.Certificate) (restricted bool, err error) {
	v := s.o.Registry.Check(leaf)
	if v.Decision == registry.Refuse {
		return false, &auth.Refusal{Code: notAuthorized, Text: reason(v)}
	}
	kind, _ := registry.Split(v.Device)
	return v.Decision == registry.Quarantine || kind == pki.Claim, nil
}

// Stands says the same of a principal that was admitted earlier, and whether it shall be restricted now. The code of its
// refusals is 0x98, administrative action. Of a principal without Cert.Serial the device alone is judged, if it is one. It
// neither blocks nor allocates unless it refuses.
func (s *Service) Stands(p *auth.Principal) (restricted bool, err error) {
	if p.Kind == "" && p.Cert.Serial == "" {
		return false, nil // a user, whom others know
	}
	v := s.o.Registry.Standing(pki.Kind(p.Kind), p.Name, p.Cert.Serial, p.Cert.Key)
	if v.Decision == registry.Refuse {
		return false, &auth.Refusal{Code: administrativeAction, Text: reason(v)}
	}
	return v.Decision == registry.Quarantine || p.Kind == string(pki.Claim), nil
}

// reason says to a device why it is refused.
func reason(v registry.Verdict) string {
	switch v.Cause {
	case registry.CauseSuperseded:
		return "this certificate was replaced by a newer one: use that"
	case registry.CauseDisabled:
		return "the device is disabled"
	case registry.CausePending:
		return "the device waits for approval: sealmq device enable " + v.Device
	case registry.CauseUnknown:
		return "this certificate is not registered"
	case registry.CauseRetired:
		return "the CA of this certificate is trusted no longer"
	case registry.CauseTenant:
		return "this certificate is of another tenant"
	case registry.CauseExpired:
		return "this certificate has expired, and is not registered"
	}
	if !v.Known && v.Device != "" {
		return "the device is revoked"
	}
	return "this certificate is revoked"
}

// Saw notes a connection that was accepted, and ends the certificates before if this one has taken their place. It may be
// called on a loop. Those of operators and claims are left alone: several machines may share them.
func (s *Service) Saw(leaf *x509.Certificate, seen registry.Seen) {
	id := registry.IDOf(leaf)
	if id == "" {
		return
	}
	serial := serialOf(leaf.SerialNumber)
	if seen.Serial == "" {
		seen.Serial = serial
	}
	s.o.Registry.Saw(id, seen)
	kind, name := registry.Split(id)
	if kind != pki.Device {
		return
	}
	v := s.o.Registry.Standing(kind, name, serial, sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	if v.Older {
		s.replace(id, serial)
	}
	if t := s.takeover.Load(); t != nil && v.Known && bytes.Equal(leaf.AuthorityKeyId, t.device) {
		s.o.Registry.SawRoots(id, true, t.root)
	}
}
