//go:build !pkcs11 || !cgo

package pki

import (
	"crypto"
	"fmt"
)

func openToken(u *tokenURI, _ KeyOptions) (crypto.Signer, error) {
	return nil, &hinted{
		err:  fmt.Errorf("open %s: this program has no PKCS#11", u.raw),
		hint: "build it with cgo and -tags pkcs11",
	}
}
