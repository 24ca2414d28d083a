package registry

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

const (
	serialSize = 20 // RFC 5280 section 4.1.2.2
	keySize    = 32
	// maxKept is how many certificates a device has with those that were revoked or superseded, which revocation lists need
	// until they expire.
	maxKept = 3 * MaxCertificates
	// lingers is how long, in seconds, a purge leaves a certificate behind after it has expired: it may be renewed so long,
	// and clocks are set back.
	lingers = 30 * 24 * 60 * 60
)

// entry is a device as it is kept in memory. It does not change once others can see it, except for last.
type entry struct {
	id               string
	groups           []string
	attributes       []attribute // by name
	note             string
	state            State
	created, changed int64  // Unix milliseconds
	certs            []cert // the newest first
	last             *sighting
	// purged: nothing is left but what revocation lists have to say. To everybody else there is no such device.
	purged bool
	gone   bool // not to be kept any more; of an entry that is being changed
}

type attribute struct{ name, value string }

// cert is a Certificate. Times are Unix seconds, those of X.509.
type cert struct {
	serial              [serialSize]byte
	spki                [keySize]byte
	issuer              *[keySize]byte
	notBefore, notAfter int64
	revokedAt           int64
	state               CertState
	reason              pki.Reason
}

// parseSerial reads a serial in hex, with or without colons and leading zeros.
func parseSerial(s string) (b [serialSize]byte, err error) {
	bad := fmt.Errorf("serial %.60q: up to 40 hexadecimal digits wanted", s)
	if len(s) > 80 {
		return b, bad
	}
	digits := strings.TrimLeft(strings.ReplaceAll(s, ":", ""), "0")
	if digits == "" || len(digits) > 2*serialSize {
		return b, bad
	}
	raw, err := hex.DecodeString(strings.Repeat("0", 2*serialSize-len(digits)) + digits)
	if err != nil {
		return b, bad
	}
	return [serialSize]byte(raw), nil
}

// readSerial reads what serialText wrote; false for anything else. It allocates nothing.
func readSerial(s string) (b [serialSize]byte, ok bool) {
	if len(s) == 0 || len(s)%2 != 0 || len(s) > 2*serialSize {
		return b, false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return b, false
		}
		at := serialSize - len(s)/2 + i/2
		b[at] = b[at]<<4 | c
	}
	return b, true
}

func packSerial(n *big.Int) (b [serialSize]byte, ok bool) {
	if n == nil || n.Sign() <= 0 || n.BitLen() > 8*serialSize {
		return b, false
	}
	n.FillBytes(b[:])
	return b, true
}

func serialText(b [serialSize]byte) string {
	i := 0
	for i < serialSize-1 && b[i] == 0 {
		i++
	}
	return hex.EncodeToString(b[i:])
}

func parseKey(what, s string) (k [keySize]byte, err error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != keySize {
		return k, fmt.Errorf("%s %.80q: a SHA-256 in hexadecimal digits wanted", what, s)
	}
	return [keySize]byte(raw), nil
}

// The first and last times that are believed, in Unix seconds: the years 1 to 9999.
const (
	minTime = -62135596800
	maxTime = 253402300799
)

// check returns what no record says.
func (c *cert) check() error {
	switch {
	case c.serial == [serialSize]byte{}:
		return fmt.Errorf("certificate with serial 0")
	case !c.state.valid():
		return fmt.Errorf("certificate %s: state %.40q", serialText(c.serial), c.state)
	case pki.Reason(c.reason) < 0 || c.reason > pki.AACompromise || c.reason == 7 || c.reason == 8:
		return fmt.Errorf("certificate %s: reason %d", serialText(c.serial), c.reason)
	case c.state == CertActive && (c.reason != 0 || c.revokedAt != 0), c.state != CertActive && c.revokedAt == 0:
		return fmt.Errorf("certificate %s: state, reason and time of revocation do not go together", serialText(c.serial))
	case c.notAfter < c.notBefore:
		return fmt.Errorf("certificate %s ends before it begins", serialText(c.serial))
	}
	for _, t := range []int64{c.notBefore, c.notAfter, c.revokedAt} {
		if t < minTime || t > maxTime {
			return fmt.Errorf("certificate %s: a time beyond the year 9999", serialText(c.serial))
		}
	}
	return nil
}

func packCert(c *Certificate, key func([keySize]byte) *[keySize]byte) (p cert, err error) {
	if p.serial, err = parseSerial(c.Serial); err != nil {
		return p, err
	}
	issuer, err := parseKey("issuer", c.Issuer)
	if err != nil {
		return p, err
	}
	if p.spki, err = parseKey("spki", c.SPKI); err != nil {
		return p, err
	}
	p.issuer, p.state, p.reason = key(issuer), c.State, c.Reason
	p.notBefore, p.notAfter = c.NotBefore.Unix(), c.NotAfter.Unix()
	if !c.RevokedAt.IsZero() {
		p.revokedAt = c.RevokedAt.Unix()
	}
	return p, p.check()
}

