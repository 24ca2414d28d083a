package enroll

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Kind says how a claim is shown.
type Kind string

// The kinds of claims.
const (
	Token       Kind = "token"       // a text in the request
	Certificate Kind = "certificate" // a certificate in the TLS handshake, which many devices may share
)

// Limits and defaults of claims.
const (
	MaxClaims        = 100_000
	MaxClaimIDs      = 10_000
	MaxUses          = 10_000_000
	DefaultTTL       = 24 * time.Hour
	CertificateTTL   = 365 * 24 * time.Hour
	MaxTTL           = 10 * 365 * 24 * time.Hour
	DefaultRate      = 60 // devices an hour with a claim certificate
	maxPattern       = 256
	keptAfterExpiry  = 7 * 24 * time.Hour
	attributeClaim   = "claim"   // of a device: which claim enrolled it
	attributeFactory = "factory" // of a device: whose factory certificate it came with
	attributePinned  = "factory-key"
)

// Claim is what a device shows to be enrolled.
type Claim struct {
	// ID names the claim, and is the common name of a claim certificate: as pki.CheckID accepts. One is made if empty.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"` // Token if empty
	Note string `json:"note,omitempty"`

	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"` // in DefaultTTL if zero, of a certificate in CertificateTTL; at most MaxTTL
	Revoked time.Time `json:"revoked,omitzero"`

	// Uses is how many devices it enrols: of a token 1 if zero, of a certificate without limit if zero.
	Uses int `json:"uses"`
	Used int `json:"used"`

	IDs        []string          `json:"ids,omitempty"`     // devices that may use it; all if this and Pattern are empty
	Pattern    string            `json:"pattern,omitempty"` // of ids, as path.Match has them, beside IDs
	Groups     []string          `json:"groups,omitempty"`  // of devices that it enrols
	Attributes map[string]string `json:"attributes,omitempty"`

	// Approve: a device gets its certificate when an operator has enabled it.
	Approve bool `json:"approve,omitempty"`
	// RatePerHour bounds how many devices it enrols in an hour: of a certificate DefaultRate if zero, of a token not.
	RatePerHour int `json:"rate_per_hour,omitempty"`

	// Hash is the SHA-256 of the token's 128 bits; nil of a certificate.
	Hash []byte `json:"hash,omitempty"`
}

// Errors that callers branch on.
var (
	ErrNoClaim   = errors.New("there is no such claim")
	ErrClaim     = errors.New("the claim exists")
	ErrNoFactory = errors.New("there is no such factory CA")
	ErrFactory   = errors.New("the factory CA exists")
	ErrProof     = errors.New("the proof does not show possession of the CA's key")
	ErrClosed    = errors.New("the enrolment service is closed")
)

// fill sets defaults.
func (c *Claim) fill(now time.Time) {
	c.Created, c.Revoked, c.Used = now, time.Time{}, 0
	if c.Kind == "" {
		c.Kind = Token
	}
	ttl := DefaultTTL
	if c.Kind == Token && c.Uses == 0 {
		c.Uses = 1
	}
	if c.Kind == Certificate {
		ttl = CertificateTTL
		if c.RatePerHour == 0 {
			c.RatePerHour = DefaultRate
		}
	}
	if c.Expires.IsZero() {
		c.Expires = now.Add(ttl)
	}
	c.Expires = c.Expires.UTC().Truncate(time.Second)
}

// check returns what is wrong with a claim that is filled.
func (c *Claim) check() error {
	if err := pki.CheckID(c.ID); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	switch {
	case c.Kind != Token && c.Kind != Certificate:
		return fmt.Errorf("kind %.40q: token or certificate wanted", c.Kind)
	case c.Kind == Token && len(c.Hash) != sha256.Size || c.Kind == Certificate && len(c.Hash) != 0:
		return errors.New("hash of another length")
	case c.Uses < 0 || c.Uses > MaxUses || c.Kind == Token && c.Uses == 0:
		return fmt.Errorf("uses %d: 1 to %d wanted", c.Uses, MaxUses)
	case c.Used < 0 || c.Used > MaxUses:
		return fmt.Errorf("used %d times", c.Used)
	case c.RatePerHour < 0 || c.RatePerHour > MaxUses:
		return fmt.Errorf("rate %d an hour: 1 to %d wanted", c.RatePerHour, MaxUses)
	case !c.Expires.After(c.Created):
		return errors.New("it ends before it begins")
	case c.Expires.Sub(c.Created) > MaxTTL:
		return errors.New("it lives longer than 10 years")
	case len(c.IDs) > MaxClaimIDs:
		return fmt.Errorf("%d ids, at most %d wanted", len(c.IDs), MaxClaimIDs)
	case len(c.Pattern) > maxPattern:
		return fmt.Errorf("pattern of %d bytes, at most %d wanted", len(c.Pattern), maxPattern)
	}
	for _, id := range c.IDs {
		if err := pki.CheckID(id); err != nil {
			return fmt.Errorf("ids: %w", err)
		}
	}
	if _, err := path.Match(c.Pattern, ""); err != nil {
		return fmt.Errorf("pattern %.80q: %w", c.Pattern, err)
	}
	return checkTemplate(c.Note, c.Groups, c.Attributes)
}

// checkTemplate checks what goes into the registry. One attribute's room is kept for the mark of who enrolled a device.
func checkTemplate(note string, groups []string, attributes map[string]string) error {
	if err := checkText("note", note, registry.MaxNote); err != nil {
		return err
	}
	if len(groups) > registry.MaxGroups {
		return fmt.Errorf("%d groups, at most %d wanted", len(groups), registry.MaxGroups)
	}
	for _, g := range groups {
		if err := pki.CheckID(g); err != nil {
			return fmt.Errorf("groups: %w", err)
		}
	}
	return checkAttributes(attributes)
}

// maxAttributes leaves room for our own marks.
const maxAttributes = registry.MaxAttributes - 3

func checkAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return fmt.Errorf("%d attributes, at most %d wanted", len(attributes), maxAttributes)
	}
	for k, v := range attributes {
		if err := pki.CheckID(k); err != nil {
			return fmt.Errorf("attributes: %w", err)
		}
		switch k {
		case attributeClaim, attributeFactory, attributePinned:
			return fmt.Errorf("attributes: the name %q is taken", k)
		}
		if err := checkText("attribute "+k, v, registry.MaxAttribute); err != nil {
			return err
		}
	}
	return nil
}

// checkText accepts UTF-8 without control characters.
func checkText(what, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%s of %d bytes, at most %d wanted", what, len(s), most)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s is not printable text", what)
	}
	return nil
}

// allows reports whether a device may use the claim.
func (c *Claim) allows(id string) bool {
	return len(c.IDs) == 0 && c.Pattern == "" || c.names(id)
}

// names reports whether the claim was made for a device, not for all. IDs are sorted.
func (c *Claim) names(id string) bool {
	if _, ok := slices.BinarySearch(c.IDs, id); ok {
		return true
	}
	ok, err := path.Match(c.Pattern, id)
	return err == nil && ok && c.Pattern != ""
}

// end says why the claim is not good any more; empty if it is, apart from its uses.
func (c *Claim) end(now time.Time) string {
	switch {
	case !c.Revoked.IsZero():
		return "revoked"
	case !now.Before(c.Expires):
		return "expired"
	}
	return ""
}
