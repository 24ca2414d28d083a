package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/config/internal/bind"
	"github.com/sealmq/sealmq/transport"
)

func TestTags(t *testing.T) {
	if err := bind.Check(reflect.TypeFor[Config]()); err != nil {
		t.Error(err)
	}
}

// The tags' defaults are those that the package itself uses.
func TestDefaultsAgree(t *testing.T) {
	var tags transport.Config
	bind.Fill(&tags)
	if diff := cmp.Diff(transport.Config{}.WithDefaults(), tags); diff != "" {
		t.Error(diff)
	}
}

func TestDefault(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if ws := c.Warnings(); len(ws) > 0 {
		t.Errorf("warnings: %q", ws)
	}
	if len(c.Listeners) != 1 {
		t.Fatalf("%d listeners", len(c.Listeners))
	}
	l := c.Listeners[0]
	if l.Plain || l.Anonymous || l.ClientCertificates != transport.Required || l.Address != ":8883" || l.Name != "tls-8883" {
		t.Errorf("the default listener is not sealed: %+v", l)
	}
	empty, err := Parse("empty.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, empty, cmpopts.IgnoreUnexported(Listener{})); diff != "" {
		t.Errorf("an empty file is not the default: %s", diff)
	}
}

// The two ways to let anonymous clients in are one, and without `auth` a listener asks for certificates.
func TestChain(t *testing.T) {
	for _, test := range []struct {
		l    Listener
		want string
	}{
		{Listener{}, "certificate"},
		{Listener{Anonymous: true, Config: transport.Config{ClientCertificates: transport.Optional}}, "certificate anonymous"},
		{Listener{Anonymous: true, Config: transport.Config{Plain: true}}, "anonymous"},
		{Listener{Auth: []string{"password"}}, "password"},
		{Listener{Auth: []string{"password"}, Anonymous: true}, "password anonymous"},
		{Listener{Auth: []string{"password", "anonymous"}}, "password anonymous"},
	} {
		l := Config{Listeners: []Listener{test.l}}.Effective().Listeners[0]
		if got := strings.Join(l.Chain(), " "); got != test.want || l.Anonymous != strings.HasSuffix(got, "anonymous") {
			t.Errorf("%+v: %s, anonymous %v; want %s", test.l, got, l.Anonymous, test.want)
		}
	}
}

// What a program leaves zero in a listener's limits comes from the general ones.
func TestInheritance(t *testing.T) {
	c := Config{
		Broker:    broker.Config{Limits: broker.Limits{MaxQoS: 1, MaxQueued: 5, NoShared: true}},
		Listeners: []Listener{{Limits: broker.Limits{MaxQueued: 7}}},
	}.Effective()
	l := c.Listeners[0].Limits
	if l.MaxQoS != 1 || l.MaxQueued != 7 || !l.NoShared || l.ReceiveMaximum != 20 {
		t.Errorf("%+v", l)
	}
	if diff := cmp.Diff(c, c.Effective(), cmp.AllowUnexported(Listener{})); diff != "" {
		t.Errorf("the effective configuration has another effective configuration: %s", diff)
	}
}

func TestEffectiveLeavesTheOriginal(t *testing.T) {
	c := Config{Listeners: []Listener{{}}}
	_ = c.Effective()
	if c.Listeners[0].Name != "" {
		t.Error("Effective wrote into the listeners of the original")
	}
}

// A configuration that came from no file is checked in the same way, by listener name.
func TestValidate(t *testing.T) {
	c := Config{
		Broker: broker.Config{PreAuthMemory: 1, Limits: broker.Limits{MaxQoS: 3}},
		Log:    Log{Level: "loud"},
		Listeners: []Listener{
			{Config: transport.Config{Name: "bench", Plain: true, MaxRecord: 1}},
			{Config: transport.Config{Name: "bench", Plain: true, ClientCertificates: transport.Optional}, Anonymous: true},
		},
	}
	want := `preauth_memory: 1 is not between 1048576 and 4294967296
limits.max_qos: 3 is not between 0 and 2
log.level: "loud" is none of debug, info, warn, error
listener[bench].max_record: 1 is not within 256 and 16384
listener[bench].limits.max_qos: 3 is not between 0 and 2
listener[bench].tls: a listener without TLS takes no credentials, so it must also say anonymous = true
listener[bench].limits.max_qos: 3 is not between 0 and 2
listener[bench].name: "bench" is the name of two listeners
listener[bench].address: 127.0.0.1:1883 is taken by the listener bench (127.0.0.1:1883)
listener[bench].client_certificates: there are none without TLS`
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	var p bind.Problem
	if !errors.As(err, &p) || p.Key != "preauth_memory" {
		t.Errorf("errors.As found %+v", p)
	}
}

