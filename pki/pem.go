package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// maxCertificates bounds how many certificates one PEM file may hold.
const maxCertificates = 1024

// ParseCertificates reads every CERTIFICATE block of b, in order. Text between
// the blocks is skipped; private keys and other blocks are an error, so that a
// key named where a certificate belongs is noticed.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("parse certificates: longer than %d bytes", maxFile)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("parse certificates: found a block %q", block.Type)
		}
		if len(out) == maxCertificates {
			return nil, fmt.Errorf("parse certificates: more than %d", maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if bytes.Contains(b, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("parse certificate %d: damaged PEM block", len(out)+1)
	}
	if len(out) == 0 {
		return nil, errors.New("parse certificates: no CERTIFICATE block")
	}
	return out, nil
}

// ParseKey reads the one private key of b: PKCS#8, SEC 1 or PKCS#1; ECDSA,
// Ed25519 or RSA of at least 2048 bits. Other blocks (EC PARAMETERS,
// certificates) are skipped.
func ParseKey(b []byte) (crypto.Signer, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("parse private key: longer than %d bytes", maxFile)
	}
	var found crypto.Signer
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if found != nil {
			return nil, errors.New("parse private key: more than one")
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, &hinted{
				err:  errors.New("parse private key: it is encrypted with a passphrase"),
				hint: "write it without one: openssl pkey -in KEY -out key.pem && chmod 600 key.pem",
			}
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		found = key
	}
	if found == nil {
		return nil, errors.New("parse private key: no PRIVATE KEY block")
	}
	return found, nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var (
		key any
		err error
	)
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("parse private key: unsupported block %q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return nil, fmt.Errorf("parse private key: RSA of %d bits, at least 2048 wanted", k.N.BitLen())
		}
		return k, nil
	}
	return nil, fmt.Errorf("parse private key: %T cannot sign for TLS", key)
}

// encodeCertificates is the PEM form, leaf first.
func encodeCertificates(certs ...*x509.Certificate) []byte {
	var buf bytes.Buffer
	for _, c := range certs {
		pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return buf.Bytes()
}

// encodeKey is the PKCS#8 PEM form.
func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// samePublic reports whether key belongs to the certificate.
func samePublic(c *x509.Certificate, key crypto.Signer) bool {
	pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
}
