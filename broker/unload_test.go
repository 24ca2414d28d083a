package broker

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// A session without a connection holds none of the messages that were under way to its client.
func TestNothingIsUnderWayToWhoIsAway(t *testing.T) {
	for name, clean := range map[string]bool{"lost": false, "in order": true} {
		t.Run(name, func(t *testing.T) {
			b := benchBroker(t)
			c, _ := hello(t, b, "one", false, Limits{})
			subscribe(t, c, "t", 2)
			const n = 20
			for i := range n {
				m := &store.Message{Topic: "t", QoS: uint8(1 + i%2), Payload: fmt.Append(nil, i)}
				if _, err := b.Publish(m); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, func() error { // QoS 2 is sent when it is stored
				c.sess.mu.Lock()
				defer c.sess.mu.Unlock()
				if got := c.sess.inflight.active; got != n {
					return fmt.Errorf("%d messages are under way, want %d", got, n)
				}
				return nil
			})
			if clean {
				c.Data([]byte{byte(mqtt.DISCONNECT) << 4, 0})
				c.Flush()
			}
			c.Closed(nil)
			s := c.sess
			eventually(t, func() error {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.inflight.len() > 0 || s.inflight.ring != nil {
					return fmt.Errorf("%d places are held", s.inflight.len())
				}
				if s.dur.count != 0 || s.dur.next != 1 || s.dur.again != n {
					t.Fatalf("%d messages wait, from %d; up to %d they may have been sent", s.dur.count, s.dur.next, s.dur.again)
				}
				return nil
			})
			c, present := hello(t, b, "one", false, Limits{})
			if !present {
				t.Fatal("the session is gone")
			}
			eventually(t, func() error {
				s.mu.Lock()
				defer s.mu.Unlock()
				if got := s.inflight.active; got != n {
					return fmt.Errorf("%d messages are under way, want %d", got, n)
				}
				return nil
			})
			c.Closed(nil)
		})
	}
}
