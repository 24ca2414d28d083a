package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pki"
)

const (
	maxList  = 64 << 20 // bytes
	maxLists = 64       // in one answer
)

// listJob fetches the revocation list of a URL into its file.
func (k *Keeper) listJob(crl string) *job {
	// Of the copy, when this process has fetched it.
	var (
		etag, modified string
		next           time.Time
		by             []*x509.Certificate
	)
	j := &job{key: "crl " + crl}
	j.do = func(ctx context.Context) (time.Time, error) {
		failed := func(err error) (time.Time, error) {
			return time.Time{}, fmt.Errorf("fetch revocation list %s: %w", withoutQuery(crl), err)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, crl, nil)
		if err != nil {
			return failed(errors.New("the URL is malformed"))
		}
		path, cas := k.listFile(crl), k.issuersOf(crl)
		if _, err := os.Stat(path); err == nil && slices.EqualFunc(by, cas, (*x509.Certificate).Equal) {
			if etag != "" {
				r.Header.Set("If-None-Match", etag)
			}
			if modified != "" {
				r.Header.Set("If-Modified-Since", modified)
			}
		}
		body, head, err := k.request(r, maxList)
		if err != nil {
			return failed(err)
		}
		if body != nil {
			etag, modified, by = "", "", nil
			if next, err = checkLists(body, cas); err != nil {
				return failed(err)
			}
			if err := k.keepList(path, body, cas); err != nil {
				return failed(err)
			}
			etag, modified, by = head.Get("ETag"), head.Get("Last-Modified"), cas
		}
		now := k.o.Now()
		// Once it is out of date, its CA is late: ask now and then.
		if hour := now.Add(fetchEvery); next.After(hour) || !next.After(now) {
			return hour, nil
		}
		return next, nil
	}
	return j
}

// issuersOf are the CAs that may sign the list of a URL.
func (k *Keeper) issuersOf(crl string) []*x509.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*x509.Certificate
	for _, w := range k.watch {
		for _, c := range w.spec.CRLs {
			if c != crl || w.m.trust == nil {
				continue
			}
			out = append(out, w.m.trust.others()...)
			if w.waiting != nil {
				out = append(out, w.waiting.others()...)
			}
		}
	}
	return out
}

// keepList replaces the copy of a list, which one of the CAs has signed, by a newer one.
func (k *Keeper) keepList(path string, body []byte, cas []*x509.Certificate) error {
	old, err := readFile(path, maxList)
	if err == nil && bytes.Equal(old, body) {
		return nil
	}
	trial := path + ".new"
	if err := replace(trial, body); err != nil {
		return err
	}
	defer os.Remove(trial)
	fresh, err := pki.OpenRevocations(pki.RevocationsConfig{Files: []string{trial}, Issuers: cas, Now: k.o.Now})
	if err != nil {
		return err
	}
	// A copy of CAs that are not trusted any longer, or a damaged one, does not count.
	if _, err := checkLists(old, cas); err == nil {
		before, err := pki.OpenRevocations(pki.RevocationsConfig{Files: []string{path}, Issuers: cas, Now: k.o.Now})
		if err == nil {
			was, is := before.Status(), fresh.Status()
			for i := range is {
				if is[i].File != "" {
					is[i].File = path
				}
			}
			if err := notOlder(was, is); err != nil {
				return err
			}
			if covered(is, len(cas)) < covered(was, len(cas)) {
				return errors.New("it covers fewer CAs than before: " + missing(is))
			}
		}
	}
	return os.Rename(trial, path)
}

// checkLists wants every list in b to be signed by one of the CAs, since whoever can change it on its way could let
// revoked certificates in. It returns when the first of them is due.
func checkLists(b []byte, cas []*x509.Certificate) (next time.Time, err error) {
	n := 0
	one := func(der []byte) error {
		if n++; n > maxLists {
			return fmt.Errorf("more than %d lists", maxLists)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		err = fmt.Errorf("the list of %q is of none of the listener's CAs: add that CA to client_ca", l.Issuer.CommonName)
		for _, c := range cas {
			if !bytes.Equal(c.RawSubject, l.RawIssuer) {
				continue
			}
			if err = l.CheckSignatureFrom(c); err == nil {
				break
			}
		}
		if next.IsZero() || l.NextUpdate.Before(next) {
			next = l.NextUpdate
		}
		return err
	}
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		err = one(b) // which sets next
		return next, err
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if err := one(block.Bytes); err != nil {
			return next, err
		}
	}
	if n == 0 {
		return next, errors.New("no revocation list in it")
	}
	return next, nil
}

// withoutQuery is a URL for the log: its query may hold what is secret.
func withoutQuery(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(malformed URL)"
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}
