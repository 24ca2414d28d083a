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
	"net"
	"net/url"
	"strings"
	"time"
)

// Lifetimes. Every certificate begins a day before it is issued, for devices
// whose clock is a little slow.
const (
	rootLife    = 20 * 365 * day
	issuerLife  = 5 * 365 * day
	brokerLife  = 90 * day
	deviceLife  = 365 * day
	backdate    = day
	day         = 24 * time.Hour
	renewNumber = 3 // reissued when less than one part in three of its life remains
)

// Kind of the holder, as written in the certificate's identity
// urn:mqtts:<tenant>:<kind>:<id>.
type Kind string

const (
	Device   Kind = "device"
	Operator Kind = "operator"
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
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           usage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
	}
}

func leafTemplate(subject pkix.Name, usage x509.ExtKeyUsage, life time.Duration, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{usage},
		BasicConstraintsValid: true,
	}
}

// brokerTemplate repeats every address as a DNS name: Mbed TLS 2 and BearSSL
// do not look at addresses, other stacks at nothing else.
func brokerTemplate(hosts []string, now time.Time) *x509.Certificate {
	cn := hosts[0]
	if len(cn) > 64 {
		cn = "sealmq"
	}
	t := leafTemplate(pkix.Name{CommonName: cn}, x509.ExtKeyUsageServerAuth, brokerLife, now)
	var asNames []string
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			if ip4 := ip.To4(); ip4 != nil {
				ip = ip4
			}
			t.IPAddresses = append(t.IPAddresses, ip)
			asNames = append(asNames, h)
			continue
		}
		t.DNSNames = append(t.DNSNames, h)
	}
	t.DNSNames = append(t.DNSNames, asNames...)
	return t
}

func clientTemplate(tenant string, kind Kind, id, group string, now time.Time) *x509.Certificate {
	subject := pkix.Name{CommonName: id, Organization: []string{tenant}}
	if group != "" {
		subject.OrganizationalUnit = []string{group}
	}
	t := leafTemplate(subject, x509.ExtKeyUsageClientAuth, deviceLife, now)
	t.URIs = []*url.URL{urn(tenant, kind, id)}
	return t
}

// sign completes a template with serial and key identifiers and signs it. A nil
// parent signs itself. ECDSA with SHA-256 follows from the P-256 issuer.
func sign(t *x509.Certificate, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	if parent == nil {
		parent = t
		t.AuthorityKeyId = t.SubjectKeyId
	} else if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter // a chain is as short as its shortest part: say so
	}
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
