package tlsmatrix

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/transport"
)

var long = flag.Bool("long", false, "run testssl, too: minutes for each profile")

// spoken is what scanners and clients must find of a profile.
type spoken struct {
	profile  transport.Profile
	versions []string // as sslscan has them
	suites   []string // of TLS 1.2, with the key of the test
	tls13    []string
	groups   []string
	hybrid   tls.CurveID // agreed with Go's client; sslscan knows none of the hybrids
	resumes  bool
}

var (
	aesGCM = []string{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"}
	chacha = "ECDHE-ECDSA-CHACHA20-POLY1305"
	aes13  = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"}
	all13  = append(slices.Clip(aes13), "TLS_CHACHA20_POLY1305_SHA256")
	both   = []string{"TLSv1.2", "TLSv1.3"}
)

const (
	nistP256 = "secp256r1 (NIST P-256)"
	nistP384 = "secp384r1 (NIST P-384)"
)

var profiles = []spoken{
	{transport.ProfileDefault, both, append(slices.Clip(aesGCM), chacha), all13, []string{nistP256, "x25519"}, tls.X25519MLKEM768, true},
	{transport.ProfileModern, both[1:], nil, all13, []string{nistP256, "x25519"}, tls.X25519MLKEM768, true},
	{transport.ProfileHigh, both[1:], nil, all13, []string{nistP256, nistP384}, tls.SecP256r1MLKEM768, false},
	{transport.ProfileConstrained, both, append(slices.Clip(aesGCM), chacha), all13, []string{nistP256, "x25519"}, tls.X25519, true},
	{transport.ProfileFIPS, both, aesGCM, aes13, []string{nistP256, nistP384}, tls.X25519MLKEM768, true},
}

// profilePage is what the page says of the profiles.
func profilePage() string {
	var b strings.Builder
	b.WriteString(`
# The profiles, as scanners see them

` + "`profile`" + ` of a listener says what of TLS it speaks. sslscan, openssl and Go found exactly this, with a P-256 certificate; testssl
finds no weakness (` + "`go test ./tlsmatrix -run TestProfiles -long`" + `).

| ` + "`profile`" + ` | Versions | Suites of TLS 1.2 | Suites of TLS 1.3 | Groups, without hybrids | Agreed with Go | Resumes |
|---|---|---|---|---|---|---|
`)
	list := func(s []string) string {
		if len(s) == 0 {
			return "none"
		}
		return strings.Join(s, ", ")
	}
	for _, p := range profiles {
		resumes := map[bool]string{true: "yes", false: "no"}[p.resumes]
		fmt.Fprintf(&b, "| `%v` | %s | %s | %s | %s | %v | %s |\n", p.profile, list(p.versions), list(p.suites), list(p.tls13), list(p.groups), p.hybrid, resumes)
	}
	b.WriteString(`
- ` + "`default`" + ` is what Mozilla calls intermediate, without finite-field Diffie-Hellman: everything from an ESP8266 to today's servers.
- ` + "`modern`" + ` and ` + "`high`" + ` leave out TLS 1.2, and with it Mbed TLS 2 and BearSSL. ` + "`high`" + ` has the groups of the NIST, hybrids first, and no resumption.
- ` + "`constrained`" + ` is default with records of at most 1,024 bytes, for devices that cannot say how small their buffer is, and without
  hybrids, whose handshake is 2 KB longer.
- ` + "`fips`" + ` is for a broker in FIPS mode and is refused otherwise.

With an RSA certificate the same suites are spoken with RSA in place of ECDSA.

# Small devices

A record is never larger than the least of ` + "`max_record`" + `, what the client announced as max_fragment_length, and what it announced as
record_size_limit. Proved with BearSSL and a message of 40,000 bytes over mutual TLS: 837 bytes of buffer suffice, announced on any
listener, or not announced with ` + "`max_record = 512`" + `; 1,349 bytes with profile constrained. Without the cap the same client breaks off with
its error 6, and the broker's log says [E-TLS-029](errors/E-TLS-029.md).

Arduino's ` + "`probeMaxFragmentLength()`" + ` answers false, because the broker cannot confirm the extension; it honours it all the same:
` + "`client.setBufferSizes(1024, 512)`" + ` without the probe.

# FIPS 140-3

` + "`GODEBUG=fips140=on sealmq serve`" + ` runs with the FIPS 140-3 module of Go; ` + "`GOFIPS140=v1.0.0 go build ./cmd/sealmq`" + ` builds with its
certified version, and such a program is in FIPS mode by itself. Then no listener speaks ChaCha20-Poly1305, nor X25519 outside its
hybrid, whatever its profile. The tests of ` + "`transport`" + ` pass in that mode, and ` + "`TestFIPS`" + ` runs in it.

Every library above connects, but for BearSSL (ESP8266), which has no extended master secret: [E-TLS-019](errors/E-TLS-019.md).
`)
	return b.String()
}

// Scanners and clients find of each profile what its name promises.
func TestProfiles(t *testing.T) {
	k := newKit(t)
	for _, p := range profiles {
		t.Run(p.profile.String(), func(t *testing.T) {
			if p.profile == transport.ProfileFIPS {
				if !fips140.Enabled() {
					fipsChild(t)
					return
				}
			} else if fips140.Enabled() {
				t.Skip("what FIPS mode leaves of it is not what its name says")
			}
			cfg := transport.Config{ClientCertificates: transport.None, Profile: p.profile}
			t.Run("sslscan", func(t *testing.T) { p.scan(t, open(t, cfg, k.good)) })
			t.Run("openssl", func(t *testing.T) { p.openssl(t, k, cfg) })
			t.Run("go", func(t *testing.T) { p.golang(t, k, open(t, cfg, k.good)) })
			t.Run("testssl", func(t *testing.T) { p.testssl(t, open(t, cfg, k.good)) })
		})
	}
}

// fipsChild runs the test in a process in FIPS mode.
func fipsChild(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], fmt.Sprintf("-long=%v", *long), "-test.v", "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("GODEBUG=fips140=on: %v\n%s", err, out)
	}
}

