package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Refusal is the error of a client certificate that is not accepted.
type Refusal struct {
	cause, hint string
	err         error
}

func (r *Refusal) Error() string { return r.err.Error() }

func (r *Refusal) Unwrap() error { return r.err }

// Refused returns the cause in one word, as the log has it, and what to do about it.
func (r *Refusal) Refused() (cause, hint string) { return r.cause, r.hint }

func refuse(cause string, err error) error {
	hints := map[string]string{
		"client_certificate_ca":      "issue the certificate here (sealmq device add ID), or name its CA in client_ca",
		"client_certificate_expired": "issue a new one (sealmq device add ID --out FOLDER), or set the broker's clock if it is wrong",
		"client_certificate_revoked": "give the client a new certificate, or find out who else has the revoked one",
		"client_crl_stale":           "get a newer revocation list from the CA, or set crl_stale = \"allow\" until there is one",
		"client_crl_missing":         "name the list of this CA in client_crl",
		"client_certificate":         "issue the client a certificate for client authentication: sealmq device add ID",
	}
	return &Refusal{cause, hints[cause], err}
}

// VerifyConnection judges a client's certificate at the end of each handshake, resumed ones included. Its errors have
// Refused() (cause, hint string).
func (l *Listener) VerifyConnection(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	m, leaf := l.current.Load(), cs.PeerCertificates[0]
	if m.trust == nil {
		return refuse("client_certificate_ca", errors.New("this listener accepts no certificates"))
	}
	if m.enroll {
		chains, err := m.chains(cs.PeerCertificates, l.k.o.Now())
		if err != nil {
			return err
		}
		cs.VerifiedChains = chains
	}
	// What was verified when the handshake began, or in an earlier one, may not be trusted any longer.
	trusted, from := 0, factoryCA
	for _, c := range cs.VerifiedChains {
		if o := m.trust.of(c); o != 0 {
			trusted++
			from = min(from, o)
		}
	}
	if trusted == 0 {
		return refuse("client_certificate_ca", errors.New("the CA of the certificate is not trusted"))
	}
	if trusted < len(cs.VerifiedChains) {
		cs.VerifiedChains = slices.DeleteFunc(slices.Clone(cs.VerifiedChains), func(c []*x509.Certificate) bool { return m.trust.of(c) == 0 })
	}
	if from == factoryCA && !slices.ContainsFunc(cs.VerifiedChains, func(c []*x509.Certificate) bool { return len(c) == 2 }) {
		return refuse("client_certificate_ca", errors.New("the certificate is of a CA below that of the maker: have the one registered that signs the devices (sealmq factory add)"))
	}
	if from == fileCA && m.lists != nil {
		if err := m.lists.VerifyConnection(cs); err != nil {
			return refuseListed(err)
		}
	}
	if l.k.o.Verify != nil {
		if err := l.k.o.Verify(leaf, from == fileCA); err != nil {
			var told interface{ Refused() (cause, hint string) }
			if errors.As(err, &told) {
				return err
			}
			return refuse("client_certificate", err)
		}
	}
	if from != ourCA {
		l.k.guests.add(l.name, cs.VerifiedChains[0])
	}
	return nil
}

func refuseListed(err error) error {
	switch {
	case errors.Is(err, pki.ErrRevoked):
		return refuse("client_certificate_revoked", err)
	case errors.Is(err, pki.ErrStale):
		return refuse("client_crl_stale", err)
	case errors.Is(err, pki.ErrNoList):
		return refuse("client_crl_missing", err)
	}
	return refuse("client_certificate", err)
}

// chains verifies a certificate that TLS has not, as of its end if it has expired within the grace.
func (m *material) chains(certs []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	leaf := certs[0]
	at := now
	if now.After(leaf.NotAfter) {
		if now.After(leaf.NotAfter.Add(m.grace)) {
			return nil, refuse("client_certificate_expired", fmt.Errorf("the certificate expired on %s, longer than %v ago", leaf.NotAfter.UTC().Format(time.RFC3339), m.grace))
		}
		at = leaf.NotAfter
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: m.trust.pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return chains, nil
	}
	cause := "client_certificate"
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		cause = "client_certificate_ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		cause = "client_certificate_expired"
	}
	return nil, refuse(cause, fmt.Errorf("verify certificate: %w", err))
}
