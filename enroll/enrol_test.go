package enroll

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

func TestEnrolWithToken(t *testing.T) {
	b := newBench(t, Config{})
	token, claim := b.token(Claim{Note: "line 4", Groups: []string{"sensors"}, Attributes: map[string]string{"site": "north"}})
	k := newKey(t)
	c := client{id: "pump-17", data: "c1"}
	g := b.wants(b.ask(c, "$pki/enroll/pump-17/request", map[string]any{"csr": k.pem(t), "token": token,
		"attributes": map[string]string{"fw": "1.2", "site": "south"}, "unknown": []int{1}}), "accepted", "")
	if g.topic != "$pki/enroll/pump-17/accepted" || g.Device != "pump-17" || string(g.props.CorrelationData) != "c1" ||
		string(g.props.ContentType) != "application/json" {
		t.Errorf("answer on %s with %v: %s", g.topic, g.props, g.raw)
	}
	cert := parsePEM(t, g.Certificate)
	if !k.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != "pump-17" {
		t.Errorf("certificate of %v", cert.Subject)
	}
	if !g.NotAfter.Equal(cert.NotAfter) || !g.RenewAt.After(b.clock.now()) || !g.RenewAt.Before(g.NotAfter) {
		t.Errorf("ends %v, renew at %v", g.NotAfter, g.RenewAt)
	}
	parsePEM(t, g.CA)
	d, _ := b.reg.Get("pump-17")
	if d.State != registry.Active || len(d.Groups) != 1 || d.Attributes["site"] != "north" || d.Attributes["fw"] != "1.2" || d.Attributes["claim"] != claim.ID {
		t.Errorf("registered %+v", d)
	}
	if c, _ := b.Claim(claim.ID); c.Used != 1 {
		t.Errorf("claim %+v", c)
	}
	// the answer was lost: the same certificate again, without a use
	if again := b.wants(b.enrol(c, k, token), "accepted", ""); again.Serial != g.Serial {
		t.Errorf("serial %s, then %s", g.Serial, again.Serial)
	}
	b.reopen() // even after a restart
	if again := b.wants(b.enrol(c, k, token), "accepted", ""); parsePEM(t, again.Certificate).Subject.CommonName != "pump-17" {
		t.Error("another device")
	}
	// another key for the same device, another device with the same token
	b.wants(b.enrol(c, newKey(t), token), "rejected", CodeIDTaken)
	b.wants(b.enrol(client{id: "pump-18"}, newKey(t), token), "rejected", CodeClaimUsed)
	if c, _ := b.Claim(claim.ID); c.Used != 1 {
		t.Errorf("claim %+v", c)
	}
	if strings.Contains(b.log.String(), token) {
		t.Error("the log has the token")
	}
}

