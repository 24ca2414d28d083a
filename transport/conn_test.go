package transport

import (
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

// testCA issues throw-away certificates.
type testCA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pool   *x509.CertPool
	server tls.Certificate
	client tls.Certificate
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.key, ca.cert = sign(t, tmpl, nil, nil)
	ca.pool.AddCert(ca.cert)
	ca.server = ca.issue(t, "localhost", x509.ExtKeyUsageServerAuth)
	ca.client = ca.issue(t, "pump-17", x509.ExtKeyUsageClientAuth)
	return ca
}

func (ca *testCA) issue(t testing.TB, name string, use x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		DNSNames: []string{name},
	}
	key, cert := sign(t, tmpl, ca.cert, ca.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func (ca *testCA) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &ca.server, nil
}
func (ca *testCA) ClientCAs() *x509.CertPool { return ca.pool }

func (ca *testCA) clientConfig() *tls.Config {
	return &tls.Config{
		RootCAs: ca.pool, ServerName: "localhost",
		Certificates: []tls.Certificate{ca.client}, NextProtos: []string{ALPN},
	}
}

// recorder is a Handler that writes down what it is told.
type recorder struct {
	mu       sync.Mutex
	conn     Conn
	data     []byte
	first    bool
	flushes  int
	writable int
	closed   int
	err      error
	done     chan struct{}
	onData   func(p []byte) error
	onFlush  func()
	strayed  string // a call that should not have come
}

func newRecorder(c Conn) *recorder { return &recorder{conn: c, done: make(chan struct{})} }

func (r *recorder) Data(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed > 0 {
		r.strayed = "Data after Closed"
	}
	if !r.first {
		r.first = true
		if p != nil {
			r.strayed = "first Data is not nil"
		}
	}
	if r.onData != nil {
		return r.onData(p)
	}
	r.data = append(r.data, p...)
	return nil
}

func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushes++
	if r.closed > 0 {
		r.strayed = "Flush after Closed"
	}
	if r.onFlush != nil {
		r.onFlush()
	}
}

func (r *recorder) Writable() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writable++
	if r.closed > 0 {
		r.strayed = "Writable after Closed"
	}
}

func (r *recorder) Closed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
	r.err = err
	if r.closed == 1 {
		close(r.done)
	}
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.data)
}

func (r *recorder) received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.data)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func wait(t testing.TB, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("never: %s", what)
	}
}

func TestStreamPipe(t *testing.T) {
	a, b := net.Pipe()
	c := NewStream(a, nil, Config{Name: "pipe"})
	r := newRecorder(c)
	c.Run(r)
	go b.Write([]byte("hello"))
	eventually(t, "data", func() bool { return r.text() == "hello" })
	if err := c.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if c.Backlog() == 0 {
		t.Error("a pipe took bytes without a reader")
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "answer" {
		t.Fatalf("%q, %v", buf, err)
	}
	eventually(t, "writable", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.writable == 1 })
	b.Close()
	wait(t, "closed", r.done)
	if r.err != nil || r.strayed != "" {
		t.Errorf("%v %s", r.err, r.strayed)
	}
	if err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
}

func TestStreamTLS(t *testing.T) {
	ca := newTestCA(t)
	ln, err := Listen(Config{Name: "l", Address: "127.0.0.1:0"}, ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		if err := c.Handshake(context.Background()); err != nil {
			t.Error(err)
			return
		}
		r := newRecorder(c)
		r.onData = func(p []byte) error { return c.Write(p) }
		c.Run(r)
	}()
	nc, err := tls.Dial("tcp", ln.Addr().String(), ca.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	nc.Write([]byte("hello"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(nc, buf); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	ln.Close()
	if err := ln.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
