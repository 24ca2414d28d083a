package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/registry"
)

const (
	createJSON    = "$aws/certificates/create-from-csr/json"
	provisionJSON = "$aws/provisioning-templates/line/provision/json"
)

func (b *bench) create(c client, k key) got {
	b.t.Helper()
	return b.ask(c, createJSON, map[string]string{"certificateSigningRequest": k.pem(b.t)})
}

func (b *bench) provision(c client, token string) got {
	b.t.Helper()
	return b.ask(c, provisionJSON, map[string]any{"certificateOwnershipToken": token, "parameters": map[string]string{"SerialNumber": "SN1"}})
}

func (b *bench) wantsAWS(g got, status int, code string) got {
	b.t.Helper()
	if !strings.HasSuffix(g.topic, "/rejected") || g.StatusCode != status || g.ErrorCode != code || g.ErrorMessage == "" {
		b.t.Fatalf("on %s: %s, want %d %s\n%s", g.topic, g.raw, status, code, b.log)
	}
	return g
}

func TestFleetProvisioning(t *testing.T) {
	b := newBench(t, Config{})
	c, claim := b.claimant(Claim{Pattern: "pump-*", Groups: []string{"sensors"}, Attributes: map[string]string{"site": "north"}}, "pump-1")
	g := b.create(c, newKey(t))
	cert := parsePEM(t, g.CertificatePem)
	sum := sha256.Sum256(cert.Raw)
	if g.topic != createJSON+"/accepted" || g.CertificateID != hex.EncodeToString(sum[:]) || cert.Subject.CommonName != "pump-1" {
		t.Fatalf("on %s: %s", g.topic, g.raw)
	}
	if _, err := b.id.Admit(cert); err == nil || b.state("pump-1") != registry.Pending {
		t.Fatalf("it is admitted: %s", b.state("pump-1"))
	}
	b.reopen() // the token outlives a restart
	b.wantsAWS(b.provision(c, "pump-1.AAAA"), 400, "InvalidCertificateOwnershipToken")
	b.wantsAWS(b.provision(c, "pump-1."+strings.Repeat("A", 22)), 400, "InvalidCertificateOwnershipToken")
	other, _ := b.claimant(Claim{}, "pump-1")
	b.wantsAWS(b.provision(other, g.CertificateOwnershipToken), 400, "InvalidCertificateOwnershipToken")
	for range 2 { // the first answer was lost
		p := b.provision(c, g.CertificateOwnershipToken)
		if p.topic != provisionJSON+"/accepted" || p.ThingName != "pump-1" || p.DeviceConfiguration["site"] != "north" {
			t.Fatalf("on %s: %s", p.topic, p.raw)
		}
	}
	if _, err := b.id.Admit(cert); err != nil {
		t.Error(err)
	}
	d, _ := b.reg.Get("pump-1")
	if d.State != registry.Active || d.Attributes["SerialNumber"] != "SN1" || d.Attributes["claim"] != claim.ID || d.Groups[0] != "sensors" {
		t.Errorf("registered %+v", d)
	}
	b.clock.advance(ownershipLife)
	b.sweep()
	if b.state("pump-1") != registry.Active {
		t.Errorf("after an hour %q", b.state("pump-1"))
	}
	b.wantsAWS(b.provision(c, g.CertificateOwnershipToken), 400, "InvalidCertificateOwnershipToken")
	b.wantsAWS(b.create(c, newKey(t)), 409, "ResourceAlreadyExists")
	if now, _ := b.Claim(claim.ID); now.Used != 1 {
		t.Errorf("used %d times", now.Used)
	}
}

func TestFleetProvisioningRejections(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.claimant(Claim{Pattern: "pump-*", Uses: 1}, "pump-1")
	b.wantsAWS(b.create(client{id: "pump-1"}, newKey(t)), 403, "AccessDenied")
	b.wantsAWS(b.ask(c, createJSON, `{"certificateSigningRequest":"x"}`), 400, "InvalidCertificateSigningRequest")
	b.wantsAWS(b.ask(c, createJSON, `{"certificateSigningRequest":1}`), 400, "InvalidRequest")
	b.wantsAWS(b.ask(c, createJSON, `[]`), 400, "InvalidRequest")
	b.wantsAWS(b.ask(c, "$aws/certificates/create/json", `{}`), 400, "InvalidRequest")
	b.wantsAWS(b.ask(c, provisionJSON, `{}`), 400, "InvalidCertificateOwnershipToken")
	b.wantsAWS(b.ask(c, provisionJSON, `{"parameters":{"a":1}}`), 400, "InvalidRequest")
	b.wantsAWS(b.ask(c, provisionJSON, `{"parameters":{"claim":"x"}}`), 400, "InvalidRequest")
	valve := c
	valve.id = "valve-1"
	b.wantsAWS(b.create(valve, newKey(t)), 403, "AccessDenied")
	g := b.create(c, newKey(t))
	again := b.create(c, newKey(t)) // it has lost its key in between
	for range ownershipMost - 2 {
		again = b.create(c, newKey(t))
	}
	b.wantsAWS(b.create(c, newKey(t)), 429, "Throttling")
	b.wantsAWS(b.provision(c, g.CertificateOwnershipToken), 400, "InvalidCertificateOwnershipToken")
	if p := b.provision(c, again.CertificateOwnershipToken); p.ThingName != "pump-1" {
		t.Fatalf("%s", p.raw)
	}
	if _, err := b.id.Admit(parsePEM(t, g.CertificatePem)); err == nil {
		t.Error("the first certificate is admitted")
	}
	if _, err := b.id.Admit(parsePEM(t, again.CertificatePem)); err != nil {
		t.Error(err)
	}
	c.id = "pump-2"
	b.wantsAWS(b.create(c, newKey(t)), 403, "AccessDenied") // used up
}

