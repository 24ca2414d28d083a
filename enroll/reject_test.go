package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

func allCodes() []Code {
	return []Code{CodeRequest, CodeMistyped, CodeDenied, CodeClaimExpired, CodeClaimUsed, CodeIDNotAllowed, CodeIDTaken, CodeOtherKey,
		CodeNotActive, CodeUnknown, CodeExpired, CodeSlowDown, CodeBusy, CodeUnavailable, CodeInternal, Code(pki.CodeCSR),
		Code(pki.CodeSignature), Code(pki.CodeKeyKind), Code(pki.CodeKeySmall), Code(pki.CodeKeyWeak), Code(pki.CodeKeyUsed),
		Code(pki.CodeIdentity), Code(pki.CodeLifetime), Code(pki.CodePolicy)}
}

// Every code is in the handbook, and no other.
func TestCodesOfTheHandbook(t *testing.T) {
	page, err := os.ReadFile("../docs/handbook/enrolment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := bytes.Cut(page, []byte("## Codes"))
	table, _, ok2 := bytes.Cut(table, []byte("## "))
	if !ok || !ok2 {
		t.Fatal("no table of codes")
	}
	told := make(map[Code]bool)
	for line := range strings.Lines(string(table)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			for i, word := range strings.Split(cells[1], "`") {
				if i%2 == 1 {
					told[Code(word)] = true
				}
			}
		}
	}
	for _, c := range allCodes() {
		if !told[c] {
			t.Errorf("%s is not told", c)
		}
		delete(told, c)
	}
	for c := range told {
		t.Errorf("there is no %s", c)
	}
	for _, c := range allCodes()[:15] {
		if reason, fix, _ := c.say(); reason == "" || reason == string(c) || fix == "" {
			t.Errorf("%s: %q, %q", c, reason, fix)
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	b := newBench(t, Config{})
	token, claim := b.token(Claim{})
	csr := func(k crypto.Signer) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
		b.must(err)
		return der
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	b.must(err)
	odd, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	b.must(err)
	forged := newKey(t).csr(t)
	forged[len(forged)-1] ^= 1
	for code, der := range map[pki.Code][]byte{pki.CodeKeySmall: csr(small), pki.CodeKeyKind: csr(odd), pki.CodeSignature: forged} {
		b.wants(b.ask(client{id: "x"}, "$pki/enroll/x/request", map[string]string{"csr": base64.StdEncoding.EncodeToString(der), "token": token}),
			"rejected", Code(code))
	}
	if c, _ := b.Claim(claim.ID); c.Used != 0 {
		t.Errorf("used %d times", c.Used)
	}
}

func TestRejectionOfErrors(t *testing.T) {
	secret := errors.New("the HSM says: pin 1234")
	for _, c := range []struct {
		err  error
		code Code
	}{
		{identity.ErrDisabled, CodeNotActive}, {registry.ErrRevoked, CodeNotActive}, {registry.ErrUnknown, CodeUnknown},
		{registry.ErrExists, CodeIDTaken}, {registry.ErrKey, Code(pki.CodeKeyUsed)}, {store.ErrDegraded, CodeUnavailable},
		{pki.ErrLocked, CodeUnavailable}, {pki.ErrNoKey, CodeUnavailable}, {pki.ErrClock, CodeUnavailable}, {secret, CodeInternal},
		{&pki.Refusal{Code: pki.CodeKeyWeak, Err: secret}, Code(pki.CodeKeyWeak)}, {&pki.Refusal{Code: pki.CodeKeyUsed, Err: secret}, Code(pki.CodeKeyUsed)},
		{&pki.Refusal{Code: pki.CodeLifetime, Err: secret}, Code(pki.CodeLifetime)}, {&pki.Refusal{Code: pki.CodePolicy, Err: secret}, Code(pki.CodePolicy)},
		{reject(CodeBusy, secret.Error()), CodeBusy},
	} {
		r := rejection(fmt.Errorf("wrapped: %w", c.err))
		if r.Code != c.code || strings.Contains(r.Reason+r.Fix, "1234") {
			t.Errorf("%v: %+v", c.err, r)
		}
		if r.Error() == "" || r.Hint() == "" {
			t.Errorf("%v: %q, %q", c.err, r.Error(), r.Hint())
		}
	}
}
