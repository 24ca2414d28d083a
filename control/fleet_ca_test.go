//go:build unix

package control

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sealmq/sealmq/pki"
)

func TestRolloverSteps(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		cert, err := b.AddDevice(ctx, AddRequest{ID: "pump-17", CSR: newCSR(t)})
		b.do(err)
		state := func(want pki.State, roots int) *CAStatus {
			t.Helper()
			st, err := b.CA(ctx)
			b.do(err)
			if st.State != want || len(st.Roots) != roots || len(st.CAs) != 3 || st.CAs[0].Name != "root" || st.Devices != 1 {
				t.Errorf("status %+v, want %s", st, want)
			}
			return st
		}
		st := state(pki.Steady, 1)
		if st.Folder != filepath.Join(b.f.Data, "ca") || st.Roots[0].Fingerprint == "" || st.CAs[2].NotAfter.IsZero() {
			t.Errorf("status %+v", st)
		}
		if err := b.SwitchCA(ctx, false); err == nil {
			t.Error("switched without a next root")
		}
		b.do(b.AnnounceCA(ctx, AnnounceRequest{}))
		state(pki.Announced, 2)
		b.do(b.SwitchCA(ctx, false))
		state(pki.Switched, 2)
		b.do(b.SwitchBackCA(ctx))
		b.do(b.SwitchCA(ctx, false))
		if err := b.RetireCA(ctx, false); !errors.Is(err, pki.ErrNotSeen) || hint(err) == "" {
			t.Errorf("retire: %v", err)
		}
		b.do(b.RetireCA(ctx, true))
		if last := state(pki.Steady, 1); last.Roots[0].Fingerprint == st.Roots[0].Fingerprint {
			t.Error("the root is the old one")
		}
		if !strings.Contains(b.log.String(), "request=ca/retire") || !strings.Contains(b.log.String(), "of=forced") {
			t.Errorf("the log has no line of it:\n%s", b.log)
		}
		if next, err := b.RenewDevice(ctx, SignRequest{ID: "pump-17", CSR: newCSR(t)}); err != nil || next.CA == cert.CA {
			t.Errorf("renewed by the old root: %v", err)
		}
		b.do(b.AnnounceCA(ctx, AnnounceRequest{}))
		b.do(b.WithdrawCA(ctx))
		state(pki.Steady, 1)
	})
}

func TestIssuingCAs(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if names, err := b.RenewCA(ctx, false); err != nil || len(names) != 0 {
			t.Errorf("renewed %v: %v", names, err)
		}
		names, err := b.RenewCA(ctx, true)
		b.do(err)
		if len(names) != 2 {
			t.Errorf("renewed %v", names)
		}
		csr, err := b.IssuingCSR(ctx, "device")
		b.do(err)
		if _, err := b.IssuingCSR(ctx, "root"); err == nil {
			t.Error("a CSR of the root")
		}
		root, err := pki.LoadRoot(filepath.Join(b.f.Data, "ca", "root.pem"), filepath.Join(b.f.Data, "ca", "root.key"), pki.KeyOptions{})
		b.do(err)
		req, err := pki.ParseCSR([]byte(csr))
		b.do(err)
		cert, err := pki.SignIssuing(root, "device", req, pki.Config{})
		b.do(err)
		b.do(b.AcceptCA(ctx, string(certificatePEM(cert.Raw))))
		if !b.f.Identity.CA().DeviceCAs()[0].Equal(cert) {
			t.Error("the CA is not the one that was accepted")
		}
		if err := b.AcceptCA(ctx, string(certificatePEM(root.Cert.Raw))); err == nil {
			t.Error("accepted no certificate of ours")
		}
		var e *Error
		if err := b.AcceptCA(ctx, "nonsense"); !errors.As(err, &e) || e.Code != CodeRequest {
			t.Errorf("accept nonsense: %v", err)
		}

		b.do(os.Remove(filepath.Join(b.f.Data, "ca", "root.key")))
		if _, err := b.RenewCA(ctx, true); !errors.Is(err, pki.ErrNoRootKey) {
			t.Errorf("renew without the root's key: %v", err)
		}
		for _, q := range []AnnounceRequest{{RootKey: "/k"}, {RootFile: "r.pem", RootKey: "/k"}, {RootFile: "/r.pem", RootKey: "k"}, {RootFile: "/r.pem"}, {Keep: true}} {
			if err := b.AnnounceCA(ctx, q); !errors.As(err, &e) || e.Code != CodeRequest {
				t.Errorf("announce %+v: %v", q, err)
			}
		}
		if err := b.AnnounceCA(ctx, AnnounceRequest{RootFile: "/no/such/file", RootKey: "/no/such/file"}); !errors.As(err, &e) || e.Status != http.StatusUnprocessableEntity {
			t.Errorf("announce: %v", err)
		}
	})
}

func TestCRL(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		cert, err := b.AddDevice(ctx, AddRequest{ID: "pump-17", CSR: newCSR(t)})
		b.do(err)
		_, err = b.Revoke(ctx, RevokeRequest{Serial: cert.Serial}, nil)
		b.do(err)
		der, err := b.CRL(ctx)
		b.do(err)
		list, err := x509.ParseRevocationList(der)
		b.do(err)
		if len(list.RevokedCertificateEntries) != 1 || list.CheckSignatureFrom(b.f.Identity.CA().DeviceCAs()[0]) != nil {
			t.Errorf("list %+v", list.RevokedCertificateEntries)
		}
	})
}

func TestHooks(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		var e *Error
		if _, err := b.Audit(ctx); !errors.As(err, &e) || e.Status != http.StatusNotFound || e.Hint() == "" {
			t.Errorf("audit: %v", err)
		}
		if _, err := b.ServerCertificates(ctx); !errors.As(err, &e) || e.Status != http.StatusNotFound {
			t.Errorf("certificates: %v", err)
		}
		b.f.Audit = func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{"findings":[]}`), nil }
		want := []ServerCertificate{{Names: []string{"broker.lan"}, Source: "acme", Trouble: "rate limited"}}
		b.f.Certificates = func() []ServerCertificate { return want }
		b.f.RenewCertificates = func(_ context.Context, names []string) (int, error) {
			if len(names) == 0 {
				return 3, nil
			}
			return 0, errors.New("rate limited")
		}
		if r, err := b.Audit(ctx); err != nil || strings.TrimSpace(string(r)) != `{"findings":[]}` {
			t.Errorf("audit: %s %v", r, err)
		}
		if got, err := b.ServerCertificates(ctx); err != nil || !cmp.Equal(got, want) {
			t.Errorf("certificates: %+v %v", got, err)
		}
		if n, err := b.RenewServerCertificates(ctx); err != nil || n != 3 {
			t.Errorf("renew: %d %v", n, err)
		}
		if _, err := b.RenewServerCertificates(ctx, "broker.lan"); !errors.As(err, &e) || e.Text != "rate limited" {
			t.Errorf("renew: %v", err)
		}
	})
}
