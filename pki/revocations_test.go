package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) set(t time.Time) { c.mu.Lock(); defer c.mu.Unlock(); c.t = t }

// replace writes a file as careful programs do, so that every write is seen as a change.
func replace(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := writeAtomic(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func device(t testing.TB, a *Authority, id string) *x509.Certificate {
	t.Helper()
	b, err := a.IssueClient(Device, id, "")
	if err != nil {
		t.Fatal(err)
	}
	return b.Leaf
}

func TestRevocations(t *testing.T) {
	a, other := newAuthority(t, at(testTime)), newAuthority(t, at(testTime))
	good, bad, stranger := device(t, a, "good"), device(t, a, "bad"), device(t, other, "stranger")
	crl := func(n uint64, serials ...*big.Int) []byte {
		t.Helper()
		var e []Revoked
		for _, s := range serials {
			e = append(e, Revoked{Serial: s, Reason: KeyCompromise})
		}
		der, err := a.SignCRL("device", CRL{Number: n, Entries: e})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	path := filepath.Join(t.TempDir(), "crl")
	clk := &clock{t: testTime}
	open := func(stale Stale) *Revocations {
		t.Helper()
		r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Issuers: a.DeviceCAs(), Stale: stale, Now: clk.now})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if _, err := OpenRevocations(RevocationsConfig{Files: []string{path}}); err == nil {
		t.Error("a missing file was opened")
	}
	replace(t, path, EncodeCRL(crl(1, bad.SerialNumber)))
	deny, allow := open(""), open(StaleAllow)
	check := func(what string, r *Revocations, c *x509.Certificate, iss *Authority, want error) {
		t.Helper()
		if err := r.Check(c, iss.device.cert); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	for _, r := range []*Revocations{deny, allow} {
		check("good", r, good, a, nil)
		check("bad", r, bad, a, ErrRevoked)
	}
	check("no list of its CA", deny, stranger, other, ErrNoList)
	check("no list of its CA", allow, stranger, other, nil)
	wantError(t, deny.Check(bad, a.device.cert), "the certificate is revoked: key-compromise on 2027-03-04")

	if n := testing.AllocsPerRun(100, func() { _ = deny.Check(good, a.device.cert) }); n > 0 {
		t.Errorf("a lookup of a good certificate makes %v allocations", n)
	}

	// Out of date: what is revoked stays so, the rest is the policy's.
	clk.set(testTime.Add(2 * day))
	check("stale, good", deny, good, a, ErrStale)
	check("stale, bad", deny, bad, a, ErrRevoked)
	check("stale, good", allow, good, a, nil)
	check("stale, bad", allow, bad, a, ErrRevoked)
	if s := allow.Status(); len(s) != 1 || !s[0].Stale || s[0].Entries != 1 || s[0].Number != "1" || s[0].Err != nil {
		t.Errorf("%+v", s)
	}
	clk.set(testTime)

	// A broken file leaves the old list in force, and says so until it is whole.
	forged := crl(9)
	forged[len(forged)-1] ^= 1
	for _, test := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "it is empty", nil},
		{"garbage", "parse revocation list", []byte("<html>404 not found</html>")},
		{"forged", "ECDSA verification failure", forged},
		{"older", "is older than that in force", crl(0)},
		{"of the future", "of the future", signList(t, a.device, func(l *x509.RevocationList) {
			l.Number, l.ThisUpdate, l.NextUpdate = big.NewInt(9), testTime.Add(3*day), testTime.Add(4*day)
		})},
	} {
		replace(t, path, test.b)
		for range 2 {
			changed, err := deny.Reload()
			if changed {
				t.Errorf("%s came into force", test.name)
			}
			wantError(t, err, test.want)
		}
		check(test.name, deny, good, a, nil)
		check(test.name, deny, bad, a, ErrRevoked)
		if s := deny.Status(); len(s) != 1 || s[0].Err == nil || s[0].Number != "1" {
			t.Errorf("%s: %+v", test.name, s)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := deny.Reload(); err == nil {
		t.Error("a file that is gone is not mentioned")
	}
	check("gone", deny, bad, a, ErrRevoked)

	replace(t, path, crl(2, good.SerialNumber))
	if changed, err := deny.Reload(); !changed || err != nil {
		t.Errorf("%v %v", changed, err)
	}
	if changed, err := deny.Reload(); changed || err != nil {
		t.Errorf("unchanged: %v %v", changed, err)
	}
	check("second list", deny, good, a, ErrRevoked)
	check("second list", deny, bad, a, nil)
}

// A file of another CA, or an expired root among Issuers, is told in the status; nobody is refused in silence.
func TestRevocationsStatus(t *testing.T) {
	a, other := newAuthority(t, at(testTime)), newAuthority(t, at(testTime))
	path := filepath.Join(t.TempDir(), "crl")
	der, err := other.SignCRL("device", CRL{Number: 3})
	if err != nil {
		t.Fatal(err)
	}
	replace(t, path, der)
	r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Issuers: a.DeviceCAs(), Now: at(testTime).Now})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if len(s) != 2 || s[0].Issuer != other.device.cert.Subject.CommonName || s[0].Missing || s[1].Issuer != a.device.cert.Subject.CommonName || !s[1].Missing {
		t.Errorf("%+v", s)
	}
	if _, err := OpenRevocations(RevocationsConfig{Stale: "maybe"}); err == nil {
		t.Error("stale policy maybe")
	}
}

// Lists of several distribution points add up; of several of one, the newest counts. Each is good for the certificates
// that name its point.
func TestScopesAddUp(t *testing.T) {
	a := newAuthority(t, at(testTime))
	serial := int64(100)
	named := func(points ...string) *x509.Certificate {
		serial++
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: testTime, NotAfter: testTime.Add(time.Hour), CRLDistributionPoints: points}
		return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, a.device.cert, a.device.cert.PublicKey, a.device.key))))
	}
	one, two := named("http://a/1"), named("http://b/2", "http://a/2")
	shard := func(point string, n int64, c *x509.Certificate) []byte {
		der := signList(t, a.device, func(l *x509.RevocationList) {
			l.Number = big.NewInt(n)
			if c != nil {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: c.SerialNumber, RevocationTime: testTime}}
			}
			name := asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte(point)}
			full := asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: must(asn1.Marshal(name))}
			l.ExtraExtensions = scope(t, struct{ P asn1.RawValue }{asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: must(asn1.Marshal(full))}})
		})
		return EncodeCRL(der)
	}
	path := filepath.Join(t.TempDir(), "crl")
	replace(t, path, append(append(shard("http://a/1", 1, one), shard("http://a/2", 1, two)...), shard("http://a/2", 2, nil)...))
	for stale, uncovered := range map[Stale]error{StaleDeny: ErrNoList, StaleAllow: nil} {
		r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Issuers: a.DeviceCAs(), Stale: stale, Now: at(testTime).Now})
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			cert *x509.Certificate
			want error
		}{
			"first shard": {one, ErrRevoked}, "second shard, newer list": {two, nil}, "first shard, not revoked": {named("http://a/1"), nil},
			"third shard": {named("http://a/3"), uncovered}, "no shard": {named(), uncovered},
		} {
			if err := r.Check(c.cert, a.device.cert); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v", stale, name, err)
			}
		}
	}
}

