package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// selfSigned is a certificate for localhost that is its own CA.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// wire records what the client sends.
type wire struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.sent.Write(p)
	w.mu.Unlock()
	return w.Conn.Write(p)
}

// The certificate is not accepted: what has left the machine is ClientHellos,
// no alert, no certificate, no CONNECT.
func TestNothingButClientHello(t *testing.T) {
	certificate, _ := selfSigned(t)
	_, others := selfSigned(t)
	for name, server := range map[string]*tls.Config{
		"TLS 1.3":       {},
		"TLS 1.2":       {MaxVersion: tls.VersionTLS12},
		"hello retried": {CurvePreferences: []tls.CurveID{tls.CurveP384}},
	} {
		t.Run(name, func(t *testing.T) {
			server.Certificates = []tls.Certificate{certificate}
			server.ClientAuth = tls.RequestClientCert
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			w := &wire{}
			served := make(chan struct{})
			go func() {
				defer close(served)
				b, err := l.Accept()
				if err != nil {
					return
				}
				tls.Server(b, server).Handshake()
				io.Copy(io.Discard, b)
				b.Close()
			}()
			d := &Dialer{Address: "localhost:8883", TLS: &tls.Config{RootCAs: others, Certificates: []tls.Certificate{certificate}},
				Through: func(context.Context, string, string) (_ net.Conn, err error) {
					w.Conn, err = net.Dial("tcp", l.Addr().String())
					return w, err
				}}
			_, err = d.Dial(context.Background())
			var refused *VerifyError
			if !errors.As(err, &refused) {
				t.Fatalf("dial: %v", err)
			}
			<-served
			hellos := 0
			for rest := w.sent.Bytes(); len(rest) > 0; {
				if len(rest) < 6 {
					t.Fatalf("% x", rest)
				}
				size := 5 + int(rest[3])<<8 + int(rest[4])
				switch {
				case rest[0] == 22 && rest[5] == 1:
					hellos++
				default:
					t.Errorf("record type %d, first byte %d", rest[0], rest[5])
				}
				rest = rest[min(size, len(rest)):]
			}
			if hellos < 1 || hellos > 2 {
				t.Errorf("%d ClientHellos", hellos)
			}
		})
	}
}

func TestDialTLS(t *testing.T) {
	certificate, pool := selfSigned(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, groups := range [][]tls.CurveID{nil, {tls.CurveP384}} {
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version, CurvePreferences: groups})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.Copy(c, c)
				c.Close()
			}()
			d := &Dialer{Address: l.Addr().String(), TLS: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
			c, err := d.Dial(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("echo"))
			c.(*tls.Conn).CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != "echo" {
				t.Errorf("%q, %v", b, err)
			}
			c.Close()
			l.Close()
		}
	}
}

func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte{0x20, 3, 0, 0, 0, 0, 0, 0})
		c.Close()
	}()
	d := &Dialer{Address: l.Addr().String(), TLS: &tls.Config{}}
	var handshake *HandshakeError
	if _, err := d.Dial(context.Background()); !errors.As(err, &handshake) {
		t.Errorf("not TLS: %v", err)
	}
}

// The layer above has the connection's end in ctx, and its errors are known.
func TestDialUpgrade(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	d := &Dialer{Address: l.Addr().String()}
	type wrapped struct{ net.Conn }
	d.Upgrade = func(c net.Conn) (net.Conn, error) { return wrapped{c}, nil }
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(wrapped); !ok {
		t.Errorf("%T", c)
	}
	c.Close()
	var upgrade *UpgradeError
	var below net.Conn
	d.Upgrade = func(c net.Conn) (net.Conn, error) { below = c; return nil, io.ErrUnexpectedEOF }
	if _, err := d.Dial(t.Context()); !errors.As(err, &upgrade) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if _, err := below.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.Upgrade = func(c net.Conn) (net.Conn, error) {
		cancel()
		_, err := c.Read(make([]byte, 1))
		return nil, err
	}
	if _, err := d.Dial(ctx); !errors.As(err, &upgrade) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 8 * time.Second}
	for _, top := range []time.Duration{1, 2, 4, 8, 8} {
		if d := b.Next(); d < top*time.Second/2 || d > top*time.Second {
			t.Errorf("%v, at most %v s", d, int(top))
		}
	}
	b.Reset()
	if d := b.Next(); d > time.Second {
		t.Errorf("after Reset: %v", d)
	}
}
