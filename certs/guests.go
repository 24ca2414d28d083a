package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// ID names a certificate among those of all CAs.
type ID struct {
	Serial string   // lower-case hex, an even number of digits
	Key    [32]byte // SHA-256 of the holder's subject public key info
}

// guests are the certificates of other CAs that were accepted, so that what comes after a handshake can be judged by
// later lists: about 200 bytes each, until they end.
type guests struct {
	mu    sync.Mutex
	all   map[visit]guest
	paths map[string][]*x509.Certificate // the CAs above a certificate, once for all that they have issued
	due   time.Time
}

// visit is a certificate at a listener: another one may trust another CA above it.
type visit struct {
	id       ID
	listener string
}

type guest struct {
	above []*x509.Certificate
	alone bool  // above is the certificate itself, which is trusted without a CA
	until int64 // seconds since 1970
}

func identify(c *x509.Certificate) ID {
	serial := c.SerialNumber.Bytes()
	if len(serial) == 0 {
		serial = []byte{0}
	}
	return ID{hex.EncodeToString(serial), sha256.Sum256(c.RawSubjectPublicKeyInfo)}
}

// maxGuests bounds what is remembered; those above it are judged when they connect only.
const maxGuests = 1 << 20

func (g *guests) add(listener string, chain []*x509.Certificate) {
	leaf, above, alone := chain[0], chain[1:], len(chain) == 1
	if alone {
		above = chain
	}
	v := visit{identify(leaf), listener}
	sum := sha256.New()
	for _, c := range above {
		sum.Write(c.Raw)
	}
	path := string(sum.Sum(nil))

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all, g.paths = map[visit]guest{}, map[string][]*x509.Certificate{}
	}
	if _, ok := g.all[v]; !ok && len(g.all) >= maxGuests {
		return
	}
	if known, ok := g.paths[path]; ok {
		above = known
	} else {
		g.paths[path] = above
	}
	g.all[v] = guest{above, alone, leaf.NotAfter.Unix()}
}

// forget lets go of certificates that have ended, once an hour.
func (g *guests) forget(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.due) {
		return
	}
	g.due = now.Add(time.Hour)
	maps.DeleteFunc(g.all, func(_ visit, v guest) bool { return v.until < now.Unix() })
	if len(g.all) == 0 {
		clear(g.paths)
	}
}

// find returns what is remembered of a certificate that a listener has accepted.
func (g *guests) find(id ID, listener string) (of guest, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of, ok = g.all[visit{id, listener}]
	return of, ok
}

// Guest reports whether a listener has accepted a certificate as one of the CAs in its files, which it still trusts.
func (k *Keeper) Guest(listener string, id ID) bool {
	g, ok := k.guests.find(id, listener)
	if !ok {
		return false
	}
	l := k.listener(listener)
	if l == nil {
		return false
	}
	m := l.current.Load()
	return m.trust != nil && m.trust.of(g.above) == fileCA
}

// Stands judges a certificate that a listener has accepted earlier: an error if its CA is not trusted there any longer, or a
// list says that it is revoked. ours says that it is of our own CA; of the others, one that is not known stands: it was not
// accepted since the start. Where the listener is gone, any other may answer for it.
func (k *Keeper) Stands(listener string, id ID, ours bool) error {
	g, known := k.guests.find(id, listener)
	if !ours && !known {
		return nil
	}
	judge := func(m *material) error {
		if ours {
			return m.standsOurs()
		}
		return m.stands(g, id)
	}
	if l := k.listener(listener); l != nil {
		return judge(l.current.Load())
	}
	err := refuse("client_certificate_ca", errors.New("no listener accepts this certificate any longer"))
	for _, l := range k.listeners() {
		if judge(l.current.Load()) == nil {
			return nil
		}
	}
	return err
}

var errNobody = errors.New("the listener accepts no certificates any longer")

func (m *material) standsOurs() error {
	switch {
	case m.trust == nil:
		return refuse("client_certificate_ca", errNobody)
	case m.trust.ours == 0:
		return refuse("client_certificate_ca", errors.New("the listener accepts no certificates of the broker's own CA any longer"))
	}
	return nil
}

func (m *material) stands(g guest, id ID) error {
	if m.trust == nil {
		return refuse("client_certificate_ca", errNobody)
	}
	anchor := g.above[len(g.above)-1]
	from := m.trust.of(g.above)
	if from == 0 {
		return refuse("client_certificate_ca", fmt.Errorf("the CA %q is not trusted any longer", anchor.Subject.CommonName))
	}
	if m.lists == nil || from != fileCA || g.alone {
		return nil
	}
	serial, err := hex.DecodeString(id.Serial)
	if err != nil {
		return nil
	}
	leaf := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), RawIssuer: g.above[0].RawSubject}
	chain := append([]*x509.Certificate{leaf}, g.above...)
	err = m.lists.VerifyConnection(tls.ConnectionState{PeerCertificates: chain[:1], VerifiedChains: [][]*x509.Certificate{chain}})
	if errors.Is(err, pki.ErrRevoked) { // out of date is for handshakes to judge
		return refuse("client_certificate_revoked", err)
	}
	return nil
}
