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

// trust are the CAs that clients may come from: our own, those of files, which may have lists, and those of factories.
type trust struct {
	pool         *x509.CertPool
	cas          []*x509.Certificate
	ours, listed int               // cas[:ours] are our own, cas[ours:listed] those of files
	anchors      map[string]origin // by certificate
}

// origin says whose a CA is.
type origin uint8

const (
	ourCA origin = iota + 1
	fileCA
	factoryCA
)

func newTrust(ours, files, factories []*x509.Certificate) *trust {
	t := &trust{pool: x509.NewCertPool(), anchors: map[string]origin{}}
	add := func(some []*x509.Certificate, from origin) int {
		for _, c := range some {
			if t.anchors[string(c.Raw)] != 0 {
				continue
			}
			t.pool.AddCert(c)
			t.cas = append(t.cas, c)
			t.anchors[string(c.Raw)] = from
		}
		return len(t.cas)
	}
	t.ours = add(ours, ourCA)
	t.listed = add(files, fileCA)
	add(factories, factoryCA)
	return t
}

// of says whose the CA at the end of a chain is; 0 if it is not trusted.
func (t *trust) of(chain []*x509.Certificate) origin {
	return t.anchors[string(chain[len(chain)-1].Raw)]
}

func (t *trust) others() []*x509.Certificate { return t.cas[t.ours:t.listed] }

// issuesCAs tells whether a CA of that common name has issued another of them, and perhaps nothing else.
func (t *trust) issuesCAs(name string) bool {
	return slices.ContainsFunc(t.others(), func(c *x509.Certificate) bool {
		return c.Issuer.CommonName == name && !bytes.Equal(c.RawIssuer, c.RawSubject)
	})
}

func (t *trust) same(u *trust) bool {
	return t.ours == u.ours && t.listed == u.listed && slices.EqualFunc(t.cas, u.cas, (*x509.Certificate).Equal)
}

func (t *trust) sameOthers(u *trust) bool {
	return u != nil && slices.EqualFunc(t.others(), u.others(), (*x509.Certificate).Equal)
}

// revises tells whether m refuses or accepts other clients than old, of which there may be none.
func (m *material) revises(old *material) bool {
	return old != nil && (m.trust != old.trust || m.lists != old.lists || m.enroll != old.enroll || m.grace != old.grace)
}

// changed tells whether anything that comes from files is another.
func (m *material) changed(old *material) bool {
	return m.trust != old.trust || m.lists != old.lists || !slices.Equal(m.pairs, old.pairs)
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