// The file holds cases: "== name", the input, "----", and then the errors, or the warnings and what differs from the
// default. UPDATE=1 rewrites it.
func TestGolden(t *testing.T) {
	const file = "testdata/parse.txt"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for i, part := range strings.Split(string(data), "== ") {
		name, body, _ := strings.Cut(part, "\n")
		input, want, ok := strings.Cut(body, "----\n")
		if i == 0 || !ok {
			out.WriteString(part)
			continue
		}
		have := outcome(t, input) + "\n"
		fmt.Fprintf(&out, "== %s\n%s----\n%s", name, input, have)
		if os.Getenv("UPDATE") == "" && have != want {
			t.Errorf("%s\n%s", name, cmp.Diff(want, have))
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(out.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func outcome(t *testing.T, input string) string {
	c, err := Parse("sealmq.toml", []byte(input))
	if err != nil {
		if diff := cmp.Diff(Config{}, c, cmpopts.IgnoreUnexported(Listener{})); diff != "" {
			t.Errorf("a configuration comes with the error: %s", diff)
		}
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, w := range c.Warnings() {
		b.WriteString("warning: " + w + "\n")
	}
	var text bytes.Buffer
	if err := c.WriteTOML(&text); err != nil {
		t.Fatal(err)
	}
	back, err := Parse("sealmq.toml", text.Bytes())
	if err != nil {
		t.Fatalf("the effective configuration does not read back: %v\n%s", err, text.String())
	}
	if diff := cmp.Diff(c, back, cmp.AllowUnexported(Listener{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the effective configuration reads back as another: %s", diff)
	}
	for l := range strings.Lines(text.String()) {
		if l != "\n" && !strings.HasSuffix(l, "# default\n") {
			b.WriteString(l)
		}
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := pair(t)
	_, otherKey := pair(t)
	write("cert.pem", cert)
	write("key.pem", key)
	write("other.pem", otherKey)
	write("empty.pem", "")
	if err := os.Chmod(write("open.pem", key), 0o644); err != nil {
		t.Fatal(err)
	}

	good := write("good.toml", "data = \"state\"\n[[listener]]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"cert.pem\"\n")
	c, err := Load(good)
	if err != nil {
		t.Fatal(err)
	}
	l := c.Listeners[0]
	for _, p := range [][2]string{{c.Data, "state"}, {l.Certificate, "cert.pem"}, {l.Key, "key.pem"}, {l.ClientCA, "cert.pem"}} {
		if p[0] != filepath.Join(dir, p[1]) {
			t.Errorf("%s is not in the file's folder", p[0])
		}
	}

	bad := write("bad.toml", `adress = 1
[[listener]]
certificate = "cert.pem"
key = "other.pem"
client_ca = "empty.pem"
[[listener]]
address = ":8884"
certificate = "missing.pem"
key = "key.pem"
[[listener]]
address = ":8885"
certificate = "cert.pem"
key = "open.pem"
`)
	_, err = Load(bad)
	if err == nil {
		t.Fatal("no error")
	}
	want := `bad.toml:1: adress: unknown key; did you mean listener.address?
bad.toml:3: listener.certificate: open other.pem: the key does not belong to cert.pem
bad.toml:5: listener.client_ca: open empty.pem: parse certificates: no CERTIFICATE block
bad.toml:8: listener.certificate: open missing.pem: no such file or directory
bad.toml:12: listener.certificate: open open.pem: private key is open to others (mode 0644); chmod 600 open.pem`
	if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")); diff != "" {
		t.Error(diff)
	}

	if _, err := Load(filepath.Join(dir, "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(write("big.toml", strings.Repeat("# comment\n", bind.MaxSize/10+1))); err == nil {
		t.Error("a file above the bound was read")
	}
}

// A relative path in a file of the working directory stays as it is; the default data folder is no path of the file.
func TestPaths(t *testing.T) {
	c, err := Parse("sealmq.toml", []byte(`data = "state"`))
	if err != nil || c.Data != "state" {
		t.Errorf("%q, %v", c.Data, err)
	}
	c, err = Parse("/etc/sealmq/sealmq.toml", nil)
	if err != nil || c.Data != DefaultData {
		t.Errorf("%q, %v", c.Data, err)
	}
}

func pair(t *testing.T) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))
}

// No file makes the loader panic, and what it accepts is valid, prints, and reads back.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/parse.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(data), "== ") {
		_, body, _ := strings.Cut(part, "\n")
		input, _, _ := strings.Cut(body, "----\n")
		f.Add([]byte(input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
		c.Warnings()
		var b bytes.Buffer
		if err := c.WriteTOML(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("f", b.Bytes()); err != nil {
			t.Fatalf("what was printed does not read back: %v\n%s", err, b.String())
		}
	})
}
