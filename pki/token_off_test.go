//go:build !pkcs11 || !cgo

package pki

import "testing"

func TestTokenNeedsItsTag(t *testing.T) {
	_, err := OpenKey("pkcs11:token=a;object=b?module-path=/m.so", KeyOptions{})
	wantError(t, err, "has no PKCS#11")
}

func TestToken(t *testing.T) {
	t.Skip("keys on a token are tested with: go test -tags pkcs11 ./pki")
}
