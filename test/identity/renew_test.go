package identity

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
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

// A connection ends with the certificate that it was made with. The device then renews the certificate where devices
// enrol, and only there; after the grace, or with a certificate that was never seen, it does not.
func TestExpiry(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_rr")
	const tables = twoListeners + "[devices]\nrenewal_grace = "
	h := newHome(t, tables+`"10d"`)
	b := h.start(t)
	b.add(t, "pump-1")
	ca, root := b.authority(t, "device"), b.read(t, "data/ca/root.pem")

	// The shortest life that the CA itself gives is an hour.
	var slept device
	var conn net.Conn
	c := forDevice(t, "pump-1")
	for life := 3 * time.Second; conn == nil; life *= 3 { // as long as this machine needs to connect
		c = forDevice(t, "pump-1")
		c.NotAfter = time.Now().Add(life)
		slept = ca.issue(t, c, b.path("slept"), b.path("data/ca/root.pem"))
		tc, err := connect(b.tls, &tls.Config{RootCAs: pool(t, root), Certificates: []tls.Certificate{slept.pair(t)}, ServerName: "localhost"}, mqtt.V5, "pump-1")
		if err == nil {
			conn = tc
		} else if life > *patience {
			t.Fatal(err)
		}
	}
	conn.SetReadDeadline(time.Now().Add(*patience))
	end := awaitEnd(conn)
	if !bytes.HasPrefix(end.disconnect, []byte{0xe0}) {
		t.Fatalf("the connection ended with % x, want a DISCONNECT", end.disconnect)
	}
	over := c.NotAfter.Truncate(time.Second)
	t.Logf("the connection ended %v after its certificate", end.at.Sub(over).Round(time.Millisecond))
	if end.at.Before(over) {
		t.Error("the connection ended before its certificate")
	}
	eventually(t, func() error {
		if !time.Now().After(over.Add(time.Second)) {
			return errors.New("the certificate has not ended")
		}
		return nil
	})

	b.barred(t, b.tls, slept, `"cause":"client_certificate_expired"`)
	if out, err := publish(t, b.enroll, slept, "hall/1", "x", "-V", "5"); !denied(out, err) {
		t.Errorf("an expired certificate is good for messages: %v\n%s", err, out)
	}
	unseen := forDevice(t, "pump-1")
	unseen.NotAfter = time.Now().Add(-time.Minute)
	b.barred(t, b.enroll, ca.issue(t, unseen, b.path("unseen"), slept.ca))

	b.stop(t)
	h.write(t, "sealmq.toml", preamble+tables+`"0s"`)
	b = h.start(t)
	b.barred(t, b.enroll, slept, `"cause":"client_certificate_expired"`)
	b.stop(t)
	h.write(t, "sealmq.toml", preamble+tables+`"10d"`)
	b = h.start(t)
	b.write(t, "slept/ca.pem", root)
	slept = deviceIn(slept.dir, "pump-1")
	if out, err := run(t, slept.dir, "sh", script(t), b.enroll.host, b.enroll.flags()[3], "pump-1"); err != nil {
		t.Fatalf("renew: %v\n%s", err, out)
	}
	admitted(t, b.tls, slept)
}
