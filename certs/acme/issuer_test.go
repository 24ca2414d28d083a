package acme

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testkit"
)

// Whatever a CA answers becomes a line that says so.
func TestStrangeCA(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
		wait   time.Duration // at least, until the next attempt
	}{
		{"a web page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		}, "text/html", 4 * time.Minute},
		{"no end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := w.Write([]byte(strings.Repeat("[", 1<<16))); err != nil {
					return
				}
			}
		}, "JSON", 4 * time.Minute},
		{"an empty directory", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		}, "", 0},
		{"too often", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slow\ndown"}`)
		}, "a limit of 127.0.0.1", 2*time.Hour - time.Minute},
		{"round in circles", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, "redirects", 0},
		{"a certificate that is not trusted", nil, "itself is not trusted", 0},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(c.answer))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Names: []string{"a.example"}, Directory: server.URL + "/directory", CAFile: root}
		if c.answer == nil {
			cfg.CAFile = ""
		}
		m, err := New(cfg, Options{Store: memoryStore(t)})
		if err != nil {
			t.Fatal(err)
		}
		m.Start(t.Context())
		eventually(t, c.name, func() bool { return len(m.Trouble()) == 1 })
		tr := m.sites["a.example"].trouble.Load()
		if !strings.Contains(tr.what, c.want) || tr.next.Sub(tr.since) < c.wait || strings.Contains(fmt.Sprint(m.Trouble()), "\n") {
			t.Errorf("%s: %s, next in %v", c.name, m.Trouble(), tr.next.Sub(tr.since))
		}
		m.Close()
		server.Close()
	}
}

func TestIssuerKey(t *testing.T) {
	for dir, want := range map[string]string{
		LetsEncrypt:                            "acme-v02.api.letsencrypt.org-directory",
		LetsEncryptStaging:                     "acme-staging-v02.api.letsencrypt.org-directory",
		"https://ca.lan:9000/acme/a/directory": "ca.lan:9000-acme-a-directory",
		"https://ca.lan/../../x":               "ca.lan-..-..-x",
		"https://ca.lan":                       "ca.lan",
	} {
		i := issuer{cfg: Config{Directory: dir}}
		if got := i.IssuerKey(); got != want || checkKey(i.accountKey()) != nil {
			t.Errorf("%s: %s", dir, got)
		}
	}
}
