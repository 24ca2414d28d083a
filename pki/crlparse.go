package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"
)

const (
	// maxCRLFile bounds a file of revocation lists: a million entries of 37 bytes and some room.
	maxCRLFile = 64 << 20
	maxCRLs    = 64
	maxSerial  = 20 // octets, RFC 5280 section 4.1.2.2
)

// entry is a revoked serial: 32 bytes, for lists of a million.
type entry struct {
	serial [maxSerial]byte // big-endian, zeros in front
	reason uint8
	at     int64 // seconds since 1970
}

// list is a revocation list that has been read: its entries, sorted by serial.
type list struct {
	issuer   string // RawIssuer
	issuerCN string
	authKey  []byte
	number   *big.Int
	scope    string   // of the distribution point, empty when it covers everything of its issuer
	points   []string // the names of that, DER
	this     time.Time
	next     time.Time
	entries  []entry

	mu  sync.Mutex
	raw *x509.RevocationList // without entries; nil once the signature was found good
	by  SPKI                 // the key that made it, once known
}

// parseCRLs reads revocation lists: PEM blocks or one DER value. Partial and
// indirect lists are refused, because taken for whole ones they would hide
// revocations.
func parseCRLs(b []byte) ([]*list, error) {
	if len(b) > maxCRLFile {
		return nil, fmt.Errorf("parse revocation list: longer than %d bytes", maxCRLFile)
	}
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		l, err := parseCRL(b)
		if err != nil {
			return nil, fmt.Errorf("parse revocation list: %w", err)
		}
		return []*list{l}, nil
	}
	var out []*list
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		n := len(out) + 1
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("parse revocation list %d: found a block %q", n, block.Type)
		}
		if n > maxCRLs {
			return nil, fmt.Errorf("parse revocation lists: more than %d", maxCRLs)
		}
		l, err := parseCRL(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse revocation list %d: %w", n, err)
		}
		out = append(out, l)
	}
	if bytes.Contains(b, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("parse revocation list %d: damaged PEM block", len(out)+1)
	}
	if len(out) == 0 {
		return nil, errors.New("parse revocation list: no X509 CRL block")
	}
	return out, nil
}

func parseCRL(der []byte) (*list, error) {
	if len(der) == 0 {
		return nil, errors.New("it is empty")
	}
	r, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if r.NextUpdate.IsZero() {
		return nil, errors.New("it does not say when the next one comes (nextUpdate)")
	}
	l := &list{
		issuer: string(r.RawIssuer), issuerCN: r.Issuer.CommonName, authKey: r.AuthorityKeyId, number: r.Number,
		this: r.ThisUpdate, next: r.NextUpdate,
		entries: make([]entry, 0, len(r.RevokedCertificateEntries)),
	}
	for _, e := range r.Extensions {
		switch e.Id.String() {
		case "2.5.29.28":
			if l.scope, l.points, err = parseScope(e.Value); err != nil {
				return nil, err
			}
		case "2.5.29.27":
			return nil, errors.New("a delta list, which is of use with its base alone")
		case "2.5.29.20", "2.5.29.35": // number, authority key identifier
		default:
			if e.Critical {
				return nil, fmt.Errorf("unknown critical extension %s", e.Id)
			}
		}
	}
	for i := range r.RevokedCertificateEntries {
		e, err := parseEntry(&r.RevokedCertificateEntries[i])
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		l.entries = append(l.entries, e)
	}
	slices.SortFunc(l.entries, func(a, b entry) int { return bytes.Compare(a.serial[:], b.serial[:]) })
	l.raw = &x509.RevocationList{
		RawTBSRevocationList: r.RawTBSRevocationList, Signature: r.Signature, SignatureAlgorithm: r.SignatureAlgorithm,
	}
	return l, nil
}

func parseEntry(e *x509.RevocationListEntry) (entry, error) {
	var out entry
	if e.SerialNumber.Sign() < 0 || e.SerialNumber.BitLen() > 8*maxSerial {
		return out, fmt.Errorf("serial is negative or longer than %d octets", maxSerial)
	}
	for _, x := range e.Extensions {
		switch x.Id.String() {
		case "2.5.29.21", "2.5.29.24": // reason, invalidity date
		default: // 2.5.29.29 names another issuer
			if x.Critical {
				return out, fmt.Errorf("unknown critical extension %s", x.Id)
			}
		}
	}
	if Reason(e.ReasonCode) == removeFromCRL || e.ReasonCode < 0 || e.ReasonCode > 255 {
		return out, fmt.Errorf("reason %d", e.ReasonCode)
	}
	e.SerialNumber.FillBytes(out.serial[:])
	out.reason, out.at = uint8(e.ReasonCode), e.RevocationTime.Unix()
	return out, nil
}

