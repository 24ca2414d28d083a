package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// From nothing to a broker with a CA, which other tools find in order.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub")
	h := newHome(t, twoListeners)
	h.sealmq(t, "init", "--host", "broker.lan", "--host", "192.168.1.10")
	b := h.start(t)
	t.Logf("ready after %v", b.startup)
	if !strings.Contains(b.welcome, "mosquitto_sub") || !strings.Contains(b.welcome, "--cafile") {
		t.Errorf("no line for mosquitto_sub in what was printed:\n%s", b.welcome)
	}
	for _, name := range []string{"broker.lan", "localhost"} {
		out, err := run(t, h.dir, "openssl", "s_client", "-connect", b.tls.String(), "-servername", name, "-verify_hostname", name,
			"-CAfile", "data/ca/root.pem", "-verify_return_error", "-cert", "data/operator/cert.pem", "-key", "data/operator/key.pem")
		if err != nil || !strings.Contains(out, "Verify return code: 0 (ok)") {
			t.Errorf("openssl s_client as %s: %v\n%s", name, err, out)
		}
	}
	for _, ip := range []string{"127.0.0.1", "192.168.1.10"} {
		if out := mustRun(t, h.dir, "openssl", "x509", "-in", "data/server/cert.pem", "-noout", "-checkip", ip); !strings.Contains(out, "does match") {
			t.Error(out)
		}
	}
	err := filepath.WalkDir(h.path("data"), func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".key" && d.Name() != "key.pem" {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	operator := device{"operator", "", h.path("data/operator/ca.pem"), h.path("data/operator/cert.pem"), h.path("data/operator/key.pem")}
	admitted(t, b.tls, operator)
}

// Files that an operator makes for a device, and a key that a device has made.
func TestDevice(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_sub", "stdbuf")
	b := startBroker(t, twoListeners)

	t.Run("bundle", func(t *testing.T) {
		b.write(t, "password", "correct horse\n")
		b.sealmq(t, "device", "add", "pump-17", "--group", "sensors", "--out", "pump-17", "--for", "mosquitto", "--for", "paho", "--for", "arduino",
			"--for", "mongoose", "--for", "esp-idf", "--for", "p12", "--for", "qr", "--password-file", "password")
		pump := deviceIn(b.path("pump-17"), "pump-17")
		admitted(t, b.tls, pump)
		text := mustRun(t, pump.dir, "openssl", "x509", "-in", "cert.pem", "-noout", "-text")
		for _, want := range []string{"CN = pump-17", "OU = sensors", "URI:urn:mqtts:default:device:pump-17", "TLS Web Client Authentication",
			"prime256v1", "ecdsa-with-SHA256", "CA:FALSE"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in the certificate:\n%s", want, text)
			}
		}
		if strings.Contains(text, "Server Authentication") || strings.Contains(text, "DNS:") {
			t.Errorf("the certificate could be a server's:\n%s", text)
		}
		p12, err := filepath.Glob(filepath.Join(pump.dir, "*.p12"))
		if err != nil || len(p12) != 1 {
			t.Fatalf("PKCS#12 files: %q %v", p12, err)
		}
		mustRun(t, pump.dir, "openssl", "pkcs12", "-in", p12[0], "-passin", "file:"+b.path("password"), "-nodes", "-clcerts", "-out", "all.pem")
		admitted(t, b.tls, device{"pump-17", pump.dir, pump.ca, filepath.Join(pump.dir, "all.pem"), filepath.Join(pump.dir, "all.pem")})
		if out := b.sealmq(t, "device", "show", "pump-17"); !strings.Contains(out, "sensors") || !strings.Contains(out, "TLS 1.3") {
			t.Errorf("device show:\n%s", out)
		}
	})

	t.Run("csr", func(t *testing.T) {
		for id, genpkey := range map[string]string{
			"p256": "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "p384": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
			"ed25519": "-algorithm ED25519", "rsa2048": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
		} {
			d := deviceIn(b.path(id), id)
			csr(t, b.home, id, genpkey, "/CN=operator/O=nobody", "subjectAltName=URI:urn:mqtts:default:operator:operator,DNS:localhost")
			b.sealmq(t, "device", "sign", id+"/dev.csr", "--id", id, "--out", id)
			text := mustRun(t, d.dir, "openssl", "x509", "-in", "cert.pem", "-noout", "-text")
			if !strings.Contains(text, "CN = "+id) || strings.Contains(text, "operator") || strings.Contains(text, "nobody") || strings.Contains(text, "DNS:") {
				t.Errorf("what the CSR asked for is in the certificate:\n%s", text)
			}
			admitted(t, b.tls, d)
		}
		b.refuses(t, "has it already", "device", "sign", "p256/dev.csr", "--id", "thief")
		csr(t, b.home, "weak", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "/CN=weak", "")
		b.refuses(t, "1024", "device", "sign", "weak/dev.csr", "--id", "weak")
		csr(t, b.home, "curve", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "/CN=curve", "")
		b.refuses(t, "", "device", "sign", "curve/dev.csr", "--id", "curve")

		// A CSR of somebody who does not have the key: a valid one with another's signature.
		csr(t, b.home, "other", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "/CN=other", "")
		mustRun(t, b.dir, "sh", "-ec", `cd other; openssl req -in dev.csr -outform DER -out dev.der
			size=$(wc -c <dev.der); head -c $((size - 1)) dev.der >bad.der; tail -c 1 dev.der | tr '\000-\376\377' '\001-\377\000' >>bad.der`)
		b.refuses(t, "signature", "device", "sign", "other/bad.der", "--id", "other")
		if out := b.sealmq(t, "device", "list"); strings.Contains(out, "thief") || strings.Contains(out, "weak") || strings.Contains(out, "other") {
			t.Errorf("who was refused is registered:\n%s", out)
		}
	})
}

// refuses runs a command that must fail with this word.
func (h *home) refuses(t *testing.T, word string, args ...string) {
	t.Helper()
	if out := h.refused(t, args...); !strings.Contains(out, word) {
		t.Errorf("sealmq %s does not say %q:\n%s", strings.Join(args, " "), word, out)
	}
}

// csr has openssl make a key and ask for a certificate, in the folder dir.
func csr(t *testing.T, h *home, dir, genpkey, subject, extension string) {
	t.Helper()
	if err := os.MkdirAll(h.path(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{"genpkey"}, strings.Fields(genpkey)...), "-out", "key.pem")
	mustRun(t, h.path(dir), "openssl", args...)
	args = []string{"req", "-new", "-key", "key.pem", "-subj", subject, "-out", "dev.csr"}
	if extension != "" {
		args = append(args, "-addext", extension)
	}
	mustRun(t, h.path(dir), "openssl", args...)
}
