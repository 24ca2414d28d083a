//go:build pkcs11 && cgo

package pki

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/ThalesGroup/crypto11"
)

// tokenKey closes the sessions of its token once nothing refers to it.
type tokenKey struct {
	key crypto11.Signer
	ctx *crypto11.Context
}

func (t *tokenKey) Public() crypto.PublicKey { return t.key.Public() }

func (t *tokenKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer runtime.KeepAlive(t)
	return t.key.Sign(rand, digest, opts)
}

func openToken(u *tokenURI, o KeyOptions) (crypto.Signer, error) {
	pin, err := u.pin(o)
	if err != nil {
		return nil, absent{fmt.Errorf("open %s: %w", u.raw, err)}
	}
	ctx, err := crypto11.Configure(&crypto11.Config{
		Path: u.module, TokenLabel: u.token, TokenSerial: u.serial, Pin: string(pin),
	})
	if err != nil { // may be a wrong PIN, of which a token allows few
		return nil, fmt.Errorf("open %s: %w", u.raw, err)
	}
	key, err := ctx.FindKeyPair(attribute(u.id), attribute(u.object))
	if err == nil && key == nil {
		err = errors.New("the token has no such key")
	}
	if err == nil {
		err = CheckKey(key.Public())
	}
	if err != nil {
		ctx.Close()
		return nil, fmt.Errorf("open %s: %w", u.raw, err)
	}
	t := &tokenKey{key, ctx}
	runtime.AddCleanup(t, func(c *crypto11.Context) { c.Close() }, ctx)
	return t, nil
}

// attribute is nil where the URI says nothing: the token may have anything there.
func attribute(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// pin asks for the PIN of the token.
func (u *tokenURI) pin(o KeyOptions) ([]byte, error) {
	if u.pinSource != "" {
		return PassphraseFromFile(u.pinSource)(u.raw)
	}
	if o.Passphrase == nil {
		return nil, errors.New("no PIN: add pin-source=FILE to the URI, or give a passphrase")
	}
	return o.Passphrase(u.raw)
}
