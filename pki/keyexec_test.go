package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// signerArg makes the test binary a signing program: signerArg BEHAVIOUR KEYFILE.
const signerArg = "act-as-signing-program"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == signerArg {
		if err := signingProgram(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Under the race detector the programs would sleep for a second at their end.
	os.Setenv("GORACE", "atexit_sleep_ms=10")
	os.Exit(m.Run())
}

func signingProgram(behaviour, keyFile string) error {
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := ParseKey(b)
	if err != nil {
		return err
	}
	if behaviour == "deaf" {
		_, err := fmt.Println(`{"error":"the HSM is locked"}`)
		return err
	}
	var req execRequest
	if err := json.NewDecoder(os.Stdin).Decode(&req); err != nil {
		return err
	}
	if req.Version != 1 {
		return fmt.Errorf("version %d", req.Version)
	}
	var answer execAnswer
	switch {
	case behaviour == "hangs":
		time.Sleep(time.Hour)
	case behaviour == "fails":
		return fmt.Errorf("first line\nno network")
	case behaviour == "noisy":
		fmt.Print(strings.Repeat(" ", maxExecAnswer+1))
	case behaviour == "garbage":
		fmt.Print("{")
		return nil
	case behaviour == "env":
		if os.Getenv("SEALMQ_PASSPHRASE") != "" || os.Getenv("PATH") == "" {
			return fmt.Errorf("environment %q", os.Environ())
		}
	}
	switch req.Op {
	case "describe":
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return err
		}
		answer.PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	case "sign":
		if behaviour == "refuses" {
			answer.Error = "not on Sundays"
			break
		}
		if behaviour == "lies" {
			if key, err = newKey(); err != nil {
				return err
			}
		}
		hash := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384}[req.Hash]
		if answer.Signature, err = key.Sign(rand.Reader, req.Digest, hash); err != nil {
			return err
		}
	default:
		return fmt.Errorf("op %q", req.Op)
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func execRef(t testing.TB, behaviour string, keyPEM []byte) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "the key"), keyPEM, 0o600)
	return execPrefix + " " + quote(self) + " " + signerArg + " " + behaviour + " " + quote(path)
}

func TestExecKey(t *testing.T) {
	t.Setenv("SEALMQ_PASSPHRASE", "secret")
	_, plain := plainKey(t)
	for _, test := range []struct {
		behaviour, open, sign string
		timeout               time.Duration
	}{
		{"good", "", "", 0},
		{"env", "", "", 0},
		{"deaf", "the HSM is locked", "", 0},
		{"hangs", "no answer within", "", 200 * time.Millisecond},
		{"fails", `exit status 1: "no network"`, "", 0},
		{"noisy", "answer longer than", "", 0},
		{"garbage", "parse answer", "", 0},
		{"refuses", "", "not on Sundays", 0},
		{"lies", "", "not by the key that it described", 0},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			timeout := test.timeout
			if timeout == 0 {
				timeout = time.Minute
			}
			key, err := OpenKey(execRef(t, test.behaviour, plain), KeyOptions{Timeout: timeout})
			wantError(t, err, test.open)
			if err != nil {
				return
			}
			_, err = key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
			wantError(t, err, test.sign)
			if test.sign == "" {
				mustSign(t, key)
			}
			if _, err := key.Sign(rand.Reader, make([]byte, 20), crypto.SHA1); err == nil {
				t.Error("SHA-1 was signed")
			}
			if _, err := key.Sign(rand.Reader, make([]byte, 20), crypto.SHA256); err == nil {
				t.Error("a short digest was signed")
			}
		})
	}
}

func TestExecKeyKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenKey(execRef(t, "good", block("PRIVATE KEY", pkcs8(t, rsaKey))), KeyOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
	if _, err := key.Sign(rand.Reader, make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256}); err == nil {
		t.Error("PSS came out as PKCS#1")
	}
	_, err = OpenKey(execRef(t, "good", block("PRIVATE KEY", pkcs8(t, edKey))), KeyOptions{Timeout: time.Minute})
	wantError(t, err, "only ECDSA and RSA")
	for _, ref := range []string{"exec:", "exec: 'x", "exec: true", "exec: /no/such/program"} {
		if _, err := OpenKey(ref, KeyOptions{}); err == nil {
			t.Errorf("%s was opened", ref)
		}
	}
}

// A CA whose device key is a program's: made, opened, used by several at once.
func TestAuthorityWithProgram(t *testing.T) {
	_, plain := plainKey(t)
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := Config{KeyRefs: map[string]string{"device": execRef(t, "good", plain)}, Keys: KeyOptions{Timeout: time.Minute}}
	if _, err := Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, Config{Keys: KeyOptions{Timeout: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := a.IssueClient(Device, fmt.Sprint("pump-", i), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	key, err := ParseKey(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !a.device.cert.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Error("the device CA has another key")
	}
	_, err = Create(dir+"2", Config{KeyRefs: map[string]string{"root": "/a/path"}})
	wantError(t, err, "begins with neither exec: nor pkcs11:")
}

func FuzzExecAnswer(f *testing.F) {
	_, plain := plainKey(f)
	f.Add([]byte(`{"public_key":"-----BEGIN PUBLIC KEY-----\n"}`))
	f.Add([]byte(`{"signature":"AAAA","error":"x"}`))
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		out := &limited{max: 1000}
		out.Write(b)
		answer, err := parseExecAnswer(out)
		if (err == nil) != (answer != nil) || len(out.b) > 1000 {
			t.Fatalf("%v %v", answer, err)
		}
		if err != nil {
			return
		}
		if pub, err := parsePublicKey([]byte(answer.PublicKey)); err == nil && pub == nil {
			t.Fatal("no key, no error")
		}
	})
}

// The signing program of the handbook works as printed there.
func TestHandbookProgram(t *testing.T) {
	for _, name := range []string{"/bin/sh", "openssl", "awk", "sed"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
	page, err := os.ReadFile("../docs/handbook/ca.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(page), "```\n#!/bin/sh\n")
	if !ok {
		t.Fatal("the handbook has no script")
	}
	script, _, _ = strings.Cut(script, "```")
	dir := t.TempDir()
	key, plain := plainKey(t)
	keyFile := writeFile(t, filepath.Join(dir, "ca.pem"), plain, 0o600)
	script = "#!/bin/sh\n" + strings.ReplaceAll(script, "/secure/ca.pem", keyFile)
	program := writeFile(t, filepath.Join(dir, "sign"), []byte(script), 0o700)
	got, err := OpenKey("exec:"+quote(program), KeyOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(got.Public()) {
		t.Error("another key")
	}
	mustSign(t, got)
	if _, err := got.Sign(rand.Reader, make([]byte, 48), crypto.SHA384); err == nil || !strings.Contains(err.Error(), "only SHA-256") {
		t.Errorf("got %v", err)
	}
}
