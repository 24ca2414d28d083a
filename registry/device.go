package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/pki"
)

// State of a device.
type State string

// The states.
const (
	Active      State = "active"
	Pending     State = "pending"     // waits for approval; may not connect
	Disabled    State = "disabled"    // may not connect, for the time being
	Quarantined State = "quarantined" // may connect, to little else than renewal
	Revoked     State = "revoked"     // may not connect, ever; only Purge and Add make the id usable again
)

// CertState is the state of a certificate.
type CertState string

// The states of a certificate.
const (
	CertActive     CertState = "active"
	CertSuperseded CertState = "superseded" // another one has taken its place; in the revocation list
	CertRevoked    CertState = "revoked"
)

// Device is what is known of a device, or of an operator or a claim.
type Device struct {
	ID           string            `json:"id"` // as pki.CheckID accepts, or operator/ or claim/ and such a name
	Groups       []string          `json:"groups,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty"`
	State        State             `json:"state"`
	Note         string            `json:"note,omitempty"`
	Created      time.Time         `json:"created,omitzero"`
	Changed      time.Time         `json:"changed,omitzero"` // last; not by connecting
	Seen         Seen              `json:"seen,omitzero"`
	Certificates []Certificate     `json:"certificates,omitempty"` // the newest first
}

// Certificate is one that was issued to a device.
type Certificate struct {
	Serial    string     `json:"serial"` // hex, an even number of lower-case digits
	Issuer    string     `json:"issuer"` // SHA-256 of the issuer's subject public key info, hex
	SPKI      string     `json:"spki"`   // SHA-256 of its own, hex
	NotBefore time.Time  `json:"not_before"`
	NotAfter  time.Time  `json:"not_after"`
	State     CertState  `json:"state"`
	Reason    pki.Reason `json:"reason,omitempty"` // why it is not active any more; by its number in RFC 5280
	RevokedAt time.Time  `json:"revoked_at,omitzero"`
}

// Seen is the last connection of a device. It is written down at most once in ten minutes.
type Seen struct {
	At          time.Time `json:"at,omitzero"`
	Address     string    `json:"address,omitempty"`
	TLSVersion  string    `json:"tls_version,omitempty"`
	Group       string    `json:"group,omitempty"` // of the key agreement
	CipherSuite string    `json:"cipher_suite,omitempty"`
	Serial      string    `json:"serial,omitempty"` // of the certificate
	Firmware    string    `json:"firmware,omitempty"`
}

// Limits of a device.
const (
	MaxGroups       = 32
	MaxAttributes   = 32
	MaxAttribute    = 256 // bytes of a value
	MaxNote         = 512 // bytes
	MaxCertificates = 32  // that are active; expired ones are forgotten for new ones
	maxSeen         = 128 // bytes of a text
	maxFirmware     = 64
)

// Prefixes of the ids of those that are no devices.
const (
	operatorPrefix = "operator/"
	claimPrefix    = "claim/"
)

// prefixOf is what stands before the name of a holder of a kind: nothing for a device.
func prefixOf(kind pki.Kind) string {
	switch kind {
	case pki.Operator:
		return operatorPrefix
	case pki.Claim:
		return claimPrefix
	}
	return ""
}

// ID is the id of the holder of a certificate of a kind.
func ID(kind pki.Kind, name string) string { return prefixOf(kind) + name }

// Split takes an id apart into kind and name.
func Split(id string) (kind pki.Kind, name string) {
	for _, kind := range []pki.Kind{pki.Operator, pki.Claim} {
		if name, ok := strings.CutPrefix(id, prefixOf(kind)); ok {
			return kind, name
		}
	}
	return pki.Device, id
}

// checkID accepts the ids of devices, operators and claims.
func checkID(id string) error {
	_, name := Split(id)
	return pki.CheckID(name)
}

func (s State) valid() bool {
	switch s {
	case Active, Pending, Disabled, Quarantined, Revoked:
		return true
	}
	return false
}

func (s CertState) valid() bool { return s == CertActive || s == CertSuperseded || s == CertRevoked }

// ParseState reads the name of a state.
func ParseState(s string) (State, error) {
	if st := State(strings.ToLower(s)); st.valid() {
		return st, nil
	}
	return "", fmt.Errorf("state %.40q: active, pending, disabled, quarantined or revoked wanted", s)
}

// checkText accepts UTF-8 without control characters.
func checkText(what, s string, most int) error {
	switch {
	case len(s) > most:
		return fmt.Errorf("%s of %d bytes, at most %d", what, len(s), most)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%s is not printable text", what)
	}
	return nil
}

// clean makes printable text of at most so many bytes of what a device or a network said.
func clean(s string, most int) string {
	if checkText("", s, most) == nil {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 4*most)], "\uFFFD"))
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// check returns what is wrong with the device, and puts groups in order.
func (d *Device) check() error {
	if err := checkID(d.ID); err != nil {
		return err
	}
	if !d.State.valid() {
		_, err := ParseState(string(d.State))
		return err
	}
	d.Groups = slices.Compact(slices.Sorted(slices.Values(d.Groups)))
	if len(d.Groups) > MaxGroups {
		return fmt.Errorf("%d groups, at most %d", len(d.Groups), MaxGroups)
	}
	for _, g := range d.Groups {
		if pki.CheckID(g) != nil {
			return fmt.Errorf("group %.80q: 1 to 64 of A-Z a-z 0-9 . _ : - wanted", g)
		}
	}
	if len(d.Attributes) > MaxAttributes {
		return fmt.Errorf("%d attributes, at most %d", len(d.Attributes), MaxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		if pki.CheckID(name) != nil {
			return fmt.Errorf("attribute %.80q: a name has 1 to 64 of A-Z a-z 0-9 . _ : -", name)
		}
		if err := checkText("attribute "+name, d.Attributes[name], MaxAttribute); err != nil {
			return err
		}
	}
	if err := checkText("note", d.Note, MaxNote); err != nil {
		return err
	}
	if len(d.Certificates) > maxKept {
		return fmt.Errorf("%d certificates, at most %d", len(d.Certificates), maxKept)
	}
	seen := make(map[[2]string]bool, len(d.Certificates))
	for i := range d.Certificates {
		c, err := packCert(&d.Certificates[i], func(k [keySize]byte) *[keySize]byte { return &k })
		if err != nil {
			return err
		}
		u := c.unpack()
		if seen[[2]string{u.Serial, u.Issuer}] {
			return fmt.Errorf("certificate %s comes twice", u.Serial)
		}
		seen[[2]string{u.Serial, u.Issuer}] = true
	}
	return nil
}

// Validate reports what Add would refuse of the device's values.
func (d Device) Validate() error {
	if d.State == "" {
		d.State = Active
	}
	d.Certificates = nil
	return d.checkSettable()
}

// checkSettable is check for a device that is not, and does not become, revoked.
func (d *Device) checkSettable() error {
	if d.State == Revoked {
		return errors.New("state revoked: revoke it instead")
	}
	return d.check()
}

// newestFirst is the order of certificates. Of those that begin in the same second the one registered last is the newest.
func newestFirst(a, b cert) int { return cmp.Compare(b.notBefore, a.notBefore) }
