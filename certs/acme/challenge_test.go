package acme

import (
	"context"
	"crypto/tls"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	acmelib "github.com/mholt/acmez/v3/acme"

	"github.com/sealmq/sealmq/internal/testkit"
)

func challenge(kind, id, token string) acmelib.Challenge {
	c := acmelib.Challenge{Type: kind, Token: token, KeyAuthorization: token + ".thumbprint"}
	c.Identifier = acmelib.Identifier{Type: "dns", Value: id}
	if net.ParseIP(id) != nil {
		c.Identifier.Type = "ip"
	}
	return c
}

// freeAddress is one that nobody listens on, and that nobody who asks for any free port is given.
func freeAddress(t *testing.T) string {
	t.Helper()
	for i := range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 30_000+(os.Getpid()*101+i)%2_000)
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no free port between 30000 and 32000")
	return ""
}

// validate does what a validator of tls-alpn-01 does: RFC 8737 section 3.
func validate(addr, name string, protocols ...string) error {
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer c.Close()
	state := c.ConnectionState()
	if state.NegotiatedProtocol != alpnProtocol {
		return errors.New("not " + alpnProtocol)
	}
	for _, e := range state.PeerCertificates[0].Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical {
			return nil
		}
	}
	return errors.New("no acmeIdentifier")
}

func TestTLSALPN(t *testing.T) {
	testkit.NoLeaks(t)
	addr := freeAddress(t)
	a := newAnswers(Config{TLSAddress: addr})
	s := alpnSolver{a}
	c1, c2 := challenge(TLSALPN01, "a.example", "one"), challenge(TLSALPN01, "192.0.2.1", "two")
	for _, c := range []acmelib.Challenge{c1, c2} {
		if err := s.Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []struct {
		name, server string
		protocols    []string
		good         bool
	}{
		{"a name", "a.example", []string{alpnProtocol}, true},
		{"letters of either case", "A.Example", []string{alpnProtocol}, true},
		{"an address", "1.2.0.192.in-addr.arpa", []string{alpnProtocol}, true},
		{"another name", "b.example", []string{alpnProtocol}, false},
		{"another protocol too", "a.example", []string{alpnProtocol, "mqtt"}, false},
		{"another protocol", "a.example", []string{"mqtt"}, false},
		{"no protocol", "a.example", nil, false},
	} {
		if err := validate(addr, v.server, v.protocols...); (err == nil) != v.good {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	if err := s.CleanUp(t.Context(), c1); err != nil {
		t.Fatal(err)
	}
	if err := validate(addr, "a.example", alpnProtocol); err == nil {
		t.Error("answered after it was cleaned up")
	}
	if err := validate(addr, "1.2.0.192.in-addr.arpa", alpnProtocol); err != nil {
		t.Errorf("the other is gone too: %v", err)
	}
	// An idle visitor does not hold up the end.
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for range 2 {
		if err := s.CleanUp(t.Context(), c2); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestHTTP(t *testing.T) {
	testkit.NoLeaks(t)
	defer http.DefaultClient.CloseIdleConnections()
	addr := freeAddress(t)
	a := newAnswers(Config{HTTPAddress: addr})
	s := httpSolver{a}
	c := challenge(HTTP01, "a.example", "token")
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		method, path string
		status       int
	}{
		{"GET", challengePath + "token", 200},
		{"HEAD", challengePath + "token", 200},
		{"POST", challengePath + "token", 404},
		{"GET", challengePath + "other", 404},
		{"GET", challengePath, 404},
		{"GET", "/token", 404},
		{"GET", "/", 404},
	} {
		req, err := http.NewRequest(v.method, "http://"+addr+v.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != v.status || v.method == "GET" && v.status == 200 && string(body) != "token.thumbprint" {
			t.Errorf("%s %s: %d %q", v.method, v.path, resp.StatusCode, body)
		}
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
}

// What cannot be listened on says which key of the configuration it is.
func TestAddressTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := newAnswers(Config{HTTPAddress: ln.Addr().String(), TLSAddress: ln.Addr().String()})
	var e *listenError
	if err := (httpSolver{a}).Present(t.Context(), challenge(HTTP01, "a.example", "x")); !errors.As(err, &e) || e.key != "http_address" {
		t.Error(err)
	}
	if err := (alpnSolver{a}).Present(t.Context(), challenge(TLSALPN01, "a.example", "x")); !errors.As(err, &e) || e.key != "tls_address" {
		t.Error(err)
	}
	_ = (httpSolver{a}).CleanUp(t.Context(), challenge(HTTP01, "a.example", "x"))
}

// A CA gets no answer to what was not asked for.
func TestOurs(t *testing.T) {
	presented := 0
	s := ours{counter{&presented}, map[string]bool{"a.example": true}}
	for _, c := range []struct {
		id, token string
		good      bool
	}{
		{"a.example", "AZaz09-_", true},
		{"A.example.", "x", true},
		{"b.example", "x", false},
		{"--help", "x", false},
		{"a.example", "", false},
		{"a.example", "../x", false},
		{"a.example", strings.Repeat("x", 257), false},
	} {
		if err := s.Present(t.Context(), challenge(HTTP01, c.id, c.token)); (err == nil) != c.good {
			t.Errorf("%q %q: %v", c.id, c.token, err)
		}
	}
	if presented != 2 {
		t.Errorf("%d were presented", presented)
	}
}

type counter struct{ n *int }

func (c counter) Present(context.Context, acmelib.Challenge) error { *c.n++; return nil }
func (c counter) CleanUp(context.Context, acmelib.Challenge) error { return nil }

func TestALPNName(t *testing.T) {
	for id, want := range map[string]string{
		"A.Example":   "a.example",
		"192.0.2.1":   "1.2.0.192.in-addr.arpa",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		if got := alpnName(id); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
}
