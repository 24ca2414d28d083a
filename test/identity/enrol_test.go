package identity

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// script is the enrolment script as the handbook prints it, as a file.
func script(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "handbook", "enrolment.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```sh\n")
	text, _, found := strings.Cut(rest, "```\n")
	if !found || !strings.HasPrefix(text, "#!/bin/sh\n") {
		t.Fatal("the handbook prints no script")
	}
	if n := strings.Count(text, "\n"); n >= 20 {
		t.Errorf("the script has %d lines, under 20 wanted", n)
	}
	file, err := os.ReadFile(filepath.Join("..", "..", "docs", "handbook", "enrol.sh"))
	if err != nil || string(file) != text {
		t.Errorf("enrol.sh is not what the page prints: %v", err)
	}
	name := filepath.Join(t.TempDir(), "enrol.sh")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// newcomer is a device that has the broker's root and nothing else.
func (b *broker) newcomer(t *testing.T, id string) device {
	t.Helper()
	b.write(t, id+"/ca.pem", b.read(t, "data/ca/root.pem"))
	return deviceIn(b.path(id), id)
}

// token makes a claim and returns it.
func (h *home) token(t *testing.T, flags ...string) string {
	t.Helper()
	out := h.sealmq(t, append([]string{"claim", "create"}, flags...)...)
	m := regexp.MustCompile(`(?m)^token +(\S+)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no token in:\n%s", out)
	}
	return m[1]
}

// A device enrols with a token and the handbook's script, and renews with it.
func TestEnrolByToken(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf")
	b := startBroker(t, twoListeners)
	enrol := script(t)
	ask := func(d device, e endpoint, more ...string) (string, error) {
		return run(t, d.dir, "sh", append([]string{enrol, e.host, e.flags()[3], d.id}, more...)...)
	}

	token := b.token(t, "--group", "pumps", "--attr", "site=north", "--ids", "pump-*")
	pump := b.newcomer(t, "pump-1")
	if out, err := ask(pump, b.enroll, strings.ToLower(token)); err != nil {
		t.Fatalf("enrol: %v\n%s", err, out)
	}
	admitted(t, b.tls, pump)
	mustRun(t, pump.dir, "openssl", "verify", "-purpose", "sslclient", "-CAfile", "ca.pem", "-untrusted", b.path("data/ca/device.pem"), "cert.pem")
	shown := b.sealmq(t, "device", "show", "pump-1")
	for _, want := range []string{"pumps", "site = north", "active"} {
		if !strings.Contains(shown, want) {
			t.Errorf("device show has no %q:\n%s", want, shown)
		}
	}

	// The same request again, with the same key, gets the same certificate and takes no use.
	before := b.read(t, "pump-1/cert.pem")
	mustRun(t, pump.dir, "cp", "key.pem", "new.key")
	if out, err := ask(pump, b.enroll, token); err != nil || b.read(t, "pump-1/cert.pem") != before {
		t.Errorf("the same request got another answer: %v\n%s", err, out)
	}

	for _, no := range []struct{ id, token, code string }{
		{"pump-2", token, "claim-used"},
		{"lamp-1", b.token(t, "--ids", "pump-*"), "id-not-allowed"},
		{"pump-1", b.token(t), "id-taken"},
		{"pump-3", "HESY5-6GDTR-JMQ0W-6NBCW-T2KY1-MBDBR", "denied"},
		{"pump-4", "HESY5-6GDTR-JMQ0W-6NBCW-T2KY1-MBDBS", "token-mistyped"},
	} {
		d := device{id: no.id, dir: filepath.Join(t.TempDir(), no.id)}
		b.write(t, "no/"+no.id+"/ca.pem", b.read(t, "data/ca/root.pem"))
		d.dir = b.path("no", no.id)
		if out, err := ask(d, b.enroll, no.token); err == nil || !strings.Contains(out, `"`+no.code+`"`) {
			t.Errorf("%s with token %s: %v, want %s:\n%s", no.id, no.token, err, no.code, out)
		}
	}

	// A listener for enrolment is for nothing else, and the other takes nobody without a certificate.
	nobody := device{id: "nobody", ca: pump.ca}
	if out, err := publish(t, b.enroll, nobody, "hall/1", "x", "-V", "5"); !denied(out, err) {
		t.Errorf("a message is taken by the listener for enrolment: %v\n%s", err, out)
	}
	b.barred(t, b.tls, nobody, `"cause":"client_certificate_absent"`)

	// The certificate that is there is proof enough for the next.
	if out, err := ask(pump, b.tls); err != nil {
		t.Fatalf("renew: %v\n%s", err, out)
	}
	if b.read(t, "pump-1/cert.pem") == before {
		t.Error("the renewed certificate is the one before")
	}
	admitted(t, b.tls, pump)
}

// denied tells whether mosquitto_pub's message was refused.
func denied(out string, err error) bool {
	return err != nil || strings.Contains(strings.ToLower(out), "not authorized")
}

// reply is an answer of enrolment.
type reply struct {
	Status, Code, Certificate string
	RetryAfter                int `json:"retry_after"`
}

// ask sends a request with mosquitto_rr, which takes the answer on its response
// topic, whatever it is.
func (b *broker) ask(t *testing.T, e endpoint, d device, clientID, topic, request string) reply {
	t.Helper()
	args := append(append(e.flags(), d.flags()...), "-V", "5", "-i", clientID, "-q", "1", "-W", "60",
		"-t", topic+"/request", "-e", topic+"/accepted", "-m", request)
	out, err := run(t, "", "mosquitto_rr", args...)
	var r reply
	if err != nil || json.Unmarshal([]byte(out), &r) != nil {
		t.Fatalf("mosquitto_rr to %s: %v\n%s", topic, err, out)
	}
	return r
}

// request makes a key in a device's folder and asks for a certificate for it.
func (b *broker) request(t *testing.T, d device) string {
	t.Helper()
	csr(t, b.home, filepath.Base(d.dir), "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "/CN=any", "")
	text, err := json.Marshal(map[string]string{"csr": b.read(t, filepath.Base(d.dir)+"/dev.csr")})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A series of devices shares a claim certificate; an operator lets each in.
func TestEnrolByClaimCertificate(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf")
	b := startBroker(t, twoListeners)
	b.sealmq(t, "claim", "create", "--certificate", "claim", "--uses", "2", "--approve", "--ids", "lamp-*")
	claim := deviceIn(b.path("claim"), "lamp-1")
	lamp := b.newcomer(t, "lamp-1")
	request := b.request(t, lamp)

	for i, e := range []endpoint{b.tls, b.enroll} {
		if r := b.ask(t, e, claim, "lamp-1", "$pki/enroll/lamp-1", request); r.Status != "pending" || r.RetryAfter == 0 {
			t.Fatalf("request %d: %+v, want pending", i+1, r)
		}
	}
	if out := b.sealmq(t, "device", "list", "--state", "pending"); !strings.Contains(out, "lamp-1") {
		t.Errorf("lamp-1 does not wait for approval:\n%s", out)
	}
	b.sealmq(t, "device", "enable", "lamp-1")
	r := b.ask(t, b.tls, claim, "lamp-1", "$pki/enroll/lamp-1", request)
	if r.Status != "accepted" {
		t.Fatalf("after approval: %+v, want accepted", r)
	}
	b.write(t, "lamp-1/cert.pem", r.Certificate)
	admitted(t, b.tls, lamp)

	// The claim does nothing else, and its devices are those that it names.
	if out, err := publish(t, b.tls, device{"lamp-1", "", claim.ca, claim.cert, claim.key}, "hall/1", "x", "-V", "5"); !denied(out, err) {
		t.Errorf("a claim may publish: %v\n%s", err, out)
	}
	pump := b.newcomer(t, "pump-1")
	if r := b.ask(t, b.tls, claim, "pump-1", "$pki/enroll/pump-1", b.request(t, pump)); r.Code != "id-not-allowed" {
		t.Errorf("pump-1: %+v, want id-not-allowed", r)
	}

	var claims []struct{ ID string }
	if err := json.Unmarshal([]byte(b.sealmq(t, "claim", "list", "--json")), &claims); err != nil || len(claims) != 1 {
		t.Fatalf("claim list: %+v %v", claims, err)
	}
	live := subscribe(t, b.tls, claim, "lamp-2", "5", "-t", "$pki/enroll/lamp-2/+")
	b.sealmq(t, "claim", "revoke", claims[0].ID)
	live.await(t, "Received DISCONNECT (152)")
	b.barred(t, b.tls, device{"lamp-2", "", claim.ca, claim.cert, claim.key})
	admitted(t, b.tls, lamp)
}
