package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/store"
)

// nobody is a CA that cannot be reached: nothing listens on port 1.
const nobody = "https://127.0.0.1:1/directory"

func manager(t *testing.T, s Store, log *slog.Logger, names ...string) *Manager {
	t.Helper()
	m, err := New(Config{Names: names, Directory: nobody, DNSExec: "/nonexistent"}, Options{Store: s, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keep stores a certificate as certmagic does.
func keep(t testing.TB, m *Manager, name string, c *tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	ca := m.issuer.IssuerKey()
	for k, v := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(ca, name):       chain,
		certmagic.StorageKeys.SitePrivateKey(ca, name): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		certmagic.StorageKeys.SiteMeta(ca, name):       meta,
	} {
		if err := m.storage.Store(t.Context(), k, v); err != nil {
			t.Fatal(err)
		}
	}
}

// What the store has is in force at once, for the names that it is for.
func TestGet(t *testing.T) {
	testkit.NoLeaks(t)
	now := time.Now()
	clock := now
	m, err := New(Config{Names: []string{"a.example", "*.b.example", "192.0.2.1", "old.example", "none.example"}, Directory: nobody,
		DNSExec: "/nonexistent", Challenges: []string{DNS01, HTTP01}}, Options{Store: memoryStore(t), Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]string{}
	for i, n := range []string{"a.example", "*.b.example", "192.0.2.1"} {
		c := selfSigned(t, now.Add(-time.Duration(i+1)*time.Hour), now.Add(1000*time.Hour), n)
		serials[n] = c.Leaf.SerialNumber.String()
		keep(t, m, n, c)
	}
	keep(t, m, "old.example", selfSigned(t, now.Add(-2*time.Hour), now.Add(-time.Hour), "old.example"))
	if _, ok := m.Get(&tls.ClientHelloInfo{ServerName: "a.example"}); ok {
		t.Error("there is a certificate before Start")
	}
	m.Start(t.Context())
	defer m.Close()
	for _, c := range []struct{ asks, gets string }{
		{"a.example", "a.example"},
		{"A.Example", "a.example"},
		{"a.example.", "a.example"},
		{"x.b.example", "*.b.example"},
		{"x.y.b.example", ""},
		{"b.example", ""},
		{"192.0.2.1", "192.0.2.1"},
		{"", "192.0.2.1"},
		{"old.example", ""},
		{"none.example", ""},
		{"example", ""},
		{"*.b.example", "*.b.example"},
	} {
		got, ok := m.Get(&tls.ClientHelloInfo{ServerName: c.asks})
		if ok != (c.gets != "") || ok && got.Leaf.SerialNumber.String() != serials[c.gets] {
			t.Errorf("%q: %v, wanted %q", c.asks, ok, c.gets)
		}
	}
	hello := &tls.ClientHelloInfo{ServerName: "a.example"}
	if n := testing.AllocsPerRun(100, func() { m.Get(hello) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if want := []string{"*.b.example", "192.0.2.1", "a.example", "none.example", "old.example"}; !slices.Equal(m.Names(), want) {
		t.Error(m.Names())
	}
	if err := m.Renew(t.Context(), "b.example"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	m.Close()
	if err := m.Renew(t.Context(), "a.example"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	clock = now.Add(1001 * time.Hour)
	if _, ok := m.Get(hello); ok {
		t.Error("an expired certificate is shown")
	}
}

// Among several addresses, that decides to which a client has connected.
func TestGetByAddress(t *testing.T) {
	m, err := New(Config{Names: []string{"192.0.2.1", "192.0.2.2"}, Directory: nobody}, Options{Store: memoryStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	for n, s := range m.sites {
		s.served.Store(selfSigned(t, time.Now(), time.Now().Add(time.Hour), n))
	}
	for _, c := range []struct {
		at   net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.2"), Port: 8883}, "192.0.2.2"},
		{&net.TCPAddr{IP: net.ParseIP("10.0.0.1"), Port: 8883}, ""},
		{nil, ""},
	} {
		got, ok := m.Get(&tls.ClientHelloInfo{Conn: at{c.at}})
		if ok != (c.want != "") || ok && got.Leaf.VerifyHostname(c.want) != nil {
			t.Errorf("%v: %v", c.at, ok)
		}
	}
}

type at struct{ addr net.Addr }

func (a at) LocalAddr() net.Addr              { return a.addr }
func (a at) RemoteAddr() net.Addr             { return nil }
func (a at) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (a at) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (a at) Close() error                     { return nil }
func (a at) SetDeadline(time.Time) error      { return nil }
func (a at) SetReadDeadline(time.Time) error  { return nil }
func (a at) SetWriteDeadline(time.Time) error { return nil }

// A CA that cannot be reached stops nothing, and is said once for each attempt, with what to do.
func TestUnreachable(t *testing.T) {
	testkit.NoLeaks(t)
	var out logged
	m := manager(t, memoryStore(t), out.logger(slog.LevelInfo), "a.example")
	if err := m.Renew(t.Context(), "a.example"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	m.Start(t.Context())
	defer m.Close()
	eventually(t, "trouble", func() bool { return len(m.Trouble()) == 1 })
	tr := m.Trouble()[0]
	for _, part := range []string{"a.example: ", "127.0.0.1:1 cannot be reached", "since ", "next attempt ", "firewall"} {
		if !strings.Contains(tr, part) {
			t.Errorf("%q is not in %q", part, tr)
		}
	}
	err := m.Renew(t.Context(), "a.example")
	var h interface{ Hint() string }
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), "firewall") || !strings.HasPrefix(err.Error(), "renew a.example: 127.0.0.1:1 cannot") {
		t.Error(err)
	}
	m.Close()
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "hint=") {
			t.Error(line)
		}
	}
}

// A store that refuses changes is waited for: the CA is not asked for what cannot be kept.
func TestStoreRefuses(t *testing.T) {
	testkit.NoLeaks(t)
	m := manager(t, failing{fmt.Errorf("disk full: %w", store.ErrDegraded)}, nil, "a.example")
	m.Start(t.Context())
	defer m.Close()
	eventually(t, "trouble", func() bool { return len(m.Trouble()) == 1 })
	if tr := m.Trouble()[0]; !strings.Contains(tr, "disk full") || !strings.Contains(tr, "sealmq status") {
		t.Error(tr)
	}
}

// Damaged records are never shown, stop nothing, and do not stay.
func TestDamaged(t *testing.T) {
	testkit.NoLeaks(t)
	now := time.Now()
	good := selfSigned(t, now, now.Add(1000*time.Hour), "a.example")
	other := selfSigned(t, now, now.Add(1000*time.Hour), "b.example")
	for _, c := range []struct {
		name  string
		spoil func(m *Manager, site string) error
		keeps bool
	}{
		{"sound", func(*Manager, string) error { return nil }, true},
		{"the key of another", func(m *Manager, _ string) error {
			key, err := x509.MarshalPKCS8PrivateKey(other.PrivateKey)
			if err != nil {
				return err
			}
			b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
			return m.storage.Store(t.Context(), certmagic.StorageKeys.SitePrivateKey(m.issuer.IssuerKey(), "a.example"), b)
		}, false},
		{"the certificate of another", func(m *Manager, _ string) error {
			keep(t, m, "a.example", other)
			return nil
		}, false},
		{"no PEM", func(m *Manager, site string) error { return m.storage.Store(t.Context(), site+".crt", []byte("x")) }, false},
		{"no metadata", func(m *Manager, site string) error { return m.storage.Store(t.Context(), site+".json", []byte("{")) }, false},
		{"cut short", func(m *Manager, site string) error {
			op, done := store.NewRecord(prefix+site+".key", []byte{1})
			m.storage.s.Submit(op)
			return <-done
		}, false},
	} {
		m := manager(t, memoryStore(t), nil, "a.example")
		keep(t, m, "a.example", good)
		dir := certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), "a.example")
		if err := c.spoil(m, dir+"/a.example"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m.Start(ctx)
		_, ok := m.Get(&tls.ClientHelloInfo{ServerName: "a.example"})
		if there := m.storage.Exists(t.Context(), dir); ok != c.keeps || there != c.keeps {
			t.Errorf("%s: shown %v, stored %v, wanted %v", c.name, ok, there, c.keeps)
		}
		cancel()
		m.Close()
	}
}

// FuzzStored starts with whatever the store has.
func FuzzStored(f *testing.F) {
	m, err := New(Config{Names: []string{"a.example"}, Directory: nobody}, Options{Store: memoryStore(f)})
	if err != nil {
		f.Fatal(err)
	}
	keep(f, m, "a.example", selfSigned(f, time.Now(), time.Now().Add(time.Hour), "a.example"))
	var seed [][]byte
	for _, ext := range []string{".crt", ".key", ".json"} {
		b, err := m.storage.Load(f.Context(), certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), "a.example")+"/a.example"+ext)
		if err != nil {
			f.Fatal(err)
		}
		seed = append(seed, b)
	}
	f.Add(seed[0], seed[1], seed[2], []byte(`{"account":{},"key":""}`))
	f.Fuzz(func(t *testing.T, crt, key, meta, account []byte) {
		m := manager(t, memoryStore(t), nil, "a.example")
		site := certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), "a.example") + "/a.example"
		for k, v := range map[string][]byte{site + ".crt": crt, site + ".key": key, site + ".json": meta, m.issuer.accountKey(): account} {
			if len(v) > maxValue {
				t.Skip()
			}
			if err := m.storage.Store(t.Context(), k, v); err != nil {
				t.Fatal(err)
			}
		}
		m.open()
		defer m.cache.Stop()
		m.recall(t.Context(), m.sites["a.example"])
		if c, ok := m.Get(&tls.ClientHelloInfo{ServerName: "a.example"}); ok && c.Leaf.VerifyHostname("a.example") != nil {
			t.Error("shown for a name that it is not for")
		}
		_, _ = m.issuer.loadAccount(t.Context())
	})
}

// What certmagic warns of reaches the log, what it chats does not.
func TestLog(t *testing.T) {
	var out logged
	z := zapTo(out.logger(slog.LevelDebug))
	z.Debug("no")
	z.Info("no")
	z.Named("obtain").Error("no")
	z.With(zap.String("with", "w")).Named("maintenance").Warn("one", zap.String("key", "value"), zap.Error(errors.New("cause")))
	z.Error("two")
	if s := out.String(); strings.Count(s, "\n") != 2 || strings.Contains(s, "no") && strings.Contains(s, "msg=no") ||
		!strings.Contains(s, `level=WARN msg="acme: one"`) || !strings.Contains(s, "key:value") || !strings.Contains(s, "with:w") || !strings.Contains(s, "error:cause") ||
		!strings.Contains(s, `level=ERROR msg="acme: two"`) {
		t.Error(s)
	}
	for level, want := range map[slog.Level]int{slog.LevelDebug: 1, slog.LevelInfo: 0} {
		var out logged
		q := slog.New(quiet{out.logger(level).Handler()}).With("a", 1).WithGroup("g")
		q.Info("no")
		q.Debug("no")
		q.Error("detail")
		if s := out.String(); strings.Count(s, "level=DEBUG") != want || strings.Count(s, "\n") != want {
			t.Errorf("%v: %s", level, s)
		}
	}
}

func TestReadKey(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of files say nothing on Windows")
	}
	file := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"a-_0\n", 0o600, "a-_0"},
		{" a+/0= ", 0o600, "a-_0"},
		{"a-_0", 0o640, ""},
		{"", 0o600, ""},
		{"two words", 0o600, ""},
		{strings.Repeat("a", maxSecret+4), 0o600, ""},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := readKey(file); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%.20q: %q %v", c.text, got, err)
		}
	}
}

