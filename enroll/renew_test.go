package enroll

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// device enrols a device, and returns a client with its certificate.
func (b *bench) device(id string) (client, key) {
	b.t.Helper()
	token, _ := b.token(Claim{})
	k := newKey(b.t)
	g := b.wants(b.enrol(client{id: id}, k, token), "accepted", "")
	return client{id: id, kind: "device", name: id, serial: g.Serial, cert: parsePEM(b.t, g.Certificate)}, k
}

func (b *bench) renewal(c client, k key) got {
	b.t.Helper()
	return b.ask(c, "$pki/renew/request", map[string]string{"csr": k.pem(b.t)})
}

func TestRenewal(t *testing.T) {
	b := newBench(t, Config{RenewalsPerHour: 3})
	c, k := b.device("pump-1")
	k2 := newKey(t)
	g := b.wants(b.renewal(c, k2), "accepted", "")
	if g.topic != "$pki/renew/accepted" || g.Serial == c.serial || !k2.PublicKey.Equal(parsePEM(t, g.Certificate).PublicKey) {
		t.Errorf("on %s: %s", g.topic, g.raw)
	}
	if d, _ := b.reg.Get("pump-1"); len(d.Certificates) != 2 || d.Certificates[1].State != registry.CertActive {
		t.Errorf("registered %+v", d.Certificates)
	}
	for range 5 { // lost answers
		if again := b.wants(b.renewal(c, k2), "accepted", ""); again.Serial != g.Serial {
			t.Fatal("another certificate")
		}
	}
	if g := b.wants(b.renewal(c, k), "accepted", ""); g.Serial == c.serial { // with the key that it has
		t.Error("the same certificate")
	}
	b.wants(b.renewal(c, newKey(t)), "accepted", "")
	if g := b.wants(b.renewal(c, newKey(t)), "rejected", CodeSlowDown); g.RetryAfter != 3600 {
		t.Errorf("retry after %d s", g.RetryAfter)
	}
	b.clock.advance(time.Hour)
	b.wants(b.renewal(c, newKey(t)), "accepted", "")
	b.wants(b.ask(c, "$pki/renew/request", `{"csr":5}`), "rejected", CodeRequest)
	b.wants(b.renewal(client{id: "x", kind: "operator", name: "alice"}, newKey(t)), "rejected", CodeDenied)
	b.wants(b.renewal(client{id: "x"}, newKey(t)), "rejected", CodeDenied)
	b.wants(b.renewal(client{id: "x", kind: "device", name: "x", serial: "01"}, newKey(t)), "rejected", CodeDenied)
	// another CA may give out the same name and serial
	forged := c
	forged.cert = newMaker(b, "other").leaf("pump-1", nil)
	b.wants(b.renewal(forged, newKey(t)), "rejected", CodeDenied)
	b.must(b.reg.RevokeCertificate(b.ctx, c.serial, pki.KeyCompromise))
	b.wants(b.renewal(c, newKey(t)), "rejected", CodeNotActive)
}

// keyless is an Issuer whose CA cannot sign for a while.
type keyless struct {
	Issuer
	away bool
}

func (k *keyless) Issue(ctx context.Context, o identity.Order) (*identity.Issued, error) {
	if k.away {
		return nil, fmt.Errorf("certificate for %s: %w", o.ID, pki.ErrNoKey)
	}
	return k.Issuer.Issue(ctx, o)
}

// What the broker could not do at the time counts for nothing: who asks again, as it is told to, is served then.
func TestUnavailableCountsForNothing(t *testing.T) {
	b := newBench(t, Config{RenewalsPerHour: 1})
	ca := &keyless{Issuer: b.id}
	b.opt.Identity = ca
	b.reopen()
	c, _ := b.device("pump-1")
	token, _ := b.token(Claim{IDs: []string{"pump-2"}, RatePerHour: 1})
	ca.away = true
	k := newKey(t)
	for range 3 {
		for _, g := range []got{b.renewal(c, k), b.enrol(client{id: "pump-2"}, k, token)} {
			if b.wants(g, "rejected", CodeUnavailable); g.RetryAfter != 60 {
				t.Errorf("retry after %d s", g.RetryAfter)
			}
		}
	}
	ca.away = false
	b.wants(b.renewal(c, k), "accepted", "")
	b.wants(b.enrol(client{id: "pump-2"}, newKey(t), token), "accepted", "")
}

func TestRenewalByState(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.device("pump-1")
	b.must(b.reg.Quarantine(b.ctx, "pump-1"))
	b.wants(b.renewal(c, newKey(t)), "accepted", "")
	b.must(b.reg.Disable(b.ctx, "pump-1"))
	b.wants(b.renewal(c, newKey(t)), "rejected", CodeNotActive)
	b.must(b.reg.Revoke(b.ctx, pki.KeyCompromise, "pump-1"))
	b.wants(b.renewal(c, newKey(t)), "rejected", CodeNotActive)
}

func TestRenewalAfterTheEnd(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.device("pump-1")
	late, _ := b.device("pump-2")
	b.clock.advance(c.cert.NotAfter.Sub(b.clock.now()) + 29*24*time.Hour)
	c.expired = true
	b.wants(b.renewal(c, newKey(t)), "accepted", "")
	b.clock.advance(2 * 24 * time.Hour)
	b.wants(b.renewal(late, newKey(t)), "rejected", CodeExpired)
	c.serial = "0badcafe"
	b.wants(b.renewal(c, newKey(t)), "rejected", CodeDenied)
}

