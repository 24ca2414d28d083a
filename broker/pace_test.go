package broker

import (
	"bytes"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// stopped is a store that commits nothing until it is let go.
type stopped struct {
	store.Store
	mu   sync.Mutex
	ops  []*store.Op
	free bool
}

func (s *stopped) Submit(ops ...*store.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free {
		s.Store.Submit(ops...)
		return
	}
	s.ops = append(s.ops, ops...)
}

func (s *stopped) let(free bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free
	if free {
		s.Store.Submit(s.ops...)
		s.ops = nil
	}
}

// pausing is a link that can be paused.
type pausing struct {
	sink
	paused chan bool
}

func (l *pausing) Pause()  { l.paused <- true }
func (l *pausing) Resume() { l.paused <- false }

// A publisher that is faster than the disk is not listened to for a while; QoS 0 counts too when it is retained.
func TestPublisherIsPaced(t *testing.T) {
	for qos := range uint8(3) {
		st := &stopped{Store: memory.New(), free: true}
		b, err := New(Config{SysInterval: -1}, Options{Store: st, Auth: auth.Certificates{}})
		if err != nil {
			t.Fatal(err)
		}
		link := &pausing{paused: make(chan bool, 10)}
		c := b.NewConn(link, auth.Peer{Anonymous: true}, Limits{})
		p := mqtt.Connect{Version: mqtt.V311, ClientID: []byte("p"), CleanStart: true}
		r := once(p.Append(nil, mqtt.V311))
		if err := c.Open(&r); err != nil {
			t.Fatal(err)
		}
		st.let(false)
		m := mqtt.Publish{Topic: []byte("a"), QoS: qos, Retain: true, Payload: bytes.Repeat([]byte("x"), 100_000)}
		n := 0
		for ; n < 100 && len(link.paused) == 0; n++ {
			if qos > 0 {
				m.PacketID = uint16(n) + 1
			}
			data(t, c, m.Append(nil, mqtt.V311))
		}
		if n < 5 || n > 12 {
			t.Errorf("QoS %d: paused after %d messages of 100 kB, want about 10", qos, n)
		}
		if !<-link.paused || !c.isPaused() {
			t.Errorf("QoS %d: resumed before it was paused", qos)
		}
		st.let(true)
		if <-link.paused || c.isPaused() {
			t.Errorf("QoS %d: paused again", qos)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Requests without a message count too: SUBSCRIBE, and answers that wait behind others.
func TestRequestsArePaced(t *testing.T) {
	st := &stopped{Store: memory.New(), free: true}
	b, err := New(Config{SysInterval: -1}, Options{Store: st, Auth: auth.Certificates{}})
	if err != nil {
		t.Fatal(err)
	}
	link := &pausing{paused: make(chan bool, 10)}
	c := b.NewConn(link, auth.Peer{Anonymous: true}, Limits{})
	p := mqtt.Connect{Version: mqtt.V311, ClientID: []byte("s")}
	r := once(p.Append(nil, mqtt.V311))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	st.let(false)
	n := 0
	for ; n < 20_000 && len(link.paused) == 0; n++ {
		if n%2 == 0 {
			subscribe(t, c, "a", 1)
		} else {
			m := mqtt.Publish{Topic: []byte("nobody"), QoS: 1, PacketID: 1}
			data(t, c, m.Append(nil, mqtt.V311))
		}
	}
	if n > 10_000 {
		t.Fatalf("not paused after %d requests", n)
	}
	st.let(true)
	if !<-link.paused || <-link.paused {
		t.Error("not paused and resumed")
	}
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
