package sealmq

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/transport"
)

// A certificate of our own CA that is renewed while the server runs is shown to
// the next client; the CAs that clients come from stay.
func TestRenewalReplacesTheCertificate(t *testing.T) {
	cfg := Config{
		Data:      filepath.Join(t.TempDir(), "data"),
		Listeners: []Listener{{Config: transport.Config{Name: "t", Address: "127.0.0.1:0"}}},
	}
	s, err := New(cfg, WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	certs := s.listeners[0].certs
	shown := func() string {
		c, err := certs.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first, clients := shown(), certs.ClientCAs()
	if err := s.keeper.Reload(); err != nil {
		t.Fatal(err)
	}
	if shown() != first {
		t.Error("a young certificate was replaced")
	}
	if err := s.Folder().AddHosts([]string{"broker.lan"}); err != nil {
		t.Fatal(err)
	}
	if err := s.keeper.Reload(); err != nil {
		t.Fatal(err)
	}
	if shown() == first {
		t.Error("the certificate was not replaced")
	}
	if certs.ClientCAs() != clients {
		t.Error("the pool of CAs changed, and with it every ticket")
	}
}
