package interop

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The clients that speak WebSocket go through every scenario over wss, with
// client certificates, and over ws.

func TestWebSocketMQTTjs(t *testing.T) { webSocketMatrix(t, webSocketJS{&mqttJS{}}) }

func TestWebSocketPahoPython(t *testing.T) { webSocketMatrix(t, webSocketPython{&pahoPython{}}) }

func TestWebSocketSealmq(t *testing.T) {
	webSocketMatrix(t, sealmqTools{commandLine{
		pub:   []string{program, "pub", "--ws"},
		sub:   []string{program, "sub", "--ws"},
		plain: []string{"--no-tls"},
		ready: "subscribed to",
	}})
}

type webSocketJS struct{ *mqttJS }

func (c webSocketJS) start(t *testing.T) (missing string) {
	if missing := missingPrograms("nodejs (18 or later) and npm", "node", "npm"); missing != "" {
		return missing
	}
	modules, err := installMQTTjs(t)
	if err != nil {
		return err.Error()
	}
	cmd := exec.Command("node", filepath.Join("testdata", "mqttjs", "websocket.js"))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	c.remote = startRemote(t, cmd)
	return ""
}

type webSocketPython struct{ *pahoPython }

func (c webSocketPython) start(t *testing.T) (missing string) {
	if err := exec.Command(debianPython, "-c", "import paho.mqtt.client").Run(); err != nil {
		return debianPython + " cannot import paho.mqtt.client; needs the Debian package python3-paho-mqtt"
	}
	c.remote = startRemote(t, exec.Command(debianPython, filepath.Join("testdata", "paho_websocket.py")))
	return ""
}

const webSocketConfig = `
data = "data"
policy = "open.policy"
[log]
level = "debug"
format = "json"
[[listener]]
name = "wss"
address = "127.0.0.1:0"
websocket = true
[[listener]]
name = "ws"
address = "127.0.0.1:0"
websocket = true
tls = false
anonymous = true
`

func webSocketMatrix(t *testing.T, c client) {
	t.Parallel()
	if missing := c.start(t); missing != "" {
		t.Skip("skipped: " + missing)
	}
	b := startWebSocketBroker(t)
	for _, e := range []endpoint{b.tls, b.plain} {
		for _, v := range c.versions() {
			t.Run(e.name+"/"+v.String(), func(t *testing.T) {
				for _, s := range scenarios {
					if s.needs.v5 && v != v5 || s.needs.tls && !e.tls() {
						continue
					}
					t.Run(s.name, func(t *testing.T) { s.run(t, newCell(c, v, b, e)) })
				}
			})
		}
	}
}

// startWebSocketBroker starts a broker whose two listeners speak WebSocket: tls
// is wss, plain is ws.
func startWebSocketBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{dir: t.TempDir()}
	configure(t, b.dir, webSocketConfig)
	cmd := exec.Command(program, "serve", "--config", "sealmq.toml")
	cmd.Dir = b.dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ports := make(chan endpoint, 2)
	var reading sync.WaitGroup
	reading.Go(func() {
		for in := bufio.NewScanner(stderr); in.Scan(); {
			b.mu.Lock()
			b.log.WriteString(in.Text() + "\n")
			b.mu.Unlock()
			if e, ok := listening(in.Bytes()); ok {
				ports <- e
			}
		}
	})
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		reading.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("sealmq serve: %v, want exit code 0 after SIGTERM", err)
		}
		b.inspect(t)
	})
	late := time.After(patience)
	for range 2 {
		select {
		case e := <-ports:
			if e.name == "ws" {
				b.plain = e
			} else {
				b.tls = e
			}
		case <-late:
			t.Fatalf("the broker is not listening after %v:\n%s", patience, b.logged())
		}
	}
	b.tls.ca, b.tls.cert, b.tls.key = b.device(t, deviceID)
	return b
}

// Bare MQTT on a WebSocket port ends in the broker's log.
func TestWebSocketRefusalIsLogged(t *testing.T) {
	t.Parallel()
	b := startWebSocketBroker(t)
	logged := len(b.logged())
	c := sealmqTools{commandLine{pub: []string{program, "pub"}, plain: []string{"--no-tls"}}}
	if err := c.publish(t, session{Server: b.plain, Version: v5, ID: "x"}, message{Topic: "a"}); err == nil {
		t.Fatal("bare MQTT was taken on a WebSocket port")
	}
	b.awaitLog(t, logged, "websocket upgrade refused", "mqtt_on_websocket")
}
