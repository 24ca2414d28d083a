package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// ask is a request to enrol a device with a claim that was accepted.
type ask struct {
	id         string
	csr        []byte
	spki       pki.SPKI
	attributes map[string]string
	via        string // for the log
}

// newAsk checks a CSR, before anything is counted for it.
func newAsk(id string, csr []byte, attributes map[string]string, via string) (*ask, error) {
	if err := pki.CheckID(id); err != nil {
		return nil, &pki.Refusal{Code: pki.CodeIdentity, Err: err}
	}
	spki, err := checkCSR(csr)
	return &ask{id: id, csr: csr, spki: spki, attributes: attributes, via: via}, err
}

// checkCSR returns the name of a CSR's key, if the CA could sign it.
func checkCSR(csr []byte) (pki.SPKI, error) {
	req, err := pki.ParseCSR(csr)
	if err != nil {
		return pki.SPKI{}, err
	}
	if err := pki.CheckKey(req.PublicKey); err != nil {
		var r *pki.Refusal
		if !errors.As(err, &r) {
			err = &pki.Refusal{Code: pki.CodeKeyWeak, Err: err}
		}
		return pki.SPKI{}, err
	}
	if err := req.CheckSignature(); err != nil {
		return pki.SPKI{}, &pki.Refusal{Code: pki.CodeSignature, Err: errors.New("the CSR is not signed by its key")}
	}
	return pki.SPKIOf(req.PublicKey)
}

// grant enrols a device, under the lock of its id: a certificate, *waiting or another error.
func (s *Service) grant(c *claim, a *ask) (*identity.Issued, error) {
	defer s.one(a.id).Unlock()
	now := s.now()
	p := s.pending.get(a.id, now)
	mine := p != nil && p.Owner == nil && p.Claim == c.ID && bytes.Equal(p.SPKI, a.spki[:])
	if err := s.claims.standing(c, now); err != nil {
		var r *Rejection
		// A use was taken when the device began to wait: an operator may approve it after the claim's end.
		if !mine || !errors.As(err, &r) || r.Code != CodeClaimExpired {
			return nil, err
		}
	}
	if !c.allows(a.id) {
		return nil, reject(CodeIDNotAllowed, fmt.Sprintf("claim %s is not for device %s", c.ID, a.id))
	}
	d, known := s.o.Registry.Get(a.id)
	switch {
	case !known && c.Approve:
		return nil, s.await(c, a, true)
	case !known:
		return s.issueNew(c, a)
	}
	switch d.State {
	case registry.Active:
	case registry.Pending:
		switch {
		case p == nil && !c.names(a.id) && !c.waited(&d):
			return nil, rejectUnnamed(c, a.id)
		case p == nil:
			return nil, s.await(c, a, false)
		case mine:
			return nil, &waiting{approvalRetry}
		case p.Claim != c.ID || p.Owner != nil:
			return nil, reject(CodeIDTaken, "another claim has asked for device "+a.id)
		}
		return nil, reject(CodeOtherKey, "device "+a.id)
	default:
		return nil, reject(CodeNotActive, fmt.Sprintf("device %s is %s", a.id, d.State))
	}
	switch {
	case s.repeated(c, a, &d):
		if out := s.answers.get(a.id, a.spki, &d, now); out != nil {
			return out, nil
		}
		return s.issueKnown(a)
	case mine:
		out, err := s.issueKnown(a)
		if err == nil {
			s.pending.forget(a.id)
		}
		return out, err
	case p != nil && p.Owner == nil:
		return nil, reject(CodeOtherKey, "device "+a.id)
	case hasCertificate(&d) || d.Attributes[attributePinned] != "":
		return nil, reject(CodeIDTaken, "device "+a.id+" has a certificate")
	case !c.names(a.id):
		return nil, rejectUnnamed(c, a.id)
	}
	return s.issuePrepared(c, a)
}

// waited reports whether a device is there since it has asked with the claim, and has come to nothing since.
func (c *claim) waited(d *registry.Device) bool {
	return d.Attributes[attributeClaim] == c.ID && len(d.Certificates) == 0
}

// rejectUnnamed keeps who has a claim for any device from becoming one that is there: the operator's word about it may be
// worth more than the claim.
func rejectUnnamed(c *claim, id string) *Rejection {
	r := reject(CodeIDTaken, fmt.Sprintf("device %s is registered, and claim %s does not name it", id, c.ID))
	r.Reason = "a device with this id is registered, and the claim was not made for it"
	r.Fix = "have the operator make a claim for it: sealmq claim create --ids ID"
	return r
}

const approvalRetry = time.Minute

// hasCertificate reports whether a certificate of a device was not ended. One that has expired counts: its device may renew
// it, and nobody else shall have its name.
func hasCertificate(d *registry.Device) bool {
	return slices.ContainsFunc(d.Certificates, func(c registry.Certificate) bool { return c.State == registry.CertActive })
}