// A device that renews all the time is slowed down, and never shut out.
func TestRenewalForEver(t *testing.T) {
	b := newBench(t, Config{RenewalsPerHour: 1000})
	c, _ := b.device("pump-1")
	k := newKey(t)
	last := b.clock.now().AddDate(2, 0, 0)
	renewed := 0
	for b.clock.now().Before(last) {
		g := b.renewal(c, k)
		if g.Status == "accepted" {
			renewed++
			c.serial, c.cert = g.Serial, parsePEM(t, g.Certificate)
		} else {
			b.wants(g, "rejected", CodeSlowDown)
			if g.RetryAfter > 32*24*3600 {
				t.Fatalf("retry after %d s", g.RetryAfter)
			}
			b.clock.advance(time.Duration(g.RetryAfter) * time.Second)
		}
	}
	if renewed < 40 {
		t.Errorf("renewed %d times in two years", renewed)
	}
}

type sawRoots struct {
	Issuer
	id    string
	roots []string
}

func (s *sawRoots) SawRoots(id string, roots []string) { s.id, s.roots = id, roots }

func TestSeenRoots(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.device("pump-1")
	saw := &sawRoots{Issuer: b.id}
	b.opt.Identity = saw
	b.reopen()
	c.respond = "$pki/cacerts/answer"
	want := strings.Repeat("ab", 32)
	colons := strings.ToUpper(strings.TrimSuffix(strings.Repeat("ab:", 32), ":"))
	b.wants(b.ask(c, "$pki/cacerts/seen", map[string]any{"roots": []string{colons}}), "accepted", "")
	if saw.id != "pump-1" || len(saw.roots) != 1 || saw.roots[0] != want {
		t.Errorf("saw %+v", saw)
	}
	for _, bad := range []string{`{}`, `{"roots":[]}`, `{"roots":["ab"]}`, `{"roots":"ab"}`, `{"roots":[` + strings.Repeat(`"`+want+`",`, 16) + `"` + want + `"]}`} {
		b.wants(b.ask(c, "$pki/cacerts/seen", bad), "rejected", CodeRequest)
	}
	b.wants(b.ask(client{id: "x", respond: "r"}, "$pki/cacerts/seen", `{"roots":["`+want+`"]}`), "rejected", CodeDenied)
}

func TestAdvice(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.device("pump-1")
	advised := make(chan got, 1)
	subscribe := func(filter string) {
		b.Subscribed(&Request{Topic: filter, Props: new(mqtt.Properties), ClientID: c.id, Kind: c.kind, Name: c.name, Serial: c.serial,
			Reply: func(topic string, payload []byte, _ *mqtt.Properties) bool {
				advised <- got{topic: topic, raw: payload}
				return true
			}})
	}
	if _, due := Advice(c.cert.NotBefore, c.cert.NotAfter, b.clock.now()); due {
		t.Error("due at once")
	}
	at := identity.RenewAt(c.cert.NotBefore, c.cert.NotAfter)
	b.clock.advance(at.Sub(b.clock.now()))
	subscribe("$pki/renew/accepted")
	subscribe("$pki/renew/+")
	g := <-advised
	var advice struct {
		RenewAt  time.Time `json:"renew_at"`
		NotAfter time.Time `json:"not_after"`
	}
	if err := json.Unmarshal(g.raw, &advice); err != nil || g.topic != AdviceTopic || !advice.RenewAt.Equal(at.Truncate(time.Second)) || !advice.NotAfter.Equal(c.cert.NotAfter) {
		t.Errorf("on %s: %s, %v", g.topic, g.raw, err)
	}
	b.Close() // whatever was asked is answered or not at all
	if len(advised) != 0 {
		t.Errorf("more advice: %s", (<-advised).raw)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"csr":"-----BEGIN CERTIFICATE REQUEST-----\\nAAAA\\n-----END CERTIFICATE REQUEST-----","token":"t","attributes":{"a":"b"}}`))
	f.Add([]byte(`{"roots":["` + hex.EncodeToString(make([]byte, 32)) + `"]}`))
	f.Add([]byte(`{"certificateSigningRequest":"x","certificateOwnershipToken":"a.b","parameters":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, csr, err := parseEnrol(b); err == nil {
			if len(csr) == 0 || len(q.Attributes) > maxAttributes {
				t.Fatalf("%q gives %+v", b, q)
			}
			checkCSR(csr)
		}
		if roots, err := parseSeen(b); err == nil && (len(roots) == 0 || len(roots[0]) != 64) {
			t.Fatalf("%q gives %q", b, roots)
		}
		for _, cbor := range []bool{false, true} {
			if q, err := parseCreate(b, cbor); err == nil {
				readCSR(q.CertificateSigningRequest)
			}
			if q, err := parseProvision(b, cbor); err == nil {
				parseOwnership(q.CertificateOwnershipToken)
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add("a", []byte(`{"id":"a","kind":"token","created":"2026-01-01T00:00:00Z","expires":"2026-01-02T00:00:00Z","uses":1,"hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add("a", []byte(`{"claim":"a","spki":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if c, err := decodeClaim(name, b); err == nil {
			c.allows("x")
			c.end(time.Now())
		}
		if p, err := decodePending(name, b); err == nil && len(p.SPKI) != 32 {
			t.Fatalf("%q gives %+v", b, p)
		}
		decodeFactory(name, b)
	})
}
