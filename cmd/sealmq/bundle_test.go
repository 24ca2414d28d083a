package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/pki"
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
