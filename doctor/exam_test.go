package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

// TestOptions has mistakes found before anything is sent.
func TestOptions(t *testing.T) {
	root := newCA(t, "root", nil)
	ca := root.file()
	var good, bad Options
	root.client().files(t, &good)
	root.client().files(t, &bad)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		o    Options
		want found
	}{
		{"no URL", Options{URL: "broker"}, found{StepURL, Failed, CauseURL, ""}},
		{"other scheme", Options{URL: "https://broker"}, found{StepURL, Failed, CauseURL, ""}},
		{"TLS options without TLS", Options{URL: "mqtt://broker", CAFile: ca}, found{StepURL, Failed, CauseURL, "tls_options"}},
		{"certificate without key", Options{URL: "mqtts://broker", Cert: good.Cert}, found{StepURL, Failed, CauseURL, "pair"}},
		{"password in the clear", Options{URL: "mqtt://me:secret@broker"}, found{StepURL, Failed, CauseExposed, ""}},
		{"password without looking", Options{URL: "mqtts://broker", Username: "me", Password: []byte("secret"), Insecure: true}, found{StepURL, Failed, CauseExposed, ""}},
		{"password without the name", Options{URL: "mqtts://me:secret@broker", InsecureName: true}, found{StepURL, Failed, CauseExposed, ""}},
		{"no CA file", Options{URL: "mqtts://broker", CAFile: "nowhere.pem"}, found{StepFiles, Failed, CauseFile, "ca"}},
		{"CA file without CA", Options{URL: "mqtts://broker", CAFile: text}, found{StepFiles, Failed, CauseFile, "ca"}},
		{"no certificate file", Options{URL: "mqtts://broker", Cert: "nowhere.pem", Key: good.Key}, found{StepFiles, Failed, CauseFile, "certificate"}},
		{"key in place of the certificate", Options{URL: "mqtts://broker", Cert: good.Key, Key: good.Key}, found{StepFiles, Failed, CauseFile, "certificate"}},
		{"no key file", Options{URL: "mqtts://broker", Cert: good.Cert, Key: "nowhere.pem"}, found{StepFiles, Failed, CauseFile, "key"}},
		{"certificate in place of the key", Options{URL: "mqtts://broker", Cert: good.Cert, Key: good.Cert}, found{StepFiles, Failed, CauseFile, "key"}},
		{"no pair", Options{URL: "mqtts://broker", Cert: good.Cert, Key: bad.Key}, found{StepFiles, Failed, transport.CauseClientKey, ""}},
	} {
		tt.o.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			t.Errorf("%s: looked up", tt.name)
			return nil, errors.New("no")
		}
		r := Examine(context.Background(), tt.o)
		tt.want.check(t, r)
		if b, err := r.JSON(); err != nil || bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s: the report has the password: %s %v", tt.name, b, err)
		}
	}
}

// TestPassword goes to a broker that was verified, and to no other.
func TestPassword(t *testing.T) {
	testkit.NoLeaks(t)
	root, other := newCA(t, "root", nil), newCA(t, "other", nil)
	for _, tt := range []struct {
		name, host string
		ca         *ca
		o          Options
		sent       bool
	}{
		{"verified", host, root, Options{}, true},
		{"unknown CA", host, other, Options{}, false},
		{"wrong name", "other.test", root, Options{}, false},
		{"insecure", host, other, Options{Insecure: true}, false},
		{"insecure, told to", host, other, Options{Insecure: true, SendCredentials: true}, true},
		{"wrong name, told to", "other.test", root, Options{InsecureName: true, SendCredentials: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			b := broker{seen: func(p *mqtt.Connect) {
				mu.Lock()
				got = append(got, string(p.Username)+":"+string(p.Password))
				mu.Unlock()
			}}
			tt.o.URL = "mqtts://" + tt.host + ":" + serveTLS(t, &tls.Config{Certificates: []tls.Certificate{root.server().tls()}}, b.serve)
			tt.o.CAFile, tt.o.Username, tt.o.Password = tt.ca.file(), "me", []byte("secret")
			r := examine(t, tt.o)
			mu.Lock()
			defer mu.Unlock()
			if sent := len(got) > 0; sent != tt.sent || sent && got[0] != "me:secret" {
				t.Errorf("sent %q\n%s", got, lines(r))
			}
			if j, _ := r.JSON(); bytes.Contains(j, []byte("secret")) {
				t.Errorf("the report has the password: %s", j)
			}
		})
	}
}

