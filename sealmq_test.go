package sealmq_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// running is a server under test.
type running struct {
	*sealmq.Server
	t    *testing.T
	log  *logBuffer
	stop context.CancelFunc
	done chan error
}

// logBuffer is a log that a test can read while the server writes it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the log has a line with all the words.
func (r *running) await(words ...string) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for line := range strings.Lines(r.log.String()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatalf("no line with %q in the log:\n%s", words, r.log)
}

func tlsListener(name string) sealmq.Listener {
	return sealmq.Listener{Config: transport.Config{Name: name, Address: "127.0.0.1:0"}}
}

func plainListener(name string) sealmq.Listener {
	l := tlsListener(name)
	l.Plain, l.Anonymous = true, true
	return l
}

func start(t *testing.T, cfg sealmq.Config) *running {
	t.Helper()
	r := &running{t: t, log: new(logBuffer), done: make(chan error, 1)}
	var err error
	r.Server, err = sealmq.New(cfg, sealmq.WithLog(slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		r.stop()
		if err := <-r.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// identity is a bundle of the server's CA; the CA of another folder may be
// trusted instead.
func (r *running) dialer(listener string, b *pki.Bundle, trust *pki.Authority) *client.Dialer {
	r.t.Helper()
	d := &client.Dialer{Address: r.Addr(listener).String()}
	if trust == nil {
		return d
	}
	d.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	d.TLS.RootCAs.AppendCertsFromPEM(trust.RootPEM())
	if b != nil {
		pair, err := tls.X509KeyPair(b.Cert, b.Key)
		if err != nil {
			r.t.Fatal(err)
		}
		d.TLS.Certificates = []tls.Certificate{pair}
	}
	return d
}

func (r *running) device(id string) *pki.Bundle {
	r.t.Helper()
	b, err := r.Folder().IssueDevice(id, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *running) operator() *pki.Bundle {
	r.t.Helper()
	var b pki.Bundle
	ca, cert, key := r.Folder().OperatorFiles()
	for file, to := range map[string]*[]byte{ca: &b.CA, cert: &b.Cert, key: &b.Key} {
		var err error
		if *to, err = os.ReadFile(file); err != nil {
			r.t.Fatal(err)
		}
	}
	return &b
}

func connect(t *testing.T, d *client.Dialer, cfg client.Config) *client.Client {
	t.Helper()
	cfg.Dial, cfg.CleanStart = d.Dial, true
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Disconnect(mqtt.Success)
		c.Wait()
	})
	return c
}

func refused(t *testing.T, d *client.Dialer, cfg client.Config) error {
	t.Helper()
	cfg.Dial, cfg.CleanStart = d.Dial, true
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Connect(ctx, cfg)
	if err == nil {
		c.Disconnect(mqtt.Success)
		c.Wait()
		t.Fatal("the client was let in")
	}
	return err
}

// The zero configuration, but for the port: mutual TLS, an operator, a device,
// and nothing for anybody else.
func TestMutualTLS(t *testing.T) {
	testkit.NoLeaks(t)
	s := start(t, sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{tlsListener("")}})
	if l := s.Config().Listeners; len(l) != 1 || l[0].Plain || l[0].ClientCertificates != transport.Required {
		t.Fatalf("listeners %+v", l)
	}
	name := s.Config().Listeners[0].Name
	ca := s.Folder().CA()
	got := make(chan *client.Message, 1)
	sub := connect(t, s.dialer(name, s.operator(), ca), client.Config{
		ClientID:  "any id is the operator's",
		OnMessage: func(m *client.Message) { got <- m },
	})
	if _, err := sub.Subscribe(t.Context(), client.Subscription{Filter: "#", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	pump := connect(t, s.dialer(name, s.device("pump-17"), ca), client.Config{ClientID: "pump-17", Version: mqtt.V311})
	if _, err := pump.Publish(t.Context(), &client.Message{Topic: "pump-17/rpm", Payload: []byte("900"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.Topic != "pump-17/rpm" || string(m.Payload) != "900" {
		t.Errorf("got %q %q", m.Topic, m.Payload)
	}

	// A device that takes another's client id.
	err := refused(t, s.dialer(name, s.device("pump-18"), ca), client.Config{ClientID: "pump-17"})
	if code := mqtt.ReasonCode(0); !errors.As(err, &code) || !code.IsError() {
		t.Errorf("foreign client id: %v, want a reason code", err)
	}
	// No certificate, that of another CA, another CA trusted.
	refused(t, s.dialer(name, nil, ca), client.Config{})
	s.await("tls handshake refused", "cause=client_certificate_absent", "peer=127.0.0.1:")
	other, err := pki.Create(filepath.Join(t.TempDir(), "ca"), pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.IssueClient(pki.Operator, "operator", "")
	if err != nil {
		t.Fatal(err)
	}
	d := s.dialer(name, nil, ca)
	pair, err := tls.X509KeyPair(stranger.Cert, stranger.Key)
	if err != nil {
		t.Fatal(err)
	}
	d.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	refused(t, d, client.Config{})
	s.await("tls handshake refused", "cause=client_certificate_ca")
	if err := refused(t, s.dialer(name, s.operator(), other), client.Config{}); !strings.HasPrefix(err.Error(), "certificate verify failed: ") && !errors.As(err, new(*client.VerifyError)) {
		t.Errorf("wrong CA: %v", err)
	}
	// Plain MQTT on the TLS port.
	refused(t, s.dialer(name, nil, nil), client.Config{})
	s.await("tls handshake refused", "cause=plaintext_on_tls")
}

func TestSecondStartKeepsTheCA(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	cfg := sealmq.Config{Data: data, Listeners: []sealmq.Listener{tlsListener("a")}}
	var roots []string
	for range 2 {
		s, err := sealmq.New(cfg, sealmq.WithLog(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, pki.Fingerprint(s.Folder().CA().Root()))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run after Close: %v", err)
		}
	}
	if roots[0] != roots[1] {
		t.Error("the second start made another CA")
	}
}

// A test bench without TLS and without a store needs no files, and none are made.
func TestPlainMakesNoFiles(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, sealmq.Config{Data: data, Memory: true, Listeners: []sealmq.Listener{plainListener("bench")}})
	connect(t, s.dialer("bench", nil, nil), client.Config{})
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data folder was made: %v", err)
	}
	err := refused(t, s.dialer("bench", nil, nil), client.Config{Username: "u", Password: []byte("secret")})
	if code := mqtt.ReasonCode(0); !errors.As(err, &code) || code != mqtt.BadUserNameOrPassword {
		t.Errorf("a password in the clear: %v", err)
	}
	if strings.Contains(s.log.String(), "secret") {
		t.Error("the password is in the log")
	}
	s.await("level=WARN", "no TLS")
}

// At the end clients are told why.
func TestEndTellsClients(t *testing.T) {
	testkit.NoLeaks(t)
	s := start(t, sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{tlsListener("a")}})
	c := connect(t, s.dialer("a", s.operator(), s.Folder().CA()), client.Config{})
	if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "x"}); err != nil {
		t.Fatal(err)
	}
	half, err := net.Dial("tcp", s.Addr("a").String()) // never begins its handshake
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	began := time.Now()
	s.stop()
	<-c.Done()
	if code := mqtt.ReasonCode(0); !errors.As(c.Err(), &code) || code != mqtt.ServerShuttingDown {
		t.Errorf("the client ended with %v, want 0x8B", c.Err())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("the end took %v", d)
	}
}

func TestMessagesFromInside(t *testing.T) {
	s := start(t, sealmq.Config{Memory: true, Listeners: []sealmq.Listener{plainListener("a")}})
	got, inside := make(chan *client.Message, 1), make(chan sealmq.Message, 1)
	c := connect(t, s.dialer("a", nil, nil), client.Config{OnMessage: func(m *client.Message) { got <- m }})
	if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "down/#"}); err != nil {
		t.Fatal(err)
	}
	cancel, err := s.Subscribe("up/#", func(m sealmq.Message) { inside <- m })
	if err != nil {
		t.Fatal(err)
	}
	out := sealmq.Message{Topic: "down/x", Payload: []byte("1")}
	out.Properties.ResponseTopic = []byte("up/reply")
	out.Properties.Set(mqtt.PropResponseTopic)
	if ok, err := s.Publish(out); !ok || err != nil {
		t.Fatal(ok, err)
	}
	m := <-got
	if m.ResponseTopic != "up/reply" || string(m.Payload) != "1" {
		t.Errorf("got %+v", m)
	}
	if _, err := c.Publish(t.Context(), &client.Message{Topic: m.ResponseTopic, ContentType: "text/plain", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	in := <-inside
	if in.Topic != "up/reply" || string(in.Properties.ContentType) != "text/plain" {
		t.Errorf("got %+v", in)
	}
	cancel()
	if ok, err := s.Publish(sealmq.Message{Topic: "up/reply"}); ok || err != nil {
		t.Errorf("after cancel: %v %v", ok, err)
	}
	for _, bad := range []sealmq.Message{{Topic: "a/#"}, {Topic: ""}, {Topic: "a", QoS: 3}} {
		if _, err := s.Publish(bad); err == nil {
			t.Errorf("%+v was published", bad)
		}
	}
}