// repeated reports whether this claim has enrolled the device with this key before.
func (s *Service) repeated(c *claim, a *ask, d *registry.Device) bool {
	return d.Attributes[attributeClaim] == c.ID && hasKey(d, a.spki)
}

// await makes a device wait for approval. That takes a use of the claim, which its certificate then does not.
func (s *Service) await(c *claim, a *ask, fresh bool) error {
	now := s.now()
	if err := s.claims.take(c, now); err != nil {
		return err
	}
	p := &pending{Claim: c.ID, SPKI: a.spki[:], Until: now.Add(s.o.Config.PendingLife), Fresh: fresh}
	if err := s.pending.put(a.id, p, s.o.Config.PendingDevices); err != nil {
		s.claims.giveBack(c)
		return err
	}
	ctx := registry.As(s.ctx, "claim "+c.ID)
	var err error
	if fresh {
		err = s.o.Registry.Add(ctx, registry.Device{ID: a.id, Groups: c.Groups, Attributes: c.mark(a.attributes), State: registry.Pending})
	} else {
		err = s.mark(c, a)
	}
	if err != nil {
		s.pending.forget(a.id)
		s.claims.giveBack(c)
		return err
	}
	return &waiting{approvalRetry}
}

// mark are the attributes of a device that the claim enrols: what the claim says wins over what the device does.
func (c *claim) mark(attributes map[string]string) map[string]string {
	m := maps.Clone(c.Attributes)
	if m == nil {
		m = make(map[string]string)
	}
	for k, v := range attributes {
		if _, ok := m[k]; !ok && len(m) < maxAttributes {
			m[k] = v
		}
	}
	m[attributeClaim] = c.ID
	return m
}

// mark notes in the registry which claim enrols a device that was there before.
func (s *Service) mark(c *claim, a *ask) error {
	return s.o.Registry.Update(registry.As(s.ctx, "claim "+c.ID), a.id, func(d *registry.Device) error {
		d.Attributes = maps.Clone(d.Attributes)
		if d.Attributes == nil {
			d.Attributes = make(map[string]string)
		}
		d.Attributes[attributeClaim] = c.ID
		return nil
	})
}

// issueNew enrols a device that was not there.
func (s *Service) issueNew(c *claim, a *ask) (*identity.Issued, error) {
	if err := s.claims.take(c, s.now()); err != nil {
		return nil, err
	}
	out, err := s.o.Identity.Issue(registry.As(s.ctx, "claim "+c.ID), identity.Order{ID: a.id, CSR: a.csr, Groups: c.Groups,
		Attributes: c.mark(a.attributes), Must: identity.BeNew, Via: a.via})
	if err != nil {
		s.claims.giveBack(c)
		return nil, err
	}
	s.answers.put(a.id, a.spki, out, s.now())
	return out, nil
}

// issuePrepared enrols a device that the operator has added without a certificate, or whose certificates were ended.
func (s *Service) issuePrepared(c *claim, a *ask) (*identity.Issued, error) {
	if err := s.claims.take(c, s.now()); err != nil {
		return nil, err
	}
	err := s.mark(c, a)
	var out *identity.Issued
	if err == nil {
		out, err = s.issueKnown(a)
	}
	if err != nil {
		s.claims.giveBack(c)
	}
	return out, err
}

// issueKnown issues a certificate to a device that is there. Nothing is counted.
func (s *Service) issueKnown(a *ask) (*identity.Issued, error) {
	if d, ok := s.o.Registry.Get(a.id); ok {
		if err := hasRoom(&d, s.now()); err != nil {
			return nil, err
		}
	}
	out, err := s.o.Identity.Issue(registry.As(s.ctx, a.via), identity.Order{ID: a.id, CSR: a.csr, Must: identity.BeKnown, Via: a.via})
	if err == nil {
		s.answers.put(a.id, a.spki, out, s.now())
	}
	return out, err
}

// hasRoom keeps a device that asks again and again from filling its place in the registry, which would shut it out until its
// certificates expire: when half of it is full, as many as fit into the rest may follow within the life of one.
func hasRoom(d *registry.Device, now time.Time) error {
	const half = registry.MaxCertificates / 2
	left := 0
	for _, c := range d.Certificates {
		if now.Before(c.NotAfter) {
			left++
		}
	}
	if left < half {
		return nil
	}
	newest := d.Certificates[0]
	issued := newest.NotBefore.Add(pki.Backdate)
	next := issued.Add(newest.NotAfter.Sub(issued) / half)
	if !now.Before(next) {
		return nil
	}
	r := rejectFor(CodeSlowDown, next.Sub(now), fmt.Sprintf("device %s has %d certificates that have not expired", d.ID, left))
	r.Reason = "the device has many certificates that have not expired"
	return r
}
