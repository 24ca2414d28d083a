package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// answers tells those who wait what has become of their ops.
type answers struct{}

func (answers) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (answers) Retained(*store.Message)                                                  {}
func (answers) Committed(ops []*store.Op, err error) {
	for _, op := range ops {
		if c, ok := op.Wait.(chan error); ok {
			c <- err
		}
	}
}

// records is a store that can be made to refuse.
type records struct {
	*memory.Store
	refuse atomic.Bool
}

var errFull = errors.New("disk full")

func (r *records) Ready() error {
	if r.refuse.Load() {
		return errFull
	}
	return nil
}

// bench is a service under test with what is around it.
type bench struct {
	*Service
	t       testing.TB
	dir     string
	store   *records
	reg     *registry.Registry
	log     *buffer
	clock   atomic.Int64 // Unix nanoseconds
	changed atomic.Int64
	ctx     context.Context
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *buffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *buffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

var start = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func (b *bench) now() time.Time          { return time.Unix(0, b.clock.Load()).UTC() }
func (b *bench) advance(d time.Duration) { b.clock.Add(int64(d)) }

func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "[a]*?"), // no pattern
		store: &records{Store: memory.New()}, log: &buffer{}, ctx: registry.As(context.Background(), "alice")}
	b.clock.Store(start.UnixNano())
	if _, err := b.store.Load(answers{}); err != nil {
		t.Fatal(err)
	}
	b.open(c)
	return b
}

// open makes, or makes anew, what a server has of its folder and its store.
func (b *bench) open(c Config) {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if b.log != nil {
		log = slog.New(slog.NewTextHandler(b.log, nil))
	}
	cfg := pki.Config{Now: b.now, Keys: pki.KeyOptions{Work: 10}}
	folder, _, err := pki.InitFolder(b.dir, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.reg, err = registry.Open(b.store, registry.Options{Log: log, Issuers: folder.CA().DeviceCAs(), Strict: c.Strict, Now: b.now}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.reg.Close)
	b.Service, err = New(Options{Config: c, Folder: folder, PKI: cfg, Registry: b.reg, Log: log, Now: b.now,
		Changed: func() { b.changed.Add(1) }})
	if err != nil {
		b.t.Fatal(err)
	}
}

// run runs Run until the test ends.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(b.ctx)
	var done sync.WaitGroup
	done.Go(func() { b.Run(ctx) })
	b.t.Cleanup(func() { cancel(); done.Wait() })
}

// do fails the test if err is one.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// must issues what must be issued.
func (b *bench) must(o Order) *Issued {
	b.t.Helper()
	i, err := b.Issue(b.ctx, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}

// device issues a certificate for a device, with a new key.
func (b *bench) device(id string) *x509.Certificate {
	b.t.Helper()
	return b.must(Order{ID: id, CSR: newCSR(b.t)}).Leaf
}

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB) []byte { t.Helper(); return csrOf(t, newKey(t)) }

func csrOf(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// principal is what a connection with a certificate becomes.
func principal(leaf *x509.Certificate) *auth.Principal {
	kind, name := auth.Identity(leaf)
	return &auth.Principal{Name: name, Kind: kind, Method: "certificate", Cert: auth.Identify(leaf)}
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }
