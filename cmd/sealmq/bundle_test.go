package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"image/png"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rsc.io/qr"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// writeBundle writes the folder of a device and returns it.
func writeBundle(t *testing.T) (dir string, b *pki.Bundle) {
	t.Helper()
	ca, err := pki.Create(filepath.Join(t.TempDir(), "ca"), pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = ca.IssueClient(pki.Device, "pump-17", ""); err != nil {
		t.Fatal(err)
	}
	s := snippet{ID: "pump-17", Host: "fd00::2", Port: 8883, Bundle: b, formats: formats(), password: "secret"}
	files, err := s.files()
	if err != nil {
		t.Fatal(err)
	}
	to, err := reserve(filepath.Join(t.TempDir(), "pump-17"), bundleNames(s.formats))
	if err != nil {
		t.Fatal(err)
	}
	if err := to.write(files); err != nil {
		t.Fatal(err)
	}
	return to.dir, b
}

// What the device compiles in is what the files hold. The program around the
// header stands for the Arduino core.
func TestArduinoHeader(t *testing.T) {
	cxx, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("needs g++")
	}
	dir, b := writeBundle(t)
	const program = `#include <cstdio>
#define PROGMEM
#include "arduino_device.h"
int main() { printf("%s %d %s%s%s%s", SEALMQ_HOST, SEALMQ_PORT, SEALMQ_ID, SEALMQ_CA, SEALMQ_CERT, SEALMQ_KEY); }
`
	src, exe := filepath.Join(dir, "test.cpp"), filepath.Join(dir, "test.exe")
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cxx, "-std=gnu++11", "-Wall", "-Werror", "-o", exe, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(exe).Output()
	want := "fd00::2 8883 pump-17\n" + string(b.CA) + "\n" + string(b.Cert) + "\n" + string(b.Key)
	if err != nil || string(out) != want {
		t.Errorf("got %q %v, want %q", out, err, want)
	}
}

// The C program compiles against the parts of Mongoose's interface that it uses.
func TestMongooseProgram(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler")
	}
	dir, _ := writeBundle(t)
	out, err := exec.Command(cc, "-std=c99", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-fsyntax-only",
		"-I", filepath.Join("testdata", "mongoose"), filepath.Join(dir, "mongoose_device.c")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the header for ESP-IDF gives to esp-mqtt is what the files hold; the linker embeds them here as its build does there.
func TestESPHeader(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler")
	}
	dir, b := writeBundle(t)
	program := `#include <stdio.h>
#include "esp_idf_device.h"
esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t *c) {
  printf("%s %s %d\n%s%s%s", c->broker.address.uri, c->credentials.client_id, c->session.keepalive,
    c->broker.verification.certificate, c->credentials.authentication.certificate, c->credentials.authentication.key);
  return 0;
}
int main(void) { return sealmq_client() != 0; }
`
	for name, text := range map[string][]byte{"ca": b.CA, "cert": b.Cert, "key": b.Key} {
		program += "const char " + name + `_text[] asm("_binary_` + name + `_pem_start") = ` + strconv.Quote(string(text)) + ";\n"
	}
	src, exe := filepath.Join(dir, "test.c"), filepath.Join(dir, "test.exe")
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-I", filepath.Join("testdata", "esp-idf"), "-o", exe, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(exe).Output()
	want := "mqtts://[fd00::2]:8883 pump-17 60\n" + string(b.CA) + string(b.Cert) + string(b.Key)
	if err != nil || string(out) != want {
		t.Errorf("got %q %v, want %q", out, err, want)
	}
}

// The .p12 file holds the same key and certificate, whom to trust, and opens with its password alone.
func TestP12(t *testing.T) {
	_, b := writeBundle(t)
	for _, legacy := range []bool{false, true} {
		s := snippet{Bundle: b, password: "pässword", legacy: legacy}
		content, err := s.p12()
		if err != nil {
			t.Fatal(err)
		}
		key, leaf, cas, err := pkcs12.DecodeChain(content, s.password)
		if err != nil {
			t.Fatal(err)
		}
		if !leaf.Equal(b.Leaf) || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.(crypto.Signer).Public()) {
			t.Error("another certificate or key")
		}
		roots, err := pki.ParseCertificates(b.CA)
		if err != nil || len(cas) == 0 || !cas[len(cas)-1].Equal(roots[0]) {
			t.Errorf("the CA is not among %d certificates: %v", len(cas), err)
		}
		if _, _, _, err := pkcs12.DecodeChain(content, "password"); err == nil {
			t.Error("opens with another password")
		}
	}
}

