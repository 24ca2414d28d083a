package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/certs/acme"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
	"github.com/sealmq/sealmq/transport"
)

// teller tells those who wait what has become of their ops.
type teller struct{}

func (teller) Session(*store.Session, []store.Subscription, []uint16, store.QueueState) {}
func (teller) Retained(*store.Message)                                                  {}
func (teller) Committed(ops []*store.Op, err error) {
	for _, op := range ops {
		if c, ok := op.Wait.(chan error); ok {
			c <- err
		}
	}
}

func newStore(t *testing.T) *memory.Store {
	t.Helper()
	s := memory.New()
	if _, err := s.Load(teller{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// listener is one as a broker has it: it requires client certificates of a CA of its own, shows a certificate of that CA,
// and those of ACME for their names.
type listener struct {
	own  *testkit.CA
	self tls.Certificate
	acme atomic.Pointer[acme.Manager]
	ln   transport.Listener
	log  logged
	wg   sync.WaitGroup
}

func (l *listener) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if m := l.acme.Load(); m != nil {
		if c, ok := m.Get(hello); ok {
			return c, nil
		}
	}
	return &l.self, nil
}

func (l *listener) ClientCAs() *x509.CertPool { return l.own.Pool() }

func (l *listener) ChallengeConfig(hello *tls.ClientHelloInfo) *tls.Config {
	if m := l.acme.Load(); m != nil {
		return m.ChallengeConfig(hello)
	}
	return nil
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{own: testkit.NewCA(t)}
	l.self = l.own.Server("own.example")
	var err error
	l.ln, err = transport.Listen(transport.Config{Name: "mqtts", Address: "127.0.0.1:0"}, l, slog.New(slog.NewTextHandler(&l.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		for {
			c, err := l.ln.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() {
				if err := c.Handshake(context.Background()); err == nil {
					c.Run(echo{c})
				}
			})
		}
	})
	t.Cleanup(func() {
		l.ln.Close()
		l.wg.Wait()
	})
	return l
}

func (l *listener) port(t *testing.T) int { return portOf(t, l.ln.Addr().String()) }

// echo sends back what it gets.
type echo struct{ transport.Conn }

func (e echo) Data(p []byte) error { return e.Write(p) }
func (e echo) Flush()              {}
func (e echo) Writable()           {}
func (e echo) Closed(error)        {}

// dial connects as a client with a certificate that asks for name and trusts the CA; "" asks for none. It verifies the
// server as name, or as 127.0.0.1.
func (l *listener) dial(name string, roots *x509.CertPool) (*tls.Conn, error) {
	if name == "" {
		name = "127.0.0.1" // crypto/tls sends no address
	}
	return tls.DialWithDialer(dialer, "tcp", l.ln.Addr().String(), &tls.Config{ServerName: name, RootCAs: roots,
		Certificates: []tls.Certificate{l.own.Client("pump")}})
}

// shows is the serial number that a new handshake shows.
func (l *listener) shows(t *testing.T, name string, roots *x509.CertPool) *big.Int {
	t.Helper()
	c, err := l.dial(name, roots)
	if err != nil {
		t.Fatalf("connect to %s: %v", name, err)
	}
	defer c.Close()
	if err := ping(c); err != nil {
		t.Fatalf("connected to %s: %v", name, err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber
}

// ping sends a byte and waits for it to come back.
func ping(c *tls.Conn) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != 1 {
		return errors.New("something else came back")
	}
	return nil
}

// keep starts a manager, and has the listener show its certificates.
func keep(t *testing.T, l *listener, s acme.Store, cfg acme.Config) (*acme.Manager, *logged) {
	t.Helper()
	out := &logged{}
	m, err := acme.New(cfg, acme.Options{Store: s, Log: slog.New(slog.NewTextHandler(out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l.acme.Store(m)
	m.Start(context.Background())
	t.Cleanup(m.Close)
	return m, out
}

// got waits until there is a certificate for a name, and returns it.
func got(t *testing.T, m *acme.Manager, name string) *x509.Certificate {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c, ok := m.Get(&tls.ClientHelloInfo{ServerName: name}); ok {
			return c.Leaf
		}
		if time.Now().After(end) {
			t.Fatalf("no certificate for %s within a minute: %q", name, m.Trouble())
		}
	}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  []byte
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
