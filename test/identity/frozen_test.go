package identity

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// inbox is a connection of a device with a durable session, and what it got.
type inbox struct {
	*client.Client
	mu  sync.Mutex
	got []string
}

func (in *inbox) has(text string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, got := range in.got {
		if got == text {
			n++
		}
	}
	return n
}

func (in *inbox) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if in.has(text) == 0 {
			in.mu.Lock()
			defer in.mu.Unlock()
			return fmt.Errorf("message %q has not come, but %q", text, in.got)
		}
		return nil
	})
}

// open connects a device whose session stays for an hour.
func (b *broker) open(t *testing.T, d device, will *client.Message, filters ...string) *inbox {
	t.Helper()
	in := &inbox{}
	dial := client.Dialer{Address: b.tls.String(), TLS: &tls.Config{RootCAs: pool(t, b.read(t, "data/ca/root.pem")),
		Certificates: []tls.Certificate{d.pair(t)}, ServerName: "localhost"}}
	c, err := client.Connect(t.Context(), client.Config{Dial: dial.Dial, ClientID: d.id, SessionExpiry: 3600, Will: will, AckTimeout: *patience,
		OnMessage: func(m *client.Message) {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.got = append(in.got, string(m.Payload))
		}})
	if err != nil {
		t.Fatal(err)
	}
	in.Client = c
	t.Cleanup(func() { c.Close(); c.Wait() })
	for _, f := range filters {
		if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: f, QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func (in *inbox) publish(t *testing.T, topic, text string) {
	t.Helper()
	if _, err := in.Publish(t.Context(), &client.Message{Topic: topic, Payload: []byte(text), QoS: 1}); err != nil {
		t.Fatal(err)
	}
}

// What a device has lost it has lost also after a crash that follows at once,
// and its session stands still over it.
func TestRevocationSurvivesCrash(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	h := newHome(t, twoListeners)
	h.sealmq(t, "init")
	revoked, disabled, sender := h.add(t, "revoked"), h.add(t, "disabled"), h.add(t, "sender")
	b := h.start(t)
	crash := func() {
		b.crash()
		b = h.start(t)
	}
	b.open(t, revoked, nil, "to/all")
	b.open(t, disabled, nil, "to/all").Close()
	b.open(t, sender, nil).publish(t, "to/all", "before")
	b.sealmq(t, "device", "revoke", "revoked")
	crash()
	b.barred(t, b.tls, revoked, `"cause":"client_certificate_revoked"`)
	b.sealmq(t, "device", "disable", "disabled")
	crash()
	b.barred(t, b.tls, disabled, `"cause":"device_disabled"`)
	b.open(t, sender, nil).publish(t, "to/all", "meanwhile")
	b.sealmq(t, "device", "enable", "disabled")
	crash()
	in := b.open(t, disabled, nil)
	if !in.Server().SessionPresent {
		t.Error("the session is gone")
	}
	b.open(t, sender, nil).publish(t, "to/all", "after")
	in.await(t, "before")
	in.await(t, "after")
	if in.has("meanwhile") > 0 {
		t.Error("a message of the time in which the device was disabled has come")
	}
}

// A will that waits for its delay is not published once its device is revoked.
func TestDelayedWillOfRevoked(t *testing.T) {
	t.Parallel()
	b := startBroker(t, twoListeners)
	watcher := b.open(t, deviceIn(b.path("data/operator"), "watcher"), nil, "wills/#")
	will := func(id string) *client.Message {
		return &client.Message{Topic: "wills/" + id, Payload: []byte(id), QoS: 1, WillDelay: 4}
	}
	revoked, other := b.add(t, "revoked"), b.add(t, "other")
	a, c := b.open(t, revoked, will("revoked")), b.open(t, other, will("other"))
	from := b.mark()
	a.Close()
	b.awaitLog(t, from, "connection lost", `"client":"revoked"`)
	b.sealmq(t, "device", "revoke", "revoked")
	if watcher.has("revoked") > 0 {
		t.Skip("skipped: this machine is too slow to be quicker than the will's delay")
	}
	c.Close()
	watcher.await(t, "other") // its delay began later
	if watcher.has("revoked") > 0 {
		t.Error("the will of a revoked device was published")
	}
}

// Members of a shared subscription that are frozen get no share.
func TestSharesOfFrozen(t *testing.T) {
	t.Parallel()
	b := startBroker(t, twoListeners)
	sender := b.open(t, b.add(t, "sender"), nil)
	stays := b.open(t, b.add(t, "stays"), nil, "$share/g/jobs")
	for i, how := range []string{"disable", "quarantine", "revoke"} {
		d := b.add(t, how+"d")
		member := b.open(t, d, nil, "$share/g/jobs")
		if i%2 == 1 {
			member.Disconnect(mqtt.Success) // offline, its share waits for it until it is frozen
		}
		b.sealmq(t, "device", how, d.id)
		for j := range 10 {
			text := fmt.Sprint(how, j)
			sender.publish(t, "jobs", text)
			stays.await(t, text)
		}
	}
}

// The connection with which a device has enrolled does not stand in the way of
// the one with its certificate, and ends.
func TestEnrolmentGivesWay(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub")
	b := startBroker(t, twoListeners)
	for _, claim := range []bool{false, true} {
		id, e, token := "by-token", b.enroll, ""
		cfg := &tls.Config{RootCAs: pool(t, b.read(t, "data/ca/root.pem")), ServerName: "localhost"}
		if claim {
			id, e = "by-claim", b.tls
			b.sealmq(t, "claim", "create", "--certificate", "claim")
			cfg.Certificates = []tls.Certificate{deviceIn(b.path("claim"), "").pair(t)}
		} else {
			token = b.token(t)
		}
		d := b.newcomer(t, id)
		csr(t, b.home, id, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "/CN=any", "")
		request, err := json.Marshal(map[string]string{"csr": b.read(t, id+"/dev.csr"), "token": token})
		if err != nil {
			t.Fatal(err)
		}
		answers := make(chan []byte, 1)
		dial := client.Dialer{Address: e.String(), TLS: cfg}
		c, err := client.Connect(t.Context(), client.Config{Dial: dial.Dial, ClientID: id, CleanStart: true, AckTimeout: *patience,
			OnMessage: func(m *client.Message) { answers <- m.Payload }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "$pki/enroll/" + id + "/+", QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Publish(t.Context(), &client.Message{Topic: "$pki/enroll/" + id + "/request", Payload: request, QoS: 1}); err != nil {
			t.Fatal(err)
		}
		var r reply
		if text := <-answers; json.Unmarshal(text, &r) != nil || r.Status != "accepted" {
			t.Fatalf("answer: %s", text)
		}
		b.write(t, id+"/cert.pem", r.Certificate)
		in := b.open(t, d, nil, "to/"+id)
		in.publish(t, "to/"+id, "hello")
		in.await(t, "hello")
		select {
		case <-c.Done():
		case <-time.After(*patience):
			t.Errorf("%s: the connection for enrolment lives on", id)
		}
		c.Close()
		c.Wait()
	}
}