func TestP12Password(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for _, c := range []struct{ content, want string }{
		{"secret\nmore", "secret"}, {"a b\r\n", "a b"}, {"x", "x"}, {"", ""}, {"\n", ""}, {"😀", ""},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, made, err := (&bundleFlags{passwordFile: file}).p12Password()
		if got != c.want || made || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q %v %v", c.content, got, made, err)
		}
	}
	a, made, err := (&bundleFlags{}).p12Password()
	b, _, _ := (&bundleFlags{}).p12Password()
	if a == b || len(a) < 26 || !made || err != nil {
		t.Errorf("%q %q %v %v", a, b, made, err)
	}
}

// The picture and the drawing are the code; what it says has no key in it.
func TestQR(t *testing.T) {
	_, b := writeBundle(t)
	s := snippet{ID: "pump-17", Host: "fd00::2", Port: 8883, Bundle: b}
	text, err := s.qrText()
	roots, _ := pki.ParseCertificates(b.CA)
	if want := "mqtts://[fd00::2]:8883?ca=" + pki.Fingerprint(roots[0]) + "&id=pump-17"; text != want || err != nil {
		t.Errorf("got %s %v, want %s", text, err, want)
	}
	content, err := qrPNG(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	var drawn bytes.Buffer
	if err := drawQR(&drawn, text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(drawn.String()), "\n")
	for y := range code.Size {
		line := []rune(strings.TrimSuffix(strings.TrimPrefix(lines[(y+2)/2], "\x1b[30;47m"), "\x1b[0m"))
		for x := range code.Size {
			r := line[x+2]
			if got := r == '█' || r == '▀' && y%2 == 0 || r == '▄' && y%2 == 1; got != code.Black(x, y) {
				t.Fatalf("dot %d,%d is %v", x, y, got)
			}
		}
	}
	if _, err := qrPNG(strings.Repeat("x", 5000)); err == nil {
		t.Error("a text that is too long has a code")
	}
}

// A certificate whose files cannot be written is revoked, and a device that was added for it forgotten.
func TestTakeBack(t *testing.T) {
	data := t.TempDir()
	if _, _, err := pki.InitFolder(data, pki.Config{}); err != nil {
		t.Fatal(err)
	}
	fleet, end, err := sealmq.OpenFleet(sealmq.Config{Data: data}, pki.KeyOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	c := control.Local(fleet)
	defer c.Close()
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "pump-17")
	i := &issuance{client: c, flags: &bundleFlags{address: addressFlags{host: "localhost", port: 8883}}, formats: formats()[:defaultFormats]}
	inTheWay := func(got *control.Certificate, err error) (*control.Certificate, error) {
		if werr := os.WriteFile(filepath.Join(dir, "paho_device.py"), nil, 0o600); werr != nil {
			t.Fatal(werr)
		}
		return got, err
	}
	_, err = i.issue(ctx, "pump-17", dir, func(csr string) (*control.Certificate, error) {
		return inTheWay(c.AddDevice(ctx, control.AddRequest{ID: "pump-17", CSR: csr}))
	})
	if err == nil || !strings.HasSuffix(err.Error(), "the certificate that was issued is revoked again") || exitCode(err) != exitFile {
		t.Fatalf("%v", err)
	}
	if _, err := c.Device(ctx, "pump-17"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("the device stays: %v", err)
	}
	if exists(filepath.Join(dir, "key.pem")) || exists(filepath.Join(dir, "cert.pem")) {
		t.Error("files are left")
	}

	// One that was there stays.
	if _, err := c.AddDevice(ctx, control.AddRequest{ID: "pump-18"}); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(dir)
	_, err = i.issue(ctx, "pump-18", dir, func(csr string) (*control.Certificate, error) {
		return inTheWay(c.RenewDevice(ctx, control.SignRequest{ID: "pump-18", CSR: csr}))
	})
	d, gone := c.Device(ctx, "pump-18")
	if err == nil || gone != nil || d.State != registry.Active || len(d.Certificates) != 1 || d.Certificates[0].State != registry.CertRevoked {
		t.Errorf("%v, %v, %+v", err, gone, d)
	}
}

func TestSnippetsHaveNoGaps(t *testing.T) {
	dir, b := writeBundle(t)
	var all []pki.File
	for _, f := range formats() {
		all = append(all, f.files...)
	}
	for _, f := range all {
		text, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == p12File { // encrypted
			continue
		}
		for _, gap := range []string{"{{", "<no value>", "%!"} {
			if strings.Contains(string(text), gap) {
				t.Errorf("%s contains %q", f.Name, gap)
			}
		}
		key := strings.Split(string(b.Key), "\n")[1]
		if got := strings.Contains(string(text), key); got != f.Secret {
			t.Errorf("%s: private key inside %v, mode 0600 %v", f.Name, got, f.Secret)
		}
		if strings.Contains(string(text), "mqtts://") && !strings.Contains(string(text), "mqtts://[fd00::2]:8883") {
			t.Errorf("%s: an IPv6 address in a URL has brackets", f.Name)
		}
	}
}
