package certs

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// A certificate whose issuer answers OCSP is shown with what it answers, while that is valid.
func TestStaples(t *testing.T) {
	a, other, d := newCA(t, "a"), newCA(t, "other"), newDir(t)
	var (
		leaf    atomic.Pointer[x509.Certificate]
		answer  atomic.Int64 // status
		signer  atomic.Pointer[ca]
		life    atomic.Int64
		garbage atomic.Bool
	)
	answer.Store(ocsp.Good)
	signer.Store(a)
	life.Store(int64(time.Hour))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		q, err := ocsp.ParseRequest(b)
		if err != nil || q.SerialNumber.Cmp(leaf.Load().SerialNumber) != 0 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		if garbage.Load() {
			w.Write([]byte("nonsense"))
			return
		}
		now := time.Now()
		by := signer.Load()
		res, err := ocsp.CreateResponse(by.cert, by.cert, ocsp.Response{
			Status: int(answer.Load()), SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Minute),
			NextUpdate: now.Add(time.Duration(life.Load())), RevokedAt: now, IssuerHash: crypto.SHA1,
		}, crypto.Signer(by.key))
		if err != nil {
			t.Error(err)
		}
		w.Write(res)
	}))
	defer srv.Close()
	c := a.issue(func(c *x509.Certificate) {
		c.DNSNames, c.OCSPServer = []string{"one.example.org"}, []string{"ldap://x/", srv.URL}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	c.Certificate = append(c.Certificate, a.cert.Raw)
	leaf.Store(c.Leaf)
	r := newRig(t, Spec{Pairs: []Pair{d.pair("x", c)}})
	staple := func() []byte {
		seen, _, err := handshake(&tls.Config{GetCertificate: r.l.GetCertificate}, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return seen.OCSPResponse
	}
	if staple() != nil {
		t.Error("a staple before one was fetched")
	}
	r.run()
	until(t, "there is a staple", func() bool { return staple() != nil })
	if a, err := ocsp.ParseResponseForCert(staple(), c.Leaf, a.cert); err != nil || a.Status != ocsp.Good {
		t.Errorf("the staple: %v", err)
	}

	// A worse answer leaves the good one in force as long as it is valid.
	bad := func(want string) {
		t.Helper()
		r.hurry()
		until(t, "there is trouble: "+want, func() bool { return strings.Contains(strings.Join(r.k.Trouble(), "\n"), want) })
		if staple() == nil {
			t.Error("the staple is gone: " + want)
		}
	}
	signer.Store(other)
	bad("fetch OCSP staple")
	signer.Store(a)
	garbage.Store(true)
	bad("fetch OCSP staple")
	garbage.Store(false)
	answer.Store(ocsp.Unknown)
	bad("does not know the certificate")
	answer.Store(ocsp.Good)
	life.Store(int64(time.Second))
	bad("out of date since")

	r.clock.Store(int64(51 * time.Minute)) // less than ten minutes are left of it
	until(t, "the staple is gone", func() bool { return staple() == nil })
	life.Store(int64(3 * time.Hour))
	r.hurry()
	until(t, "there is another", func() bool { return staple() != nil && len(r.k.Trouble()) == 0 })

	answer.Store(ocsp.Revoked)
	r.hurry()
	until(t, "it is revoked", func() bool { return staple() == nil })
	r.troubled("is revoked by its issuer")
	if r.shows("") != "" {
		t.Error("another certificate is shown")
	}
}
