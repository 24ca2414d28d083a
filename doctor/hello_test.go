package doctor

import (
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testkit"
)

// TestHello asks Go's own server.
func TestHello(t *testing.T) {
	show := newCA(t, "root", nil).server().tls()
	got := make(chan *tls.ClientHelloInfo, 1)
	cfg := &tls.Config{Certificates: []tls.Certificate{show}, CurvePreferences: []tls.CurveID{tls.CurveP256, tls.X25519}, GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		got <- i
		return nil, nil
	}}
	ask := func(h hello) answer {
		t.Helper()
		a, b := testkit.Pipe(0)
		done := make(chan error, 1)
		go func() {
			done <- tls.Server(b, cfg).Handshake()
			b.Close()
		}()
		a.SetDeadline(time.Now().Add(time.Minute))
		ans := h.ask(a)
		a.Close()
		<-done
		return ans
	}
	a := ask(hello{version: tls.VersionTLS13, suites: []uint16{tls.TLS_CHACHA20_POLY1305_SHA256}, groups: []tls.CurveID{tls.CurveP256}, name: "a.example"})
	if !a.agreed() || a.version != tls.VersionTLS13 || a.suite != tls.TLS_CHACHA20_POLY1305_SHA256 || a.group != tls.CurveP256 {
		t.Errorf("TLS 1.3: %+v", a)
	}
	if i := <-got; i.ServerName != "a.example" {
		t.Errorf("server name %q", i.ServerName)
	}
	a = ask(hello{version: tls.VersionTLS12, suites: ecdhe(), groups: []tls.CurveID{tls.X25519}})
	if !a.agreed() || a.version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %+v", a)
	}
	if i := <-got; i.ServerName != "" {
		t.Errorf("server name %q", i.ServerName)
	}
	a = ask(hello{version: tls.VersionTLS10, suites: ecdhe(), groups: []tls.CurveID{tls.X25519}})
	if a.agreed() || a.alert != 70 {
		t.Errorf("TLS 1.0: %+v", a)
	}
	<-got
	if a = ask(hello{version: tls.VersionTLS12, suites: oldSuites(), groups: []tls.CurveID{tls.X25519}}); a.agreed() || a.alert != 40 {
		t.Errorf("old suites: %+v", a)
	}
}

func TestParseAnswer(t *testing.T) {
	short := []byte{22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3}
	whole := append(append([]byte(nil), short...), make([]byte, 32)...)
	whole = append(whole, 0, 0xc0, 0x2b, 0, 0, 0)
	for _, tt := range []struct {
		name string
		b    []byte
		want answer
		err  error
	}{
		{"nothing", nil, answer{alert: -1}, io.ErrUnexpectedEOF},
		{"part", short, answer{alert: -1}, io.ErrUnexpectedEOF},
		{"whole", whole, answer{alert: -1, version: 0x303, suite: 0xc02b}, nil},
		{"alert", []byte{21, 3, 1, 0, 2, 2, 70}, answer{alert: 70}, nil},
		{"warning, then alert", []byte{21, 3, 1, 0, 2, 1, 112, 21, 3, 1, 0, 2, 2, 40}, answer{alert: 40}, nil},
		{"HTTP", []byte("HTTP/1.1 400"), answer{alert: -1}, errNotTLS},
		{"other message", []byte{22, 3, 3, 0, 4, 11, 0, 0, 0}, answer{alert: -1}, errNotTLS},
		{"empty record", []byte{22, 3, 3, 0, 0}, answer{alert: -1}, errNotTLS},
		{"huge", []byte{22, 3, 3, 0, 4, 2, 1, 0, 0}, answer{alert: -1}, errNotTLS},
	} {
		got, err := parseAnswer(tt.b)
		if !errors.Is(err, tt.err) || got != tt.want {
			t.Errorf("%s: %+v %v", tt.name, got, err)
		}
	}
	for n := range whole {
		if _, err := parseAnswer(whole[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte{21, 3, 1, 0, 2, 2, 70})
	f.Add([]byte{22, 3, 3, 0, 6, 2, 0, 0, 2, 3, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err == nil && a.alert < 0 && len(b) < 43 {
			t.Errorf("a ServerHello of %d bytes", len(b))
		}
	})
}
