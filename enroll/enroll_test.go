package enroll

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
)

func TestOwns(t *testing.T) {
	b := newBench(t, Config{})
	for topic, want := range map[string]bool{"$pki/enroll/a/request": true, "$pki/cacerts": true, "$aws/certificates/create/json": true,
		"$pki": false, "$pki/": false, "$pkix/a": false, "pki/a": false, "": false, "$SYS/a": false, "$aws": false, "$awx/a": false} {
		if got := b.Owns([]byte(topic)); got != want {
			t.Errorf("%q: %v", topic, got)
		}
	}
	topic := []byte("$pki/renew/request")
	if n := testing.AllocsPerRun(100, func() { b.Owns(topic) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRoute(t *testing.T) {
	for topic, want := range map[string]action{
		"$pki/enroll/a/request":                          {op: opEnrol, client: "a", base: "$pki/enroll/a/"},
		"$pki/enroll/a/b/request":                        {op: opEnrol, client: "a/b", base: "$pki/enroll/a/b/"},
		"$pki/enroll//request":                           {},
		"$pki/enroll/a":                                  {},
		"$pki/enroll/a/accepted":                         {},
		"$pki/renew/request":                             {op: opRenew, base: "$pki/renew/"},
		"$pki/renew/advice":                              {},
		"$pki/cacerts":                                   {},
		"$pki/cacerts/seen":                              {op: opSeen, base: "$pki/cacerts/seen/"},
		"$aws/certificates/create-from-csr/json":         {op: opCreate, base: "$aws/certificates/create-from-csr/json/"},
		"$aws/certificates/create-from-csr/cbor":         {op: opCreate, base: "$aws/certificates/create-from-csr/cbor/", cbor: true},
		"$aws/certificates/create-from-csr/xml":          {},
		"$aws/certificates/create/json":                  {op: opCreateKeys, base: "$aws/certificates/create/json/"},
		"$aws/provisioning-templates/t/provision/json":   {op: opProvision, name: "t", base: "$aws/provisioning-templates/t/provision/json/"},
		"$aws/provisioning-templates//provision/json":    {},
		"$aws/provisioning-templates/a/b/provision/json": {},
		"json": {},
	} {
		if got := route(topic); got.op != want.op || got.op != opNone && got != want {
			t.Errorf("%s: %+v", topic, got)
		}
	}
}

// slowIssuer issues when it is let.
type slowIssuer struct {
	Issuer
	let chan struct{}
}

func (s *slowIssuer) Issue(ctx context.Context, o identity.Order) (*identity.Issued, error) {
	select {
	case <-s.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Issuer.Issue(ctx, o)
}

// Serve never blocks: what is too much, of all or of one address, is told to come again.
func TestBusy(t *testing.T) {
	b := newBench(t, Config{})
	slow := &slowIssuer{b.id, make(chan struct{})}
	b.opt.Identity = slow
	b.reopen()
	token, _ := b.token(Claim{Uses: MaxUses})
	const devices = 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := make(map[string]int)
	payload := `{"csr":"` + newKey(t).base64(t) + `","token":"` + token + `"}`
	serve := func(id, addr string) {
		wg.Add(1)
		b.Serve(&Request{Topic: "$pki/enroll/" + id + "/request", Payload: []byte(payload), Props: new(mqtt.Properties), ClientID: id, Addr: addr,
			Reply: func(topic string, payload []byte, _ *mqtt.Properties) bool {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				if strings.Contains(string(payload), `"busy"`) {
					codes["busy"]++
				}
				codes[topic[strings.LastIndexByte(topic, '/')+1:]]++
				return true
			}})
	}
	for range devices {
		serve("x", "192.0.2.1:1")
	}
	mu.Lock()
	if n := codes["busy"]; n < devices-perPeerMost-8 || n > devices-perPeerMost {
		t.Errorf("%d of %d are told that it is busy", n, devices)
	}
	mu.Unlock()
	close(slow.let)
	wg.Wait()
	if codes["accepted"] == 0 || codes["accepted"]+codes["rejected"] != devices {
		t.Errorf("%v", codes)
	}
	b.wants(b.ask(client{id: "y"}, "$pki/enroll/y/request", "{}"), "rejected", CodeRequest)
}

// Close ends the work, also that which waits for others.
func TestClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := newBench(t, Config{})
	slow := &slowIssuer{b.id, make(chan struct{})}
	b.opt.Identity = slow
	b.reopen()
	token, claim := b.token(Claim{})
	payload := `{"csr":"` + newKey(t).base64(t) + `","token":"` + token + `"}`
	b.Serve(&Request{Topic: "$pki/enroll/x/request", Payload: []byte(payload), Props: new(mqtt.Properties), ClientID: "x",
		Reply: func(string, []byte, *mqtt.Properties) bool { return false }})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if c, _ := b.Claim(claim.ID); c.Used == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not worked on")
		}
		time.Sleep(time.Millisecond)
	}
	b.Close()
	b.Close()
	if c, _ := b.Claim(claim.ID); c.Used != 0 {
		t.Errorf("used %d times, and nothing came of it", c.Used)
	}
	b.wants(b.ask(client{id: "x"}, "$pki/enroll/x/request", "{}"), "rejected", CodeBusy)
	_, _, create := b.Create(b.ctx, Claim{})
	_, _, challenge := b.Challenge(b.ctx)
	_, register := b.RegisterFactory(b.ctx, Factory{}, nil)
	for _, err := range []error{create, challenge, register, b.RevokeClaim(b.ctx, claim.ID), b.RemoveFactory(b.ctx, "x")} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	b.reg.Close()
}

// What comes from a network is short and printable in the log.
func TestLog(t *testing.T) {
	b := newBench(t, Config{})
	evil := "a\nlevel=ERROR\x1b[31m" + strings.Repeat("x", 1000)
	c := client{id: evil, addr: "1.2.3.4:5"}
	b.wants(b.ask(c, "$pki/enroll/"+evil+"/request", map[string]any{"csr": evil, "id": evil, "token": evil}), "rejected", CodeRequest)
	b.wants(b.ask(c, "$pki/enroll/"+evil+"/request", map[string]any{"csr": newKey(t).pem(t), "token": evil}), "rejected", CodeMistyped)
	token, _ := b.token(Claim{})
	b.wants(b.ask(c, "$pki/enroll/"+evil+"/request", map[string]any{"csr": newKey(t).pem(t), "token": token, "id": evil}), "rejected", "identity")
	b.wants(b.ask(c, "$pki/enroll/"+evil+"/request", map[string]any{"csr": newKey(t).pem(t), "token": token, "attributes": map[string]string{evil: evil}}), "rejected", CodeRequest)
	for line := range strings.Lines(b.log.String()) {
		if len(line) > 700 || strings.HasPrefix(line, "level=") || strings.ContainsRune(line, '\x1b') {
			t.Errorf("line of %d bytes: %.100q", len(line), line)
		}
	}
}

func BenchmarkEnrol(b *testing.B) {
	s := newBench(b, Config{RequestsPerHour: MaxUses})
	s.log.b.Grow(1 << 20)
	token, _ := s.token(Claim{Uses: MaxUses})
	k := newKey(b)
	s.enrol(client{id: "x"}, k, token)
	payload := map[string]string{"csr": k.base64(b), "token": token}
	b.ResetTimer()
	for b.Loop() {
		s.wants(s.ask(client{id: "x"}, "$pki/enroll/x/request", payload), "accepted", "") // a repeated one: all but the signature of the CA
	}
}

func BenchmarkEnrolNew(b *testing.B) {
	s := newBench(b, Config{RequestsPerHour: MaxUses})
	token, _ := s.token(Claim{Uses: MaxUses})
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		c, payload := client{id: "d" + strconv.Itoa(n)}, map[string]string{"csr": newKey(b).base64(b), "token": token}
		b.StartTimer()
		s.wants(s.ask(c, "$pki/enroll/"+c.id+"/request", payload), "accepted", "")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "devices/s")
}
