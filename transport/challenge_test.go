package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"testing"
)

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An authority is shown the certificate of the challenge, whatever the
// listener asks of others, and its connection goes no further.
func TestChallenge(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca := newTestCA(t)
		answer := ca.issue(t, "challenge.example", x509.ExtKeyUsageServerAuth)
		s := newSwap(ca)
		asked := 0
		s.answer = func(hello *tls.ClientHelloInfo) *tls.Config {
			asked++
			if hello.ServerName != "challenge.example" {
				return nil
			}
			return &tls.Config{
				Certificates: []tls.Certificate{answer}, ClientAuth: tls.RequireAnyClientCert,
				VerifyConnection: func(tls.ConnectionState) error { return errors.New("asked") },
			}
		}
		// The policy is not asked about an authority.
		s.refuse(errors.New("nobody is welcome"))
		for _, mode := range []ClientCertificates{Required, Optional, None, Any} {
			var log bytes.Buffer
			d := newDoor(t, Config{ClientCertificates: mode}, s)
			d.ln.(*listener).log = slog.New(slog.NewTextHandler(&log, nil))
			dial := func(name string, protocols ...string) (tls.ConnectionState, *HandshakeError) {
				t.Helper()
				c, err := tls.Dial("tcp", d.ln.Addr().String(), &tls.Config{
					RootCAs: ca.pool, ServerName: name, NextProtos: protocols, MaxVersion: version,
					ClientSessionCache: tls.NewLRUClientSessionCache(1),
				})
				var cs tls.ConnectionState
				if err == nil {
					cs = c.ConnectionState()
					if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Error("an authority was answered")
					}
					c.Close()
				}
				var he *HandshakeError
				if r := <-d.seen; !errors.As(r.err, &he) {
					t.Fatalf("%s, %q: %v", mode, protocols, r.err)
				}
				return cs, he
			}
			for range 2 {
				cs, he := dial("challenge.example", alpnACME)
				if !cs.HandshakeComplete || cs.NegotiatedProtocol != alpnACME || cs.DidResume || cs.Version != version ||
					!bytes.Equal(cs.PeerCertificates[0].Raw, answer.Certificate[0]) {
					t.Errorf("%s: %+v", mode, cs)
				}
				if he.Cause != CauseClosed || !errors.Is(he, errChallenged) || he.ServerName != "challenge.example" {
					t.Errorf("%s: %v", mode, he)
				}
			}
			if _, he := dial("localhost", alpnACME); he.Cause != CauseALPN {
				t.Errorf("%s, nothing was asked of us: %v", mode, he)
			}
			asked = 0
			if cs, _ := dial("localhost", ALPN, alpnACME); asked != 0 || cs.NegotiatedProtocol == alpnACME {
				t.Errorf("%s: a client that offers more is no authority", mode)
			}
			if log.Len() > 0 {
				t.Errorf("%s: %s", mode, &log)
			}
		}
	})
}
