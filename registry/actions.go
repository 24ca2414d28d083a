package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sealmq/sealmq/pki"
)

// must refuses devices that are not there.
func must(f func(e *entry) error) func(*entry) error {
	return func(e *entry) error {
		if e.purged {
			return ErrUnknown
		}
		return f(e)
	}
}

// begin makes a new device of an entry, which may have certificates from a life before.
func (e *entry) begin(now int64) {
	e.purged, e.gone, e.created = false, false, now
}

// Add adds a device. Of d, the id, groups, attributes, state (active if empty) and note are taken.
// It fails with ErrExists.
func (r *Registry) Add(ctx context.Context, d Device) error {
	if d.State == "" {
		d.State = Active
	}
	d.Certificates = nil
	if err := d.checkSettable(); err != nil {
		return fmt.Errorf("add device: %w", err)
	}
	return r.change(ctx, action{what: "add"}, []string{d.ID}, func(e *entry) error {
		if !e.purged {
			return ErrExists
		}
		e.begin(r.o.Now().UnixMilli())
		e.set(&d)
		return nil
	})
}

// Update lets f change groups, attributes, note and state; its other changes are not taken. A device cannot be revoked
// this way, nor be brought back. f may be called while others wait: it must not block.
func (r *Registry) Update(ctx context.Context, id string, f func(*Device) error) error {
	return r.change(ctx, action{what: "update"}, []string{id}, must(func(e *entry) error {
		d := r.full(e)
		was := e.state
		if err := f(&d); err != nil {
			return err
		}
		d.ID, d.Certificates = id, nil
		if was == Revoked && d.State != Revoked {
			return ErrRevoked
		}
		if d.State == Revoked && was != Revoked {
			return errors.New("state revoked: revoke it instead")
		}
		if err := d.check(); err != nil {
			return err
		}
		e.set(&d)
		return nil
	}))
}

// packIssued makes a record of a certificate that one of the issuers has signed.
func (r *Registry) packIssued(id string, leaf *x509.Certificate) (cert, error) {
	var c cert
	var buf [idBuffer]byte
	holder, tenant := identity(leaf, buf[:0])
	if string(holder) != id {
		return c, fmt.Errorf("the certificate is of %.80q", holder)
	}
	if r.foreignTenant(leaf, tenant) {
		return c, fmt.Errorf("%w: it is of the tenant %.80q", ErrIssuer, tenant)
	}
	i := r.issuerOf(leaf)
	if i == nil {
		return c, ErrIssuer
	}
	if err := leaf.CheckSignatureFrom(i.cert); err != nil {
		return c, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	serial, ok := packSerial(leaf.SerialNumber)
	if !ok {
		return c, errors.New("the certificate's serial is not positive, or longer than 20 bytes")
	}
	c = cert{serial: serial, spki: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), issuer: i.key, notBefore: leaf.NotBefore.Unix(),
		notAfter: leaf.NotAfter.Unix(), state: CertActive}
	if _, lost := r.Holder(c.spki); lost && r.index.get(id).lacks(&c) {
		return c, ErrKey
	}
	return c, c.check()
}

// checkFree refuses a certificate that another device has: no CA may use a serial twice.
func (r *Registry) checkFree(id string, c *cert) error {
	for _, other := range r.index.withSerial(c.serial) {
		if other.id != id && slices.ContainsFunc(other.certs, func(o cert) bool { return o.serial == c.serial && *o.issuer == *c.issuer }) {
			return fmt.Errorf("its serial %s is that of %s", serialText(c.serial), other.id)
		}
	}
	return nil
}

// Issued registers a certificate that was issued to a device, and the device as active if there is none. Its others stay
// as they are. The certificate must be of one of the issuers (ErrIssuer), not revoked before (ErrEnded), its key not
// compromised (ErrKey), and the device not revoked (ErrRevoked).
func (r *Registry) Issued(ctx context.Context, id string, leaf *x509.Certificate) error {
	return r.issued(ctx, "issue", id, leaf, Device{State: Active}, func(State) error { return nil })
}

