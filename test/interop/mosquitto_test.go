package interop

import (
	"os/exec"
	"testing"
)

func TestMosquitto(t *testing.T) { matrix(t, mosquitto()) }

type mosquittoTools struct{ commandLine }

// mosquitto's sub command keeps its lines in a buffer unless it writes to a
// terminal, and its signal handler waits for a lock that it may itself hold.
func mosquitto() client {
	return mosquittoTools{commandLine{
		pub:    []string{"mosquitto_pub"},
		sub:    []string{"stdbuf", "-oL", "mosquitto_sub"},
		ready:  "Subscribed (mid",
		settle: true,
	}}
}

// stopKeepsWill: on SIGTERM mosquitto_sub sends reason 0x04 where it can.
func (mosquittoTools) stopKeepsWill(v version) bool { return v == v5 }

func (mosquittoTools) need(t *testing.T) {
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: %v; needs the Debian packages mosquitto-clients and coreutils", err)
		}
	}
}
