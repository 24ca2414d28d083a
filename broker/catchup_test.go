package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// laggard is a store that takes its time for everything.
type laggard struct {
	store.Store
	mu  sync.Mutex
	rnd *rand.Rand
	ops chan []*store.Op
	end chan struct{}
}

func newLaggard(seed uint64) *laggard {
	l := &laggard{Store: memory.New(), rnd: rand.New(rand.NewPCG(seed, 1)), ops: make(chan []*store.Op, 1<<16), end: make(chan struct{})}
	go func() {
		defer close(l.end)
		for ops := range l.ops {
			l.pause()
			l.Store.Submit(ops...)
		}
	}()
	return l
}

func (l *laggard) pause() {
	l.mu.Lock()
	n := l.rnd.IntN(12)
	l.mu.Unlock()
	if n == 0 {
		time.Sleep(time.Millisecond)
	}
	for range n {
		runtime.Gosched()
	}
}

func (l *laggard) Submit(ops ...*store.Op) { l.ops <- append([]*store.Op(nil), ops...) }

func (l *laggard) Fetch(dst []store.Queued, s store.SessionID, from, below uint64, max int, maxBytes int64) ([]store.Queued, error) {
	l.pause()
	return l.Store.Fetch(dst, s, from, below, max, maxBytes)
}

func (l *laggard) Close() error {
	close(l.ops)
	<-l.end
	return l.Store.Close()
}

// clauses: MQTT5 [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.4.0-1] [MQTT-4.6.0-5] MQTT311 [MQTT-4.6.0-6]
// A subscriber that comes and goes with work half done, and falls behind again and again, gets every message in the order
// of its publisher, and those of QoS 2 once, while the store lags.
func TestCatchingUp(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { catchUp(t, seed) })
	}
}

func catchUp(t *testing.T, seed uint64) {
	const publishers, messages = 3, 1200
	l := newLaggard(seed)
	b, err := broker.New(broker.Config{Limits: broker.Limits{MaxQueued: 1_000_000, MaxInflight: 40, MaxSessionExpiry: time.Hour}},
		broker.Options{Store: l, Auth: auth.Certificates{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	rnd := rand.New(rand.NewPCG(seed, 2))
	p := dial(t, b, 2048)
	p.hello("slow", false)
	p.subscribe("t/#", 2)

	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() { publishAll(t, connect(t, b, fmt.Sprint("pub", i), i == 0), i, messages) })
	}
	defer wg.Wait()

	next := map[string]int{}
	half := map[uint16]bool{} // QoS 2 messages that were received and not released
	left := rnd.IntN(300)
	for got := 0; got < publishers*messages; {
		if left--; left < 0 {
			left = rnd.IntN(400)
			p.end.Close()
			runtime.Gosched()
			p = dial(t, b, 2048)
			p.hello("slow", false)
		}
		h, body, err := p.next()
		if err != nil {
			t.Fatalf("after %d messages: %v", got, err)
		}
		var m mqtt.Publish
		switch h.Type {
		case mqtt.PUBREL:
			var a mqtt.Ack
			a.Type = mqtt.PUBREL
			if err := a.Parse(p.v, h.Flags, body); err != nil {
				t.Fatal(err)
			}
			delete(half, a.PacketID)
			a.Type = mqtt.PUBCOMP
			p.send(a.Append(nil, p.v))
			continue
		case mqtt.PUBLISH:
			if err := m.Parse(p.v, h.Flags, body); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		n, _ := strconv.Atoi(string(m.Payload))
		again := n < next[string(m.Topic)]
		switch {
		case m.QoS == 2 && half[m.PacketID]:
			again = true
		case m.QoS == 2 && again:
			t.Fatalf("%s: QoS 2 message %d twice, as %d", m.Topic, n, m.PacketID)
		case again && !m.Dup:
			t.Fatalf("%s: message %d again without DUP", m.Topic, n)
		case !again && n != next[string(m.Topic)]:
			t.Fatalf("%s: %d instead of %d", m.Topic, n, next[string(m.Topic)])
		}
		if !again {
			next[string(m.Topic)]++
			got++
		}
		if m.QoS == 2 {
			half[m.PacketID] = true
		}
		if left < 5 && rnd.IntN(2) == 0 {
			continue // left without an answer when the connection ends
		}
		if m.QoS == 2 {
			a := mqtt.Ack{Type: mqtt.PUBREC, PacketID: m.PacketID}
			p.send(a.Append(nil, p.v))
		} else {
			p.puback(m.PacketID)
		}
	}
}

// publishAll publishes numbers with QoS 1 or, odd publishers, 2, a few at a time.
func publishAll(t *testing.T, q *peer, i, messages int) {
	qos := uint8(1 + i%2)
	sent, done := 0, 0
	for done < messages {
		for sent < messages && sent-done < 30 {
			if err := q.publish(fmt.Sprintf("t/%d", i), qos, false, uint16(sent)+1, strconv.Itoa(sent)); err != nil {
				t.Errorf("publisher %d: %v", i, err)
				return
			}
			sent++
		}
		h, body, err := q.next()
		if err != nil {
			t.Errorf("publisher %d: %v", i, err)
			return
		}
		switch h.Type {
		case mqtt.PUBACK, mqtt.PUBCOMP:
			done++
		case mqtt.PUBREC:
			a := mqtt.Ack{Type: mqtt.PUBREC}
			if err := a.Parse(q.v, h.Flags, body); err != nil {
				t.Error(err)
				return
			}
			a.Type = mqtt.PUBREL
			q.send(a.Append(nil, q.v))
		}
	}
}
