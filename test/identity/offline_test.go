package identity

import (
	"strings"
	"testing"
)

// Everything that commands do to a running broker they do to a data folder, and
// the broker that is started later goes by it.
func TestOffline(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "curl", "mosquitto_pub", "mosquitto_rr")
	h := newHome(t, twoListeners)
	h.sealmq(t, "init", "--host", "broker.lan")
	good, gone, away, slow := h.add(t, "good"), h.add(t, "gone"), h.add(t, "away"), h.add(t, "slow")
	forgotten := h.add(t, "forgotten")
	csr(t, h, "signed", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "/CN=x", "")
	h.sealmq(t, "device", "sign", "signed/dev.csr", "--id", "signed", "--out", "signed")
	h.sealmq(t, "device", "renew", "good", "--out", "good-2")
	h.sealmq(t, "device", "revoke", "gone", "--reason", "key-compromise")
	h.sealmq(t, "device", "disable", "away", "slow")
	h.sealmq(t, "device", "enable", "slow")
	h.sealmq(t, "device", "quarantine", "slow")
	h.sealmq(t, "device", "purge", "forgotten")
	h.write(t, "fleet.csv", "id,groups\nlamp-1,lamps\nlamp-2,lamps\n")
	h.sealmq(t, "device", "import", "fleet.csv")
	h.sealmq(t, "operator", "add", "alice", "--out", "alice")
	h.sealmq(t, "operator", "add", "mallory", "--out", "mallory")
	h.sealmq(t, "operator", "revoke", "mallory")
	token := h.token(t, "--ids", "lamp-1")
	h.sealmq(t, "claim", "create", "--certificate", "claim", "--ids", "lamp-*")
	if out := h.sealmq(t, "device", "export"); !strings.Contains(out, "lamp-2,lamps") {
		t.Errorf("export:\n%s", out)
	}

	b := h.start(t)
	admitted(t, b.tls, good)
	admitted(t, b.tls, deviceIn(h.path("good-2"), "good"))
	b.barred(t, b.tls, good, `"cause":"client_certificate_superseded"`)
	admitted(t, b.tls, deviceIn(h.path("signed"), "signed"))
	b.barred(t, b.tls, gone, `"cause":"client_certificate_revoked"`)
	b.barred(t, b.tls, forgotten, "revoked")
	b.barred(t, b.tls, away, `"cause":"device_disabled"`)
	if out, err := publish(t, b.tls, slow, "hall/1", "x", "-V", "5"); !denied(out, err) {
		t.Errorf("a device in quarantine may publish: %v\n%s", err, out)
	}
	admitted(t, b.tls, deviceIn(h.path("alice"), "alice"))
	b.barred(t, b.tls, deviceIn(h.path("mallory"), "mallory"), "revoked")
	b.awaitListed(t, gone)

	lamp := b.newcomer(t, "lamp-1")
	if out, err := run(t, lamp.dir, "sh", script(t), b.enroll.host, b.enroll.flags()[3], "lamp-1", token); err != nil {
		t.Fatalf("enrol with a token: %v\n%s", err, out)
	}
	admitted(t, b.tls, lamp)
	lamp = b.newcomer(t, "lamp-2")
	r := b.ask(t, b.tls, deviceIn(h.path("claim"), ""), "lamp-2", "$pki/enroll/lamp-2", b.request(t, lamp))
	if r.Status != "accepted" {
		t.Fatalf("enrol with a claim certificate: %+v", r)
	}
	b.write(t, "lamp-2/cert.pem", r.Certificate)
	admitted(t, b.tls, lamp)

	// The root is replaced while the broker is down; in between, devices of both get in, and to who knows the old one alone.
	b.stop(t)
	h.sealmq(t, "ca", "announce")
	h.sealmq(t, "ca", "switch")
	late := h.add(t, "late")
	b.refuses(t, "new root", "ca", "retire")
	b = h.start(t)
	admitted(t, b.tls, deviceIn(h.path("signed"), "signed"))
	admitted(t, b.tls, late)
	b.barred(t, b.tls, gone, `"cause":"client_certificate_revoked"`)
	b.stop(t)
	b.sealmq(t, "ca", "retire", "--force")
	b = h.start(t)
	admitted(t, b.tls, late)
	b.barred(t, b.tls, device{"signed", "", late.ca, h.path("signed/cert.pem"), h.path("signed/key.pem")}, `"cause":"client_certificate_ca"`)
}
