package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// Backdate is how long before it is issued every certificate begins, for devices
// whose clock is a little slow.
const Backdate = day

// Lifetimes.
const (
	rootLife    = 20 * 365 * day
	issuerLife  = 5 * 365 * day
	brokerLife  = 90 * day
	deviceLife  = 365 * day
	day         = 24 * time.Hour
	renewNumber = 3 // reissued when less than one part in three of its life remains
)

// Kind of the holder, as written in the certificate's identity
// urn:mqtts:<tenant>:<kind>:<id>.
type Kind string

const (
	Device   Kind = "device"
	Operator Kind = "operator"
	// Claim: many devices share it, to enrol and for nothing else.
	Claim Kind = "claim"
)

// CheckID accepts the id of a device: 1 to 64 of A–Z a–z 0–9 . _ : -, not "."
// or "..". Such an id is safe in topics, file names and subjects.
func CheckID(id string) error {
	switch {
	case id == "":
		return errors.New("device id is empty")
	case len(id) > 64:
		return fmt.Errorf("device id of %d bytes, at most 64", len(id))
	case id == "." || id == "..":
		return fmt.Errorf("device id %q is not allowed", id)
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._:-", c) >= 0) {
			return fmt.Errorf("device id %q: only A-Z a-z 0-9 . _ : - are allowed", id)
		}
	}
	return nil
}

// checkTenant accepts an id without the separator of identities.
func checkTenant(tenant string) error {
	if err := CheckID(tenant); err != nil || strings.Contains(tenant, ":") {
		return fmt.Errorf("tenant %q: 1 to 64 of A-Z a-z 0-9 . _ - wanted", tenant)
	}
	return nil
}

// urn is the identity in the subject alternative name.
func urn(tenant string, kind Kind, id string) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: "mqtts:" + tenant + ":" + string(kind) + ":" + id}
}

// caTemplate is the root (pathlen 1) or an issuing CA (pathlen 0). An issuing
// CA is bound to one purpose, so that the one that signs devices cannot sign a
// broker. No name constraints: small TLS stacks refuse them.
func caTemplate(name string, pathLen int, life time.Duration, usage []x509.ExtKeyUsage, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"SealMQ"}},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           usage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
	}
}

// signCA completes a CA's template with a serial, and with a key identifier
// where it has none, lets it end with its parent, and signs it.
func signCA(t *x509.Certificate, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	var err error
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if t.SubjectKeyId == nil {
		if t.SubjectKeyId, err = keyID(pub); err != nil {
			return nil, err
		}
	}
	if parent != nil && t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter // a chain is as short as its shortest part: say so
	}
	return signNumbered(t, pub, parent, key)
}

// signNumbered signs a template that has its serial and key identifiers. A nil
// parent signs itself. The algorithm follows from the issuer's key: ECDSA with
// SHA-256 from P-256.
func signNumbered(t *x509.Certificate, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = t
		t.AuthorityKeyId = t.SubjectKeyId
	}
	t.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// newSerial is 128 random bits, positive, and never zero. The top bit is one, so that
// every serial has the same length.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] |= 0x80
	return new(big.Int).SetBytes(b[:]), nil
}

// keyID is the SHA-1 of the public key, RFC 5280 section 4.2.1.2 (1); a name, not a protection.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, err
	}
	sum := sha1.Sum(spki.Key.RightAlign())
	return sum[:], nil
}

// NeedsRenewal reports whether less than a third of the certificate's life remains.
func NeedsRenewal(c *x509.Certificate, now time.Time) bool {
	life := c.NotAfter.Sub(c.NotBefore)
	return now.Before(c.NotBefore) || c.NotAfter.Sub(now) < life/renewNumber
}
