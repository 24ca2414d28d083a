package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// swap is a CA that changes its mind.
type swap struct {
	*testCA
	pool    atomic.Pointer[x509.CertPool]
	verdict atomic.Pointer[error]
	answer  func(*tls.ClientHelloInfo) *tls.Config
}

func newSwap(ca *testCA) *swap {
	s := &swap{testCA: ca}
	s.pool.Store(ca.pool)
	return s
}

func (s *swap) ClientCAs() *x509.CertPool { return s.pool.Load() }

func (s *swap) ChallengeConfig(hello *tls.ClientHelloInfo) *tls.Config {
	if s.answer == nil {
		return nil
	}
	return s.answer(hello)
}

func (s *swap) VerifyConnection(tls.ConnectionState) error {
	if err := s.verdict.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *swap) refuse(err error) { s.verdict.Store(&err) }

// verdict is an error as the owner of a policy makes it.
type verdict struct{ cause, hint string }

func (v verdict) Error() string                 { return "serial 17 is not welcome" }
func (v verdict) Refused() (cause, hint string) { return v.cause, v.hint }

// result is one connection as the broker saw it.
type result struct {
	peer Peer
	err  error
}

// door is a listener that answers "ok" to whoever comes through the handshake.
type door struct {
	ln   Listener
	seen chan result
}

func newDoor(t *testing.T, cfg Config, certs Certificates) *door {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	ln, err := Listen(cfg, certs, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{ln: ln, seen: make(chan result, 10)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			err = c.Handshake(context.Background())
			d.seen <- result{c.Peer(), err}
			if err == nil {
				c.Write([]byte("ok"))
			}
			c.Close(true)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		ln.Wait(context.Background())
	})
	return d
}

// try connects once and waits for what the broker made of it.
func (d *door) try(t *testing.T, cfg *tls.Config) (resumed bool, r result) {
	t.Helper()
	c, err := tls.Dial("tcp", d.ln.Addr().String(), cfg)
	if err == nil {
		// The ticket of TLS 1.3 comes after the handshake.
		io.ReadAll(c)
		resumed = c.ConnectionState().DidResume
		c.Close()
	}
	select {
	case r = <-d.seen:
	case <-time.After(20 * time.Second):
		t.Fatal("the broker saw nothing")
	}
	return resumed, r
}

func eachVersion(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

// clientFor shows cert whatever the broker asks for, and resumes.
func (ca *testCA) clientFor(version uint16, cert *tls.Certificate) *tls.Config {
	cfg := ca.clientConfig()
	cfg.MaxVersion = version
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	cfg.Certificates = nil
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert == nil {
			return new(tls.Certificate), nil
		}
		return cert, nil
	}
	return cfg
}

// A changed CA pool, and a revocation, hold for the next handshake, also a
// resumed one. No pool at all trusts nobody.
func TestReload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca, other := newTestCA(t), newTestCA(t)
		s := newSwap(ca)
		d := newDoor(t, Config{}, s)
		mine, foreign := ca.clientFor(version, &ca.client), ca.clientFor(version, &other.client)
		if resumed, r := d.try(t, mine); r.err != nil || resumed {
			t.Fatal(resumed, r.err)
		}
		if resumed, r := d.try(t, mine); r.err != nil || !resumed {
			t.Errorf("resumed %v, %v", resumed, r.err)
		}
		if _, r := d.try(t, foreign); r.err == nil {
			t.Error("another CA was accepted")
		}
		s.refuse(errors.New("revoked"))
		if _, r := d.try(t, mine); r.err == nil || !strings.Contains(r.err.Error(), "revoked") {
			t.Errorf("revoked: %v", r.err)
		}
		s.verdict.Store(nil)
		if _, r := d.try(t, mine); r.err != nil {
			t.Fatal(r.err)
		}
		both := x509.NewCertPool()
		both.AddCert(ca.cert)
		both.AddCert(other.cert)
		s.pool.Store(both)
		if resumed, r := d.try(t, mine); r.err != nil || !resumed {
			t.Errorf("with one more CA: resumed %v, %v", resumed, r.err)
		}
		s.pool.Store(other.pool)
		if resumed, r := d.try(t, mine); r.err == nil || resumed {
			t.Error("the old CA was accepted")
		}
		if _, r := d.try(t, foreign); r.err != nil {
			t.Error(r.err)
		}
		s.pool.Store(nil)
		if _, r := d.try(t, foreign); r.err == nil {
			t.Error("without CAs a client was accepted")
		}
	})
}

// What the policy names as cause is what the operator reads, also when a
// session is resumed.
func TestVerdictIsNamed(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca := newTestCA(t)
		s := newSwap(ca)
		d := newDoor(t, Config{}, s)
		client := ca.clientFor(version, &ca.client)
		for _, resumes := range []bool{false, true} {
			s.refuse(verdict{"client_certificate_revoked", "issue a new one"})
			_, r := d.try(t, client)
			var he *HandshakeError
			if !errors.As(r.err, &he) {
				t.Fatalf("got %v", r.err)
			}
			if cause, hint := he.Refused(); cause != "client_certificate_revoked" || hint != "issue a new one" || he.Cause != Cause(cause) {
				t.Errorf("resumes %v: cause %q, hint %q", resumes, cause, hint)
			}
			if !strings.Contains(he.Error(), "client_certificate_revoked") || !errors.As(r.err, new(verdict)) || len(he.Versions) == 0 {
				t.Errorf("resumes %v: %v", resumes, he)
			}
			s.verdict.Store(nil)
			if _, r := d.try(t, client); r.err != nil {
				t.Fatal(r.err)
			}
			if resumed, r := d.try(t, client); r.err != nil || !resumed {
				t.Fatalf("resumed %v, %v", resumed, r.err)
			}
		}
		// A cause without a hint has that of the table.
		s.refuse(verdict{cause: string(CauseClientExpired)})
		_, r := d.try(t, client)
		var he *HandshakeError
		if !errors.As(r.err, &he) {
			t.Fatalf("got %v", r.err)
		}
		if _, hint := he.Refused(); hint == "" || hint != hintOf(CauseClientExpired) {
			t.Errorf("hint %q", hint)
		}
	})
}