// TestImpostor: a broker that shows a good certificate first and another one
// to the client that means it.
func TestImpostor(t *testing.T) {
	testkit.NoLeaks(t)
	root, other := newCA(t, "root", nil), newCA(t, "other", nil)
	good, bad := root.server().tls(), other.server().tls()
	var mu sync.Mutex
	n := 0
	cfg := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 1 {
			return &good, nil
		}
		return &bad, nil
	}}
	heard := make(chan struct{}, 10)
	port := serveTLS(t, cfg, broker{seen: func(*mqtt.Connect) { heard <- struct{}{} }}.serve)
	r := examine(t, Options{URL: "mqtts://" + host + ":" + port, CAFile: root.file(), Username: "me", Password: []byte("secret")})
	found{StepVerify, Failed, transport.CauseRejectsCA, ""}.check(t, r)
	if len(heard) > 0 {
		t.Error("CONNECT was sent")
	}
}

// TestEnd: the time that it may take, and an interruption, are kept to
// whatever the other side does.
func TestEnd(t *testing.T) {
	testkit.NoLeaks(t)
	port := serve(t, drain)
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		ctx, cancel := context.WithCancel(context.Background())
		o := Options{URL: scheme + "://127.0.0.1:" + port, Timeout: time.Hour}
		o.OnStep = func(s Step) {
			if s.Name == StepTCP {
				// In the midst of a wait of ten seconds.
				time.AfterFunc(10*time.Millisecond, cancel)
			}
		}
		began := time.Now()
		r := Examine(ctx, o)
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s: interrupted after %v", scheme, took)
		}
		if r.OK {
			t.Errorf("%s: all is well?\n%s", scheme, lines(r))
		}
		cancel()
	}
}

// TestAddresses has a host with one address that is dead.
func TestAddresses(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	l.Close()
	port := serve(t, broker{}.serve)
	o := Options{URL: "mqtt://" + host + ":" + port, Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")}, nil
	}}
	r := Examine(context.Background(), o)
	found{StepTCP, Warning, CauseRefused, ""}.check(t, r)
	if want := []string{"127.0.0.1", "127.0.0.2"}; !cmp.Equal(r.Addresses, want) || r.MQTT == nil {
		t.Errorf("addresses %v\n%s", r.Addresses, lines(r))
	}
	o.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, nil
	}
	found{StepTCP, Failed, CauseRefused, ""}.check(t, Examine(context.Background(), o))
	o.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, &net.DNSError{IsNotFound: true} }
	found{StepDNS, Failed, CauseDNS, ""}.check(t, Examine(context.Background(), o))
}

// TestJSON is the form that programs rely on.
func TestJSON(t *testing.T) {
	r := &Report{URL: "mqtts://h:8883", Cause: CauseConnect, Addresses: []string{"127.0.0.1"},
		Steps: []Step{pass(StepURL, "u"), {StepConnect, Failed, CauseConnect, "r", "t", "f", "d", 42, 135}},
		TLS: &TLS{Version: "TLS 1.3", Suite: "S", Group: "G", Versions: []string{"TLS 1.3"}, Groups: []string{"G"}, ClientCertificate: true,
			ClientCAs: []string{"C"}, ChainBytes: 9, Chain: []Certificate{{Subject: "s", Issuer: "i", Serial: "1", SHA256: "2", Names: []string{"n"}, Key: "k", Signature: "g"}}},
		MQTT: &Session{Version: "5", ClientID: "c"},
	}
	got, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
