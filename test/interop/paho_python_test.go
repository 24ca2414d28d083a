package interop

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestPahoPython(t *testing.T) { matrix(t, &pahoPython{}) }

type pahoPython struct{ *remote }

// debianPython is the interpreter for which Debian packages paho.
const debianPython = "/usr/bin/python3"

func (c *pahoPython) start(t *testing.T) (missing string) {
	if out, err := exec.Command(debianPython, "-c", "import paho.mqtt.client").CombinedOutput(); err != nil {
		return fmt.Sprintf("%s cannot import paho.mqtt.client (%v); needs the Debian package python3-paho-mqtt\n%s", debianPython, err, out)
	}
	c.remote = startRemote(t, exec.Command(debianPython, filepath.Join("testdata", "paho_client.py")))
	return ""
}

func (*pahoPython) versions() []version { return []version{v31, v311, v5} }
