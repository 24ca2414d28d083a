package interop

import (
	"fmt"
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

func (mosquittoTools) start(*testing.T) (missing string) {
	return missingPrograms("mosquitto-clients and coreutils", "mosquitto_pub", "mosquitto_sub", "stdbuf")
}

// missingPrograms says which of them cannot be found, and the Debian packages
// that bring them.
func missingPrograms(packages string, programs ...string) string {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Sprintf("%v; needs the Debian packages %s", err, packages)
		}
	}
	return ""
}
