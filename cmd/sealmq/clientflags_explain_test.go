package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
)

// A client whose own certificate has ended says until when it was valid.
func TestOwnCertificateExpired(t *testing.T) {
	b := startBroker(t)
	// The operator's, signed again with other dates: sealmq itself refuses to work with a clock that wrong.
	data := filepath.Join(b.dir, "sealmq-data")
	parse := func(name string) *x509.Certificate {
		chain, err := pki.ParseCertificates([]byte(read(t, filepath.Join(data, name))))
		if err != nil {
			t.Fatal(err)
		}
		return chain[0]
	}
	issuer, leaf := parse("ca/device.pem"), parse("operator/cert.pem")
	key, err := pki.ParseKey([]byte(read(t, filepath.Join(data, "ca/device.key"))))
	if err != nil {
		t.Fatal(err)
	}
	leaf.NotBefore, leaf.NotAfter = time.Now().AddDate(-1, 0, -1), time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, leaf.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	old := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw})...)
	if err := os.WriteFile(filepath.Join(b.dir, "old.pem"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sealmq", "pub", "-p", strconv.Itoa(b.port), "-t", "a", "-m", "b",
		"--cafile", "sealmq-data/operator/ca.pem", "--cert", "old.pem", "--key", "sealmq-data/operator/key.pem")
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	want := "hint: the certificate in old.pem was valid until " + stamp(leaf.NotAfter)
	if err == nil || cmd.ProcessState.ExitCode() != exitTLSRefused || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%swant %s", err, out, want)
	}
}

// A data folder that is another user's is told from one without certificates.
func TestUnreadableDataFolder(t *testing.T) {
	if os.Getuid() <= 0 {
		t.Skip("nothing is unreadable for root, nor by modes on Windows")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sealmq-data", "operator"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "sealmq-data"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "sealmq-data"), 0o700) })
	for _, args := range [][]string{{"serve"}, {"device", "add", "x"}, {"sub", "#"}, {"init"}} {
		cmd := exec.Command("sealmq", args...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != exitFile || !strings.HasPrefix(string(out), "sealmq: cannot use the data folder sealmq-data: ") {
			t.Errorf("%q: %s", args, out)
		}
	}
}

// A broker that says why it refuses a password is not talked over.
func TestPasswordHint(t *testing.T) {
	for reason, want := range map[string]int{"": 1, "no passwords in the clear": 0} {
		err := new(link).explainServer(&client.ServerError{Packet: mqtt.CONNACK, Code: mqtt.BadUserNameOrPassword, Reason: reason})
		if got := len(err.(*exitError).hints); got != want {
			t.Errorf("reason %q: %d hints, want %d", reason, got, want)
		}
	}
}
