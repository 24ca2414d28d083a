package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf16"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/sealmq/sealmq/pki"
)

const p12File = "identity.p12"

// p12Password is the password of the .p12 files: what the file says, or a new one of 130 bits.
func (f *bundleFlags) p12Password() (password string, made bool, err error) {
	if f.passwordFile == "" {
		return rand.Text(), true, nil
	}
	b, err := readSmall(f.passwordFile)
	if err != nil {
		return "", false, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	password = string(bytes.TrimSuffix(line, []byte("\r")))
	if password == "" {
		return "", false, withExit(exitFile, fmt.Errorf("read %s: the first line is empty", f.passwordFile))
	}
	for _, r := range password {
		if utf16.RuneLen(r) != 1 {
			return "", false, withExit(exitFile, fmt.Errorf("read %s: a PKCS#12 file cannot have a password with the character %q", f.passwordFile, r))
		}
	}
	return password, false, nil
}

// p12 is the identity as a PKCS#12 file, with whom to trust.
func (s snippet) p12() ([]byte, error) {
	key, err := pki.ParseKey(s.Bundle.Key)
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseCertificates(s.Bundle.Cert)
	if err != nil {
		return nil, err
	}
	roots, err := pki.ParseCertificates(s.Bundle.CA)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	encoder := pkcs12.Modern
	if s.legacy {
		encoder = pkcs12.Legacy
	}
	return encoder.Encode(key, chain[0], append(chain[1:], roots...), s.password)
}
