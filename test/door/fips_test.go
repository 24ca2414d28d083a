package door

import (
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/test/internal/built"
)

// fipsListeners speak the profiles that say most about FIPS mode.
const fipsListeners = `
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[[listener]]
name = "open"
address = "127.0.0.1:0"
profile = "fips"
[[listener]]
name = "plain"
address = "127.0.0.1:0"
profile = "constrained"
`

// In FIPS mode the broker says so, and speaks TLS 1.2 and 1.3 with what the module approves of, whatever the profile.
func TestFIPS(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("skipped: the clients of the test use more than GODEBUG=fips140=only allows")
	}
	h := newHome(t, "")
	h.configureListeners(t, "", fipsListeners)
	b := h.start(t, "GODEBUG=fips140=on")
	b.awaitLog(t, "FIPS 140-3 mode", "module")
	h.sealmq(t, "device", "add", "pump-1", "--host", "localhost", "--out", "pump-1")
	cert, err := tls.LoadX509KeyPair(filepath.Join(h.dir, "pump-1/cert.pem"), filepath.Join(h.dir, "pump-1/key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		change  func(*tls.Config)
		refused string // a listener that does so; * for all
	}{
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, ""},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
		{"TLS 1.2 with AES-256", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, ""},
		{"P-256", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, ""},
		{"X25519MLKEM768", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} }, "plain"},
		{"X25519", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, "*"},
		{"ChaCha20", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
		}, "*"},
	} {
		for _, listener := range []string{"tls", "open", "plain"} {
			cfg := b.tls(t)
			cfg.Certificates = []tls.Certificate{cert}
			test.change(cfg)
			nc, err := b.dial("127.0.0.1", listener)
			if err != nil {
				t.Fatal(err)
			}
			_, err = connect(tls.Client(nc, cfg), "pump-1")
			nc.Close()
			if want := test.refused == "*" || test.refused == listener; (err != nil) != want {
				t.Errorf("%s on %s: %v, refused wanted: %v", test.name, listener, err, want)
			}
		}
	}
	b.awaitLog(t, "tls handshake refused", "no_common_cipher", "X25519")

	// A device may have a key of Ed25519.
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{PublicKey: public}, key)
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "ed.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
	h.sealmq(t, "device", "sign", "ed.csr", "--id", "ed", "--out", "ed")
	chain, err := os.ReadFile(filepath.Join(h.dir, "ed/cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ed, err := tls.X509KeyPair(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := b.tls(t)
		cfg.Certificates, cfg.MaxVersion = []tls.Certificate{ed}, version
		nc, err := b.dial("127.0.0.1", "tls")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := connect(tls.Client(nc, cfg), "ed"); err != nil {
			t.Errorf("Ed25519, %s: %v", tls.VersionName(version), err)
		}
		nc.Close()
	}

	if built.Race {
		return // which makes twenty seconds of a passphrase
	}
	// What is kept with a passphrase can be read as without FIPS mode.
	cmd := exec.Command(program, "ca", "encrypt", "--data", "data")
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), "GODEBUG=fips140=on", "SEALMQ_PASSPHRASE=correct horse battery")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ca encrypt: %v\n%s", err, out)
	}
	b.stop(t)
	b = h.start(t, "GODEBUG=fips140=on", "SEALMQ_PASSPHRASE=correct horse battery")
	nc, err := b.dial("127.0.0.1", "tls")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cfg := b.tls(t)
	cfg.Certificates = []tls.Certificate{cert}
	if _, err := connect(tls.Client(nc, cfg), "pump-1"); err != nil {
		t.Error(err)
	}
}

// Without FIPS mode the profile of that name is refused, with what to do.
func TestProfileFIPSWithoutMode(t *testing.T) {
	t.Parallel()
	h := newHome(t, "")
	h.configureListeners(t, "", fipsListeners)
	cmd := exec.Command(program, "serve", "--config", "sealmq.toml")
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), "GODEBUG=fips140=off")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "GODEBUG=fips140=on") {
		t.Errorf("%v: %s", err, out)
	}
}
