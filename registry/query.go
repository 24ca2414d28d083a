package registry

import (
	"bytes"
	"cmp"
	"math/big"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Query chooses devices. What is empty does not matter.
type Query struct {
	Group string
	State State
	// ID is a pattern with * and ? and [a-z] as path.Match has them, or the beginning of ids if there are none of these.
	// Operators and claims are found by a pattern that begins with "operator/" or "claim/", and no other.
	ID string
	// ExpiringBefore: the last active certificate ends before. Devices without one are left out.
	ExpiringBefore time.Time
}

// full returns all that is known of a device.
func (r *Registry) full(e *entry) Device {
	d := e.device()
	d.Seen = r.seen.of(e)
	return d
}

// Get returns a device; false if there is none.
func (r *Registry) Get(id string) (Device, bool) {
	e := r.index.get(id)
	if e == nil || e.purged {
		return Device{}, false
	}
	return r.full(e), true
}

// Groups returns those of a device, which must not be changed, and its state; "" if there is none. It allocates nothing.
func (r *Registry) Groups(id string) ([]string, State) {
	e := r.index.get(id)
	if e == nil || e.purged {
		return nil, ""
	}
	return e.groups, e.state
}

// Len is the number of devices, operators and claims.
func (r *Registry) Len() int {
	n := 0
	for e := range r.index.all {
		if !e.purged {
			n++
		}
	}
	return n
}

// Each calls fn with the devices that a query chooses, by id, until fn returns false. The error is that of the pattern.
func (r *Registry) Each(q Query, fn func(Device) bool) error {
	all, err := r.choose(q)
	for _, e := range all {
		if !fn(r.full(e)) {
			break
		}
	}
	return err
}

// List is all that Each would call fn with. For a large fleet that is a lot.
func (r *Registry) List(q Query) (all []Device, err error) {
	err = r.Each(q, func(d Device) bool {
		all = append(all, d)
		return true
	})
	return all, err
}

// IDs are the ids of the devices that a query chooses, in order.
func (r *Registry) IDs(q Query) ([]string, error) {
	all, err := r.choose(q)
	ids := make([]string, len(all))
	for i, e := range all {
		ids[i] = e.id
	}
	return ids, err
}

func (r *Registry) choose(q Query) (all []*entry, err error) {
	glob := strings.ContainsAny(q.ID, `*?[\`)
	if _, err := path.Match(q.ID, ""); err != nil {
		return nil, err
	}
	kind, _ := Split(q.ID)
	for e := range r.index.all {
		switch {
		case e.purged, q.State != "" && e.state != q.State, q.Group != "" && !slices.Contains(e.groups, q.Group), kind != e.kind():
			continue
		case glob:
			if ok, _ := path.Match(q.ID, e.id); !ok {
				continue
			}
		case !strings.HasPrefix(e.id, q.ID):
			continue
		}
		if !q.ExpiringBefore.IsZero() && !e.expires(q.ExpiringBefore.Unix()) {
			continue
		}
		all = append(all, e)
	}
	slices.SortFunc(all, byID)
	// One that was purged and added meanwhile may have come twice.
	return slices.CompactFunc(all, func(a, b *entry) bool { return a.id == b.id }), nil
}

// Overlaps calls fn with the devices that have active certificates older than one that began before a time, and has not
// ended: its serial is what Supersede takes. The older ones have not ended either. Operators and claims are left out.
func (r *Registry) Overlaps(began time.Time, fn func(id, serial string)) {
	now := r.o.Now().Unix()
	for e := range r.index.all {
		if e.purged || len(e.certs) < 2 || e.kind() != pki.Device {
			continue
		}
		var newer *cert
		for i := range e.certs {
			c := &e.certs[i]
			if c.state != CertActive || c.notAfter < now {
				continue
			}
			if newer != nil {
				fn(e.id, serialText(newer.serial))
				break
			}
			if c.notBefore < began.Unix() {
				newer = c
			}
		}
	}
}

// expires reports whether the last active certificate ends before a time.
func (e *entry) expires(before int64) bool {
	last, any := int64(0), false
	for i := range e.certs {
		if c := &e.certs[i]; c.state == CertActive && (!any || c.notAfter > last) {
			last, any = c.notAfter, true
		}
	}
	return any && last < before
}

// Revoked returns the entries of the revocation list of the CA whose key is named issuer (see KeyID): certificates that
// are revoked or superseded and have not expired, in the order of their revocation.
func (r *Registry) Revoked(issuer string) []pki.Revoked {
	key, err := parseKey("issuer", issuer)
	if err != nil {
		return nil
	}
	now := r.o.Now().Unix()
	var certs []cert
	for e := range r.index.all {
		for _, c := range e.certs {
			if c.state != CertActive && c.notAfter >= now && *c.issuer == key {
				certs = append(certs, c)
			}
		}
	}
	slices.SortFunc(certs, func(a, b cert) int {
		return cmp.Or(cmp.Compare(a.revokedAt, b.revokedAt), bytes.Compare(a.serial[:], b.serial[:]))
	})
	all := make([]pki.Revoked, len(certs))
	for i, c := range certs {
		all[i] = pki.Revoked{Serial: new(big.Int).SetBytes(c.serial[:]), At: time.Unix(c.revokedAt, 0).UTC(), Reason: c.reason}
	}
	return all
}

// Holder returns the device that has, or had, a certificate for a key, "" if there is none, and whether a certificate for
// that key was revoked because the key is known to others: it must not be certified again.
func (r *Registry) Holder(spki pki.SPKI) (id string, compromised bool) { return r.holder(spki) }

func (r *Registry) holder(spki [keySize]byte) (id string, compromised bool) {
	for _, e := range r.index.withKey(spki) {
		if id == "" || e.id < id {
			id = e.id
		}
		compromised = compromised || slices.ContainsFunc(e.certs, func(c cert) bool {
			return c.spki == spki && c.state == CertRevoked && (c.reason == pki.KeyCompromise || c.reason == pki.CACompromise)
		})
	}
	return id, compromised
}
