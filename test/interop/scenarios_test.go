package interop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// needs says in which cells a scenario makes sense.
type needs struct{ v5, tls bool }

// scenarios are what every client goes through.
var scenarios = []struct {
	name  string
	needs needs
	run   func(t *testing.T, x *cell)
}{
	{"every QoS in, every QoS out", needs{}, everyQoS},
	{"messages arrive in order", needs{}, inOrder},
	{"retained: set, replay, clear", needs{}, retained},
	{"will on a lost connection", needs{}, willOnLoss},
	{"will and DISCONNECT", needs{}, willAfterDisconnect},
	{"shared subscription", needs{}, sharedSubscription},
	{"one megabyte", needs{}, oneMegabyte},
	{"persistent session with queued messages", needs{}, persistentSession},
	{"properties are passed on", needs{v5: true}, propertiesPassedOn},
	{"an expired message is not delivered", needs{v5: true}, expired},
	{"wrong client certificate", needs{tls: true}, wrongCertificate},
	{"no client certificate", needs{tls: true}, noCertificate},
}

// everyQoS: a message arrives with the lower of the QoS of its publication and
// of the subscription.
// clauses: MQTT5 [MQTT-3.8.4-8] MQTT311 [MQTT-3.8.4-6]
func everyQoS(t *testing.T, x *cell) {
	for sub := byte(0); sub <= 2; sub++ {
		filter := x.topic(fmt.Sprintf("sub%d/", sub))
		l := x.listen(t, subscription{filter + "+", sub})
		for pub := byte(0); pub <= 2; pub++ {
			m := message{Topic: filter + fmt.Sprint("pub", pub), Payload: []byte{0, 0xff, '\n', pub}, QoS: pub}
			x.publish(t, m)
			m.QoS = min(pub, sub)
			l.want(t, m)
		}
		l.stop()
	}
}

// clauses: MQTT5 [MQTT-4.6.0-5] MQTT311 [MQTT-4.6.0-5]
func inOrder(t *testing.T, x *cell) {
	for qos := byte(0); qos <= 2; qos++ {
		topic := x.topic(fmt.Sprint("order", qos))
		l := x.listen(t, subscription{topic, qos})
		msgs := numbered(topic, qos, 8)
		x.publish(t, msgs...)
		l.want(t, msgs...)
		l.stop()
	}
}

// clauses: MQTT5 [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-12] MQTT311 [MQTT-3.3.1-5] [MQTT-3.3.1-8] [MQTT-3.3.1-9] [MQTT-3.3.1-10]
func retained(t *testing.T, x *cell) {
	kept := message{Topic: x.topic("state"), Payload: []byte("on"), QoS: 1, Retain: true}
	cleared := message{Topic: kept.Topic, QoS: 1, Retain: true}
	marker := message{Topic: x.topic("marker"), Payload: []byte("."), QoS: 1}
	subs := []subscription{{kept.Topic, 1}, {marker.Topic, 1}}

	before := x.listen(t, subs...)
	x.publish(t, kept)
	live := kept
	live.Retain = false // towards a subscription that existed
	before.want(t, live)

	after := x.listen(t, subs...)
	after.want(t, kept)

	x.publish(t, cleared)
	live = cleared
	live.Retain = false
	before.want(t, live)
	after.want(t, live)

	late := x.listen(t, subs...)
	x.publish(t, marker)
	late.want(t, marker) // and nothing before it
}

// willOf is a will that uses what the version has.
func willOf(x *cell) *message {
	w := message{Topic: x.topic("will"), Payload: []byte("gone"), QoS: 1}
	if x.version == v5 {
		w.User = []string{"why:lost"}
		if _, ok := x.client.(interface{ sendsNoWillContentType() }); !ok {
			w.ContentType = "text/plain"
		}
	}
	return &w
}

// clauses: MQTT5 [MQTT-3.1.2-8] MQTT311 [MQTT-3.1.2-8]
func willOnLoss(t *testing.T, x *cell) {
	will := willOf(x)
	watcher := x.listen(t, subscription{will.Topic, 1})
	s := x.session()
	s.Will = will
	mortal := x.listenAs(t, s, subscription{x.topic("x"), 0})
	mortal.kill()
	watcher.want(t, *will)
}

// willAfterDisconnect: a DISCONNECT deletes the will, unless it says
// "Disconnect with Will Message".
// clauses: MQTT5 [MQTT-3.14.4-3] MQTT311 [MQTT-3.14.4-3]
func willAfterDisconnect(t *testing.T, x *cell) {
	will := willOf(x)
	watcher := x.listen(t, subscription{will.Topic, 1})
	s := x.session()
	s.Will = will
	x.disconnect(t, x.listenAs(t, s, subscription{x.topic("x"), 0}), s)
	if k, ok := x.client.(interface{ stopKeepsWill(version) bool }); ok && k.stopKeepsWill(x.version) {
		watcher.want(t, *will)
	}
	marker := message{Topic: will.Topic, Payload: []byte("marker"), QoS: 1}
	x.publish(t, marker)
	watcher.want(t, marker)
}

