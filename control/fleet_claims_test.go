//go:build unix

package control

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/pki"
)

func TestClaims(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		made, err := b.CreateClaim(ctx, ClaimRequest{Note: "lab", TTL: 600, Uses: 3, IDs: []string{"a", "b"}, Pattern: "pump-*",
			Groups: []string{"lab"}, Attributes: map[string]string{"site": "north"}, Approve: true, RatePerHour: 9})
		b.do(err)
		if made.Token == "" || made.Kind != "token" || made.Certificate != nil || made.Uses != 3 || time.Until(made.Expires) > 10*time.Minute {
			t.Errorf("claim %+v", made)
		}
		shared, err := b.CreateClaim(ctx, ClaimRequest{ID: "line-4", CSR: newCSR(t)})
		b.do(err)
		if shared.Token != "" || shared.Kind != "certificate" || shared.Certificate == nil || shared.ID != "line-4" {
			t.Errorf("claim %+v", shared)
		}
		all, err := b.Claims(ctx)
		b.do(err)
		if len(all) != 2 || all[0].ID != made.ID || all[0].Note != "lab" || !all[0].Approve || all[0].Pattern != "pump-*" || len(all[0].IDs) != 2 {
			t.Errorf("claims %+v", all)
		}
		if _, err := b.CreateClaim(ctx, ClaimRequest{ID: "line-4"}); !errors.Is(err, enroll.ErrClaim) {
			t.Errorf("create twice: %v", err)
		}
		b.do(b.RevokeClaim(ctx, made.ID))
		if all, err = b.Claims(ctx); err != nil || all[0].Revoked.IsZero() {
			t.Errorf("revoked %+v %v", all, err)
		}
		if err := b.RevokeClaim(ctx, "nothing"); !errors.Is(err, enroll.ErrNoClaim) {
			t.Errorf("revoke nothing: %v", err)
		}
		var e *Error
		if _, err := b.CreateClaim(ctx, ClaimRequest{TTL: -1}); !errors.As(err, &e) || e.Code != CodeRequest {
			t.Errorf("negative life: %v", err)
		}
		if strings.Contains(b.log.String(), made.Token) {
			t.Error("the token is in the log")
		}
	})
}

// factoryCA is a CA of a device maker, PEM, and what its key signs.
func factoryCA(t *testing.T) (ca string, sign func(cn string) string) {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der := certify(t, tmpl, tmpl, key, key)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return string(certificatePEM(der)), func(cn string) string {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certify(t, leaf, cert, newKey(t), key)}))
	}
}

func certify(t *testing.T, tmpl, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestFactories(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		ca, sign := factoryCA(t)
		code, expires, err := b.FactoryChallenge(ctx)
		b.do(err)
		if code == "" || time.Until(expires) > time.Hour {
			t.Errorf("challenge %q until %v", code, expires)
		}
		want := Factory{Name: "acme", CA: ca, IDFrom: "serial", Prefix: "acme-", Groups: []string{"field"}, State: "active", MaxPerHour: 5, OnlyEnroll: true}
		if _, err := b.AddFactory(ctx, FactoryRequest{want, sign("another code")}); !errors.Is(err, enroll.ErrProof) {
			t.Errorf("wrong proof: %v", err)
		}
		made, err := b.AddFactory(ctx, FactoryRequest{want, sign(code)})
		b.do(err)
		certs, err := pki.ParseCertificates([]byte(ca))
		b.do(err)
		if made.Fingerprint != pki.Fingerprint(certs[0]) || made.CA != ca || made.Subject != "CN=maker" || made.Registered.IsZero() {
			t.Errorf("factory %+v", made)
		}
		all, err := b.Factories(ctx)
		b.do(err)
		if len(all) != 1 || all[0].Name != "acme" || all[0].IDFrom != "serial" || all[0].MaxPerHour != 5 || !all[0].OnlyEnroll || all[0].State != "active" {
			t.Errorf("factories %+v", all)
		}
		if _, err := b.AddFactory(ctx, FactoryRequest{want, sign(code)}); !errors.Is(err, enroll.ErrFactory) && !errors.Is(err, enroll.ErrProof) {
			t.Errorf("add twice: %v", err)
		}
		var e *Error
		for _, ca := range []string{"", "nonsense", ca + ca} {
			if _, err := b.AddFactory(ctx, FactoryRequest{Factory{Name: "b", CA: ca}, sign(code)}); !errors.As(err, &e) || e.Code != CodeRequest {
				t.Errorf("add %.20q: %v", ca, err)
			}
		}
		b.do(b.RemoveFactory(ctx, "acme"))
		if err := b.RemoveFactory(ctx, "acme"); !errors.Is(err, enroll.ErrNoFactory) {
			t.Errorf("remove twice: %v", err)
		}
	})
}
