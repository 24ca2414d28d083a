package tlsmatrix

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// attempt is what a client is to do. Its zero fields are what works.
type attempt struct {
	port  int
	name  string // that the certificate must have
	ca    files
	ident *files // its own certificate; nil: none
	tls11 bool   // offers nothing newer
	tls12 bool
	rsa   bool // offers suites with RSA key exchange only
	alpn  bool // asks for h2 by ALPN
	wrong bool // its clock is in the year 2000
}

// stack is a TLS library with a program that uses it. run returns what the
// program printed, and whether it can do what is asked of it at all.
type stack struct {
	name, pkg string // pkg: Debian's
	version   func() string
	run       func(t *testing.T, a attempt) (out string, can bool)
}

// tools are what is built once for all tests.
type tools struct {
	clock                     string
	mbedtls, wolfssl, bearssl string // empty: not there
	why                       map[string]string
}

var built = sync.OnceValue(func() *tools {
	b := &tools{why: make(map[string]string)}
	compile := func(name, pkg string, flags ...string) string {
		out := filepath.Join(toolsDir, name)
		text, err := exec.Command("cc", append([]string{"-O1", "-o", out}, flags...)...).CombinedOutput()
		if err != nil {
			b.why[name] = fmt.Sprintf("no client in C: needs cc and %s (%v)", pkg, firstLine(string(text)))
			return ""
		}
		return out
	}
	b.clock = compile("clock.so", "gcc", "-shared", "-fPIC", "testdata/clock.c")
	b.mbedtls = compile("mbedtls", "libmbedtls-dev", "testdata/mbedtls.c", "-lmbedtls", "-lmbedx509", "-lmbedcrypto")
	b.wolfssl = compile("wolfssl", "libwolfssl-dev", "testdata/wolfssl.c", "-lwolfssl", "-lm")
	b.bearssl = compile("bearssl", "libbearssl-dev", "testdata/bearssl.c", "-lbearssl")
	return b
})

// toolsDir is where they are built; TestMain makes it.
var toolsDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if toolsDir, err = os.MkdirTemp("", "tlsmatrix"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(toolsDir)
		return m.Run()
	}())
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// program runs a command to its end. Its standard input stays open: some
// clients leave when it ends.
func program(t *testing.T, a attempt, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if a.wrong {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+built().clock)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd.Stdin = r
	io.WriteString(w, "hi\n")
	out, _ := cmd.CombinedOutput() // refused clients end as they like
	if ctx.Err() != nil {
		t.Errorf("%s does not end:\n%s", name, out)
	}
	return string(out)
}

func (a attempt) isIP() bool { return net.ParseIP(a.name) != nil }

func stacks() []stack {
	v := func(name string, args ...string) func() string {
		return func() string {
			out, _ := exec.Command(name, args...).CombinedOutput()
			return firstLine(string(out))
		}
	}
	return []stack{
		{"OpenSSL", "openssl", v("openssl", "version"), openssl("")},
		{"OpenSSL, TLS 1.2", "openssl", v("openssl", "version"), openssl("-tls1_2")},
		{"mosquitto", "mosquitto-clients", v("mosquitto_pub", "--version"), mosquitto},
		{"Python", "python3", v("/usr/bin/python3", "-c", "import sys, ssl; print('Python', sys.version.split()[0] + ',', ssl.OPENSSL_VERSION)"), python},
		{"Node.js", "nodejs", v("node", "-p", "'Node.js ' + process.version + ', OpenSSL ' + process.versions.openssl"), node},
		{"Go", "", v("go", "version"), golang},
		{"GnuTLS", "gnutls-bin", v("gnutls-cli", "--version"), gnutls},
		{"Mbed TLS", "libmbedtls-dev", packageVersion("libmbedtls-dev"), inC("mbedtls", func(b *tools) string { return b.mbedtls })},
		{"wolfSSL", "libwolfssl-dev", packageVersion("libwolfssl-dev"), inC("wolfssl", func(b *tools) string { return b.wolfssl })},
		{"BearSSL", "libbearssl-dev", packageVersion("libbearssl-dev"), inC("bearssl", func(b *tools) string { return b.bearssl })},
	}
}

func packageVersion(pkg string) func() string {
	return func() string {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
		if err != nil {
			return "of unknown version"
		}
		return pkg + " " + string(out)
	}
}

// missing says why the stack is not there; empty: it is.
func (s stack) missing() string {
	switch s.name {
	case "Go":
		return ""
	case "Mbed TLS":
		return built().why["mbedtls"]
	case "wolfSSL":
		return built().why["wolfssl"]
	case "BearSSL":
		return built().why["bearssl"]
	}
	prog := map[string]string{"mosquitto": "mosquitto_pub", "Python": "/usr/bin/python3", "Node.js": "node", "GnuTLS": "gnutls-cli"}[s.name]
	if prog == "" {
		prog = "openssl"
	}
	if _, err := exec.LookPath(prog); err != nil {
		return fmt.Sprintf("no %s: needs Debian's package %s", prog, s.pkg)
	}
	return ""
}