// Register is Issued under a condition: allow is asked with the state that the device has, "" if there is none, which
// stays so until its certificate is registered. It must not block. A device that is not there begins as d says, with the
// id, groups, attributes, state (active if empty) and note; of one that is there nothing but the id of d is looked at.
func (r *Registry) Register(ctx context.Context, d Device, leaf *x509.Certificate, allow func(State) error) error {
	if d.State == "" {
		d.State = Active
	}
	d.Certificates = nil
	if err := d.checkSettable(); err != nil {
		return fmt.Errorf("issue certificate for device: %w", err)
	}
	return r.issued(ctx, "issue", d.ID, leaf, d, allow)
}

func (r *Registry) issued(ctx context.Context, what, id string, leaf *x509.Certificate, fresh Device, allow func(State) error) error {
	c, err := r.packIssued(id, leaf)
	if err == nil {
		err = checkID(id)
	}
	if err != nil {
		return fmt.Errorf("%s certificate for device %.80q: %w", what, id, err)
	}
	if err := r.checkFree(id, &c); err != nil {
		return fmt.Errorf("%s certificate for device %.80q: %w", what, id, err)
	}
	return r.change(ctx, action{what: what}, []string{id}, func(e *entry) error {
		if e.purged {
			if what == seenFirst && !e.gone {
				return ErrRevoked
			}
			if err := allow(""); err != nil {
				return err
			}
			e.begin(r.o.Now().UnixMilli())
			e.set(&fresh)
		} else if err := allow(e.state); err != nil {
			return err
		}
		if e.state == Revoked {
			return ErrRevoked
		}
		if known := e.find(&c.serial, &c.spki); known != nil && known.state != CertActive {
			return ErrEnded
		}
		return e.addCert(c, r.o.Now().Unix())
	})
}

// Supersede ends the certificates of a device that are older than the one with a serial, which must be active.
func (r *Registry) Supersede(ctx context.Context, id, serial string) error {
	return r.SupersedeAll(ctx, map[string]string{id: serial})
}

// SupersedeAll is Supersede for several devices, by their ids, with few waits for the disk.
func (r *Registry) SupersedeAll(ctx context.Context, serials map[string]string) error {
	numbers := make(map[string][serialSize]byte, len(serials))
	var bad []error
	for id, serial := range serials {
		number, err := parseSerial(serial)
		if err != nil {
			bad = append(bad, fmt.Errorf("supersede certificates of device %.80q: %w", id, err))
			continue
		}
		numbers[id] = number
	}
	act := action{what: "supersede", cause: CauseSuperseded, reason: pki.Superseded}
	return errors.Join(append(bad, r.change(ctx, act, slices.Collect(maps.Keys(numbers)), must(func(e *entry) error {
		number := numbers[e.id]
		at := slices.IndexFunc(e.certs, func(c cert) bool { return c.serial == number })
		if at < 0 {
			return fmt.Errorf("it has no certificate %s", serialText(number))
		}
		if e.certs[at].state != CertActive {
			return fmt.Errorf("its certificate %s is %s", serialText(number), e.certs[at].state)
		}
		older := entry{certs: e.certs[at+1:]}
		if !older.revokeCerts(CertSuperseded, pki.Superseded, r.o.Now().Unix(), func(*cert) bool { return true }) {
			return errSame
		}
		return nil
	})))...)
}

// to changes the state of devices.
func (r *Registry) to(ctx context.Context, what string, state State, ids []string) error {
	return r.change(ctx, action{what: what}, ids, must(func(e *entry) error {
		switch e.state {
		case state:
			return errSame
		case Revoked:
			return ErrRevoked
		}
		e.state = state
		return nil
	}))
}

// Disable keeps devices from connecting, until Enable. Their certificates stay valid for others. As with all methods that
// take several ids, each device is changed or not for itself, and the errors are joined.
func (r *Registry) Disable(ctx context.Context, ids ...string) error {
	return r.to(ctx, "disable", Disabled, ids)
}

// Enable makes devices active that were pending, disabled or quarantined.
func (r *Registry) Enable(ctx context.Context, ids ...string) error {
	return r.to(ctx, "enable", Active, ids)
}

// Quarantine lets devices connect to little else than renewal.
func (r *Registry) Quarantine(ctx context.Context, ids ...string) error {
	return r.to(ctx, "quarantine", Quarantined, ids)
}

// checkReason refuses what is no end.
func checkReason(reason pki.Reason) error {
	switch {
	case reason == pki.CertificateHold:
		return errors.New("reason certificate-hold: disable the device instead")
	case reason < 0 || reason > pki.AACompromise || reason == 7 || reason == 8:
		return fmt.Errorf("reason %d: unknown", int(reason))
	}
	return nil
}

