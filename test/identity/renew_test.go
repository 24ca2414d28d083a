package identity

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// A renewed certificate and the one before are good together until the new one
// has been used.
func TestRenewal(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "curl", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf")
	b := startBroker(t, twoListeners)
	old := b.add(t, "pump-1")
	live := subscribe(t, b.tls, old, "pump-1/live", "5", "-t", "pump-1/#")

	pump := b.newcomer(t, "pump-1")
	r := b.ask(t, b.tls, old, "pump-1/renew", "$pki/renew", b.request(t, pump))
	if r.Status != "accepted" {
		t.Fatalf("renewal: %+v", r)
	}
	b.write(t, "pump-1/cert.pem", r.Certificate)
	admitted(t, b.tls, old)
	admitted(t, b.tls, pump)
	live.await(t, "Received DISCONNECT (152)")
	b.barred(t, b.tls, old, `"cause":"client_certificate_superseded"`)
	admitted(t, b.tls, pump)
	if out := b.sealmq(t, "device", "show", "pump-1"); !strings.Contains(out, "superseded") {
		t.Errorf("device show:\n%s", out)
	}
	b.awaitListed(t, old)

	// Who comes with a certificate that has lived two thirds of its life is told so, if it listens.
	c := forDevice(t, "pump-1")
	c.NotBefore, c.NotAfter = time.Now().Add(-20*24*time.Hour), time.Now().Add(24*time.Hour)
	due := b.authority(t, "device").issue(t, c, b.path("due"), pump.ca)
	subscribe(t, b.tls, due, "pump-1/due", "311", "-t", "$pki/renew/advice").await(t, "$pki/renew/advice {", `"renew_at"`)
	out := subscribe(t, b.tls, pump, "pump-1/new", "5", "-t", "$pki/renew/advice", "-t", "$pki/cacerts")
	out.await(t, "$pki/cacerts -----BEGIN CERTIFICATE-----")
	if text := out.printed(); strings.Contains(text, `"renew_at"`) {
		t.Errorf("a new certificate is due:\n%s", text)
	}
}

// A device that has slept past the end of its certificate renews it where
// devices enrol, and only there; after the grace it does not.
func TestRenewalAfterExpiry(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_rr")
	b := startBroker(t, twoListeners+"[devices]\nrenewal_grace = \"10d\"\n")
	b.add(t, "pump-1")
	ca := b.authority(t, "device")
	expired := func(id, dir string, ago time.Duration) device {
		c := forDevice(t, id)
		c.NotAfter = time.Now().Add(-ago)
		c.NotBefore = c.NotAfter.Add(-30 * 24 * time.Hour)
		return ca.issue(t, c, b.path(dir), b.path("data/ca/root.pem"))
	}
	slept := expired("pump-1", "slept", time.Minute)
	b.barred(t, b.tls, slept, `"cause":"client_certificate_expired"`)
	if out, err := publish(t, b.enroll, slept, "hall/1", "x", "-V", "5"); !denied(out, err) {
		t.Errorf("an expired certificate is good for messages: %v\n%s", err, out)
	}
	b.write(t, "slept/ca.pem", b.read(t, "data/ca/root.pem"))
	slept = deviceIn(slept.dir, "pump-1")
	if out, err := run(t, slept.dir, "sh", script(t), b.enroll.host, b.enroll.flags()[3], "pump-1"); err != nil {
		t.Fatalf("renew: %v\n%s", err, out)
	}
	admitted(t, b.tls, slept)

	b.barred(t, b.enroll, expired("pump-1", "late", 11*24*time.Hour), `"cause":"client_certificate_expired"`)
}

// A connection ends with the certificate that it was made with.
func TestLiveUntilExpiry(t *testing.T) {
	t.Parallel()
	b := startBroker(t, twoListeners)
	b.add(t, "pump-1")
	ca, roots := b.authority(t, "device"), pool(t, b.read(t, "data/ca/root.pem"))
	for life := 3 * time.Second; ; life *= 3 { // as long as this machine needs to connect
		c := forDevice(t, "pump-1")
		c.NotAfter = time.Now().Add(life)
		d := ca.issue(t, c, b.path("short", life.String()), "")
		conn, err := connect(b.tls, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{d.pair(t)}, ServerName: "localhost"}, mqtt.V5, "pump-1")
		if err != nil {
			if life > *patience {
				t.Fatal(err)
			}
			continue
		}
		conn.SetReadDeadline(time.Now().Add(*patience))
		end := awaitEnd(conn)
		if !bytes.HasPrefix(end.disconnect, []byte{0xe0}) {
			t.Fatalf("the connection ended with % x after %v, want a DISCONNECT", end.disconnect, end.at.Sub(c.NotBefore.Add(time.Hour)))
		}
		if early := c.NotAfter.Truncate(time.Second).Sub(end.at); early > 0 {
			t.Errorf("the connection ended %v before its certificate", early)
		}
		t.Logf("the connection ended %v after its certificate", end.at.Sub(c.NotAfter.Truncate(time.Second)).Round(time.Millisecond))
		return
	}
}