func openssl(version string) func(*testing.T, attempt) (string, bool) {
	return func(t *testing.T, a attempt) (string, bool) {
		args := []string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", a.port), "-CAfile", a.ca.cert, "-verify_return_error", "-ign_eof"}
		if a.isIP() {
			args = append(args, "-noservername", "-verify_ip", a.name)
		} else {
			args = append(args, "-servername", a.name, "-verify_hostname", a.name)
		}
		if a.ident != nil {
			args = append(args, "-cert", a.ident.cert, "-key", a.ident.key)
		}
		switch {
		case a.tls11 && version != "", a.tls12 && version == "", a.rsa && version == "":
			return "", false // the other OpenSSL has the row
		case a.tls11:
			args = append(args, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
		case a.rsa:
			args = append(args, version, "-cipher", "AES128-GCM-SHA256")
		case version != "":
			args = append(args, version)
		}
		if a.alpn {
			args = append(args, "-alpn", "h2")
		}
		return program(t, a, "openssl", args...), true
	}
}

func mosquitto(t *testing.T, a attempt) (string, bool) {
	if a.tls11 || a.tls12 || a.rsa {
		return "", false // its --tls-version is the oldest it takes
	}
	args := []string{"-h", a.name, "-p", strconv.Itoa(a.port), "--cafile", a.ca.cert, "-t", "x", "-m", "y", "-d"}
	if a.ident != nil {
		args = append(args, "--cert", a.ident.cert, "--key", a.ident.key)
	}
	if a.alpn {
		args = append(args, "--tls-alpn", "h2")
	}
	return program(t, a, "mosquitto_pub", args...), true
}

// inJSON drives the programs that take one argument.
func inJSON(t *testing.T, a attempt, name, script string) string {
	args := map[string]any{"port": a.port, "name": a.name, "ca": a.ca.cert}
	if a.ident != nil {
		args["cert"], args["key"] = a.ident.cert, a.ident.key
	}
	if a.alpn {
		args["alpn"] = "h2"
	}
	switch {
	case a.tls11:
		args["max"] = "1.1"
	case a.rsa:
		args["max"], args["ciphers"] = "1.2", "AES128-GCM-SHA256"
	case a.tls12:
		args["max"] = "1.2"
	}
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return program(t, a, name, script, string(text))
}

func python(t *testing.T, a attempt) (string, bool) {
	return inJSON(t, a, "/usr/bin/python3", "testdata/client.py"), true
}

func node(t *testing.T, a attempt) (string, bool) {
	return inJSON(t, a, "node", "testdata/client.js"), true
}

func golang(t *testing.T, a attempt) (string, bool) {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(a.ca.cert)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal("no CA", err)
	}
	cfg := &tls.Config{RootCAs: roots, ServerName: a.name}
	if a.ident != nil {
		c, err := tls.LoadX509KeyPair(a.ident.cert, a.ident.key)
		if err != nil {
			return err.Error(), true
		}
		cfg.Certificates = []tls.Certificate{c}
	}
	switch {
	case a.tls11:
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case a.rsa:
		cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	case a.tls12:
		cfg.MaxVersion = tls.VersionTLS12
	}
	if a.alpn {
		cfg.NextProtos = []string{"h2"}
	}
	if a.wrong {
		cfg.Time = func() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", fmt.Sprintf("127.0.0.1:%d", a.port), cfg)
	if err != nil {
		return err.Error(), true
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "hi")
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		return err.Error(), true
	}
	return "let in", true
}

func gnutls(t *testing.T, a attempt) (string, bool) {
	priority := "NORMAL"
	switch {
	case a.tls11:
		priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"
	case a.rsa:
		priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA"
	case a.tls12:
		priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"
	}
	args := []string{"--port", strconv.Itoa(a.port), "--x509cafile", a.ca.cert, "--priority", priority, "--verify-hostname", a.name}
	if !a.isIP() {
		args = append(args, "--sni-hostname", a.name)
	}
	if a.ident != nil {
		args = append(args, "--x509certfile", a.ident.cert, "--x509keyfile", a.ident.key)
	}
	if a.alpn {
		args = append(args, "--alpn", "h2")
	}
	return program(t, a, "gnutls-cli", append(args, "127.0.0.1")...), true
}

func inC(name string, path func(*tools) string) func(*testing.T, attempt) (string, bool) {
	return func(t *testing.T, a attempt) (string, bool) {
		ca, cert, key := a.ca.cert, "-", "-"
		if a.ident != nil {
			cert, key = a.ident.cert, a.ident.key
		}
		if name == "bearssl" {
			ca = a.ca.der
			if a.ident != nil {
				cert, key = a.ident.der, a.ident.scalar
			}
		}
		var words []string
		for word, on := range map[string]bool{"tls11": a.tls11, "tls12": a.tls12, "rsa": a.rsa, "alpn": a.alpn} {
			if on {
				words = append(words, word)
			}
		}
		return program(t, a, path(built()), strconv.Itoa(a.port), a.name, ca, cert, key, strings.Join(words, ",")), true
	}
}
