package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Spec says what a listener shows and trusts.
type Spec struct {
	// Name of the listener, unique in a set.
	Name string

	// Pairs are certificates in files. The first is the default, for clients that name no server.
	Pairs []Pair
	// Own also shows the certificate of our own CA, to clients that ask for a name in it alone. Without Pairs it is the
	// default whatever this says.
	Own bool
	// Source of further certificates; may be nil.
	Source Source

	// TrustOwn accepts clients of our own device CAs.
	TrustOwn bool
	// ClientCAs are files of CAs whose clients are accepted.
	ClientCAs []string
	// Factory returns the CAs of devices' makers, which are accepted too and need no list. It is asked at every look and
	// must not call the Keeper. May be nil.
	Factory func() []*x509.Certificate

	// CRLs are files and http or https URLs with revocation lists of ClientCAs. When there are any, every client of
	// ClientCAs must be covered by one. A list from a URL must be signed by one of ClientCAs.
	CRLs []string
	// Stale says what happens when a list is out of date or missing; pki.StaleDeny when empty.
	Stale pki.Stale

	// Enroll is for listeners that ask for any certificate, or none: certificates are verified by this package, and those
	// that have expired are good for Grace longer.
	Enroll bool
	Grace  time.Duration
}

// Pair is a certificate file (leaf first, then the intermediate CAs) and the file of its key.
type Pair struct{ Cert, Key string }

// Source is where further server certificates come from. Its methods are called in handshakes and must not block.
type Source interface {
	// Get returns the certificate for the name that the client asks for. A client that names none, or an address, is the
	// Source's if there are no Pairs.
	Get(*tls.ClientHelloInfo) (*tls.Certificate, bool)
	// ChallengeConfig answers the validation of a name by ACME (acme-tls/1); nil if there is none under way.
	ChallengeConfig(*tls.ClientHelloInfo) *tls.Config
}

// NeedsCA tells whether the listener needs our own CA.
func (s *Spec) NeedsCA() bool { return s.showsOwn() || s.TrustOwn }

func (s *Spec) showsOwn() bool { return s.Own || len(s.Pairs) == 0 }

func (s *Spec) trusts() bool { return s.TrustOwn || len(s.ClientCAs) > 0 || s.Factory != nil }

func (s *Spec) validate() error {
	if s.Enroll && !s.trusts() {
		return errors.New("enrolment without CAs of clients")
	}
	if len(s.CRLs) > 0 && len(s.ClientCAs) == 0 {
		return errors.New("revocation lists without CAs in files: what our own has issued needs none")
	}
	if s.Grace < 0 {
		return errors.New("the grace of expired certificates is negative")
	}
	switch s.Stale {
	case "", pki.StaleDeny, pki.StaleAllow:
	default:
		return fmt.Errorf("stale revocation lists: %q, deny or allow wanted", s.Stale)
	}
	for _, c := range s.CRLs {
		if err := CheckCRL(c); err != nil {
			return err
		}
	}
	return nil
}

// CheckCRL accepts the place of a revocation list: a file, or an http or https URL without user and password.
func CheckCRL(s string) error {
	if s == "" {
		return errors.New("revocation list: no file")
	}
	if !isURL(s) {
		if i := strings.Index(s, "://"); i > 0 {
			return fmt.Errorf("revocation list: %q is no place to get it from; a file, http or https wanted", s[:i])
		}
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("revocation list: the URL is malformed") // the cause would show what may be secret
	case u.User != nil:
		return fmt.Errorf("revocation list %q: a URL with a user name", u.Redacted())
	case u.Host == "":
		return fmt.Errorf("revocation list %q: a URL without a host", s)
	}
	return nil
}

func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}
