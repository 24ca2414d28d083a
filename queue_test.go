package sealmq_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// After a restart a queue has the bounds of its listener, also before its client has connected again.
func TestQueueBoundsAfterRestart(t *testing.T) {
	cfg := sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{plainListener("a")}}
	cfg.Listeners[0].Limits.MaxQueued = 1500
	const n = 1200 // more than the default bound
	got := make(chan string, n+1)
	session := func(s *running) *client.Client {
		d := s.dialer("a", nil, nil)
		c, err := client.Connect(t.Context(), client.Config{
			Dial: d.Dial, ClientID: "pump", Version: mqtt.V5, SessionExpiry: 3600,
			OnMessage: func(m *client.Message) { got <- string(m.Payload) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	s := start(t, cfg)
	c := session(s)
	if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "a", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	c.Disconnect(mqtt.Success)
	c.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = start(t, cfg)
	for i := range n {
		if _, err := s.Publish(sealmq.Message{Topic: "a", Payload: []byte(strconv.Itoa(i)), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	c = session(s)
	for i := range n {
		select {
		case p := <-got:
			if p != strconv.Itoa(i) {
				t.Fatalf("got %s, want %d", p, i)
			}
		case <-c.Done():
			t.Fatalf("message %d: %v", i, c.Err())
		case <-time.After(time.Minute):
			t.Fatalf("message %d did not come", i)
		}
	}
	c.Disconnect(mqtt.Success)
	c.Wait()
}