func TestEnrolRejections(t *testing.T) {
	b := newBench(t, Config{})
	all, _ := b.token(Claim{Uses: 100})
	some, _ := b.token(Claim{Uses: 100, IDs: []string{"b", "a"}, Pattern: "pump-*"})
	short, _ := b.token(Claim{Expires: b.clock.now().Add(time.Minute)})
	revoked, rc := b.token(Claim{})
	b.must(b.RevokeClaim(b.ctx, rc.ID))
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "off"}))
	b.must(b.reg.Disable(b.ctx, "off"))
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "ended"}))
	b.must(b.reg.Revoke(b.ctx, pki.KeyCompromise, "ended"))
	used := newKey(t)
	b.wants(b.enrol(client{id: "other"}, used, all), "accepted", "")
	b.clock.advance(time.Minute)
	sec := newSecret()
	mistyped := []byte(all)
	mistyped[3] = tokenLetter[(strings.IndexByte(tokenLetter, mistyped[3])+1)%32]
	csr := newKey(t).base64(t)
	for _, c := range []struct {
		name, id string
		payload  any
		code     Code
	}{
		{"no JSON", "x", "csr=", CodeRequest},
		{"an array", "x", "[]", CodeRequest},
		{"null", "x", "null", CodeRequest},
		{"token of another type", "x", `{"csr":"x","token":7}`, CodeRequest},
		{"too long", "x", `{"csr":"` + strings.Repeat("A", maxPayload) + `"}`, CodeRequest},
		{"no csr", "x", map[string]any{"token": all}, CodeRequest},
		{"no token", "x", map[string]any{"csr": csr}, CodeRequest},
		{"csr no base64", "x", map[string]any{"csr": "!", "token": all}, CodeRequest},
		{"csr no DER", "x", map[string]any{"csr": "AAAA", "token": all}, Code(pki.CodeCSR)},
		{"attribute of ours", "x", map[string]any{"csr": csr, "token": all, "attributes": map[string]string{"claim": "x"}}, CodeRequest},
		{"id not allowed", "x", map[string]any{"csr": csr, "token": all, "id": "a/b"}, Code(pki.CodeIdentity)},
		{"mistyped", "x", map[string]any{"csr": csr, "token": string(mistyped)}, CodeMistyped},
		{"expired", "x", map[string]any{"csr": csr, "token": short}, CodeClaimExpired},
		{"not for it", "x", map[string]any{"csr": csr, "token": some}, CodeIDNotAllowed},
		{"disabled", "off", map[string]any{"csr": csr, "token": all}, CodeNotActive},
		{"revoked device", "ended", map[string]any{"csr": csr, "token": all}, CodeNotActive},
		{"key of another", "x", map[string]any{"csr": used.base64(t), "token": all}, Code(pki.CodeKeyUsed)},
		{"unknown", "x", map[string]any{"csr": csr, "token": sec.String()}, CodeDenied},
		{"revoked", "x", map[string]any{"csr": csr, "token": revoked}, CodeDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.wants(b.ask(client{id: c.id}, "$pki/enroll/"+c.id+"/request", c.payload), "rejected", c.code)
		})
	}
	b.t = t
	b.wants(b.ask(client{id: "x"}, "$pki/enroll/y/request", "{}"), "rejected", CodeRequest)
	for _, id := range []string{"a", "b", "pump-1"} {
		b.wants(b.enrol(client{id: id}, newKey(t), some), "accepted", "")
	}
	if c, _ := b.reg.Get("x"); c.ID != "" {
		t.Errorf("registered %+v", c)
	}
	for _, c := range b.Claims() {
		if c.Uses == 100 && c.Used != 1 && c.Used != 3 {
			t.Errorf("claim %+v", c)
		}
	}
}

// A claim that lets one device in lets one in, however many ask at once.
func TestOneUse(t *testing.T) {
	b := newBench(t, Config{})
	token, claim := b.token(Claim{Uses: 3})
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := make(map[string]int)
	for i := range 24 {
		id := "d" + string(rune('a'+i%12))
		k := newKey(t)
		wg.Go(func() {
			g := b.enrol(client{id: id}, k, token)
			mu.Lock()
			defer mu.Unlock()
			if g.Status == "accepted" {
				won[id]++
			}
		})
	}
	wg.Wait()
	total := 0
	for id, n := range won {
		if total += n; n != 1 {
			t.Errorf("%s was enrolled %d times", id, n)
		}
	}
	if c, _ := b.Claim(claim.ID); total != 3 || c.Used != 3 || b.reg.Len() != 3 {
		t.Errorf("%d enrolled, claim used %d times, %d devices", total, c.Used, b.reg.Len())
	}
}

// A use is durable before the certificate leaves; one of which nothing comes is given back.
func TestUseIsDurable(t *testing.T) {
	b := newBench(t, Config{})
	token, claim := b.token(Claim{})
	broken := errors.New("disk broken")
	for _, prefix := range []string{"claim/", "device/"} {
		refuse := func(key string) error {
			if strings.HasPrefix(key, prefix) {
				return broken
			}
			return nil
		}
		b.store.refuse.Store(&refuse)
		b.wants(b.enrol(client{id: "x"}, newKey(t), token), "rejected", CodeInternal)
		b.store.refuse.Store(nil)
		if c, _ := b.Claim(claim.ID); c.Used != 0 || b.reg.Len() != 0 {
			t.Fatalf("without %s: used %d times, %d devices", prefix, c.Used, b.reg.Len())
		}
	}
	b.wants(b.enrol(client{id: "x"}, newKey(t), token), "accepted", "")
	b.reopen()
	if c, _ := b.Claim(claim.ID); c.Used != 1 {
		t.Fatalf("used %d times after a restart", c.Used)
	}
	b.wants(b.enrol(client{id: "y"}, newKey(t), token), "rejected", CodeClaimUsed)
}