func (c *cert) unpack() Certificate {
	u := Certificate{Serial: serialText(c.serial), Issuer: hex.EncodeToString(c.issuer[:]), SPKI: hex.EncodeToString(c.spki[:]),
		NotBefore: time.Unix(c.notBefore, 0).UTC(), NotAfter: time.Unix(c.notAfter, 0).UTC(), State: c.state, Reason: c.reason}
	if c.revokedAt != 0 {
		u.RevokedAt = time.Unix(c.revokedAt, 0).UTC()
	}
	return u
}

// older reports whether there are active certificates older than c, which is one of e.
func (e *entry) older(c *cert) bool {
	found := false
	for i := len(e.certs) - 1; i >= 0 && &e.certs[i] != c; i-- {
		found = found || e.certs[i].state == CertActive
	}
	return found
}

// find returns the certificate with a serial and a key, nil if there is none.
func (e *entry) find(serial *[serialSize]byte, spki *[keySize]byte) *cert {
	for i := range e.certs {
		if c := &e.certs[i]; c.serial == *serial && c.spki == *spki {
			return c
		}
	}
	return nil
}

// lacks reports whether e, which may be nil, does not have a certificate.
func (e *entry) lacks(c *cert) bool { return e == nil || e.find(&c.serial, &c.spki) == nil }

// kept reports whether something has to be left of a device that is purged.
func (e *entry) kept(now int64) bool {
	return slices.ContainsFunc(e.certs, func(c cert) bool { return c.state != CertActive && c.notAfter >= now-lingers })
}

// clone returns a copy to be changed.
func (e *entry) clone() *entry {
	c := *e
	c.certs = slices.Clone(e.certs)
	return &c
}

// revokeCerts ends certificates for which pick holds, and reports whether there were any.
func (e *entry) revokeCerts(to CertState, reason pki.Reason, now int64, pick func(*cert) bool) (any bool) {
	for i := range e.certs {
		c := &e.certs[i]
		if !pick(c) || c.state == CertRevoked || to == c.state {
			continue
		}
		if any = true; c.revokedAt == 0 {
			c.revokedAt = max(now, 1)
		}
		c.state, c.reason = to, reason
	}
	return any
}

// addCert adds a certificate, in the place of long expired ones if there are too many.
func (e *entry) addCert(c cert, now int64) error {
	for i := range e.certs {
		if e.certs[i].serial == c.serial && *e.certs[i].issuer == *c.issuer {
			if e.certs[i].spki != c.spki {
				return fmt.Errorf("serial %s was given to another key", serialText(c.serial))
			}
			return errSame
		}
	}
	for i := len(e.certs) - 1; i >= 0 && len(e.certs) >= MaxCertificates; i-- {
		if e.certs[i].notAfter < now {
			e.certs = slices.Delete(e.certs, i, i+1)
		}
	}
	active := 0
	for i := range e.certs {
		if e.certs[i].state == CertActive {
			active++
		}
	}
	if active >= MaxCertificates || len(e.certs) >= maxKept {
		return fmt.Errorf("it has %d certificates that have not expired, %d of them active", len(e.certs), active)
	}
	i, _ := slices.BinarySearchFunc(e.certs, c, newestFirst) // the first that is not newer
	e.certs = slices.Insert(e.certs, i, c)
	return nil
}

// set takes what a Device says that is not of certificates and connections.
func (e *entry) set(d *Device) {
	e.groups, e.note, e.state = slices.Clone(d.Groups), d.Note, d.State
	e.attributes = make([]attribute, 0, len(d.Attributes))
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		e.attributes = append(e.attributes, attribute{name, d.Attributes[name]})
	}
}

// device returns all that is known, in fresh memory. Seen is added by the caller.
func (e *entry) device() Device {
	d := Device{ID: e.id, Groups: slices.Clone(e.groups), State: e.state, Note: e.note,
		Created: time.UnixMilli(e.created).UTC(), Changed: time.UnixMilli(e.changed).UTC()}
	if len(e.attributes) > 0 {
		d.Attributes = make(map[string]string, len(e.attributes))
		for _, a := range e.attributes {
			d.Attributes[a.name] = a.value
		}
	}
	for i := range e.certs {
		d.Certificates = append(d.Certificates, e.certs[i].unpack())
	}
	return d
}

func (e *entry) kind() pki.Kind {
	kind, _ := Split(e.id)
	return kind
}

func byID(a, b *entry) int { return cmp.Compare(a.id, b.id) }