// Revoke ends devices and all their certificates for good.
func (r *Registry) Revoke(ctx context.Context, reason pki.Reason, ids ...string) error {
	if err := checkReason(reason); err != nil {
		return fmt.Errorf("revoke devices: %w", err)
	}
	now := r.o.Now().Unix()
	return r.change(ctx, action{"revoke", CauseRevoked, reason}, ids, must(func(e *entry) error {
		any := e.revokeCerts(CertRevoked, reason, now, func(*cert) bool { return true })
		if e.state == Revoked && !any {
			return errSame
		}
		e.state = Revoked
		return nil
	}))
}

// RevokeCertificate ends the certificate with a serial. Its device stays as it is, and may be issued another.
func (r *Registry) RevokeCertificate(ctx context.Context, serial string, reason pki.Reason) error {
	bad := func(err error) error { return fmt.Errorf("revoke certificate %.60q: %w", serial, err) }
	if err := checkReason(reason); err != nil {
		return bad(err)
	}
	number, err := parseSerial(serial)
	if err != nil {
		return bad(err)
	}
	holders := r.index.withSerial(number)
	switch {
	case len(holders) == 0:
		return bad(errors.New("no device has it"))
	case len(holders) > 1:
		return bad(fmt.Errorf("several devices have one with this serial, of different issuers: %s, %s", holders[0].id, holders[1].id))
	}
	now := r.o.Now().Unix()
	return r.change(ctx, action{"revoke", CauseRevoked, reason}, []string{holders[0].id}, func(e *entry) error {
		if !e.revokeCerts(CertRevoked, reason, now, func(c *cert) bool { return c.serial == number }) {
			return errSame
		}
		return nil
	})
}

// Purge forgets devices. Certificates of theirs that have not expired are revoked, and stay in revocation lists until they
// expire, and are refused for another 30 days; their ids may be added again at once. It fails with the error of Guard.
func (r *Registry) Purge(ctx context.Context, ids ...string) error {
	return r.purge(ctx, ids, func(State) error { return nil })
}

// PurgeIf is Purge of one device under a condition: allow is asked with its state, which stays so until the device is gone.
// It must not block.
func (r *Registry) PurgeIf(ctx context.Context, id string, allow func(State) error) error {
	return r.purge(ctx, []string{id}, allow)
}

func (r *Registry) purge(ctx context.Context, ids []string, allow func(State) error) error {
	now := r.o.Now().Unix()
	return r.change(ctx, action{"purge", CauseRevoked, pki.CessationOfOperation}, ids, must(func(e *entry) error {
		if err := allow(e.state); err != nil {
			return err
		}
		if guard := r.guard.Load(); guard != nil {
			if err := (*guard)(r.full(e)); err != nil {
				return err
			}
		}
		e.revokeCerts(CertRevoked, pki.CessationOfOperation, now, func(c *cert) bool { return c.state == CertActive })
		e.certs = slices.DeleteFunc(e.certs, func(c cert) bool { return c.notAfter < now-lingers })
		e.set(&Device{State: Revoked})
		e.purged, e.gone = true, len(e.certs) == 0
		return nil
	}))
}

// Guard has fn asked before a device is purged, which an error of its refuses; nil ends that. It must not block.
func (r *Registry) Guard(fn func(Device) error) {
	if fn == nil {
		r.guard.Store(nil)
		return
	}
	r.guard.Store(&fn)
}

// Withdraw ends the active certificates of a device as superseded, and makes it active: it may be issued another. allow is
// asked as that of PurgeIf.
func (r *Registry) Withdraw(ctx context.Context, id string, allow func(State) error) error {
	now := r.o.Now().Unix()
	act := action{what: "withdraw", cause: CauseSuperseded, reason: pki.Superseded}
	return r.change(ctx, act, []string{id}, must(func(e *entry) error {
		if err := allow(e.state); err != nil {
			return err
		}
		if e.state == Revoked {
			return ErrRevoked
		}
		any := e.revokeCerts(CertSuperseded, pki.Superseded, now, func(c *cert) bool { return c.state == CertActive })
		if e.state == Active && !any {
			return errSame
		}
		e.state = Active
		return nil
	}))
}
