package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxCSR bounds a certificate signing request, in bytes. RSA of 8192 bits with
// a hundred names needs half of it.
const maxCSR = 16 << 10

// ParseCSR reads one PKCS#10 request, PEM or DER. Its signature is not checked:
// signing does that. Errors are a *Refusal.
func ParseCSR(b []byte) (*x509.CertificateRequest, error) {
	bad := func(err error) error { return refuse(CodeCSR, fmt.Errorf("parse CSR: %w", err)) }
	if len(b) > maxCSR {
		return nil, bad(fmt.Errorf("longer than %d bytes", maxCSR))
	}
	der := b
	if bytes.Contains(b, []byte("-----BEGIN")) {
		block, rest := pem.Decode(b)
		switch {
		case block == nil:
			return nil, bad(errors.New("damaged PEM block"))
		case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
			return nil, bad(fmt.Errorf("found a block %q", block.Type))
		case bytes.Contains(rest, []byte("-----BEGIN")):
			return nil, bad(errors.New("more than one block"))
		}
		der = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, bad(err)
	}
	if csr.PublicKey == nil {
		return nil, refuse(CodeKeyKind, errors.New("parse CSR: a key of unknown kind"))
	}
	return csr, nil
}

// encodeCSR is the PEM form.
func encodeCSR(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