func TestGuessersWait(t *testing.T) {
	b := newBench(t, Config{})
	token, _ := b.token(Claim{Uses: 10})
	guess := func(c client) got {
		sec := newSecret()
		return b.enrol(c, newKey(t), sec.String())
	}
	c := client{id: "x", addr: "[2001:db8::1]:1"}
	for range freeFailures - 1 {
		b.wants(guess(c), "rejected", CodeDenied)
	}
	ended := false
	c.ended = &ended
	b.wants(guess(c), "rejected", CodeDenied)
	if c.ended = nil; !ended {
		t.Error("its connection does not end")
	}
	same := client{id: "y", addr: "[2001:db8::ffff]:2"} // of the same network
	if g := b.wants(b.enrol(same, newKey(t), token), "rejected", CodeSlowDown); g.RetryAfter != 2 {
		t.Errorf("retry after %d s", g.RetryAfter)
	}
	b.wants(b.enrol(client{id: "z"}, newKey(t), token), "accepted", "")           // of another
	b.wants(b.enrol(client{id: "x"}, newKey(t), token), "rejected", CodeSlowDown) // the same client identifier
	b.clock.advance(2 * time.Second)
	for i := range 30 {
		g := guess(c)
		if g.Code == string(CodeDenied) {
			g = guess(c)
		}
		b.wants(g, "rejected", CodeSlowDown)
		if most := int(backoffMost / time.Second); g.RetryAfter > most || i > 20 && g.RetryAfter != most {
			t.Fatalf("after %d: retry after %d s", i, g.RetryAfter)
		}
		b.clock.advance(time.Duration(g.RetryAfter) * time.Second)
	}
	b.wants(b.enrol(same, newKey(t), token), "accepted", "")
}

func TestRequestsPerHour(t *testing.T) {
	b := newBench(t, Config{RequestsPerHour: 2})
	token, _ := b.token(Claim{Uses: 10})
	for range 2 {
		b.wants(b.ask(client{id: "x"}, "$pki/enroll/x/request", "{}"), "rejected", CodeRequest)
	}
	if g := b.wants(b.enrol(client{id: "y"}, newKey(t), token), "rejected", CodeSlowDown); g.RetryAfter != 3600 {
		t.Errorf("retry after %d s", g.RetryAfter)
	}
	b.clock.advance(time.Hour)
	b.wants(b.enrol(client{id: "y"}, newKey(t), token), "accepted", "")
}

func TestClaimCertificate(t *testing.T) {
	b := newBench(t, Config{})
	c, claim := b.claimant(Claim{ID: "line-4", Pattern: "pump-*", RatePerHour: 2}, "pump-1")
	if claim.Kind != Certificate || claim.Uses != 0 {
		t.Errorf("claim %+v", claim)
	}
	b.wants(b.enrol(c, newKey(t), ""), "accepted", "")
	c.id = "valve-1"
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeIDNotAllowed)
	c.id = "pump-2"
	b.wants(b.enrol(c, newKey(t), ""), "accepted", "")
	c.id = "pump-3"
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeSlowDown)
	b.clock.advance(time.Hour)
	b.wants(b.enrol(c, newKey(t), ""), "accepted", "")
	if _, _, err := b.CreateCertificate(b.ctx, Claim{ID: "line-4"}, newKey(t).csr(t)); !errors.Is(err, ErrClaim) {
		t.Errorf("created twice: %v", err)
	}
	c.id = "pump-4"
	other := c
	other.serial = "0badcafe"
	b.wants(b.enrol(other, newKey(t), ""), "rejected", CodeDenied)
	b.must(b.RevokeClaim(b.ctx, "line-4"))
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeDenied)
	if d, _ := b.reg.Get("claim/line-4"); d.State != registry.Revoked {
		t.Errorf("registered %+v", d)
	}
	if err := b.RevokeClaim(b.ctx, "line-5"); !errors.Is(err, ErrNoClaim) {
		t.Errorf("revoked: %v", err)
	}
}

