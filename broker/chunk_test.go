package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// QoS 0 messages that are encoded at once arrive in order with the others, and an outbox that cannot be written holds no
// more than they need.
func TestEncodedAtOnce(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b := benchBroker(t)
		c := benchConn(t, b, "s", v, "a/#", 1)
		link := &tape{}
		c.link = link
		pub := benchConn(t, b, "p", mqtt.V5, "", 0)
		var want []byte
		send := func(n int, qos uint8) {
			m := mqtt.Publish{Topic: []byte("a/b"), QoS: qos, Payload: fmt.Appendf(nil, "message %d", n)}
			m.Props.ContentType = []byte("text")
			m.Props.Set(mqtt.PropContentType)
			if qos > 0 {
				m.PacketID = 1
			}
			if err := pub.Data(m.Append(nil, mqtt.V5)); err != nil {
				t.Fatal(err)
			}
			if v != mqtt.V5 {
				m.Props.Reset()
			}
			want = m.Append(want, v)
		}
		for n := range 2000 { // several chunks, and something between them
			send(n, 0)
			if n == 1000 {
				send(n, 1)
			}
		}
		pub.Flush()
		if !bytes.Equal(link.text(), want) {
			t.Fatalf("version %v: got %d bytes, want %d", v, len(link.text()), len(want))
		}

		link.clear(0)
		want = nil
		send(1, 0)
		link.setBacklog(1)
		pub.Flush()
		s := c.sess
		s.mu.Lock()
		if n := len(s.out); n != 1 || cap(*s.out[0].raw) > 256 {
			t.Errorf("%d items wait in %d bytes", n, cap(*s.out[0].raw))
		}
		s.mu.Unlock()
		send(2, 0) // as a message, since there is a backlog
		link.setBacklog(0)
		pub.Flush()
		if !bytes.Equal(link.text(), want) {
			t.Errorf("version %v: after the backlog: %q, want %q", v, link.text(), want)
		}
		if n := b.Stats().Sent; n != 2003 {
			t.Errorf("%d counted as sent, want 2003", n)
		}
	}
}
