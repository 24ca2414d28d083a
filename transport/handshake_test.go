package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// handshake lets client loose on a listener and returns what the broker saw.
// Its time-outs may be shorter than a configuration may have them.
func handshake(t *testing.T, ca Certificates, cfg Config, client func(nc net.Conn)) (Peer, error) {
	t.Helper()
	cfg.Name, cfg.Address = "test", "127.0.0.1:0"
	short := cfg
	cfg.HandshakeTimeout, cfg.ConnectTimeout = 0, 0
	ln, err := Listen(cfg, ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	own := &ln.(*listener).g.cfg
	own.HandshakeTimeout = cmp.Or(short.HandshakeTimeout, own.HandshakeTimeout)
	own.ConnectTimeout = cmp.Or(short.ConnectTimeout, own.ConnectTimeout)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer nc.Close()
		client(nc)
	}()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	err = c.Handshake(t.Context())
	p := c.Peer()
	c.Close(true)
	<-done
	ln.Close()
	ln.Wait(context.Background())
	return p, err
}

func TestHandshakeCauses(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ca, other := newTestCA(t), newTestCA(t)
	dial := func(change func(*tls.Config)) func(net.Conn) {
		return func(nc net.Conn) {
			cfg := ca.clientConfig()
			change(cfg)
			c := tls.Client(nc, cfg)
			c.Handshake()
			c.Read(make([]byte, 1))
		}
	}
	send := func(s string) func(net.Conn) {
		return func(nc net.Conn) { nc.Write([]byte(s)); io.Copy(io.Discard, nc) }
	}
	// alert answers the broker's flight as OpenSSL does, which crypto/tls takes
	// for a broken record.
	alert := func(code byte) func(net.Conn) {
		return func(nc net.Conn) {
			nc.Write(clientHello(t, &tls.Config{ServerName: "localhost"}))
			io.ReadFull(nc, make([]byte, 200))
			nc.Write([]byte{21, 3, 3, 0, 2, 2, code})
			io.Copy(io.Discard, nc)
		}
	}
	for _, tt := range []struct {
		name   string
		cfg    Config
		client func(net.Conn)
		want   Cause
		in     string // part of the error text
	}{
		{name: "wrong CA", client: dial(func(c *tls.Config) { c.RootCAs = other.pool }), want: CauseRejectsCert, in: `server name "localhost"`},
		{name: "wrong name", client: dial(func(c *tls.Config) { c.ServerName = "elsewhere" }), want: CauseName, in: "elsewhere"},
		{name: "no certificate", client: dial(func(c *tls.Config) { c.Certificates = nil }), want: CauseNoClientCert},
		{name: "certificate of another CA", want: CauseClientUnknownCA, client: dial(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other.client, nil }
		})},
		{name: "server certificate as client", want: CauseClientPurpose, client: dial(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{ca.server}
		})},
		{name: "expired certificate", want: CauseClientExpired, client: dial(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{ca.issueFor(t, -2*time.Hour, -time.Hour)}
		})},
		{name: "certificate of tomorrow", want: CauseClientExpired, client: dial(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{ca.issueFor(t, time.Hour, 2*time.Hour)}
		})},
		{name: "alert in the clear", want: CauseRejectsCA, in: "client sent alert 48: unknown certificate authority", client: alert(48)},
		{name: "refused by the application", want: CauseRejectsCert, in: "client sent alert 80: internal error", client: alert(80)},
		{name: "alert without a name", want: CauseOther, in: "client sent alert 200: alert(200)", client: alert(200)},
		{name: "old version", want: CauseVersion, in: "TLS 1.1", client: dial(func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		})},
		{name: "CBC only", want: CauseCipher, client: dial(func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		})},
		{name: "P-521 only", want: CauseCipher, client: dial(func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.CurveP521}
		})},
		{name: "ALPN", want: CauseALPN, client: dial(func(c *tls.Config) { c.NextProtos = []string{"h2"} })},
		{name: "plain MQTT", client: send("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"), want: CausePlainMQTT},
		{name: "HTTP", client: send("GET / HTTP/1.1\r\n\r\n"), want: CauseHTTP},
		{name: "noise", client: send("\xff\xff\xff\xff\xff\xff\xff\xff"), want: CauseNotTLS},
		{name: "nothing", client: func(net.Conn) {}, want: CauseNothingSent},
		{name: "silent", cfg: Config{HandshakeTimeout: 100 * time.Millisecond}, want: CauseTimeout, client: func(nc net.Conn) { io.Copy(io.Discard, nc) }},
		{name: "half a hello", cfg: Config{HandshakeTimeout: 100 * time.Millisecond}, want: CauseTimeout, client: send("\x16\x03\x01\x02\x00\x01")},
		{name: "endless hello", want: CauseTooLong, client: func(nc net.Conn) {
			rec := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xf0}, make([]byte, 16380)...)
			for range 10 {
				nc.Write(rec)
				rec[5] = 0
			}
			io.Copy(io.Discard, nc)
		}},
		{name: "leaves after our flight", want: CauseSilentRejection, client: func(nc net.Conn) {
			hello := clientHello(t, &tls.Config{ServerName: "localhost"})
			nc.Write(hello)
			io.ReadFull(nc, make([]byte, 200))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == CauseVersion && fips140.Enabled() {
				t.Skip("in FIPS mode there is no client with old versions")
			}
			_, err := handshake(t, ca, tt.cfg, tt.client)
			var he *HandshakeError
			if !errors.As(err, &he) {
				t.Fatalf("got %v", err)
			}
			if he.Cause != tt.want {
				t.Errorf("cause %s, want %s: %v", he.Cause, tt.want, err)
			}
			if !strings.Contains(err.Error(), tt.in) {
				t.Errorf("%q does not say %q", err, tt.in)
			}
			if he.Alert >= 0 && strings.Contains(err.Error(), "bad record MAC") {
				t.Errorf("misleading: %v", err)
			}
		})
	}
}

