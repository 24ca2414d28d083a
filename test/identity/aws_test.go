package identity

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// aws sends a request of fleet provisioning with MQTT 3.1.1 and mosquitto_rr,
// and fills answer with what is accepted.
func (b *broker) aws(t *testing.T, claim device, clientID, topic string, request map[string]any, answer any) {
	t.Helper()
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	args := append(append(b.tls.flags(), claim.flags()...), "-V", "311", "-i", clientID, "-q", "1", "-W", "60", "-t", topic, "-e", topic+"/accepted", "-m", string(text))
	out, err := run(t, "", "mosquitto_rr", args...)
	if err != nil || json.Unmarshal([]byte(out), answer) != nil {
		t.Fatalf("%s: %v\n%s", topic, err, out)
	}
}

// Fleet provisioning by claim, step by step with Mosquitto, and on one
// connection with paho.
func TestFleetProvisioning(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub", "mosquitto_rr")
	b := startBroker(t, twoListeners)
	b.sealmq(t, "claim", "create", "--certificate", "claim", "--attr", "site=north")
	claim := deviceIn(b.path("claim"), "")

	t.Run("mosquitto", func(t *testing.T) {
		d := b.newcomer(t, "SN1")
		b.request(t, d)
		var made struct{ CertificateID, CertificatePem, CertificateOwnershipToken string }
		b.aws(t, claim, "SN1", "$aws/certificates/create-from-csr/json", map[string]any{"certificateSigningRequest": b.read(t, "SN1/dev.csr")}, &made)
		b.write(t, "SN1/cert.pem", made.CertificatePem)
		b.barred(t, b.tls, d, `"cause":"device_pending"`)
		var thing struct {
			ThingName           string
			DeviceConfiguration map[string]string
		}
		b.aws(t, claim, "SN1", "$aws/provisioning-templates/fleet/provision/json", map[string]any{
			"certificateOwnershipToken": made.CertificateOwnershipToken, "parameters": map[string]string{"SerialNumber": "SN1"}}, &thing)
		if thing.ThingName != "SN1" || thing.DeviceConfiguration["site"] != "north" || made.CertificateID == "" {
			t.Errorf("provisioned: %+v, %+v", made, thing)
		}
		admitted(t, b.tls, d)
		if out := b.sealmq(t, "device", "show", "SN1"); !strings.Contains(out, "SerialNumber = SN1") {
			t.Errorf("device show:\n%s", out)
		}
	})

	t.Run("paho", func(t *testing.T) {
		needPaho(t)
		d := b.newcomer(t, "SN2")
		b.request(t, d)
		script, err := filepath.Abs(filepath.Join("testdata", "fleet_provisioning.py"))
		if err != nil {
			t.Fatal(err)
		}
		out := mustRun(t, d.dir, python, script, b.tls.host, b.tls.flags()[3], claim.ca, claim.cert, claim.key, "SN2", "dev.csr", "cert.pem")
		if !strings.Contains(out, `"thingName": "SN2"`) {
			t.Errorf("provisioned: %s", out)
		}
		admitted(t, b.tls, d)
	})
}
