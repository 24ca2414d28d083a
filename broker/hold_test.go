package broker

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// What waits for clients that do not read is counted for their principal, and no more when it does not wait.
func TestWhatAPrincipalHolds(t *testing.T) {
	for name, qos := range map[string]uint8{"outbox": 0, "queue": 1} {
		t.Run(name, func(t *testing.T) {
			b := benchBroker(t)
			var conns []*Conn
			var links []*tape
			for i := range 3 {
				c, _ := hello(t, b, fmt.Sprint("c", i), true, Limits{MaxInflight: 1})
				subscribe(t, c, "t", qos)
				links, conns = append(links, c.link.(*tape)), append(conns, c)
				links[i].setBacklog(1)
			}
			for range 100 {
				if _, err := b.Publish(&store.Message{Topic: "t", QoS: qos, Payload: make([]byte, 10_000)}); err != nil {
					t.Fatal(err)
				}
			}
			owner := conns[0].sess.rights.Load().owner
			if n := b.uses.held(owner); n < 3*900_000 || n > 3*1_100_000 {
				t.Errorf("three sessions with a million bytes each hold %d", n)
			}
			links[0].clear(0)
			conns[0].Writable()
			for id := uint16(1); qos > 0 && id <= 100; id++ {
				data(t, conns[0], (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: id}).Append(nil, mqtt.V311))
			}
			if n := b.uses.held(owner); n < 2*900_000 || n > 2*1_100_000 {
				t.Errorf("two sessions with a million bytes each hold %d", n)
			}
			conns[1].Closed(nil)
			if n := b.uses.held(owner); n < 900_000 || n > 1_100_000 {
				t.Errorf("a session with a million bytes holds %d", n)
			}
			conns[2].Closed(nil)
			if n := b.uses.held(owner); n != 0 {
				t.Errorf("nobody holds %d bytes", n)
			}
			if n := len(b.uses.shards[owner%useShards].pots); n != 0 {
				t.Errorf("%d pots are left", n)
			}
			for _, c := range conns {
				if s := c.sess; c != conns[0] && s.held != 0 || s.charged != 0 {
					t.Errorf("%s holds %d bytes, %d of them counted", s.id, s.held, s.charged*heldFree)
				}
			}
			if n := b.outbound.Load(); n != 0 {
				t.Errorf("%d bytes wait", n)
			}
		})
	}
}
