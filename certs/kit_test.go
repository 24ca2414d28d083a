package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ transport.Certificates = (*Listener)(nil)

// ca is a CA of somebody else.
type ca struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial, and number of lists
}

var serial atomic.Int64 // of CAs: no two tests share a CA, but logs are easier to read

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t testing.TB, name string) *ca {
	t.Helper()
	key := newKey(t)
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-365 * 24 * time.Hour), NotAfter: now.Add(3650 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return &ca{t: t, cert: sign(t, c, c, key.Public(), key), key: key}
}

func sign(t testing.TB, c, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// issue makes a certificate, as edit changes it, with its key.
func (a *ca) issue(edit func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	a.last++
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.last), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	edit(c)
	key := newKey(a.t)
	leaf := sign(a.t, c, a.cert, key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func (a *ca) server(names ...string) *tls.Certificate {
	return a.issue(func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.Subject.CommonName = names[0]
	})
}

func (a *ca) client(id string) *tls.Certificate {
	return a.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = id, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

// list is a revocation list, DER.
func (a *ca) list(life time.Duration, revoked ...*tls.Certificate) []byte {
	a.t.Helper()
	a.last++
	return a.listAt(time.Now().Add(-time.Minute), life, a.last, revoked...)
}

func (a *ca) listAt(this time.Time, life time.Duration, number int64, revoked ...*tls.Certificate) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: this, NextUpdate: this.Add(time.Minute + life)}
	for _, c := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: this})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *ca) pem() []byte { return certPEM(a.cert.Raw) }

func certPEM(certs ...[]byte) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c})
	}
	return b.Bytes()
}

func keyPEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// dir is a folder of files.
type dir struct {
	t    testing.TB
	path string
}

func newDir(t testing.TB) dir { return dir{t, t.TempDir()} }

func (d dir) at(name string) string { return filepath.Join(d.path, name) }

// put replaces a file in one step.
func (d dir) put(name string, b []byte) string {
	d.t.Helper()
	tmp := d.at("." + name)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(tmp, d.at(name)); err != nil {
		d.t.Fatal(err)
	}
	return d.at(name)
}

func (d dir) pair(name string, c *tls.Certificate) Pair {
	d.t.Helper()
	return Pair{d.put(name+".pem", certPEM(c.Certificate...)), d.put(name+".key", keyPEM(d.t, c.PrivateKey))}
}

// rig is a keeper with one listener.
type rig struct {
	t       testing.TB
	k       *Keeper
	l       *Listener
	mu      sync.Mutex
	log     bytes.Buffer
	changed atomic.Int64 // calls of TrustChanged
	clock   atomic.Int64 // added to the time, in ns
}

func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *rig) logged(s string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.log.String(), s)
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }

func newRig(t testing.TB, spec Spec, edit ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t}
	o := Options{
		Data: filepath.Join(t.TempDir(), "data"), Now: r.now, Poll: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(r, nil)),
		TrustChanged: func(string) { r.changed.Add(1) },
	}
	for _, e := range edit {
		e(&o)
	}
	r.k = New(o)
	spec.Name = "t"
	r.apply(spec)
	return r
}

func (r *rig) apply(spec Spec) {
	r.t.Helper()
	spec.Name = "t"
	set, err := r.k.Plan(nil, []Spec{spec})
	if err != nil {
		r.t.Fatal(err)
	}
	set.Apply()
	r.l = set.Listener("t")
}

// look looks twice, since what is bad at one look alone is no trouble.
func (r *rig) look() {
	r.k.look(false)
	r.k.look(false)
}

// run keeps the keeper going until the test ends.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.k.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// troubled wants words in Trouble.
func (r *rig) troubled(words string) {
	r.t.Helper()
	if all := strings.Join(r.k.Trouble(), "\n"); !strings.Contains(all, words) {
		r.t.Errorf("trouble is %q, wanted %q", all, words)
	}
}

func (r *rig) fine() {
	r.t.Helper()
	if all := r.k.Trouble(); len(all) > 0 {
		r.t.Errorf("trouble: %q", all)
	}
}

// shows is the common name of the certificate for a server name.
func (r *rig) shows(name string) string {
	r.t.Helper()
	c, err := r.l.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil || c == nil {
		r.t.Fatalf("no certificate for %q: %v", name, err)
	}
	return c.Leaf.Subject.CommonName
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// connect is a handshake with the listener. It returns the server's error, the client's, and what the client saw.
func (r *rig) connect(mode transport.ClientCertificates, c *tls.Config) (seen tls.ConnectionState, server, client error) {
	r.t.Helper()
	return handshake(transport.TLSProfile(r.l, mode), c)
}

// handshake also reads a byte, since a client of TLS 1.3 does not know what the server thinks before, and gets a ticket.
func handshake(s, c *tls.Config) (seen tls.ConnectionState, server, client error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return seen, err, err
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err == nil {
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(time.Minute))
			t := tls.Server(nc, s)
			if err = t.Handshake(); err == nil {
				_, err = t.Write([]byte{1})
			}
		}
		done <- err
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		ln.Close()
		return seen, <-done, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	t := tls.Client(nc, c)
	if client = t.Handshake(); client == nil {
		_, client = t.Read(make([]byte, 1))
		seen = t.ConnectionState()
	}
	return seen, <-done, client
}

// showing is a client that shows c whatever CAs the server names, and takes any server.
func showing(c *tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil },
	}
}

// tickets is a client's cache of one session, which it keeps when the server refuses it.
type tickets struct{ session *tls.ClientSessionState }

func (c *tickets) Get(string) (*tls.ClientSessionState, bool) { return c.session, c.session != nil }

func (c *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.session = s
	}
}

// refusal is the cause of an error.
func refusal(err error) string {
	var r interface{ Refused() (cause, hint string) }
	if err == nil {
		return ""
	}
	if !errors.As(err, &r) {
		return "(no Refused) " + err.Error()
	}
	cause, hint := r.Refused()
	if hint == "" {
		return cause + " without a hint"
	}
	return cause
}

func poolOf(cas ...*ca) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range cas {
		p.AddCert(c.cert)
	}
	return p
}

// folder is a data folder with our own CA.
func folder(t testing.TB) *pki.Folder {
	t.Helper()
	f, _, err := pki.InitFolder(filepath.Join(t.TempDir(), "data"), pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}
