package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/crypto/ocsp"
)

const (
	stapleTime = 20 * time.Second // for one request
	maxStaple  = 64 << 10         // bytes
)

// staple renews the OCSP response that is shown with a certificate, when half of its life is over. It is kept in the store.
func (m *Manager) staple(ctx context.Context, s *site) {
	now := m.now()
	s.plan.stapleAt = now.Add(stapleEvery)
	served := s.served.Load()
	if served == nil {
		return
	}
	raw, err := m.stapleOf(ctx, s.name, served, now)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && stapleLasts(served.OCSPStaple, now):
		return // time enough
	case err != nil:
		m.log.Warn("acme: no OCSP response", "name", s.name, "error", clip(err))
	}
	if !bytes.Equal(raw, served.OCSPStaple) {
		c := *served
		c.OCSPStaple = raw
		s.served.Store(&c)
	}
}

// stapleOf is the response of the store or, when that is past its half, another one.
func (m *Manager) stapleOf(ctx context.Context, name string, c *tls.Certificate, now time.Time) ([]byte, error) {
	if len(c.Certificate) < 2 {
		return nil, errors.New("the CA of the certificate is not in its chain")
	}
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return nil, err
	}
	key := certmagic.StorageKeys.OCSPStaple(&certmagic.Certificate{Certificate: *c, Names: []string{name}}, slices.Concat(c.Certificate...))
	stored, err := m.storage.Load(ctx, key)
	if err == nil {
		r, err := checkStaple(stored, c.Leaf, issuer, now)
		if err == nil && r.Status == ocsp.Good && now.Before(r.ThisUpdate.Add(r.NextUpdate.Sub(r.ThisUpdate)/2)) {
			return stored, nil
		}
	}
	raw, err := m.askOCSP(ctx, c.Leaf, issuer)
	if err != nil {
		return nil, err
	}
	r, err := checkStaple(raw, c.Leaf, issuer, now)
	switch {
	case err != nil:
		return nil, err
	case r.Status == ocsp.Revoked:
		return nil, fmt.Errorf("the CA has revoked the certificate on %s: renew it", r.RevokedAt.UTC().Format(time.RFC3339))
	case r.Status != ocsp.Good:
		return nil, errors.New("the CA does not know the certificate")
	}
	if err := m.storage.Store(ctx, key, raw); err != nil {
		m.log.Warn("acme: OCSP response not kept", "name", name, "error", clip(err))
	}
	return raw, nil
}

// askOCSP asks the responder that a certificate names. It ends with ctx.
func (m *Manager) askOCSP(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, error) {
	if len(leaf.OCSPServer) == 0 {
		return nil, errors.New("the certificate names no responder")
	}
	q, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stapleTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, leaf.OCSPServer[0], bytes.NewReader(q))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	res, err := m.issuer.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the responder answers %d", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxStaple+1))
	if err == nil && len(b) > maxStaple {
		err = fmt.Errorf("a response longer than %d bytes", maxStaple)
	}
	return b, err
}

// checkStaple reads a response, which must be of the certificate's issuer or of a responder that this names, and of now.
func checkStaple(raw []byte, leaf, issuer *x509.Certificate, now time.Time) (*ocsp.Response, error) {
	r, err := ocsp.ParseResponseForCert(raw, leaf, issuer)
	switch {
	case err != nil:
		return nil, err
	case r.Certificate != nil && !r.Certificate.Equal(issuer) && !slices.Contains(r.Certificate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return nil, errors.New("the response is signed with a certificate that is not for that")
	case !now.Before(r.NextUpdate):
		return nil, errors.New("the response is out of date")
	case r.NextUpdate.After(leaf.NotAfter):
		return nil, errors.New("the response outlives the certificate")
	}
	return r, nil
}

// stapleLasts tells whether an OCSP response may still be shown.
func stapleLasts(der []byte, now time.Time) bool {
	if len(der) == 0 {
		return false
	}
	r, err := ocsp.ParseResponse(der, nil)
	return err == nil && now.Before(r.NextUpdate)
}