var (
	protocol = regexp.MustCompile(`(?m)^((?:SSL|TLS)v\S+)\s+(enabled|disabled)$`)
	accepted = regexp.MustCompile(`(?m)^(?:Preferred|Accepted)\s+(TLSv1\.\d)\s+\d+ bits\s+(\S+)`)
	group    = regexp.MustCompile(`(?m)^TLSv1\.\d\s+\d+ bits\s+(\S.*)$`)
)

func (p spoken) scan(t *testing.T, d *door) {
	if _, err := exec.LookPath("sslscan"); err != nil {
		t.Skip("skipped: no sslscan: needs Debian's package sslscan")
	}
	raw, err := exec.Command("sslscan", "--no-colour", "--no-heartbleed", "--no-renegotiation", "--no-check-certificate", fmt.Sprintf("127.0.0.1:%d", d.port)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	out := string(raw)
	var versions, suites, tls13, groups []string
	for _, m := range protocol.FindAllStringSubmatch(out, -1) {
		if m[2] == "enabled" {
			versions = append(versions, m[1])
		}
	}
	for _, m := range accepted.FindAllStringSubmatch(out, -1) {
		if m[1] == "TLSv1.3" {
			tls13 = append(tls13, m[2])
		} else {
			suites = append(suites, m[2])
		}
	}
	for _, m := range group.FindAllStringSubmatch(out, -1) {
		groups = append(groups, m[1])
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{{"versions", versions, p.versions}, {"suites", suites, p.suites}, {"TLS 1.3 suites", tls13, p.tls13}, {"groups", groups, p.groups}} {
		got, want := slices.Compact(slices.Sorted(slices.Values(c.got))), slices.Sorted(slices.Values(c.want))
		if !slices.Equal(got, want) {
			t.Errorf("%s %q, want %q\n%s", c.what, got, want, out)
		}
	}
}

// openssl offers one thing at a time.
func (p spoken) openssl(t *testing.T, k *kit, cfg transport.Config) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("skipped: no openssl")
	}
	try := func(args ...string) string {
		d := open(t, cfg, k.good)
		a := attempt{port: d.port}
		args = append([]string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", d.port), "-CAfile", k.ca.cert, "-servername", host, "-verify_return_error", "-ign_eof"}, args...)
		program(t, a, "openssl", args...)
		o, _ := d.outcome(t)
		he, _ := o.failure()
		if he != nil {
			return string(he.Cause)
		}
		return "ok"
	}
	old := try("-tls1_2")
	if want := map[bool]string{true: "ok", false: string(transport.CauseTLS12Excluded)}[slices.Contains(p.versions, "TLSv1.2")]; old != want {
		t.Errorf("TLS 1.2: %s, want %s", old, want)
	}
	for _, g := range []struct{ name, scanned string }{{"X25519", "x25519"}, {"P-256", nistP256}, {"P-384", nistP384}, {"P-521", "secp521r1"}} {
		want := string(transport.CauseCipher)
		if slices.Contains(p.groups, g.scanned) {
			want = "ok"
		}
		if got := try("-tls1_3", "-groups", g.name); got != want {
			t.Errorf("%s: %s, want %s", g.name, got, want)
		}
	}
}

func (p spoken) golang(t *testing.T, k *kit, d *door) {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(k.ca.cert)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal("no CA", err)
	}
	cfg := &tls.Config{RootCAs: roots, ServerName: host, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for again := range 2 {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port), cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "hi")
		io.ReadAll(c) // the ticket comes before the answer
		cs := c.ConnectionState()
		c.Close()
		if cs.CurveID != p.hybrid || cs.DidResume != (again == 1 && p.resumes) || cs.Version != tls.VersionTLS13 {
			t.Errorf("%v, resumed %v, want %v, %v", cs.CurveID, cs.DidResume, p.hybrid, p.resumes)
		}
	}
}

// testssl looks for every weakness that it knows.
func (p spoken) testssl(t *testing.T, d *door) {
	if !*long {
		t.Skip("skipped: takes minutes, with -long")
	}
	if _, err := exec.LookPath("testssl"); err != nil {
		t.Skip("skipped: no testssl: needs Debian's package testssl.sh")
	}
	file := filepath.Join(t.TempDir(), "found.json")
	out, _ := exec.Command("testssl", "--warnings", "batch", "--color", "0", "-p", "-s", "-f", "-U", "--ip", "127.0.0.1",
		"--jsonfile", file, fmt.Sprintf("%s:%d", host, d.port)).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var found []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	weak := []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}
	for _, f := range found {
		if slices.Contains(weak, f.Severity) {
			t.Errorf("%s %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	t.Logf("testssl: %d findings", len(found))
}
