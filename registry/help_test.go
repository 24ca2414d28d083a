package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/memory"
)

// answers tells those who wait what has become of their ops.
type answers struct{ lost atomic.Int64 }

func (*answers) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (*answers) Retained(*store.Message)                                                  {}
func (a *answers) Committed(ops []*store.Op, err error) {
	for _, op := range ops {
		if c, ok := op.Wait.(chan error); ok {
			c <- err
		} else if err != nil {
			a.lost.Add(1)
		}
	}
}

func memoryStore(t testing.TB) *memory.Store {
	s := memory.New()
	if _, err := s.Load(&answers{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// diskStore returns a store in memory's file system, and how to open it again.
func diskStore(t testing.TB, fs vfs.FS) *disk.Store {
	t.Helper()
	s, err := disk.Open("store", disk.Config{MinFree: -1}, disk.Options{FS: fs, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(&answers{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// refusing is a store that can be made to refuse.
type refusing struct {
	Store
	err atomic.Pointer[error]
}

func (s *refusing) set(err error) { s.err.Store(&err) }

func (s *refusing) Ready() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *refusing) Submit(ops ...*store.Op) {
	err := s.Ready()
	if err == nil {
		s.Store.Submit(ops...)
		return
	}
	for _, op := range ops {
		if c, ok := op.Wait.(chan error); ok {
			c <- err
		}
	}
}

var errFull = errors.New("disk full")

// ca issues certificates.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
	mu   sync.Mutex
}

func newCA(t testing.TB, name string) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour),
		NotAfter: start.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte(name)}
	return &ca{cert: sign(t, tmpl, tmpl, &key.PublicKey, key), key: key, next: 1000}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start is when tests begin.
var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// issue makes a certificate for urn:mqtts:default:KIND:ID that begins n days after start and lives a year.
func (c *ca) issue(t testing.TB, kind, id string, n int) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return c.issueFor(t, &key.PublicKey, kind, id, n)
}

func (c *ca) issueFor(t testing.TB, pub *ecdsa.PublicKey, kind, id string, n int) *x509.Certificate {
	t.Helper()
	c.mu.Lock()
	c.next++
	serial := c.next
	c.mu.Unlock()
	return c.issueIn(t, "default", pub, kind, id, n, serial)
}

// issueIn makes one for a tenant.
func (c *ca) issueIn(t testing.TB, tenant string, pub *ecdsa.PublicKey, kind, id string, n int, serial int64) *x509.Certificate {
	t.Helper()
	u := &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("mqtts:%s:%s:%s", tenant, kind, id)}
	return sign(t, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: id}, URIs: []*url.URL{u},
		NotBefore: start.AddDate(0, 0, n), NotAfter: start.AddDate(1, 0, n)}, c.cert, pub, c.key)
}

func serialOf(c *x509.Certificate) string {
	b, _ := packSerial(c.SerialNumber)
	return serialText(b)
}

// clock is the wall clock of a test.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(start.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// bench is a registry under test with what is around it.
type bench struct {
	*Registry
	t     testing.TB
	s     *refusing
	ca    *ca
	clock *clock
	log   *lockedBuffer
	told  []Event
	ctx   context.Context
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{t: t, s: &refusing{Store: memoryStore(t)}, ca: newCA(t, "device CA"), clock: newClock(), log: &lockedBuffer{},
		ctx: As(context.Background(), "alice")}
	o.Issuers = append(o.Issuers, b.ca.cert)
	o.Log = slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	o.Now = b.clock.now
	b.open(o)
	return b
}

func (b *bench) open(o Options) {
	b.t.Helper()
	if b.Registry != nil {
		b.Registry.Close()
		b.log.take()
	}
	r, err := Open(b.s, o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(r.Close)
	b.log.take()
	b.Registry = r
	r.Watch(func(e Event) { b.told = append(b.told, e) })
}

func (b *bench) reopen() { b.t.Helper(); b.open(b.o) }

// do fails the test if a change does.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// events returns what was told since the last call.
func (b *bench) events() []Event {
	told := b.told
	b.told = nil
	return told
}

// device adds one with a certificate.
func (b *bench) device(id string, groups ...string) *x509.Certificate {
	b.t.Helper()
	b.do(b.Add(b.ctx, Device{ID: id, Groups: groups}))
	leaf := b.ca.issue(b.t, "device", id, 0)
	b.do(b.Issued(b.ctx, id, leaf))
	return leaf
}
