package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"

	"github.com/sealmq/sealmq/pki"
)

// Decision about a connection.
type Decision uint8

// The decisions. The zero value refuses.
const (
	Refuse     Decision = iota
	Allow               // as the device
	Quarantine          // as the device, but to little else than renewal
)

// Cause is why a connection is refused or restricted, for logs and programs.
type Cause string

// The causes.
const (
	CauseRevoked     Cause = "revoked"
	CauseSuperseded  Cause = "superseded"
	CauseDisabled    Cause = "disabled"
	CausePending     Cause = "pending"
	CauseQuarantined Cause = "quarantined"
	CauseUnknown     Cause = "unknown" // not registered
	CauseRetired     Cause = "retired" // of a CA that is trusted no longer
	CauseExpired     Cause = "expired" // and not registered
	CauseTenant      Cause = "tenant"  // of one of our CAs, but of another tenant
)

// Verdict is what Check says of a certificate.
type Verdict struct {
	Decision Decision
	Cause    Cause  // "" for Allow
	Device   string // "" when there is none
	// Known: the certificate is registered. Without Options.Strict one of a foreign CA may be allowed that is not.
	Known bool
	// Older: the device has active certificates that are older than this one. See Registry.Supersede.
	Older bool
}

// Refused is the error of a verdict that refuses.
type Refused struct {
	Cause  Cause
	Device string
}

func (e *Refused) Error() string {
	who := "certificate"
	if e.Device != "" {
		who = "certificate of " + e.Device
	}
	switch e.Cause {
	case CauseRevoked, CauseSuperseded:
		return who + " is " + string(e.Cause)
	case CauseUnknown:
		return who + " is not registered"
	case CauseRetired:
		return who + " is of a CA that is trusted no longer"
	case CauseExpired:
		return who + " has expired and is not registered"
	case CauseTenant:
		return who + " is of another tenant"
	}
	return "device " + e.Device + " is " + string(e.Cause)
}

// Err returns a *Refused for a verdict that refuses, else nil: what tls.Config.VerifyConnection may return.
func (v Verdict) Err() error {
	if v.Decision != Refuse {
		return nil
	}
	return &Refused{v.Cause, v.Device}
}

func causeOf(s State) Cause {
	switch s {
	case Active:
		return ""
	case Pending:
		return CausePending
	case Disabled:
		return CauseDisabled
	case Quarantined:
		return CauseQuarantined
	}
	return CauseRevoked
}

// idBuffer is enough for the id of an operator.
const idBuffer = len(operatorPrefix) + 64

// seenFirst is what a registration by Check is called.
const seenFirst = "register"

// identity appends the id of the device, operator or claim whose certificate it is, as package auth reads it; nothing if there is
// none that could be registered. The tenant is "" if the certificate does not name one.
func identity(leaf *x509.Certificate, b []byte) (_ []byte, tenant string) {
	id := leaf.Subject.CommonName
	for _, u := range leaf.URIs {
		rest, ok := strings.CutPrefix(u.Opaque, "mqtts:")
		if u.Scheme != "urn" || !ok {
			continue
		}
		of, rest, ok := strings.Cut(rest, ":")
		kind, name, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		id, tenant = name, of
		b = append(b, prefixOf(pki.Kind(kind))...)
		break
	}
	if len(id) > 64 || strings.IndexByte(id, '/') >= 0 {
		return nil, tenant
	}
	return append(b, id...), tenant
}

// foreignTenant reports whether a certificate of one of our CAs is of another tenant: a CA may serve several, each of which
// has its own devices, some with the same names.
func (r *Registry) foreignTenant(leaf *x509.Certificate, tenant string) bool {
	return tenant != "" && tenant != r.o.Tenant && r.issuerOf(leaf) != nil
}

// IDOf is the id of the holder of a certificate, "" if there is none that could be registered.
func IDOf(leaf *x509.Certificate) string {
	var buf [idBuffer]byte
	id, _ := identity(leaf, buf[:0])
	return string(id)
}

