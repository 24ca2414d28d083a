package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

// waiting is a doctor who listens.
type waiting struct {
	addr     string
	attempts chan Attempt
}

func wait(t *testing.T, o ListenOptions) waiting {
	t.Helper()
	w := waiting{attempts: make(chan Attempt, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	o.Address = "127.0.0.1:0"
	o.OnReady = func(a net.Addr) { ready <- a }
	o.OnAttempt = func(a Attempt) { w.attempts <- a }
	go func() { done <- Listen(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-ready:
		w.addr = a.String()
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return w
}

func TestListen(t *testing.T) {
	testkit.NoLeaks(t)
	root, devices, stranger := newCA(t, "root", nil), newCA(t, "device CA", nil), newCA(t, "stranger", nil)
	var files Options
	root.server().files(t, &files)
	w := wait(t, ListenOptions{Cert: files.Cert, Key: files.Key, ClientCA: devices.file()})
	dial := func(cfg *tls.Config, say []byte) {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var c net.Conn = conn
		if cfg != nil {
			s := tls.Client(conn, cfg)
			if s.Handshake() != nil {
				return
			}
			c = s
		}
		c.Write(say)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		io.Copy(io.Discard, c)
	}
	trusts := func(c *ca, with ...pair) *tls.Config {
		cfg := &tls.Config{ServerName: host, RootCAs: x509.NewCertPool()}
		cfg.RootCAs.AddCert(c.cert)
		for _, p := range with {
			s := p.tls()
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s, nil }
		}
		return cfg
	}
	connect := (&mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("pump-17"), HasUsername: true, Username: []byte("me"),
		HasPassword: true, Password: []byte("secret")}).Append(nil, mqtt.V311)
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		say  []byte
		step string
		want transport.Cause
	}{
		{"good", trusts(root, devices.client()), connect, StepConnect, ""},
		{"no certificate", trusts(root), connect, StepTLS, transport.CauseNoClientCert},
		{"strange certificate", trusts(root, stranger.client()), connect, StepClientCert, transport.CauseClientUnknownCA},
		{"trusts another CA", trusts(stranger), connect, StepTLS, transport.CauseRejectsCert},
		{"plain MQTT", nil, connect, StepTLS, transport.CausePlainMQTT},
		{"HTTP within", trusts(root, devices.client()), []byte("GET / HTTP/1.1\r\n\r\n"), StepConnect, CauseNoMQTT},
		{"damaged", trusts(root, devices.client()), []byte{0x10, 2, 0, 4}, StepConnect, CauseNoMQTT},
	} {
		dial(tt.cfg, tt.say)
		a := <-w.attempts
		r := &Report{Steps: a.Steps}
		last := a.Steps[len(a.Steps)-1]
		if last.Name != tt.step || last.Cause != tt.want || a.OK != (tt.want == "") || last.Text == "" || !a.OK && last.Fix == "" {
			t.Errorf("%s: %s %s\n%s", tt.name, last.Name, last.Cause, lines(r))
		}
		if all := lines(r); strings.Contains(all, "secret") || tt.name == "good" && (!strings.Contains(all, `client id "pump-17"`) || !strings.Contains(all, `issued by "device CA"`)) {
			t.Errorf("%s: %s", tt.name, all)
		}
	}
}

// TestListenPlain: without TLS, and over WebSocket, the other way round.
func TestListenPlain(t *testing.T) {
	testkit.NoLeaks(t)
	w := wait(t, ListenOptions{Plain: true})
	_, port, _ := net.SplitHostPort(w.addr)
	r := examine(t, Options{URL: "mqtt://127.0.0.1:" + port})
	if s := first(r); s.Cause != CauseConnect || s.Code != int(mqtt.ServerUnavailable) {
		t.Errorf("%+v", s)
	}
	if a := <-w.attempts; !a.OK || a.Steps[0].Name != StepConnect { // of the doctor's TCP step nothing is told
		t.Errorf("%+v", a)
	}
	ws := wait(t, ListenOptions{Plain: true, WebSocket: true})
	_, port, _ = net.SplitHostPort(ws.addr)
	r = examine(t, Options{URL: "ws://127.0.0.1:" + port + "/any"})
	if s := first(r); s.Cause != CauseConnect {
		t.Errorf("%+v", s)
	}
}

func TestListenOptions(t *testing.T) {
	for _, o := range []ListenOptions{{Address: "nowhere"}, {Address: "127.0.0.1:0", Cert: "no.pem", Key: "no.pem"}, {Address: "nowhere", Plain: true}} {
		if err := Listen(context.Background(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
