package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sealmq/sealmq/pki"
)

const (
	maxStaple = 64 << 10 // bytes
	// stapleSpare is the rest of its life below which a staple is not shown: clocks of clients differ.
	stapleSpare = 10 * time.Minute
)

// staple is what the issuer of a certificate says of it. It is immutable, a fresh one takes its place.
type staple struct {
	id    string // of the certificate
	raw   []byte // nil: not known
	until time.Time
}

// staplesOf returns the staple of each certificate that may have one. The caller holds mu.
func (k *Keeper) staplesOf(pairs []*tls.Certificate, now time.Time) []*staple {
	out := make([]*staple, len(pairs))
	for i, c := range pairs {
		if responder(c) == "" {
			continue
		}
		id := pki.Fingerprint(c.Leaf)
		s := k.staples[id]
		if s == nil || s.raw != nil && now.Add(stapleSpare).After(s.until) {
			s = &staple{id: id}
			k.staples[id] = s
		}
		out[i] = s
	}
	return out
}

// stapled are the certificates as they are shown.
func stapled(pairs []*tls.Certificate, staples []*staple) []*tls.Certificate {
	out := make([]*tls.Certificate, len(pairs))
	for i, c := range pairs {
		out[i] = c
		if s := staples[i]; s != nil && s.raw != nil {
			with := *c
			with.OCSPStaple = s.raw
			out[i] = &with
		}
	}
	return out
}

// responder is the URL of the OCSP responder of a certificate whose issuer is in its chain.
func responder(c *tls.Certificate) string {
	if len(c.Certificate) < 2 {
		return ""
	}
	for _, u := range c.Leaf.OCSPServer {
		if isURL(u) {
			return u
		}
	}
	return ""
}

// stapleJob asks the issuer about a certificate of ours, again when half of what it answers is over.
func (k *Keeper) stapleJob(c *tls.Certificate, s *staple) *job {
	j := &job{key: "ocsp " + s.id}
	j.do = func(ctx context.Context) (time.Time, error) {
		a, err := k.askOCSP(ctx, c)
		if err != nil {
			return time.Time{}, fmt.Errorf("fetch OCSP staple for %q from %s: %w", c.Leaf.Subject, withoutQuery(responder(c)), err)
		}
		fresh := &staple{id: s.id, raw: a.Raw, until: a.NextUpdate}
		if a.Status != ocsp.Good {
			fresh = &staple{id: s.id}
		}
		k.mu.Lock()
		k.staples[s.id] = fresh
		k.mu.Unlock()
		now := k.o.Now()
		if a.Status == ocsp.Revoked {
			return now.Add(fetchEvery), fmt.Errorf("the certificate %q is revoked by its issuer since %s: replace it", c.Leaf.Subject, a.RevokedAt.UTC().Format(time.RFC3339))
		}
		return now.Add(a.NextUpdate.Sub(now) / 2), nil
	}
	return j
}

func (k *Keeper) askOCSP(ctx context.Context, c *tls.Certificate) (*ocsp.Response, error) {
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return nil, err
	}
	q, err := ocsp.CreateRequest(c.Leaf, issuer, nil)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, responder(c), bytes.NewReader(q))
	if err != nil {
		return nil, errors.New("the URL in the certificate is malformed")
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	body, head, err := k.request(r, maxStaple)
	if err != nil {
		return nil, err
	}
	if t := head.Get("Content-Type"); !strings.HasPrefix(t, "application/ocsp-response") {
		return nil, fmt.Errorf("the server answers with %q", t)
	}
	a, err := ocsp.ParseResponseForCert(body, c.Leaf, issuer)
	if err != nil {
		return nil, err
	}
	a.Raw = body
	now := k.o.Now()
	switch {
	case a.Status == ocsp.Revoked:
		return a, nil
	case a.Status != ocsp.Good:
		return nil, errors.New("the issuer does not know the certificate")
	case a.ThisUpdate.After(now.Add(stapleSpare)):
		return nil, fmt.Errorf("the answer is of the future, %s", a.ThisUpdate.UTC().Format(time.RFC3339))
	case !a.NextUpdate.After(now.Add(stapleSpare)):
		return nil, fmt.Errorf("the answer is out of date since %s", a.NextUpdate.UTC().Format(time.RFC3339))
	}
	return a, nil
}