// Check says whether the holder of a certificate may connect. The certificate's chain and dates were checked before. It
// takes no lock and allocates nothing for one that is registered.
//
// A connection that can be refused by an Event must be checked again when it can be found by whoever handles events:
// the change may have come in between.
func (r *Registry) Check(leaf *x509.Certificate) Verdict {
	var buf [idBuffer]byte
	id, tenant := identity(leaf, buf[:0])
	if r.foreignTenant(leaf, tenant) {
		return Verdict{Cause: CauseTenant, Device: string(id)}
	}
	serial, ok := packSerial(leaf.SerialNumber)
	if len(id) == 0 || !ok {
		return r.stranger(leaf, "")
	}
	e := r.index.getBytes(id)
	if e == nil {
		return r.stranger(leaf, string(id))
	}
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	v := r.judge(e, &serial, &spki)
	if v.Decision != Refuse && !v.Known {
		return r.strangerOf(leaf, v)
	}
	return v
}

// judge says what becomes of the holder of a certificate, which the device may not have.
func (r *Registry) judge(e *entry, serial *[serialSize]byte, spki *[keySize]byte) Verdict {
	v := Verdict{Device: e.id, Cause: causeOf(e.state)}
	c := e.find(serial, spki)
	v.Known = c != nil
	switch {
	case c == nil:
	case c.state == CertSuperseded:
		v.Cause = CauseSuperseded
		return v
	case c.state != CertActive:
		v.Cause = CauseRevoked
		return v
	case r.retired.has(c.issuer):
		v.Cause = CauseRetired
		return v
	}
	switch e.state {
	case Active:
		v.Decision = Allow
	case Quarantined:
		v.Decision = Quarantine
	}
	v.Older = v.Decision != Refuse && c != nil && e.older(c)
	return v
}

// Standing is Check for one that was let in before, named by kind (empty if the certificate did not say), name, serial in
// hex and SHA-256 of the key. Nothing is registered by it. Without a serial the device alone is judged, and also with a
// certificate that is not registered: whoever let that in knew why. Only a claim must be registered. It takes no lock and
// allocates nothing.
func (r *Registry) Standing(kind pki.Kind, name, serial string, spki [32]byte) Verdict {
	var buf [idBuffer]byte
	var e *entry
	if len(name) <= len(buf)-len(operatorPrefix) { // no id is longer
		e = r.index.getBytes(append(append(buf[:0], prefixOf(kind)...), name...))
	}
	number, ok := readSerial(serial)
	switch {
	case e == nil && ok && kind == pki.Claim:
		return Verdict{Cause: CauseUnknown}
	case e == nil:
		return Verdict{Decision: Allow}
	}
	v := r.judge(e, &number, &spki)
	if v.Decision == Refuse || v.Known || !ok {
		return v
	}
	if _, lost := r.holder(spki); lost {
		return Verdict{Cause: CauseRevoked, Device: v.Device}
	}
	if kind == pki.Claim {
		return Verdict{Cause: CauseUnknown, Device: v.Device}
	}
	return v
}

// stranger is the verdict about a certificate of a device that is not registered.
func (r *Registry) stranger(leaf *x509.Certificate, id string) Verdict {
	return r.strangerOf(leaf, Verdict{Decision: Allow, Device: id})
}

// strangerOf is the verdict about a certificate that is not registered, v if it is one of ours. That is registered; if it
// cannot be, because the store refuses changes, it will be the next time. Claims are older than no registry, and refused. So
// is one of ours that has expired: it may have been revoked, and that is forgotten some time after.
func (r *Registry) strangerOf(leaf *x509.Certificate, v Verdict) Verdict {
	refused := Verdict{Cause: CauseUnknown, Device: v.Device}
	ours := r.issuerOf(leaf) != nil
	if kind, _ := Split(v.Device); kind == pki.Claim || r.o.Strict && ours {
		return refused
	}
	if _, lost := r.Holder(sha256.Sum256(leaf.RawSubjectPublicKeyInfo)); lost {
		refused.Cause = CauseRevoked
		return refused
	}
	if ours && r.o.Now().After(leaf.NotAfter) {
		refused.Cause = CauseExpired
		return refused
	}
	if v.Device == "" || checkID(v.Device) != nil || !ours {
		return v
	}
	err := r.issued(As(context.Background(), "its first connection"), seenFirst, v.Device, leaf,
		Device{State: Active}, func(State) error { return nil })
	switch {
	case err == nil:
		v.Known = true
		r.unregistered.Store(false)
	case errors.Is(err, ErrIssuer): // it says so, but another CA signed it
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrEnded), errors.Is(err, ErrKey): // a moment ago
		refused.Cause = CauseRevoked
		return refused
	case !r.unregistered.Swap(true):
		r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "certificate of ours let in unregistered; so may others be, until one is registered",
			slog.String("device", v.Device), slog.Any("error", err))
	}
	return v
}