// issueFor makes a client certificate valid between two times from now.
func (ca *testCA) issueFor(t testing.TB, from, to time.Duration) tls.Certificate {
	t.Helper()
	key, cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "pump-17"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, ca.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func TestTLSOnPlain(t *testing.T) {
	ln, err := Listen(Config{Name: "p", Address: "127.0.0.1:0", Plain: true}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go tls.Dial("tcp", ln.Addr().String(), &tls.Config{ServerName: "x"})
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(false)
	if err := c.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 100))
	var he *HandshakeError
	if !errors.As(err, &he) || he.Cause != CauseTLSOnPlain {
		t.Errorf("got %v", err)
	}
	// What the broker logs.
	var refused interface{ Refused() (cause, hint string) }
	if !errors.As(err, &refused) {
		t.Fatal("the broker cannot tell what was refused")
	}
	if cause, hint := refused.Refused(); cause != "tls_on_plaintext" || hint == "" {
		t.Errorf("cause %q, hint %q", cause, hint)
	}
}

func TestPeer(t *testing.T) {
	ca := newTestCA(t)
	p, err := handshake(t, ca, Config{}, func(nc net.Conn) {
		c := tls.Client(nc, ca.clientConfig())
		c.Handshake()
		c.Read(make([]byte, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Listener != "test" || p.Transport != "tls" || !p.Secure || p.SNI != "localhost" || p.ALPN != "mqtt" ||
		p.TLSVersion != tls.VersionTLS13 || p.Group != tls.X25519MLKEM768 || p.Cert == nil || p.Cert.Subject.CommonName != "pump-17" {
		t.Errorf("%+v", p)
	}
	if _, _, err := net.SplitHostPort(p.Addr); err != nil {
		t.Error(err)
	}
}

// A small device that announces its buffer gets records that fit it.
func TestRecordsFit(t *testing.T) {
	for _, driver := range testDrivers() {
		testRecordsFit(t, driver, Config{MaxRecord: 512}, 512)
		testRecordsFit(t, driver, Config{Profile: ProfileConstrained}, constrainedRecord)
		testRecordsFit(t, driver, Config{Profile: ProfileConstrained, MaxRecord: 300}, 300)
	}
}

func testRecordsFit(t *testing.T, driver string, cfg Config, most int) {
	t.Helper()
	k := kind{driver: driver, tls: tls.VersionTLS12}
	s := startServer(t, k, cfg, func(r *recorder) { r.conn.Write(pattern(20_000)) })
	nc := s.dialTCP()
	seen := &recordWatch{Conn: nc}
	c := s.wrap(seen)
	got := make([]byte, 20_000)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern(20_000)) {
		t.Fatal(err)
	}
	if seen.largest <= most/2 || seen.largest > most+64 {
		t.Errorf("%s: record of %d bytes, at most %d", driver, seen.largest, most)
	}
	c.Close()
	s.stop()
}

// recordWatch counts the application records that are read and notes the
// largest.
type recordWatch struct {
	net.Conn
	buf     []byte
	largest int
	count   int
}

func (w *recordWatch) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.buf = append(w.buf, p[:n]...)
	for len(w.buf) >= recordHeader {
		size := int(w.buf[3])<<8 | int(w.buf[4])
		if len(w.buf) < recordHeader+size {
			break
		}
		if w.buf[0] == 23 {
			w.largest = max(w.largest, size)
			w.count++
		}
		w.buf = w.buf[recordHeader+size:]
	}
	return n, err
}

// crypto/tls answers a key update from inside Read; OpenSSL can ask for one.
func TestKeyUpdate(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for _, driver := range testDrivers() {
		k := kind{driver: driver, tls: tls.VersionTLS13}
		s := startServer(t, k, Config{ClientCertificates: None}, echo)
		cmd := exec.Command(openssl, "s_client", "-connect", s.ln.Addr().String(), "-tls1_3")
		in, _ := cmd.StdinPipe()
		var out syncBuffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for i, line := range []string{"one\n", "K\n", "two\n", "K\n", "three\n"} {
			io.WriteString(in, line)
			if i == 1 || i == 3 {
				n := (i + 1) / 2
				eventually(t, "key update sent", func() bool { return strings.Count(out.String(), "KEYUPDATE") >= n })
			} else {
				eventually(t, "echo of "+line, func() bool { return strings.Contains(out.String(), "\n"+line) || strings.Contains(out.String(), line) })
			}
		}
		in.Close()
		cmd.Wait()
		s.stop()
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestConfig(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Address: "nonsense", Profile: 9, MaxRecord: 5, HandshakeTimeout: time.Hour, ClientCertificates: 9, Poller: 9, MaxBacklog: 1}.Validate()
	for _, key := range []string{"address", "profile", "max_record", "handshake_timeout", "client_certificates", "poller", "max_backlog"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
	for _, m := range []ClientCertificates{Required, Optional, None} {
		b, _ := m.MarshalText()
		var got ClientCertificates
		if err := got.UnmarshalText(b); err != nil || got != m {
			t.Error(got, err)
		}
	}
	for _, p := range []Profile{ProfileDefault, ProfileModern, ProfileHigh, ProfileFIPS, ProfileConstrained} {
		b, _ := p.MarshalText()
		var got Profile
		if err := got.UnmarshalText(b); err != nil || got != p {
			t.Error(got, err)
		}
	}
	if _, err := Listen(Config{Address: "127.0.0.1:0", Profile: ProfileFIPS}, newTestCA(t), nil); (err == nil) != fips140.Enabled() {
		t.Errorf("profile fips: %v", err)
	}
	var p Poller
	if err := p.UnmarshalText([]byte("kqueue")); err == nil {
		t.Error("kqueue")
	}
	if _, err := Listen(Config{Address: "127.0.0.1:0"}, nil, nil); err == nil {
		t.Error("TLS without certificates")
	}
}

func TestMaxConnections(t *testing.T) {
	for _, driver := range testDrivers() {
		k := kind{driver: driver, tls: 0}
		s := startServer(t, k, Config{MaxConnections: 3}, echo)
		var conns []net.Conn
		for range 3 {
			c := s.dial()
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		over := s.dial()
		over.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := over.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("a fourth connection: %v", err)
		}
		over.Close()
		conns[0].Close()
		eventually(t, "room again", func() bool {
			c := s.dial()
			defer c.Close()
			c.Write([]byte("x"))
			_, err := io.ReadFull(c, make([]byte, 1))
			return err == nil
		})
		for _, c := range conns {
			c.Close()
		}
		s.stop()
	}
}
