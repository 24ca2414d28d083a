package acme

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/crypto/ocsp"

	"github.com/sealmq/sealmq/internal/testkit"
)

// A certificate whose CA offers OCSP is shown with a response, which stays when the responder fails.
func TestStaple(t *testing.T) {
	testkit.NoLeaks(t)
	now := time.Now()
	ca := selfSigned(t, now.Add(-time.Hour), now.Add(1000*time.Hour), "ca.example")
	leaf := selfSigned(t, now.Add(-time.Hour), now.Add(900*time.Hour), "a.example")
	var down atomic.Bool
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		req, err2 := ocsp.ParseRequest(b)
		if err != nil || err2 != nil || down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		// Already more than half through, so that it is asked for again.
		answer, err := ocsp.CreateResponse(ca.Leaf, ca.Leaf, ocsp.Response{Status: ocsp.Good, SerialNumber: req.SerialNumber,
			ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(30 * time.Minute)}, ca.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Connection", "close")
		_, _ = w.Write(answer)
	}))
	defer responder.Close()
	template := *leaf.Leaf
	template.OCSPServer, template.SerialNumber = []string{responder.URL}, big.NewInt(77)
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Leaf, leaf.Leaf.PublicKey, ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf.Certificate = [][]byte{der, ca.Certificate[0]}

	var out logged
	m := manager(t, memoryStore(t), out.logger(slog.LevelInfo), "a.example")
	keep(t, m, "a.example", leaf)
	m.Start(t.Context())
	defer m.Close()
	hello := &tls.ClientHelloInfo{ServerName: "a.example"}
	eventually(t, "staple", func() bool {
		c, ok := m.Get(hello)
		return ok && stapleLasts(c.OCSPStaple, now)
	})
	m.Close()
	down.Store(true)
	m.open()
	m.staple(t.Context(), m.sites["a.example"])
	if c, ok := m.Get(hello); !ok || len(c.OCSPStaple) == 0 {
		t.Error("the response is gone")
	}
	if stapleLasts(nil, now) || stapleLasts([]byte("x"), now) {
		t.Error("what is none lasts")
	}
	if s := out.String(); strings.Contains(s, "no OCSP response") {
		t.Error(s)
	}
}

// A responder that does not answer does not keep Close waiting.
func TestCloseWhileStapling(t *testing.T) {
	testkit.NoLeaks(t)
	now := time.Now()
	asked, over := make(chan struct{}), make(chan struct{})
	responder := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-over
	}))
	defer responder.Close()
	defer close(over)
	ca := selfSigned(t, now.Add(-time.Hour), now.Add(1000*time.Hour), "ca.example")
	leaf := selfSigned(t, now.Add(-time.Hour), now.Add(900*time.Hour), "a.example")
	template := *leaf.Leaf
	template.OCSPServer, template.SerialNumber = []string{responder.URL}, big.NewInt(77)
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Leaf, leaf.Leaf.PublicKey, ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf.Certificate = [][]byte{der, ca.Certificate[0]}
	m := manager(t, memoryStore(t), nil, "a.example")
	keep(t, m, "a.example", leaf)
	m.Start(t.Context())
	<-asked
	began := time.Now()
	m.Close()
	if took := time.Since(began); took >= stapleTime {
		t.Errorf("Close took %v", took)
	}
	if _, ok := m.Get(&tls.ClientHelloInfo{ServerName: "a.example"}); !ok {
		t.Error("the certificate is not served")
	}
}

// What has expired long ago goes, also of names that are kept no more; the rest stays.
func TestSweep(t *testing.T) {
	now := time.Now()
	m := manager(t, memoryStore(t), nil, "a.example")
	for name, until := range map[string]time.Time{"a.example": now.Add(time.Hour), "b.example": now.Add(-day), "c.example": now.Add(-40 * day)} {
		keep(t, m, name, selfSigned(t, now.Add(-50*day), until, name))
	}
	if err := m.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.example": true, "b.example": true, "c.example": false} {
		if got := m.storage.Exists(t.Context(), certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
