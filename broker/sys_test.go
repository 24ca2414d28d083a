package broker_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
)

// The broker tells about itself below $SYS, retained, again when a value has changed.
func TestSysTopics(t *testing.T) {
	b := newBroker(t, broker.Config{SysInterval: 50 * time.Millisecond})
	p := connect(t, b, "watcher", true)
	p.subscribe("$SYS/#", 0)
	want := map[string]string{
		"$SYS/broker/clients/connected": "1", "$SYS/broker/clients/total": "1", "$SYS/broker/subscriptions/count": "1",
	}
	for len(want) > 0 {
		m, err := p.message()
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		if v, ok := want[string(m.Topic)]; ok && v == string(m.Payload) {
			delete(want, string(m.Topic))
		}
	}
}
