package interop

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// cell is one cell of the matrix: a client that speaks one version over one
// transport, and names of its own on the broker it shares with the others.
type cell struct {
	client  client
	version version
	server  endpoint
	broker  *broker
	number  int // tells its topics and client identifiers from other cells'
	clients int
}

var cells atomic.Int32

func newCell(c client, v version, b *broker, e endpoint) *cell {
	return &cell{client: c, version: v, server: e, broker: b, number: int(cells.Add(1))}
}

// matrix runs every scenario with one client: each of its versions over mutual
// TLS and in the clear.
func matrix(t *testing.T, c client) {
	t.Parallel()
	if missing := c.start(t); missing != "" {
		t.Skip("skipped: " + missing)
	}
	b := startBroker(t)
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

// topic is a topic that no other cell uses.
func (x *cell) topic(name string) string { return fmt.Sprintf("cell/%d/%s", x.number, name) }

// session is a clean one with a client identifier of its own, within the 23
// characters of MQTT 3.1.
func (x *cell) session() session {
	x.clients++
	return session{Server: x.server, Version: x.version, ID: fmt.Sprintf("%s/%d-%d", deviceID, x.number, x.clients)}
}

func (x *cell) listen(t *testing.T, subs ...subscription) *listener {
	t.Helper()
	return x.listenAs(t, x.session(), subs...)
}

func (x *cell) listenAs(t *testing.T, s session, subs ...subscription) *listener {
	t.Helper()
	l, err := x.client.listen(t, s, subs...)
	if err != nil {
		t.Fatalf("listen to %v: %v", subs, err)
	}
	return l
}

func (x *cell) publish(t *testing.T, msgs ...message) {
	t.Helper()
	if err := x.client.publish(t, x.session(), msgs...); err != nil {
		t.Fatalf("publish %d messages: %v", len(msgs), err)
	}
}

// disconnect ends a listener's connection and waits until the broker knows.
func (x *cell) disconnect(t *testing.T, l *listener, s session) {
	t.Helper()
	logged := len(x.broker.logged())
	l.stop()
	l.gone(t)
	x.broker.awaitLog(t, logged, "client disconnected", fmt.Sprintf("%q", s.ID))
}
