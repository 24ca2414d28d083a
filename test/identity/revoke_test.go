package identity

import (
	"path/filepath"
	"strings"
	"testing"
)

// live is a device that has a durable session, and is connected with paho or Mosquitto.
func (b *broker) live(t *testing.T, d device, version, will string) *process {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("testdata", "live.py"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{script, version, b.tls.host, b.tls.flags()[3], d.ca, d.cert, d.key, d.id, "to/" + d.id}
	if will != "" {
		args = append(args, will)
	}
	p := spawn(t, "", python, args...)
	p.await(t, "subscribed")
	return p
}

// Every way to take a device's rights, in both versions, with the device connected: the connection ends, the session
// stands still without publishing a will or taking messages, and goes on where it stood if the device may come back.
func TestTakingRights(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "curl", "mosquitto_pub", "mosquitto_sub", "stdbuf")
	needPaho(t)
	b := startBroker(t, twoListeners+`
[[listener]]
name = "wss"
address = "127.0.0.1:0"
websocket = true
`)
	operator := deviceIn(b.path("data/operator"), "watcher")
	wills := subscribe(t, b.tls, operator, "watcher", "5", "-t", "wills/#")
	send := func(d device, payload string) {
		t.Helper()
		if out, err := publish(t, b.tls, operator, "to/"+d.id, payload); err != nil {
			t.Fatalf("publish: %v\n%s", err, out)
		}
	}
	for version, closed := range map[string]string{"5": "disconnected 152", "3": "disconnected "} {
		t.Run("disable v"+version, func(t *testing.T) {
			d := b.add(t, "disabled-"+version)
			live := b.live(t, d, version, "wills/"+d.id)
			send(d, "first")
			live.await(t, "message to/"+d.id+" first")
			b.sealmq(t, "device", "disable", d.id)
			live.await(t, closed)
			b.barred(t, b.tls, d, `"cause":"device_disabled"`)
			send(d, "lost")
			b.sealmq(t, "device", "enable", d.id)
			live = b.live(t, d, version, "")
			live.await(t, "connected 0 session 1")
			send(d, "second")
			live.await(t, "second")

			// What waited before is there afterwards; what came between is not.
			from := b.mark()
			live.kill()
			b.awaitLog(t, from, `"msg":"connection lost"`, `"client":"`+d.id+`"`)
			send(d, "waiting")
			b.sealmq(t, "device", "disable", d.id)
			send(d, "lost")
			b.sealmq(t, "device", "enable", d.id)
			send(d, "last")
			live = b.live(t, d, version, "")
			live.await(t, "waiting", "last")
			if out := live.printed(); strings.Contains(out, "lost") {
				t.Errorf("a disabled device got a message later:\n%s", out)
			}
		})
		t.Run("quarantine v"+version, func(t *testing.T) {
			d := b.add(t, "quarantined-"+version)
			live := b.live(t, d, version, "wills/"+d.id)
			b.sealmq(t, "device", "quarantine", d.id)
			live.await(t, closed)
			if out, err := publish(t, b.tls, d, "hall/1", "x", "-V", "5"); !denied(out, err) {
				t.Errorf("a device in quarantine may publish: %v\n%s", err, out)
			}
			own := "quarantine/" + d.id + "/1"
			in := subscribe(t, b.tls, d, d.clientID(), "5", "-t", own)
			if out, err := publish(t, b.tls, d, own, "help", "-V", "5"); denied(out, err) {
				t.Errorf("its own topics are closed to a device in quarantine: %v\n%s", err, out)
			}
			in.await(t, own+" help")
			b.sealmq(t, "device", "enable", d.id)
			in.await(t, "Received DISCONNECT (152)")
			admitted(t, b.tls, d)
		})
		t.Run("revoke v"+version, func(t *testing.T) {
			d := b.add(t, "revoked-"+version)
			live := b.live(t, d, version, "wills/"+d.id)
			b.sealmq(t, "device", "revoke", d.id, "--reason", "key-compromise")
			live.await(t, closed)
			b.barred(t, b.tls, d, `"cause":"client_certificate_revoked"`)
			b.barred(t, b.enroll, d, `"cause":"client_certificate_revoked"`)
			b.awaitListed(t, d)
			b.refuses(t, "revoked", "device", "enable", d.id)
		})
		t.Run("purge v"+version, func(t *testing.T) {
			d := b.add(t, "purged-"+version)
			live := b.live(t, d, version, "wills/"+d.id)
			b.sealmq(t, "device", "purge", d.id)
			live.await(t, closed)
			b.barred(t, b.tls, d, "revoked")
			b.awaitListed(t, d)

			// Another may have the name, and finds nothing of the first.
			b.sealmq(t, "device", "add", d.id, "--out", "again/"+d.id)
			b.live(t, deviceIn(b.path("again", d.id), d.id), version, "").await(t, "connected 0 session 0")
		})
	}

	// Mosquitto's own words for what it is told.
	d := b.add(t, "mosquitto")
	live := subscribe(t, b.tls, d, d.id, "5", "-t", "to/mosquitto")
	b.sealmq(t, "device", "revoke", "mosquitto")
	live.await(t, "Received DISCONNECT (152)")

	// The same through WebSocket, with our own client.
	d = b.add(t, "web")
	web := spawn(t, "", program, append(append([]string{"sub", "--ws", "-d", "-i", d.id, "-t", "to/web"}, b.wss.flags()...), d.flags()...)...)
	web.await(t, "subscribed to to/web")
	b.sealmq(t, "device", "revoke", "web")
	web.await(t, "administrative action (0x98)")
	web.kill()

	// One certificate of two.
	first := b.add(t, "twice")
	b.sealmq(t, "device", "renew", "twice", "--out", "second")
	serial := strings.TrimSpace(strings.TrimPrefix(mustRun(t, "", "openssl", "x509", "-in", first.cert, "-noout", "-serial"), "serial="))
	b.sealmq(t, "device", "revoke", "--serial", serial)
	b.barred(t, b.tls, first, `"cause":"client_certificate_revoked"`)
	admitted(t, b.tls, deviceIn(b.path("second"), "twice"))

	// Had a will been published, it would have come before this message.
	if out, err := publish(t, b.tls, operator, "wills/none", "end"); err != nil {
		t.Fatalf("publish: %v\n%s", err, out)
	}
	wills.await(t, "wills/none end")
	if out := wills.printed(); strings.Contains(out, "will of") {
		t.Errorf("a will was published:\n%s", out)
	}
}