func TestApproval(t *testing.T) {
	b := newBench(t, Config{PendingDevices: 2})
	c, claim := b.claimant(Claim{Approve: true, Groups: []string{"new"}}, "pump-1")
	k := newKey(t)
	for range 2 {
		if g := b.wants(b.enrol(c, k, ""), "pending", ""); g.topic != "$pki/enroll/pump-1/pending" || g.RetryAfter != 60 {
			t.Errorf("on %s: %s", g.topic, g.raw)
		}
	}
	if b.state("pump-1") != registry.Pending {
		t.Fatalf("pump-1 is %q", b.state("pump-1"))
	}
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeOtherKey)
	b.reopen()
	b.must(b.reg.Enable(b.ctx, "pump-1"))
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeOtherKey)
	g := b.wants(b.enrol(c, k, ""), "accepted", "")
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeIDTaken)
	if again := b.wants(b.enrol(c, k, ""), "accepted", ""); again.Serial != g.Serial {
		t.Error("another certificate")
	}
	if now, _ := b.Claim(claim.ID); now.Used != 1 {
		t.Errorf("used %d times", now.Used)
	}
	// the bound, expiry, and purge
	k2 := newKey(t)
	for _, id := range []string{"p2", "p3"} {
		c.id = id
		b.wants(b.enrol(c, k2, ""), "pending", "")
	}
	c.id = "p4"
	b.wants(b.enrol(c, newKey(t), ""), "rejected", CodeSlowDown)
	b.must(b.reg.Purge(b.ctx, "p2"))
	b.wants(b.enrol(c, newKey(t), ""), "pending", "")
	b.clock.advance(8 * 24 * time.Hour)
	b.sweep()
	if b.reg.Len() != 2 { // pump-1 and the claim
		t.Errorf("%d devices", b.reg.Len())
	}
	b.wants(b.enrol(c, newKey(t), ""), "pending", "")
}

// An operator may take longer than the claim lives.
func TestApprovalAfterTheEnd(t *testing.T) {
	b := newBench(t, Config{})
	token, _ := b.token(Claim{Approve: true})
	k := newKey(t)
	b.wants(b.enrol(client{id: "pump-1"}, k, token), "pending", "")
	b.clock.advance(2 * DefaultTTL)
	b.wants(b.enrol(client{id: "pump-1"}, k, token), "pending", "")
	b.wants(b.enrol(client{id: "pump-1"}, newKey(t), token), "rejected", CodeClaimExpired)
	b.must(b.reg.Enable(b.ctx, "pump-1"))
	b.wants(b.enrol(client{id: "pump-1"}, k, token), "accepted", "")
	b.wants(b.enrol(client{id: "pump-1"}, k, token), "rejected", CodeClaimExpired)
}

// An operator may prepare devices, and let one that has lost its key in again.
func TestPreparedDevice(t *testing.T) {
	b := newBench(t, Config{})
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "pump-1", Groups: []string{"g"}, Attributes: map[string]string{"a": "b"}}))
	token, _ := b.token(Claim{Uses: 5, Pattern: "pump-*", Groups: []string{"other"}})
	anybody, _ := b.token(Claim{Uses: 5})
	b.wants(b.enrol(client{id: "pump-1"}, newKey(t), anybody), "rejected", CodeIDTaken)
	g := b.wants(b.enrol(client{id: "pump-1"}, newKey(t), token), "accepted", "")
	d, _ := b.reg.Get("pump-1")
	if len(d.Groups) != 1 || d.Groups[0] != "g" || d.Attributes["a"] != "b" || d.Attributes["claim"] == "" {
		t.Errorf("registered %+v", d)
	}
	b.wants(b.enrol(client{id: "pump-1"}, newKey(t), token), "rejected", CodeIDTaken)
	b.must(b.reg.RevokeCertificate(b.ctx, g.Serial, pki.Superseded))
	b.wants(b.enrol(client{id: "pump-1"}, newKey(t), anybody), "rejected", CodeIDTaken)
	b.wants(b.enrol(client{id: "pump-1"}, newKey(t), token), "accepted", "")
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "pump-2", State: registry.Pending}))
	b.wants(b.enrol(client{id: "pump-2"}, newKey(t), anybody), "rejected", CodeIDTaken)
	b.wants(b.enrol(client{id: "pump-2"}, newKey(t), token), "pending", "")
}

