package doctor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

const host = "broker.test"

// ca is a certificate authority of one test, root or below another.
type ca struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	up   *ca
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newCA makes a CA; edit may change its certificate before it is signed.
func newCA(t testing.TB, name string, up *ca, edit ...func(*x509.Certificate)) *ca {
	t.Helper()
	return newCAWith(t, name, up, newKey(t), edit...)
}

func newCAWith(t testing.TB, name string, up *ca, key crypto.Signer, edit ...func(*x509.Certificate)) *ca {
	t.Helper()
	c := &ca{t: t, key: key, up: up}
	tmpl := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	for _, f := range edit {
		f(tmpl)
	}
	parent := up
	if parent == nil {
		parent = &ca{cert: tmpl, key: c.key}
	}
	c.cert = sign(t, tmpl, parent, c.key)
	return c
}

func sign(t testing.TB, tmpl *x509.Certificate, parent *ca, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pair is a leaf with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// server issues a certificate for host, which is 127.0.0.1.
func (c *ca) server(edit ...func(*x509.Certificate)) pair { return c.serverWith(newKey(c.t), edit...) }

func (c *ca) serverWith(key crypto.Signer, edit ...func(*x509.Certificate)) pair {
	c.t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: serial(c.t), Subject: pkix.Name{CommonName: "the broker"}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(500 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, f := range edit {
		f(tmpl)
	}
	return pair{sign(c.t, tmpl, c, key), key}
}

func (c *ca) client(edit ...func(*x509.Certificate)) pair {
	return c.server(append([]func(*x509.Certificate){func(x *x509.Certificate) {
		x.Subject.CommonName, x.DNSNames = "pump-17", nil
		x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}}, edit...)...)
}

// tls is what a server shows: the leaf and whatever goes with it.
func (p pair) tls(with ...*x509.Certificate) tls.Certificate {
	c := tls.Certificate{PrivateKey: p.key, Certificate: [][]byte{p.cert.Raw}}
	for _, x := range with {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

func writeFile(t testing.TB, name, kind string, blocks ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b []byte
	for _, der := range blocks {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *ca) file() string { return writeFile(c.t, "ca.pem", "CERTIFICATE", c.cert.Raw) }

// files are the options for a client certificate.
func (p pair) files(t testing.TB, o *Options, with ...*x509.Certificate) {
	t.Helper()
	blocks := [][]byte{p.cert.Raw}
	for _, x := range with {
		blocks = append(blocks, x.Raw)
	}
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	o.Cert = writeFile(t, "cert.pem", "CERTIFICATE", blocks...)
	o.Key = writeFile(t, "key.pem", "PRIVATE KEY", key)
}

// listen serves each connection with fn until the test ends, and returns the port.
func serve(t testing.TB, fn func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	closed := false
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			if closed {
				c.Close()
			}
			mu.Unlock()
			wg.Go(func() {
				fn(c)
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// serveTLS speaks TLS and then fn.
func serveTLS(t testing.TB, cfg *tls.Config, fn func(net.Conn)) string {
	return serve(t, func(c net.Conn) {
		s := tls.Server(c, cfg)
		if s.Handshake() == nil {
			fn(s)
		}
		// What is unread would turn the last alert into a reset.
		s.CloseWrite()
		c.(*net.TCPConn).CloseWrite()
		drain(c)
	})
}

func drain(c net.Conn) {
	for b := make([]byte, 1024); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// broker is the little of one that answers to a doctor.
type broker struct {
	only    mqtt.Version // the version understood; 0: both
	connack mqtt.Connack // the answer to CONNECT
	suback  mqtt.ReasonCode
	puback  mqtt.ReasonCode
	drop    mqtt.Type // a packet after which it hangs up
	mute    mqtt.Type // a packet that it does not answer
	leave   mqtt.ReasonCode
	leaveOn mqtt.Type // a packet that it answers with DISCONNECT
	seen    func(*mqtt.Connect)
}

func (b broker) serve(c net.Conn) {
	t := &talk{conn: c, v: mqtt.V5}
	for {
		h, body, err := t.receive()
		if err != nil || h.Type == b.drop {
			return
		}
		var out []byte
		switch h.Type {
		case mqtt.CONNECT:
			var p mqtt.Connect
			if p.Parse(0, h.Flags, body) != nil {
				return
			}
			if b.seen != nil {
				b.seen(&p)
			}
			t.v = p.Version
			ack := b.connack
			if b.only != 0 && p.Version != b.only {
				ack = mqtt.Connack{Code: mqtt.UnsupportedProtocolVersion}
				t.v = b.only
			}
			out = ack.Append(nil, t.v)
		case mqtt.PINGREQ:
			out = mqtt.AppendPingresp(nil)
		case mqtt.SUBSCRIBE:
			out = (&mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{b.suback}}).Append(nil, t.v)
		case mqtt.PUBLISH:
			var p mqtt.Publish
			if p.Parse(t.v, h.Flags, body) != nil {
				return
			}
			if p.QoS > 0 {
				out = (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID, Code: b.puback}).Append(nil, t.v)
			}
			if !b.puback.IsError() {
				out = p.Append(out, t.v)
			}
		case mqtt.DISCONNECT:
			return
		}
		if h.Type == b.leaveOn && b.leave != 0 {
			out = (&mqtt.Disconnect{Code: b.leave}).Append(nil, t.v)
			c.Write(out)
			return
		}
		if h.Type == b.mute {
			out = nil
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

// examine runs a doctor who finds every host at 127.0.0.1.
func examine(t testing.TB, o Options) *Report {
	t.Helper()
	o.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return Examine(ctx, o)
}

// first is the first step that is not ok, a warning too.
func first(r *Report) (s Step) {
	for _, s := range r.Steps {
		if s.Status != OK {
			return s
		}
	}
	return s
}
