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
	all   map[ID]guest
	paths map[string][]*x509.Certificate // the CAs above a certificate, once for all that they have issued
	due   time.Time
}

type guest struct {
	l     *Listener // that accepted it last
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

func (g *guests) add(l *Listener, chain []*x509.Certificate) {
	leaf, above, alone := chain[0], chain[1:], len(chain) == 1
	if alone {
		above = chain
	}
	id := identify(leaf)
	sum := sha256.New()
	for _, c := range above {
		sum.Write(c.Raw)
	}
	path := string(sum.Sum(nil))

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all, g.paths = map[ID]guest{}, map[string][]*x509.Certificate{}
	}
	if _, ok := g.all[id]; !ok && len(g.all) >= maxGuests {
		return
	}
	if known, ok := g.paths[path]; ok {
		above = known
	} else {
		g.paths[path] = above
	}
	g.all[id] = guest{l, above, alone, leaf.NotAfter.Unix()}
}

// forget lets go of certificates that have ended, once an hour.
func (g *guests) forget(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.due) {
		return
	}
	g.due = now.Add(time.Hour)
	maps.DeleteFunc(g.all, func(_ ID, v guest) bool { return v.until < now.Unix() })
	if len(g.all) == 0 {
		clear(g.paths)
	}
}

// Stands judges a certificate of another CA that was accepted earlier: an error if its CA is not trusted any longer, or a
// list says that it is revoked. One that is not known stands: it was not accepted since the start, or is our own CA's.
func (k *Keeper) Stands(id ID) error {
	k.guests.mu.Lock()
	g, ok := k.guests.all[id]
	k.guests.mu.Unlock()
	if !ok {
		return nil
	}
	m := g.l.current.Load()
	if m.trust == nil {
		return refuse("client_certificate_ca", errors.New("the listener accepts no certificates any longer"))
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