// A CA that issues something else than was asked for does not replace what there is.
func TestCheckIssued(t *testing.T) {
	now := time.Now()
	a, b := selfSigned(t, now.Add(-time.Minute), now.Add(time.Hour), "a.example"), selfSigned(t, now.Add(-time.Minute), now.Add(time.Hour), "b.example")
	chain := func(c *tls.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	}
	csr := &x509.CertificateRequest{PublicKey: a.Leaf.PublicKey, DNSNames: []string{"a.example"}}
	for _, c := range []struct {
		name  string
		chain []byte
		csr   *x509.CertificateRequest
		want  string
		later time.Duration
	}{
		{"good", chain(a), csr, "", 0},
		{"another key", chain(b), csr, "another key", 0},
		{"a clock that is late", chain(a), csr, "clock", -2 * time.Minute},
		{"a clock that is early", chain(a), csr, "clock", 2 * time.Hour},
		{"another name", chain(b), &x509.CertificateRequest{PublicKey: b.Leaf.PublicKey, DNSNames: []string{"a.example"}}, "b.example", 0},
		{"no address", chain(a), &x509.CertificateRequest{PublicKey: a.Leaf.PublicKey, IPAddresses: []net.IP{net.ParseIP("192.0.2.1")}}, "192.0.2.1", 0},
		{"nothing", nil, csr, "check issued", 0},
	} {
		if err := checkIssued(c.chain, c.csr, now.Add(c.later)); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