func TestFleetProvisioningComesToNothing(t *testing.T) {
	b := newBench(t, Config{})
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "prepared"}))
	c, _ := b.claimant(Claim{}, "pump-1")
	b.create(c, newKey(t))
	c.id = "prepared"
	b.wantsAWS(b.create(c, newKey(t)), 409, "ResourceAlreadyExists")
	c, _ = b.claimant(Claim{IDs: []string{"prepared"}}, "prepared")
	g := b.create(c, newKey(t))
	if b.state("prepared") != registry.Pending {
		t.Errorf("prepared is %q", b.state("prepared"))
	}
	b.clock.advance(ownershipLife)
	b.wantsAWS(b.provision(c, g.CertificateOwnershipToken), 400, "InvalidCertificateOwnershipToken")
	b.sweep()
	if b.state("pump-1") != "" || b.state("prepared") != registry.Active {
		t.Errorf("pump-1 is %q, prepared %q", b.state("pump-1"), b.state("prepared"))
	}
	if _, err := b.id.Admit(parsePEM(t, g.CertificatePem)); err == nil {
		t.Error("its certificate is admitted")
	}
	if g := b.create(c, newKey(t)); g.CertificatePem == "" {
		t.Errorf("%s", g.raw)
	}
}

func TestFleetProvisioningWithApproval(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.claimant(Claim{Approve: true}, "pump-1")
	g := b.create(c, newKey(t))
	b.wantsAWS(b.provision(c, g.CertificateOwnershipToken), 403, "AccessDenied")
	b.must(b.reg.Enable(b.ctx, "pump-1"))
	if p := b.provision(c, g.CertificateOwnershipToken); p.ThingName != "pump-1" {
		t.Errorf("%s", p.raw)
	}
}

// A crash between the steps of the first request leaves a device that may begin again.
func TestFleetProvisioningAfterACrash(t *testing.T) {
	b := newBench(t, Config{})
	c, claim := b.claimant(Claim{Uses: 1}, "pump-1")
	a, err := newAsk("pump-1", newKey(t).csr(t), nil, "")
	b.must(err)
	b.must(b.claims.take(b.claims.named(claim.ID), b.clock.now()))
	b.must(b.pending.put("pump-1", &pending{Claim: claim.ID, SPKI: a.spki[:], Owner: make([]byte, 32), Tries: 1, Fresh: true, Until: b.clock.now().Add(time.Hour)}, 10))
	_, err = b.id.Issue(b.ctx, identity.Order{ID: "pump-1", CSR: a.csr, Must: identity.BeNew, State: registry.Pending, Attributes: map[string]string{"claim": claim.ID}})
	b.must(err)
	b.reopen()
	g := b.create(c, newKey(t))
	if p := b.provision(c, g.CertificateOwnershipToken); p.ThingName != "pump-1" {
		t.Errorf("%s, %s", g.raw, p.raw)
	}
}

// When the store refuses a step, nothing is counted that comes to nothing, and nothing is got without being counted.
func TestFleetProvisioningWithoutAStore(t *testing.T) {
	b := newBench(t, Config{})
	b.must(b.reg.Add(b.ctx, registry.Device{ID: "prepared"}))
	c, claim := b.claimant(Claim{Uses: 2, IDs: []string{"fresh", "prepared"}}, "")
	for n, id := range []string{"fresh", "prepared"} {
		c.id = id
		for _, prefix := range []string{"claim/", "pending/", "device/"} {
			for skip := range 3 { // let so many writes pass
				left := skip
				refuse := func(key string) error {
					if strings.HasPrefix(key, prefix) {
						if left--; left < 0 {
							return errors.New("disk broken")
						}
					}
					return nil
				}
				b.store.refuse.Store(&refuse)
				g := b.create(c, newKey(t))
				b.store.refuse.Store(nil)
				now, _ := b.Claim(claim.ID)
				if g.CertificatePem != "" && now.Used != n+1 || now.Used > n+1 {
					t.Fatalf("%s: without %s after %d: used %d times: %s", id, prefix, skip, now.Used, g.raw)
				}
				if g.StatusCode == 429 {
					t.Fatalf("%s", g.raw)
				}
				if now.Used == n+1 {
					break
				}
			}
		}
		g := b.create(c, newKey(t))
		if p := b.provision(c, g.CertificateOwnershipToken); p.ThingName != id {
			t.Errorf("%s, %s", g.raw, p.raw)
		}
		if now, _ := b.Claim(claim.ID); now.Used != n+1 {
			t.Errorf("used %d times", now.Used)
		}
	}
}