// parseScope reads an issuing distribution point, RFC 5280 section 5.2.5. It
// returns the point and its names; several lists of different points add up.
func parseScope(der []byte) (scope string, names []string, err error) {
	var p struct {
		Point          asn1.RawValue  `asn1:"optional,tag:0"`
		UserOnly       bool           `asn1:"optional,tag:1"`
		CAOnly         bool           `asn1:"optional,tag:2"`
		SomeReasons    asn1.BitString `asn1:"optional,tag:3"`
		Indirect       bool           `asn1:"optional,tag:4"`
		AttributesOnly bool           `asn1:"optional,tag:5"`
	}
	rest, err := asn1.Unmarshal(der, &p)
	if err == nil && len(p.Point.FullBytes) > 0 {
		names, err = pointNames(p.Point.Bytes)
	}
	switch {
	case err != nil || len(rest) > 0:
		return "", nil, errors.New("damaged issuing distribution point")
	case p.CAOnly || p.AttributesOnly:
		return "", nil, errors.New("it covers CA or attribute certificates alone")
	case p.SomeReasons.BitLength > 0:
		return "", nil, errors.New("it covers some reasons alone")
	case p.Indirect:
		return "", nil, errors.New("an indirect list")
	}
	return string(p.Point.FullBytes), names, nil
}

// pointNames are the names in a DistributionPointName, DER.
func pointNames(der []byte) (names []string, err error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || len(rest) > 0 || v.Class != asn1.ClassContextSpecific || v.Tag > 1 {
		return nil, errors.New("damaged name of a distribution point")
	}
	if v.Tag == 1 { // relative to the issuer
		return []string{string(v.FullBytes)}, nil
	}
	for rest = v.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return nil, errors.New("damaged name of a distribution point")
		}
		names = append(names, string(name.FullBytes))
	}
	return names, nil
}

// covers reports whether a list tells of all revocations of a certificate: that of
// a distribution point does if the certificate names that, RFC 5280 section
// 6.3.3 (b) (2). The list's issuer is the certificate's.
func (l *list) covers(cert *x509.Certificate) bool {
	if l.scope == "" {
		return true
	}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 31}) {
			continue
		}
		var points []struct {
			Point   asn1.RawValue  `asn1:"optional,tag:0"`
			Reasons asn1.BitString `asn1:"optional,tag:1"`
			Issuer  asn1.RawValue  `asn1:"optional,tag:2"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &points); err != nil || len(rest) > 0 {
			return false
		}
		for _, p := range points {
			if p.Reasons.BitLength > 0 || len(p.Issuer.FullBytes) > 0 { // some reasons, or an indirect list
				continue
			}
			names, err := pointNames(p.Point.Bytes)
			if err == nil && slices.ContainsFunc(names, func(n string) bool { return slices.Contains(l.points, n) }) {
				return true
			}
		}
	}
	return false
}

// find looks a serial up.
func (l *list) find(serial *big.Int) (entry, bool) {
	if serial.Sign() < 0 || serial.BitLen() > 8*maxSerial {
		return entry{}, false
	}
	var key [maxSerial]byte
	serial.FillBytes(key[:])
	i, ok := slices.BinarySearchFunc(l.entries, key, func(e entry, k [maxSerial]byte) int { return bytes.Compare(e.serial[:], k[:]) })
	if !ok {
		return entry{}, false
	}
	return l.entries[i], true
}

// verify checks the signature. Once it was found good, the text that was signed
// is let go, and no other key can have made it.
func (l *list) verify(issuer *x509.Certificate) error {
	key := SPKI(sha256.Sum256(issuer.RawSubjectPublicKeyInfo))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.raw == nil {
		if key != l.by {
			return fmt.Errorf("revocation list of %q: another key of the CA signed it", l.issuerCN)
		}
		return nil
	}
	if err := l.checkSignature(issuer); err != nil {
		return fmt.Errorf("revocation list of %q: %w", l.issuerCN, err)
	}
	l.raw, l.by = nil, key
	return nil
}

func (l *list) checkSignature(issuer *x509.Certificate) error {
	if string(issuer.RawSubject) != l.issuer {
		return errors.New("another CA issued it")
	}
	if len(l.authKey) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(l.authKey, issuer.SubjectKeyId) {
		return errors.New("another key of the CA signed it")
	}
	switch l.raw.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return fmt.Errorf("it is signed with %v", l.raw.SignatureAlgorithm)
	}
	return l.raw.CheckSignatureFrom(issuer)
}
