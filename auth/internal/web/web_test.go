package web

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAllowed(t *testing.T) {
	for addr, want := range map[string]string{ // public, private, never
		"8.8.8.8": "public", "2606:4700::1111": "public", "172.32.0.1": "public", "100.128.0.1": "public",
		"10.1.2.3": "private", "172.31.255.255": "private", "192.168.0.1": "private", "127.0.0.1": "private", "127.9.9.9": "private",
		"100.64.0.1": "private", "::1": "private", "fd12::1": "private", "::ffff:10.0.0.1": "private",
		"169.254.169.254": "never", "::ffff:169.254.169.254": "never", "0.0.0.0": "never", "0.1.2.3": "never", "::": "never",
		"224.0.0.1": "never", "255.255.255.255": "never", "240.0.0.1": "never", "fe80::1%eth0": "never", "ff02::1": "never",
		"fd00:ec2::254": "never", "64:ff9b::a00:1": "never", "2002:a00:1::": "never",
	} {
		a := netip.MustParseAddr(addr)
		got := "public"
		if err := Allowed(a, false); err != nil {
			got = "private"
			if err := Allowed(a, true); err != nil {
				got = "never"
			}
		}
		if got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for raw, want := range map[string]string{
		"https://auth.example/x?y=1": "", "https://10.0.0.1:8443/": "", "https://[2001:db8::1]/": "",
		"": "no host", "https:///x": "no host", "https:x": "no host", "auth.example": "no host", "https://:443/": "no host",
		"http://auth.example/": "https://", "http://127.0.0.1/": "allow_private", "http://localhost/": "https://", "ftp://a/": "https://",
		"https://user:secret@a/": "token_file", "https://a/#x": "fragment", "https://a\x7f/": "no URL",
	} {
		err := Check(raw, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Error("the error shows the password")
		}
	}
	if err := Check("http://127.0.0.1:8080/", true); err != nil {
		t.Error(err)
	}
}

// A server of the test's own: which clients reach it, and what they take from it.
func TestClient(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/big":
			w.Write(make([]byte, 101))
		default:
			w.Write([]byte("hello"))
		}
	}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func(o Options, path string) (int, string, error) {
		o.URL, o.Timeout, o.Conns = s.URL+path, time.Minute, 2
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		status, b, err := c.Do(t.Context(), http.MethodGet, http.Header{}, nil, 100)
		return status, string(b), err
	}
	good := Options{CAFile: ca, Private: true}
	if status, body, err := get(good, "/"); status != 200 || body != "hello" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if status, _, err := get(good, "/away"); status != http.StatusFound || err != nil {
		t.Errorf("a redirect was followed: %d %v", status, err)
	}
	if _, _, err := get(good, "/big"); err == nil || !strings.Contains(err.Error(), "more than 100 bytes") {
		t.Errorf("a big answer: %v", err)
	}
	var no *Forbidden
	if _, _, err := get(Options{CAFile: ca}, "/"); !errors.As(err, &no) || !no.Private || !strings.Contains(no.Hint(), "allow_private") {
		t.Errorf("a private address: %v", err)
	}
	if _, _, err := get(Options{Private: true}, "/"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of an unknown CA: %v", err)
	}
	if _, err := New(Options{URL: s.URL, CAFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no CA file: %v", err)
	}
	if _, err := New(Options{URL: s.URL, CAFile: os.Args[0]}); err == nil {
		t.Error("a CA file without certificates")
	}
}
