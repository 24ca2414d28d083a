package threats

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// Retained messages of one identity, on topics without end, are refused from a
// number on, also after a restart; those of others are not.
func TestRetainedFlood(t *testing.T) {
	t.Parallel()
	h := newHome(t, "policy = \"policy\"\n"+jsonLog+mutualTLS+"[limits]\nmax_retained_per_principal = 100\nmax_topic_levels = 32\nmax_topic_length = 512\n")
	h.write(t, "policy", open)
	b := h.start(t)
	one, two := b.device(t, "pump-1"), b.device(t, "pump-2")
	flood := func(topics int) (refused int) {
		c := b.connect(t, "tls", one, hello("pump-1"))
		defer c.disconnect()
		for i := range topics {
			switch code := c.publish(fmt.Sprintf("flood/%d/%d", i%7, i), 1, true, "x"); code {
			case mqtt.QuotaExceeded:
				refused++
			case mqtt.Success, nobody:
			default:
				t.Fatalf("message %d: %v", i, code)
			}
		}
		return refused
	}
	if n := flood(300); n != 200 {
		t.Errorf("%d of 300 are refused, want 200", n)
	}
	other := b.connect(t, "tls", two, hello("pump-2"))
	want(t, "another's", other.publish("flood/other", 1, true, "x"), nobody)
	b.stop(t)
	b = h.start(t)
	if n := flood(150); n != 50 {
		t.Errorf("after a restart %d of 150 are refused, want 50", n)
	}
	reader := b.connect(t, "tls", two, hello("pump-2"))
	reader.subscribe("flood/#", 1)
	reader.publish("end", 1, false, "x")
	reader.subscribe("end", 1)
	reader.publish("end", 1, false, "end")
	if got := reader.until("end"); len(got) != 101 {
		t.Errorf("%d retained messages are there, want 101", len(got))
	}
}

// One identity does not take all the sessions there may be.
func TestSessionHoarding(t *testing.T) {
	t.Parallel()
	h := newHome(t, jsonLog+mutualTLS+plain+"[limits]\nmax_sessions_per_principal = 20\n")
	b := h.start(t)
	hoard := func(listener string, who identity, name string) (granted int) {
		for i := range 50 {
			c := b.dial(t, listener, who)
			ack := c.open(lasting(fmt.Sprintf("%s%d", name, i)))
			if ack.Code == mqtt.Success {
				granted++
				c.disconnect()
			} else if ack.Code != mqtt.QuotaExceeded {
				t.Fatalf("%s%d: %v", name, i, ack.Code)
			}
			c.Close()
		}
		return granted
	}
	for _, tt := range []struct {
		listener string
		who      identity
		name     string
	}{{"tls", b.device(t, "pump-1"), "pump-1/"}, {"tls", b.operator(t, "alice"), "alice-"}, {"plain", nil, "x"}} {
		if n := hoard(tt.listener, tt.who, tt.name); n != 20 {
			t.Errorf("%s has %d sessions, want 20", tt.name, n)
		}
	}
	b.connect(t, "tls", b.device(t, "pump-2"), hello("pump-2")).alive()
}

// Many who subscribe to everything and do not read share what waits for them, and
// hold up nobody.
func TestWildcardStorm(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain+"[limits]\nmax_outbound_bytes = \"64KiB\"\n")
	publisher := b.connect(t, "plain", nil, hello("publisher"))
	reader := b.connect(t, "plain", nil, hello("reader"))
	reader.subscribe("#", 1)
	const crowd = 150
	for i := range crowd {
		c := b.connect(t, "plain", nil, hello(fmt.Sprint("c", i)))
		c.subscribe("#", uint8(i%3)) // and read no more
	}
	payload := make([]byte, 16<<10)
	b.flat(t, 96<<20, func() {
		for i := range 200 {
			publisher.publish("a", 1, false, fmt.Sprint(i)+string(payload))
			if got := reader.until(fmt.Sprint(i) + string(payload)); len(got) > 0 {
				t.Fatalf("message %d comes after %d others", i, len(got))
			}
		}
	})
}
