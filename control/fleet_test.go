//go:build unix

package control

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/identity"
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

// bench is a fleet under test and a client of it.
type bench struct {
	*Client
	t   *testing.T
	f   *Fleet
	s   *gate
	log *syncBuffer
	raw http.Client // sends what Client would not

	server *Server
}

// gate is a store that a test can close, and be told of what is submitted.
type gate struct {
	*memory.Store
	submit func(ops []*store.Op) error // nil: all is well
}

func (g *gate) Submit(ops ...*store.Op) {
	if g.submit != nil {
		if err := g.submit(ops); err != nil {
			answers{}.Committed(ops, err)
			return
		}
	}
	g.Store.Submit(ops...)
}

func newFleet(t testing.TB, log *slog.Logger) (*Fleet, *gate) {
	t.Helper()
	data := filepath.Join(shortDir(t), "data")
	folder, _, err := pki.InitFolder(data, pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := &gate{Store: memory.New()}
	if _, err := s.Load(answers{}); err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(s, registry.Options{Log: log, Issuers: folder.CA().DeviceCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	ids, err := identity.New(identity.Options{Folder: folder, Registry: reg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	enr, err := enroll.New(enroll.Options{Identity: ids, Registry: reg, Store: s, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(enr.Close)
	return &Fleet{Identity: ids, Registry: reg, Enroll: enr, Data: data, Log: log}, s
}

// bothWays runs a test on the socket of a broker, and within the process.
func bothWays(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Run("socket", func(t *testing.T) {
		log := new(syncBuffer)
		f, s := newFleet(t, slog.New(slog.NewTextHandler(log, nil)))
		p := &parts{}
		server, err := Serve(Options{Data: f.Data, Broker: testBroker{p}, Store: testStore{p}, Fleet: f, Log: f.Log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		c, err := Dial(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b := &bench{Client: c, t: t, f: f, s: s, log: log, server: server}
		b.raw.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", filepath.Join(f.Data, SocketName))
		}}
		test(t, b)
	})
	t.Run("local", func(t *testing.T) {
		log := new(syncBuffer)
		f, s := newFleet(t, slog.New(slog.NewTextHandler(log, nil)))
		c := Local(f)
		t.Cleanup(c.Close)
		b := &bench{Client: c, t: t, f: f, s: s, log: log, server: c.server}
		b.raw.Transport = c.http.Transport
		test(t, b)
	})
}

// ask sends anything and returns the status and the answer's error.
func (b *bench) ask(method, path, body string) (int, *Error) {
	b.t.Helper()
	r, err := http.NewRequest(method, "http://broker"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.raw.Do(r)
	if err != nil {
		b.t.Fatalf("%s %.80s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatalf("%s %.80s: %v", method, path, err)
	}
	e := new(Error)
	if resp.StatusCode != http.StatusOK {
		if err := json.Unmarshal(text, e); err != nil || len(e.Text) > 600 {
			b.t.Errorf("%s %.80s: %d %.700s %v", method, path, resp.StatusCode, text, err)
		}
	}
	return resp.StatusCode, e
}

// do fails the test if err is not nil.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// add adds devices.
func (b *bench) add(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		_, err := b.AddDevice(b.t.Context(), AddRequest{ID: id})
		b.do(err)
	}
}

// many adds devices named d-00000 and so on.
func (b *bench) many(n int) { b.t.Helper(); fill(b.t, b.f, n) }

func fill(t testing.TB, f *Fleet, n int) {
	t.Helper()
	var csv strings.Builder
	csv.WriteString("id,groups\n")
	for i := range n {
		fmt.Fprintf(&csv, "d-%05d,g%d\n", i, i%10)
	}
	if _, err := f.Registry.Import(t.Context(), strings.NewReader(csv.String()), registry.ImportOptions{Format: registry.CSV}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) state(id string) registry.State {
	_, s := b.f.Registry.Groups(id)
	return s
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csrOf is a CSR of a key, PEM.
func csrOf(t *testing.T, key crypto.Signer, cn string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newCSR(t *testing.T) string { t.Helper(); return csrOf(t, newKey(t), "") }

// me is who the log names for what this test does.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	return fmt.Sprintf("operator uid %d (%s)", os.Getuid(), u.Username)
}
