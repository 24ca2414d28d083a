//go:build pkcs11 && cgo

package pki

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// tokenChild is set in the environment of the process that has the token: SoftHSM keeps the folder that it saw first.
const tokenChild = "SEALMQ_TEST_TOKEN"

// A CA whose keys are on a token of SoftHSM: made, opened, used, renewed, with a second root beside it.
func TestToken(t *testing.T) {
	util, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Skip("needs softhsm2-util (Debian package softhsm2)")
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	module := ""
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if exists(path) {
			module = path
		}
	}
	if module == "" {
		t.Skip("needs libsofthsm2.so")
	}
	if os.Getenv(tokenChild) == "" {
		t.Setenv(tokenChild, "1")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(self, "-test.run=^TestToken$").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/tokens", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/softhsm2.conf", []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600)
	t.Setenv("SOFTHSM2_CONF", dir+"/softhsm2.conf")
	run := func(name string, arg ...string) {
		t.Helper()
		if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, arg, err, out)
		}
	}
	run(util, "--init-token", "--free", "--label", "sealmq", "--so-pin", "87654321", "--pin", "1234")
	for i, name := range []string{"root", "device"} {
		_, plain := plainKey(t)
		key := writeFile(t, filepath.Join(dir, name+".pem"), plain, 0o600)
		run(openssl, "pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", key+".p8")
		run(util, "--import", key+".p8", "--token", "sealmq", "--label", name, "--id", fmt.Sprintf("0%d", i+1), "--pin", "1234")
	}
	pin := writeFile(t, dir+"/pin", []byte("1234\n"), 0o600)
	ref := func(name string) string {
		return "pkcs11:token=sealmq;object=" + name + "?module-path=" + module
	}
	byID := "pkcs11:token=sealmq;id=%02;type=private?module-path=" + module + "&pin-source=" + pin

	_, err = OpenKey(ref("none"), KeyOptions{Passphrase: given("1234")})
	wantError(t, err, "not found")
	_, err = OpenKey(ref("root"), KeyOptions{Passphrase: given("9999")})
	wantError(t, err, "PIN")
	_, err = OpenKey(ref("root"), KeyOptions{})
	wantError(t, err, "no PIN")
	key, err := OpenKey(byID, KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, key)

	cfg := Config{KeyRefs: map[string]string{"root": ref("root"), "device": byID}, Keys: KeyOptions{Passphrase: given("1234")}}
	ca := filepath.Join(dir, "ca")
	if _, err := Create(ca, cfg); err != nil {
		t.Fatal(err)
	}
	a, err := Open(ca, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := a.IssueClient(Device, fmt.Sprint("pump-", i), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done, err := RenewIssuing(ca, true, cfg); err != nil || len(done) != 2 {
		t.Errorf("%v %v", done, err)
	}
	if err := Announce(ca, Announcement{}, Config{Keys: cfg.Keys}); err != nil {
		t.Fatal(err)
	}
	if err := Switch(ca, Seen{}, false, Config{}); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(ca, Config{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.DeviceCAs() {
		if _, err := a.SignCRLOf(c, CRL{Number: 1}); err != nil {
			t.Error(err)
		}
	}
}
