package interop

import (
	"fmt"
	"strings"
	"testing"
)

// TestTogether: every client with MQTT 3.1.1 and 5, some over mutual TLS and
// some in the clear, hears every other one on one broker.
func TestTogether(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	var speakers []*cell
	for _, c := range []struct {
		name string
		client
	}{
		{"mosquitto", mosquitto()},
		{"sealmq", sealmqCommands()},
		{"paho Go", pahoGo{}},
		{"paho Go 5", pahoGo5{}},
		{"paho Python", &pahoPython{}},
		{"mqtt.js", &mqttJS{}},
	} {
		if missing := c.start(t); missing != "" {
			t.Run(c.name, func(t *testing.T) { t.Skip("skipped: " + missing) })
			continue
		}
		for _, v := range c.versions() {
			if v != v31 {
				e := []endpoint{b.tls, b.plain}[len(speakers)%2]
				speakers = append(speakers, newCell(c.client, v, b, e))
			}
		}
	}

	var listeners []*listener
	for _, x := range speakers {
		listeners = append(listeners, x.listen(t, subscription{"together/#", 2}))
	}
	for i, from := range speakers {
		m := message{Topic: fmt.Sprint("together/", i), Payload: []byte(fmt.Sprintf("%T with %v", from.client, from.version)), QoS: byte(i % 3)}
		rich := m
		rich.ContentType, rich.Correlation, rich.User = "text/plain", []byte("x"), []string{"from:" + strings.TrimLeft(from.version.String(), "v")}
		if from.version != v5 {
			rich = m
		}
		from.publish(t, rich)
		for j, to := range speakers {
			want := rich
			if to.version != v5 {
				want = m
			}
			t.Logf("%s to %T with %v", m.Payload, to.client, to.version)
			listeners[j].want(t, want)
		}
	}
}
