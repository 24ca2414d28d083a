package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testTime = time.Date(2027, time.March, 4, 5, 6, 7, 0, time.UTC)

func at(t time.Time) Config { return Config{Now: func() time.Time { return t }} }

func newAuthority(t *testing.T, cfg Config) *Authority {
	t.Helper()
	a, err := Create(filepath.Join(t.TempDir(), "ca"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The profile of every certificate that the CA makes, field by field.
func TestProfile(t *testing.T) {
	a := newAuthority(t, at(testTime))
	broker, err := a.IssueBroker([]string{"broker.lan", "192.168.1.10", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	device, err := a.IssueClient(Device, "pump-17", "sensors")
	if err != nil {
		t.Fatal(err)
	}
	operator, err := a.IssueClient(Operator, "operator", "")
	if err != nil {
		t.Fatal(err)
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	caUse := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for _, test := range []struct {
		name    string
		cert    *x509.Certificate
		issuer  *x509.Certificate
		life    time.Duration
		use     x509.KeyUsage
		ext     []x509.ExtKeyUsage
		pathLen int // -1: not a CA
	}{
		{"root", a.root, a.root, rootLife, caUse, nil, 1},
		{"broker CA", a.broker.cert, a.root, issuerLife, caUse, server, 0},
		{"device CA", a.device.cert, a.root, issuerLife, caUse, client, 0},
		{"broker", broker.Leaf, a.broker.cert, 90 * day, x509.KeyUsageDigitalSignature, server, -1},
		{"device", device.Leaf, a.device.cert, 365 * day, x509.KeyUsageDigitalSignature, client, -1},
		{"operator", operator.Leaf, a.device.cert, 365 * day, x509.KeyUsageDigitalSignature, client, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.cert
			if k, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
				t.Errorf("key %T, want P-256", c.PublicKey)
			}
			if c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
				t.Errorf("signature %v", c.SignatureAlgorithm)
			}
			if n := c.SerialNumber.BitLen(); n != 128 || c.SerialNumber.Sign() != 1 {
				t.Errorf("serial %v has %d bits, want 128", c.SerialNumber, n)
			}
			if want := testTime.Add(-24 * time.Hour); !c.NotBefore.Equal(want) {
				t.Errorf("NotBefore %v, want %v", c.NotBefore, want)
			}
			if want := testTime.Add(test.life); !c.NotAfter.Equal(want) {
				t.Errorf("NotAfter %v, want %v", c.NotAfter, want)
			}
			if c.KeyUsage != test.use || !slices.Equal(c.ExtKeyUsage, test.ext) {
				t.Errorf("key usage %v %v", c.KeyUsage, c.ExtKeyUsage)
			}
			for _, e := range c.Extensions {
				id := e.Id.String()
				if e.Critical != (id == "2.5.29.15" || id == "2.5.29.19") { // key usage, basic constraints
					t.Errorf("extension %s critical=%v", id, e.Critical)
				}
				if id == "2.5.29.30" {
					t.Error("name constraints break small TLS stacks")
				}
			}
			if !c.BasicConstraintsValid || c.IsCA != (test.pathLen >= 0) || c.IsCA && c.MaxPathLen != test.pathLen {
				t.Errorf("basic constraints CA=%v pathlen=%d", c.IsCA, c.MaxPathLen)
			}
			if len(c.SubjectKeyId) != 20 || string(c.AuthorityKeyId) != string(test.issuer.SubjectKeyId) {
				t.Errorf("key ids %x, issuer %x", c.SubjectKeyId, c.AuthorityKeyId)
			}
			if err := c.CheckSignatureFrom(test.issuer); err != nil {
				t.Error(err)
			}
		})
	}

	if diff := cmp.Diff([]string{"broker.lan", "192.168.1.10", "::1"}, broker.Leaf.DNSNames); diff != "" {
		t.Errorf("DNS names: every address is one too: %s", diff)
	}
	if got := len(broker.Leaf.IPAddresses); got != 2 {
		t.Errorf("%d addresses, want 2", got)
	}
	if got := broker.Leaf.Subject.String(); got != "CN=broker.lan" {
		t.Errorf("broker subject %q", got)
	}
	if got := device.Leaf.Subject.String(); got != "CN=pump-17,OU=sensors,O=default" {
		t.Errorf("device subject %q", got)
	}
	if got := device.Leaf.URIs[0].String(); got != "urn:mqtts:default:device:pump-17" || len(device.Leaf.DNSNames) != 0 {
		t.Errorf("device identity %q, names %q", got, device.Leaf.DNSNames)
	}
	if got := operator.Leaf.URIs[0].String(); got != "urn:mqtts:default:operator:operator" {
		t.Errorf("operator identity %q", got)
	}
	if size := len(broker.Leaf.Raw) + len(a.broker.cert.Raw); size > 2048 {
		t.Errorf("the chain of the broker has %d bytes, small devices want at most 2048", size)
	}
}

// What each certificate is good for, asked of crypto/tls: a device is no
// broker, a broker is no client, and another CA is nobody.
func TestHandshakes(t *testing.T) {
	a, other := newAuthority(t, Config{}), newAuthority(t, Config{})
	pair := func(b *Bundle, err error) tls.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.X509KeyPair(b.Cert, b.Key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	broker := pair(a.IssueBroker([]string{"localhost", "127.0.0.1"}))
	device := pair(a.IssueClient(Device, "localhost", ""))
	stranger := pair(other.IssueClient(Device, "pump-17", ""))
	leafOnly := device
	leafOnly.Certificate = device.Certificate[:1]
	for _, test := range []struct {
		name           string
		server, client tls.Certificate
		host           string
		trust          *Authority
		want           string
	}{
		{"by name", broker, device, "localhost", a, ""},
		{"by address", broker, device, "127.0.0.1", a, ""},
		{"client sends its leaf alone", broker, leafOnly, "localhost", a, ""},
		{"other name", broker, device, "example.org", a, "not example.org"},
		{"device poses as broker", device, device, "localhost", a, "x509:"},
		{"broker poses as client", broker, broker, "localhost", a, "certificate"},
		{"client of another CA", broker, stranger, "localhost", a, "certificate"},
		{"broker of another CA", broker, device, "localhost", other, "unknown authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(test.trust.RootPEM()) {
				t.Fatal("root.pem is not PEM")
			}
			err := handshake(
				&tls.Config{Certificates: []tls.Certificate{test.server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.ClientCAs()},
				&tls.Config{RootCAs: roots, ServerName: test.host, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &test.client, nil
				}})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// handshake returns the client's error, which includes what the server answered.
func handshake(server, client *tls.Config) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		s := tls.Server(a, server)
		if s.Handshake() == nil {
			s.Write([]byte{0})
		}
		a.Close()
	}()
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

func TestOpenSSLVerifies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	a := newAuthority(t, Config{})
	for _, test := range []struct {
		purpose string
		issue   func() (*Bundle, error)
	}{
		{"sslserver", func() (*Bundle, error) { return a.IssueBroker([]string{"broker.lan"}) }},
		{"sslclient", func() (*Bundle, error) { return a.IssueClient(Device, "pump-17", "") }},
	} {
		b, err := test.issue()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := b.Write(dir); err != nil {
			t.Fatal(err)
		}
		untrusted := filepath.Join(dir, "issuers.pem")
		if err := os.WriteFile(untrusted, encodeCertificates(a.broker.cert, a.device.cert), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", test.purpose, "-CAfile", dir+"/ca.pem",
			"-untrusted", untrusted, dir+"/cert.pem").CombinedOutput()
		if err != nil {
			t.Errorf("openssl verify -purpose %s: %v\n%s", test.purpose, err, out)
		}
	}
}

func TestOpenReadsWhatCreateWrote(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Open(dir, Config{}); !errors.Is(err, ErrNoCA) {
		t.Fatalf("no folder: %v, want ErrNoCA", err)
	}
	a, err := Create(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, Config{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v, want ErrExist", err)
	}
	b, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if !a.root.Equal(b.root) || !a.device.cert.Equal(b.device.cert) || !a.broker.cert.Equal(b.broker.cert) {
		t.Error("another CA came back")
	}
	var got []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		fi, _ := e.Info()
		got = append(got, fi.Mode().Perm().String()+" "+e.Name())
	}
	want := []string{
		"-rw------- broker.key", "-rw-r--r-- broker.pem", "-rw------- device.key",
		"-rw-r--r-- device.pem", "-rw------- root.key", "-rw-r--r-- root.pem",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("temporary files stay behind: %v", left)
	}

	// The root's key may be kept elsewhere.
	if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	if b, err = Open(dir, Config{}); err != nil {
		t.Fatalf("without root.key: %v", err)
	}
	if _, err := b.IssueClient(Device, "pump-17", ""); err != nil {
		t.Errorf("without root.key: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(dir string) error
		want string
		hint string
	}{
		{"readable key", func(d string) error { return os.Chmod(d+"/device.key", 0o640) }, "open to others (mode 0640)", "chmod 600 DIR/device.key"},
		{"readable root key", func(d string) error { return os.Chmod(d+"/root.key", 0o604) }, "open to others (mode 0604)", "chmod 600 DIR/root.key"},
		{"readable folder", func(d string) error { return os.Chmod(d, 0o755) }, "open to others (mode 0755)", "chmod 700 DIR"},
		{"keys exchanged", func(d string) error { return os.Rename(d+"/broker.key", d+"/device.key") }, "does not belong", ""},
		{"other key", func(d string) error { return copyFile(d+"/root.key", d+"/device.key") }, "does not belong", ""},
		{"other CA", func(d string) error { return copyFile(d+"/device.pem", d+"/root.pem") }, "not signed by itself", ""},
		{"damaged", func(d string) error { return os.WriteFile(d+"/broker.pem", []byte("x"), 0o600) }, "no CERTIFICATE block", ""},
		{"key for certificate", func(d string) error { return copyFile(d+"/root.key", d+"/root.pem") }, `found a block "PRIVATE KEY"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if _, err := Create(dir, Config{}); err != nil {
				t.Fatal(err)
			}
			if err := test.harm(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, Config{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			var h interface{ Hint() string }
			if want := strings.ReplaceAll(test.hint, "DIR", dir); want != "" && (!errors.As(err, &h) || h.Hint() != want) {
				t.Errorf("hint of %v, want %q", err, want)
			}
		})
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// A Raspberry Pi boots in 1970: nothing is issued then.
func TestClockBeforeBuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, at(time.Unix(3600, 0))); !errors.Is(err, ErrClock) {
		t.Errorf("Create in 1970: %v", err)
	}
	if exists(dir) {
		t.Error("a CA was made in 1970")
	}
	if _, err := Create(dir, at(testTime)); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, at(time.Unix(3600, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.IssueClient(Device, "pump-17", ""); !errors.Is(err, ErrClock) {
		t.Errorf("IssueClient in 1970: %v", err)
	}
	a, err = Open(dir, at(testTime.Add(6*365*day)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.IssueClient(Device, "pump-17", ""); err == nil || !strings.Contains(err.Error(), "expired on 2032") {
		t.Errorf("after the end of the issuing CA: %v", err)
	}
}

func TestLeafEndsWithItsIssuer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Create(dir, at(testTime)); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, at(testTime.Add(issuerLife-day)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.IssueClient(Device, "pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	if !b.Leaf.NotAfter.Equal(a.device.cert.NotAfter) {
		t.Errorf("leaf ends %v, its issuer %v", b.Leaf.NotAfter, a.device.cert.NotAfter)
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"pump-17": true, "A.b_c:d-9": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, "a/b": false, "a+b": false, "#": false, "a b": false, "a\nb": false,
		"ü": false, "a\x00": false, strings.Repeat("x", 65): false,
	} {
		if err := CheckID(id); (err == nil) != ok {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}

func TestSerialsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n, err := newSerial()
		if err != nil {
			t.Fatal(err)
		}
		if seen[n.String()] {
			t.Fatal("a serial came twice")
		}
		seen[n.String()] = true
	}
}