func TestResponseTopic(t *testing.T) {
	b := newBench(t, Config{})
	c := client{id: "x", respond: "$pki/enroll/x/answer", data: "7"}
	if g := b.wants(b.ask(c, "$pki/enroll/x/request", "{}"), "rejected", CodeRequest); g.topic != c.respond || string(g.props.CorrelationData) != "7" {
		t.Errorf("on %s", g.topic)
	}
	c.respond = "$pki/#"
	if g := b.ask(c, "$pki/enroll/x/request", "{}"); g.topic != "$pki/enroll/x/rejected" {
		t.Errorf("on %s", g.topic)
	}
}

func TestClaimsAreKept(t *testing.T) {
	b := newBench(t, Config{})
	_, one := b.token(Claim{IDs: []string{"b", "a", "a"}, Groups: []string{"g"}, Attributes: map[string]string{"k": "v"}, Approve: true, Note: "n"})
	b.clock.advance(time.Second)
	_, two := b.token(Claim{ID: "second", Uses: 9, RatePerHour: 4})
	b.must(b.RevokeClaim(b.ctx, "second"))
	before := b.Claims()
	b.reopen()
	after := b.Claims()
	x, _ := json.Marshal(before)
	y, _ := json.Marshal(after)
	if len(after) != 2 || string(x) != string(y) || after[0].ID != one.ID || after[1].ID != two.ID || after[1].Revoked.IsZero() {
		t.Errorf("before %s\nafter  %s", x, y)
	}
	b.clock.advance(DefaultTTL + keptAfterExpiry)
	b.sweep()
	if all := b.Claims(); len(all) != 0 {
		t.Errorf("kept %v", all)
	}
	b.reopen()
	if all := b.Claims(); len(all) != 0 {
		t.Errorf("kept %v", all)
	}
	for _, bad := range []Claim{{ID: "a/b"}, {Kind: Certificate}, {Uses: -1}, {Uses: MaxUses + 1}, {Pattern: "["}, {IDs: []string{""}},
		{Groups: []string{"a b"}}, {Attributes: map[string]string{"claim": "x"}}, {Note: "\n"}, {RatePerHour: -1},
		{Expires: b.clock.now()}, {Expires: b.clock.now().Add(MaxTTL + time.Hour)}} {
		if _, _, err := b.Create(b.ctx, bad); err == nil {
			t.Errorf("created %+v", bad)
		}
	}
}

// Strangers have a bound whatever they ask for, and write no more lines than others.
func TestStrangersAreBounded(t *testing.T) {
	b := newBench(t, Config{RequestsPerHour: 10})
	dev, _ := b.device("pump-1") // the first request
	for _, topic := range []string{"$pki/renew/request", "$aws/certificates/create/json", createJSON, "$pki/enroll/x/request"} {
		for range 3 {
			b.ask(client{id: "x"}, topic, "{}")
		}
	}
	b.wants(b.renewal(client{id: "x"}, newKey(t)), "rejected", CodeSlowDown)
	b.wantsAWS(b.ask(client{id: "x"}, "$aws/certificates/create/json", "{}"), 429, "Throttling")
	if n := strings.Count(b.log.String(), "level=WARN msg=\"request rejected\""); n != 2 { // denied, bad-request
		t.Errorf("%d lines", n)
	}
	b.clock.advance(time.Second)
	for range 20 { // of the same address
		b.wants(b.ask(dev, "$pki/renew/request", "{}"), "rejected", CodeRequest)
	}
	if !strings.Contains(b.log.String(), "left_out=") {
		t.Error("the lines left out are not counted")
	}
	b.wants(b.renewal(dev, newKey(t)), "accepted", "")
}