// A saved session of OpenSSL is refused like any other once its certificate is
// revoked, and once sessions are forgotten.
func TestOpenSSLSession(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	eachVersion(t, func(t *testing.T, version uint16) {
		ca := newTestCA(t)
		s := newSwap(ca)
		d := newDoor(t, Config{}, s)
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		writePEM(t, cert, "CERTIFICATE", ca.client.Certificate[0])
		der, err := x509.MarshalECPrivateKey(ca.client.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, key, "EC PRIVATE KEY", der)
		saved := filepath.Join(dir, "session")
		run := func(arg ...string) (out string, r result) {
			flag := map[uint16]string{tls.VersionTLS12: "-tls1_2", tls.VersionTLS13: "-tls1_3"}[version]
			arg = append([]string{"s_client", "-connect", d.ln.Addr().String(), flag, "-servername", "localhost", "-cert", cert, "-key", key, "-ign_eof"}, arg...)
			// A refusal ends openssl with an error; what the broker saw counts.
			b, _ := exec.Command(openssl, arg...).CombinedOutput()
			return string(b), <-d.seen
		}
		if out, r := run("-sess_out", saved); r.err != nil {
			t.Fatal(r.err, out)
		}
		if _, err := os.Stat(saved); err != nil {
			t.Fatal(err)
		}
		if out, r := run("-sess_in", saved); r.err != nil || !strings.Contains(out, "Reused, TLS") {
			t.Errorf("not resumed: %v\n%s", r.err, out)
		}
		s.refuse(verdict{cause: "client_certificate_revoked"})
		out, r := run("-sess_in", saved)
		var he *HandshakeError
		if !errors.As(r.err, &he) || he.Cause != "client_certificate_revoked" {
			t.Errorf("revoked: %v\n%s", r.err, out)
		}
		s.verdict.Store(nil)
		d.ln.ForgetSessions()
		if out, r := run("-sess_in", saved); r.err != nil || strings.Contains(out, "Reused, TLS") {
			t.Errorf("forgotten, yet resumed: %v\n%s", r.err, out)
		}
	})
}

// Mode Any takes what Required refuses, names it unverified, and leaves the
// decision to the policy. Only the owner of the key gets that far.
func TestAny(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca, other := newTestCA(t), newTestCA(t)
		s := newSwap(ca)
		d := newDoor(t, Config{ClientCertificates: Any}, s)
		expired := ca.issueFor(t, -2*time.Hour, -time.Hour)
		stolen := tls.Certificate{Certificate: ca.client.Certificate, PrivateKey: other.client.PrivateKey}
		for _, tt := range []struct {
			name    string
			cert    *tls.Certificate
			resumes bool
			want    Cause // empty: accepted
		}{
			{name: "ours", cert: &ca.client, resumes: true},
			{name: "none", resumes: true},
			{name: "of another CA", cert: &other.client, resumes: true},
			{name: "for servers", cert: &other.server, resumes: true},
			{name: "expired", cert: &expired},
			{name: "without its key", cert: &stolen, want: CauseClientKey},
		} {
			t.Run(tt.name, func(t *testing.T) {
				client := ca.clientFor(version, tt.cert)
				for _, again := range []bool{false, true} {
					resumed, r := d.try(t, client)
					if tt.want != "" {
						var he *HandshakeError
						if !errors.As(r.err, &he) || he.Cause != tt.want {
							t.Errorf("%v, want %s", r.err, tt.want)
						}
						continue
					}
					if r.err != nil || resumed != (again && tt.resumes) {
						t.Fatalf("resumed %v, %v", resumed, r.err)
					}
					var der []byte
					if r.peer.Cert != nil {
						der = r.peer.Cert.Raw
					}
					var want []byte
					if tt.cert != nil {
						want = tt.cert.Certificate[0]
					}
					if !r.peer.Unverified || string(der) != string(want) {
						t.Errorf("%+v", r.peer)
					}
				}
				if tt.want != "" {
					return
				}
				s.refuse(verdict{cause: "device_pending"})
				defer s.verdict.Store(nil)
				_, r := d.try(t, client)
				var he *HandshakeError
				if !errors.As(r.err, &he) || he.Cause != "device_pending" {
					t.Errorf("not asked: %v", r.err)
				}
			})
		}
	})
}

func TestAnyNeedsAVerdict(t *testing.T) {
	ca := newTestCA(t)
	if _, err := Listen(Config{Address: "127.0.0.1:0", ClientCertificates: Any}, ca, nil); err == nil {
		t.Error("any certificate, and nothing to judge it")
	}
	for _, m := range []ClientCertificates{Required, Optional, None} {
		p, err := handshake(t, ca, Config{ClientCertificates: m}, func(nc net.Conn) {
			c := tls.Client(nc, ca.clientConfig())
			c.Handshake()
			c.Read(make([]byte, 1))
		})
		if err != nil || p.Unverified || (p.Cert == nil) != (m == None) {
			t.Errorf("%s: %+v, %v", m, p, err)
		}
	}
	var m ClientCertificates
	if err := m.UnmarshalText([]byte("any")); err == nil || m != Required {
		t.Errorf("the configuration can say any: %v", m)
	}
	if s := Any.String(); s != "any" {
		t.Error(s)
	}
	if err := (Config{ClientCertificates: Any}).Validate(); err != nil {
		t.Error(err)
	}
}
