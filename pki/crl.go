package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Revoked is an entry of a revocation list.
type Revoked struct {
	Serial *big.Int
	At     time.Time
	Reason Reason
}

// CRL are the contents of a revocation list that our CA signs.
type CRL struct {
	// Number must be greater than that of the list before.
	Number uint64
	// Life until nextUpdate; 24 h when zero, at least a minute.
	Life time.Duration
	// Entries in any order, no serial twice. Certificates that have expired may be left out.
	Entries []Revoked
}

// SignCRL signs the revocation list of the CA name, "device" or "broker": DER.
// It lists nothing of an other root's CA while one root takes another's place:
// that one has a list of its own, see SignCRLOf.
func (a *Authority) SignCRL(name string, list CRL) ([]byte, error) {
	switch name {
	case deviceName:
		return a.signCRL(a.device, list)
	case brokerName:
		return a.signCRL(a.broker, list)
	}
	return nil, fmt.Errorf("sign revocation list: CA %q: device or broker wanted", name)
}

// SignCRLOf signs the revocation list of one of the DeviceCAs: DER.
func (a *Authority) SignCRLOf(ca *x509.Certificate, list CRL) ([]byte, error) {
	switch {
	case ca.Equal(a.device.cert):
		return a.signCRL(a.device, list)
	case a.other != nil && ca.Equal(a.other.device):
		if a.otherKey == nil {
			return nil, fmt.Errorf("sign revocation list: the key of %s is not here", ca.Subject.CommonName)
		}
		return a.signCRL(issuer{ca, a.otherKey}, list)
	}
	return nil, errors.New("sign revocation list: the CA is none of this folder")
}

func (a *Authority) signCRL(iss issuer, list CRL) ([]byte, error) {
	bad := func(err error) error { return fmt.Errorf("sign revocation list: %w", err) }
	now := a.cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	if list.Life == 0 {
		list.Life = day
	}
	if list.Life < time.Minute {
		return nil, bad(fmt.Errorf("life of %v, at least a minute wanted", list.Life))
	}
	seen := make(map[string]bool, len(list.Entries))
	entries := make([]x509.RevocationListEntry, 0, len(list.Entries))
	for _, e := range list.Entries {
		if e.Serial == nil || e.Serial.Sign() <= 0 || e.Serial.BitLen() > 159 {
			return nil, bad(errors.New("a serial that is not positive, or longer than 20 octets"))
		}
		key := string(e.Serial.Bytes())
		if seen[key] {
			return nil, bad(fmt.Errorf("serial %x comes twice", e.Serial))
		}
		seen[key] = true
		if !e.Reason.valid() {
			return nil, bad(fmt.Errorf("serial %x: reason %d", e.Serial, int(e.Reason)))
		}
		at := e.At
		if at.IsZero() || at.After(now) {
			at = now
		}
		// Unspecified is left out: RFC 5280 section 5.3.1.
		entries = append(entries, x509.RevocationListEntry{SerialNumber: e.Serial, RevocationTime: at, ReasonCode: int(e.Reason)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:                    new(big.Int).SetUint64(list.Number),
		ThisUpdate:                now,
		NextUpdate:                now.Add(list.Life),
		RevokedCertificateEntries: entries,
	}, iss.cert, iss.key)
	if err != nil {
		return nil, bad(err)
	}
	return der, nil
}

// EncodeCRL is the PEM form of a revocation list.
func EncodeCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