// sharedSubscription: each message goes to one member of the group, and each
// member gets some.
func sharedSubscription(t *testing.T, x *cell) {
	topic := x.topic("shared")
	share := subscription{"$share/group/" + topic, 1}
	first := x.session()
	members := []*listener{x.listenAs(t, first, share), x.listen(t, share)}
	msgs := numbered(topic, 1, 8)
	x.publish(t, msgs...)
	marker := message{Topic: topic, Payload: []byte("last"), QoS: 1}

	got := map[string]int{}
	shares := make([]int, len(members))
	total := 0
	for end := time.Now().Add(patience); total < len(msgs); time.Sleep(2 * time.Millisecond) {
		for i, l := range members {
			for m, ok := l.take(); ok; m, ok = l.take() {
				got[m.String()]++
				shares[i]++
				total++
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d messages after %v: %v", total, len(msgs), patience, got)
		}
	}
	for _, m := range msgs {
		if got[m.String()] != 1 {
			t.Errorf("%v arrived %d times, want once", m, got[m.String()])
		}
	}
	for i, n := range shares {
		if n == 0 {
			t.Errorf("member %d got none of %d messages", i+1, len(msgs))
		}
	}
	// The member that stays gets all the rest.
	x.disconnect(t, members[0], first)
	x.publish(t, marker)
	members[1].want(t, marker)
}

func oneMegabyte(t *testing.T, x *cell) {
	payload := make([]byte, 1<<20)
	for i := range payload {
		payload[i] = byte(i>>8 ^ i*7)
	}
	l := x.listen(t, subscription{x.topic("large/+"), 2})
	for qos := byte(0); qos <= 2; qos++ {
		m := message{Topic: x.topic(fmt.Sprint("large/", qos)), Payload: payload, QoS: qos}
		x.publish(t, m)
		l.want(t, m)
	}
}

// clauses: MQTT5 [MQTT-3.1.2-23] MQTT311 [MQTT-3.1.2-4] [MQTT-3.1.2-5]
func persistentSession(t *testing.T, x *cell) {
	s := x.session()
	s.Persistent = true
	sub := subscription{x.topic("queue"), 2}
	first := x.listenAs(t, s, sub)
	x.disconnect(t, first, s)

	msgs := append(numbered(sub.Filter, 1, 4), numbered(sub.Filter, 2, 4)...)
	x.publish(t, msgs...)

	second := x.listenAs(t, s, sub)
	second.want(t, msgs...)
	x.disconnect(t, second, s)

	// A clean start finds nothing of it.
	x.publish(t, message{Topic: sub.Filter, Payload: []byte("for the session"), QoS: 1})
	s.Persistent = false
	third := x.listenAs(t, s, sub)
	marker := message{Topic: sub.Filter, Payload: []byte("after"), QoS: 1}
	x.publish(t, marker)
	third.want(t, marker)
}

// clauses: MQTT5 [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
func propertiesPassedOn(t *testing.T, x *cell) {
	l := x.listen(t, subscription{x.topic("props"), 2})
	for qos := byte(0); qos <= 2; qos++ {
		m := message{
			Topic: x.topic("props"), Payload: []byte("grüße"), QoS: qos,
			ContentType: "text/plain", ResponseTopic: x.topic("answer"), Correlation: []byte("c-17"), UTF8: true,
			Expiry: 3600, User: []string{"a:2", "a:1", "b:", "z:ü"},
		}
		x.publish(t, m)
		l.want(t, m)
	}
}

// clauses: MQTT5 [MQTT-3.3.2-5] [MQTT-3.3.2-6]
func expired(t *testing.T, x *cell) {
	s := x.session()
	s.Persistent = true
	sub := subscription{x.topic("expiry"), 1}
	first := x.listenAs(t, s, sub)
	x.disconnect(t, first, s)
	old := message{Topic: sub.Filter, Payload: []byte("old"), QoS: 1, Expiry: 1}
	fresh := message{Topic: sub.Filter, Payload: []byte("fresh"), QoS: 1, Expiry: 3600}
	x.publish(t, old, fresh)
	time.Sleep(1100 * time.Millisecond) // the life of old; more does no harm
	x.listenAs(t, s, sub).want(t, fresh)
}

func wrongCertificate(t *testing.T, x *cell) {
	x.server.cert, x.server.key = strangerCertificate(t)
	refused(t, x, `"cause":"client_certificate_ca"`)
}

func noCertificate(t *testing.T, x *cell) {
	x.server.cert, x.server.key = "", ""
	refused(t, x, `"cause":"client_certificate_absent"`)
}

// refused: neither verb gets through, nothing is delivered, and the log says why.
func refused(t *testing.T, x *cell, cause string) {
	t.Helper()
	good := newCell(x.client, x.version, x.broker, x.broker.tls)
	l := good.listen(t, subscription{x.topic("secret"), 1})
	logged := len(x.broker.logged())
	if err := x.client.publish(t, x.session(), message{Topic: x.topic("secret"), Payload: []byte("hush"), QoS: 1}); err == nil {
		t.Error("publish went through")
	}
	x.broker.awaitLog(t, logged, cause)
	if _, err := x.client.listen(t, x.session(), subscription{x.topic("secret"), 1}); err == nil {
		t.Error("listen went through")
	}
	marker := message{Topic: x.topic("secret"), Payload: []byte("marker"), QoS: 1}
	good.publish(t, marker)
	l.want(t, marker)
}

// strangerCertificate is a client certificate from a CA that the broker does
// not know, but that bears the name of the device.
func strangerCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leafKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotAfter: time.Now().Add(time.Hour),
		NotBefore: time.Now().Add(-time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: deviceID}, NotAfter: ca.NotAfter, NotBefore: ca.NotBefore,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	certDER, err3 := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	keyDER, err4 := x509.MarshalPKCS8PrivateKey(leafKey)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, err := range []error{err1, err2, err3, err4,
		writePEM(cert, "CERTIFICATE", certDER), writePEM(key, "PRIVATE KEY", keyDER)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// numbered are n messages of one topic that can be told apart.
func numbered(topic string, qos byte, n int) []message {
	var msgs []message
	for i := range n {
		msgs = append(msgs, message{Topic: topic, QoS: qos, Payload: bytes.Repeat([]byte{'a' + byte(i)}, i+1)})
	}
	return msgs
}
