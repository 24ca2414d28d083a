package identity

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A device comes with a certificate of its maker, whose CA is registered with a
// proof: it is seen, let in, and gets a certificate of ours.
func TestFactory(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf")
	b := startBroker(t, twoListeners)
	b.write(t, "maker/ext", "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n")
	maker := b.path("maker")
	mustRun(t, maker, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
		"-days", "3650", "-subj", "/O=Acme/CN=Acme devices", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	made := func(dir, id string) device {
		d := deviceIn(filepath.Join(maker, dir), id)
		d.ca = b.path("data/ca/root.pem")
		csr(t, b.home, "maker/"+dir, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "/O=Acme/CN="+id, "")
		mustRun(t, d.dir, "openssl", "x509", "-req", "-in", "dev.csr", "-CA", "../ca.pem", "-CAkey", "../ca.key", "-CAcreateserial", "-days", "3650",
			"-extfile", "../ext", "-out", "cert.pem")
		return d
	}
	pump := made("pump-1", "pump-1")
	b.barred(t, b.tls, pump, `"cause":"client_certificate_ca"`)

	// The lines that the challenge prints, as they are.
	challenge := mustRun(t, maker, program, "factory", "challenge", "--data", b.path("data"))
	for line := range strings.Lines(challenge) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "openssl ") {
			mustRun(t, maker, "sh", "-ec", line)
		}
	}
	proof := regexp.MustCompile(`--proof (\S+)`).FindStringSubmatch(challenge)
	if proof == nil {
		t.Fatalf("no proof in:\n%s", challenge)
	}
	b.refuses(t, "", "factory", "add", "acme", "--ca", "maker/ca.pem", "--proof", "maker/pump-1/dev.csr")
	b.sealmq(t, "factory", "add", "acme", "--ca", "maker/ca.pem", "--proof", "maker/"+proof[1], "--prefix", "acme-", "--group", "field")

	// Seen, but not let in before an operator says so; the id is the maker's with the prefix.
	pump.id = "acme-pump-1"
	b.barred(t, b.tls, pump, "waits for approval")
	if out := b.sealmq(t, "device", "list", "--state", "pending", "--group", "field"); !strings.Contains(out, "acme-pump-1") {
		t.Errorf("acme-pump-1 does not wait for approval:\n%s", out)
	}
	b.sealmq(t, "device", "enable", "acme-pump-1")
	admitted(t, b.tls, pump)
	watch := subscribe(t, b.tls, pump, "acme-pump-1", "5", "-t", "to/acme-pump-1")
	b.sealmq(t, "device", "disable", "acme-pump-1")
	watch.await(t, "Received DISCONNECT (152)")
	b.barred(t, b.tls, pump, "disabled")
	b.sealmq(t, "device", "enable", "acme-pump-1")
	admitted(t, b.tls, pump)
	thief := made("thief", "pump-1")
	thief.id = "acme-pump-1"
	b.barred(t, b.tls, thief)
	admitted(t, b.tls, pump)

	// One of ours in place of it, which outlives the trust in the maker.
	if err := os.MkdirAll(b.path("own"), 0o700); err != nil {
		t.Fatal(err)
	}
	own := deviceIn(b.path("own"), "acme-pump-1")
	b.write(t, "own/ca.pem", b.read(t, "data/ca/root.pem"))
	r := b.ask(t, b.tls, pump, "acme-pump-1/renew", "$pki/renew", b.request(t, own))
	if r.Status != "accepted" {
		t.Fatalf("a certificate of ours: %+v", r)
	}
	b.write(t, "own/cert.pem", r.Certificate)
	admitted(t, b.tls, own)
	lamp := made("lamp-1", "lamp-1")
	lamp.id = "acme-lamp-1"
	b.barred(t, b.tls, lamp, "waits for approval")
	b.sealmq(t, "device", "enable", "acme-lamp-1")
	live := subscribe(t, b.tls, lamp, "acme-lamp-1", "5", "-t", "acme-lamp-1/#")
	b.sealmq(t, "factory", "remove", "acme")
	live.await(t, "Received DISCONNECT (152)")
	b.barred(t, b.tls, lamp)
	b.barred(t, b.tls, pump)
	admitted(t, b.tls, own)
}