// In a TLS server: the full handshake and the resumed one.
func TestVerifyConnection(t *testing.T) {
	a := newAuthority(t, Config{})
	pair := func(b *Bundle, err error) tls.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.X509KeyPair(b.Cert, b.Key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	broker, dev := pair(a.IssueBroker([]string{"localhost"})), pair(a.IssueClient(Device, "pump-17", ""))
	path := filepath.Join(t.TempDir(), "crl")
	write := func(n uint64, e ...Revoked) {
		der, err := a.SignCRL("device", CRL{Number: n, Entries: e})
		if err != nil {
			t.Fatal(err)
		}
		replace(t, path, der)
	}
	write(1)
	r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Issuers: a.DeviceCAs()})
	if err != nil {
		t.Fatal(err)
	}
	resumed := false
	server := &tls.Config{
		Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a.root, a.device.cert),
		VerifyConnection: func(cs tls.ConnectionState) error { resumed = cs.DidResume; return r.VerifyConnection(cs) },
	}
	client := &tls.Config{
		RootCAs: poolOf(a.root), ServerName: "localhost", Certificates: []tls.Certificate{dev}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for _, want := range []bool{false, true} {
		if err := dial(t, server, client); err != nil || resumed != want {
			t.Fatalf("resumed %v, want %v: %v", resumed, want, err)
		}
	}
	leaf, err := x509.ParseCertificate(dev.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	write(2, Revoked{Serial: leaf.SerialNumber})
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, server, client); err == nil || !resumed {
		t.Errorf("a revoked device resumed its session: resumed %v, %v", resumed, err)
	}
	client.ClientSessionCache = nil
	if err := dial(t, server, client); err == nil {
		t.Error("a revoked device connected")
	}
	if err := r.VerifyConnection(tls.ConnectionState{}); err != nil {
		t.Errorf("no certificate: %v", err)
	}
	if err := r.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); err == nil {
		t.Error("a certificate that nobody verified")
	}
}

// dial is handshake over a socket, whose buffers session tickets need.
func dial(t testing.TB, server, client *tls.Config) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte{0})
		c.Read(make([]byte, 1))
		c.Close()
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	l.Close()
	<-done
	return err
}

func TestRevocationsConcurrently(t *testing.T) {
	a := newAuthority(t, at(testTime))
	path := filepath.Join(t.TempDir(), "crl")
	good, bad := device(t, a, "good"), device(t, a, "bad")
	write := func(n uint64) {
		der, err := a.SignCRL("device", CRL{Number: n, Entries: []Revoked{{Serial: bad.SerialNumber}}})
		if err != nil {
			t.Error(err)
			return
		}
		replace(t, path, der)
	}
	write(1)
	r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Now: at(testTime).Now})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := r.Check(good, a.device.cert); err != nil {
					t.Error(err)
					return
				}
				if err := r.Check(bad, a.device.cert); !errors.Is(err, ErrRevoked) {
					t.Error(err)
					return
				}
				r.Status()
			}
		})
	}
	for n := range uint64(50) {
		write(n + 2)
		if changed, err := r.Reload(); !changed || err != nil {
			t.Error(changed, err)
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkCheck(b *testing.B) {
	a, err := Create(filepath.Join(b.TempDir(), "ca"), at(testTime))
	if err != nil {
		b.Fatal(err)
	}
	leaf := device(b, a, "pump-17")
	entries := make([]Revoked, 10_000)
	for i := range entries {
		entries[i].Serial = must(newSerial())
		entries[i].Serial.Rsh(entries[i].Serial, 1)
	}
	path := filepath.Join(b.TempDir(), "crl")
	replace(b, path, must(a.SignCRL("device", CRL{Number: 1, Entries: entries})))
	r, err := OpenRevocations(RevocationsConfig{Files: []string{path}, Issuers: a.DeviceCAs(), Now: at(testTime).Now})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Check(leaf, a.device.cert); err != nil {
			b.Fatal(err)
		}
	}
}