func TestFleetProvisioningInCBOR(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.claimant(Claim{Attributes: map[string]string{"site": "north"}}, "pump-1")
	encode := func(m awsAnswer) string {
		var buf bytes.Buffer
		appendCBOR(&buf, m)
		return buf.String()
	}
	g := b.ask(c, "$aws/certificates/create-from-csr/cbor", encode(awsAnswer{"certificateSigningRequest": newKey(t).pem(t)}))
	m, err := decodeCBOR(g.raw)
	if err != nil || g.topic != "$aws/certificates/create-from-csr/cbor/accepted" || len(g.props.ContentType) != 0 {
		t.Fatalf("on %s: %x, %v", g.topic, g.raw, err)
	}
	pem, _ := m.text("certificatePem")
	parsePEM(t, pem)
	token, _ := m.text("certificateOwnershipToken")
	g = b.ask(c, "$aws/provisioning-templates/line/provision/cbor", encode(awsAnswer{"certificateOwnershipToken": token, "parameters": map[string]string{"SerialNumber": "1"}}))
	m, err = decodeCBOR(g.raw)
	config, _ := m.texts("deviceConfiguration")
	if name, _ := m.text("thingName"); err != nil || name != "pump-1" || config["site"] != "north" {
		t.Errorf("%x, %v", g.raw, err)
	}
	g = b.ask(c, "$aws/provisioning-templates/line/provision/cbor", "\xa0")
	if _, err = decodeCBOR(g.raw); err != nil || !strings.HasSuffix(g.topic, "/rejected") {
		t.Errorf("%x, %v", g.raw, err)
	}
}

// RFC 8949, appendix A, and what is no CBOR.
func TestCBOR(t *testing.T) {
	for hexed, want := range map[string]string{
		"a0": "", "a26161016162820203": "", "a56161614161626142616361436164614461656145": "A",
		"bf61610161629f0203ffff": "", "bf6346756ef563416d7421ff": "", "a1616101": "", "a16161c11a514b67b0": "", "a16161fb3ff199999999999a": "",
	} {
		b, _ := hex.DecodeString(hexed)
		m, err := decodeCBOR(b)
		if got, _ := m["a"].(string); err != nil || got != want {
			t.Errorf("%s: %v, %v", hexed, m, err)
		}
		for n := range len(b) {
			if _, err := decodeCBOR(b[:n]); err == nil {
				t.Errorf("%s cut to %d bytes is taken", hexed, n)
			}
		}
	}
	for _, bad := range []string{"", "01", "80", "a1", "a161", "a1616161", "ff", "a0a0", "bf", "7f6161ff", "a17bffffffffffffffff", "bbffffffffffffffff", "a161fc", "a16161fc", "a162c328a0",
		"a16161" + strings.Repeat("81", 100) + "01", "1f", "ff", "a16161ff"} {
		b, _ := hex.DecodeString(bad)
		if m, err := decodeCBOR(b); err == nil {
			t.Errorf("%s is taken: %v", bad, m)
		}
	}
}

func FuzzCBOR(f *testing.F) {
	b, _ := hex.DecodeString("bf61610161629f0203ffff")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeCBOR(b); err == nil && m == nil {
			t.Fatalf("%x is nothing", b)
		}
	})
}

// What an operator has decided stands, however close it is to what the device does, or to the end of its waiting.
func TestFleetProvisioningAgainstAnOperator(t *testing.T) {
	b := newBench(t, Config{})
	for n := range 40 {
		id := fmt.Sprintf("pump-%d", n)
		if n%2 == 0 {
			b.must(b.reg.Add(b.ctx, registry.Device{ID: id}))
		}
		c, _ := b.claimant(Claim{IDs: []string{id}}, id)
		g := b.create(c, newKey(t))
		decided := make(chan error, 1)
		operator := func(decide func(context.Context, ...string) error) {
			go func() { decided <- decide(b.ctx, id) }()
		}
		what, want := "", registry.Disabled
		switch n / 2 % 4 {
		case 0:
			what = "provisioned"
			operator(b.reg.Disable)
			b.provision(c, g.CertificateOwnershipToken)
		case 1:
			what = "asked again"
			operator(b.reg.Disable)
			b.create(c, newKey(t))
		case 2:
			what = "expired"
			b.clock.advance(ownershipLife)
			operator(b.reg.Disable)
			b.sweep()
		case 3:
			what, want = "approved", registry.Active
			b.clock.advance(ownershipLife)
			operator(b.reg.Enable)
			b.sweep()
		}
		if err := <-decided; err == nil && b.state(id) != want {
			t.Errorf("%s: %s is %q", what, id, b.state(id))
		}
	}
}
