package certs

import (
	"crypto/x509"
	"errors"

	"github.com/sealmq/sealmq/pki"
)

// Shown is what one listener shows and trusts at present.
type Shown struct {
	Listener string
	// Pairs are the certificates in files, and the files.
	Pairs []ShownPair
	// Own is the certificate of our own CA; nil if it is not shown.
	Own *x509.Certificate
	// Foreign are the CAs beside ours whose clients are accepted, and Lists what is known of their revocation lists.
	Foreign []*x509.Certificate
	Lists   []pki.CRLStatus
	// Trouble is why something newer is not in force; nil when all is well.
	Trouble error
}

// ShownPair is a certificate that came from a file.
type ShownPair struct {
	File string
	Leaf *x509.Certificate
}

// Shown describes every listener. It reads no file.
func (k *Keeper) Shown() []Shown {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Shown
	for _, w := range k.watch {
		s := Shown{Listener: w.spec.Name, Trouble: errors.Join(w.failed()...)}
		for i, c := range w.m.pairs {
			s.Pairs = append(s.Pairs, ShownPair{File: w.spec.Pairs[i].Cert, Leaf: c.Leaf})
		}
		if w.m.own != nil {
			s.Own, s.Trouble = w.m.own.Leaf, errors.Join(s.Trouble, k.own.err)
		}
		if w.m.trust != nil {
			s.Foreign = w.m.trust.cas[w.m.trust.ours:]
		}
		if w.m.lists != nil {
			s.Lists = w.m.lists.Status()
		}
		out = append(out, s)
	}
	return out
}
