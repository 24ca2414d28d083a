package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Listener is what one listener shows and trusts. Its methods are called in handshakes, from many goroutines.
type Listener struct {
	k       *Keeper
	name    string
	current atomic.Pointer[material]
}

// material is what is in force, replaced as a whole.
type material struct {
	pairs []*tls.Certificate // as loaded, in the order of the Spec
	own   *tls.Certificate   // nil if it is not shown
	shown *table             // of both, with staples
	trust *trust             // nil: no certificate is asked for
	lists *pki.Revocations   // nil: none are wanted

	staples []*staple // of pairs; an element is nil without one
	source  Source
	enroll  bool
	grace   time.Duration
}

// trust are the CAs that clients may come from.
type trust struct {
	pool    *x509.CertPool
	cas     []*x509.Certificate
	ours    int             // the first ours of cas are our own
	anchors map[string]bool // by certificate; true: our own
}

func newTrust(ours, others []*x509.Certificate) *trust {
	t := &trust{pool: x509.NewCertPool(), anchors: map[string]bool{}}
	for i, c := range slices.Concat(ours, others) {
		if _, twice := t.anchors[string(c.Raw)]; twice {
			continue
		}
		t.pool.AddCert(c)
		t.cas = append(t.cas, c)
		t.anchors[string(c.Raw)] = i < len(ours)
		if i < len(ours) {
			t.ours++
		}
	}
	return t
}

func (t *trust) others() []*x509.Certificate { return t.cas[t.ours:] }

// issuesCAs tells whether a CA of that common name has issued another of them, and perhaps nothing else.
func (t *trust) issuesCAs(name string) bool {
	return slices.ContainsFunc(t.others(), func(c *x509.Certificate) bool {
		return c.Issuer.CommonName == name && !bytes.Equal(c.RawIssuer, c.RawSubject)
	})
}

func (t *trust) same(u *trust) bool {
	return t.ours == u.ours && slices.EqualFunc(t.cas, u.cas, (*x509.Certificate).Equal)
}

func (t *trust) sameOthers(u *trust) bool {
	return u != nil && slices.EqualFunc(t.others(), u.others(), (*x509.Certificate).Equal)
}

// revises tells whether m refuses or accepts other clients than old, of which there may be none.
func (m *material) revises(old *material) bool {
	return old != nil && (m.trust != old.trust || m.lists != old.lists || m.enroll != old.enroll || m.grace != old.grace)
}

// GetCertificate returns the certificate for the server name that the client asks for.
func (l *Listener) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	m := l.current.Load()
	return m.shown.find(h, m.source), nil
}

// ClientCAs are the CAs that client certificates must come from; nil when none are asked for.
func (l *Listener) ClientCAs() *x509.CertPool {
	if t := l.current.Load().trust; t != nil {
		return t.pool
	}
	return nil
}

// ChallengeConfig is the configuration for a handshake by which an ACME CA validates a name; nil for any other.
func (l *Listener) ChallengeConfig(h *tls.ClientHelloInfo) *tls.Config {
	if s := l.current.Load().source; s != nil {
		return s.ChallengeConfig(h)
	}
	return nil
}

// Expired tells whether a certificate that a listener for enrolment has accepted has come to its end.
func (l *Listener) Expired(leaf *x509.Certificate) bool { return l.k.o.Now().After(leaf.NotAfter) }
