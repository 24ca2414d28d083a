package broker_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/mqtt"
)

// clauses: MQTT5 [MQTT-3.1.4-3] MQTT311 [MQTT-3.1.4-2]
// Sixty-four clients fight for one client identifier while they publish: at the end exactly one of them is connected,
// every accepted publish has reached the subscriber in the order of its publisher, and nothing is stuck.
func TestTakeoverStorm(t *testing.T) {
	b := newBroker(t, broker.Config{})
	sub := connect(t, b, "watcher", true)
	sub.subscribe("storm/#", 0)
	const fighters, rounds = 64, 5
	var wg sync.WaitGroup
	for i := range fighters {
		wg.Go(func() {
			for r := range rounds {
				p := dial(t, b, 0)
				c := mqtt.Connect{Version: mqtt.V311, ClientID: []byte("one"), CleanStart: (i+r)%3 == 0}
				p.send(c.Append(nil, mqtt.V311))
				if h, _, err := p.next(); err != nil || h.Type != mqtt.CONNACK {
					continue // taken over before the CONNACK could be read
				}
				for n := range 20 {
					if p.publish(fmt.Sprintf("storm/%d/%d", i, r), 0, false, 0, strconv.Itoa(n)) != nil {
						break
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := map[string]int{}
		for {
			m, err := sub.message()
			if err != nil {
				t.Error("the watcher lost its connection:", err)
				return
			}
			topic := string(m.Topic)
			if topic == "storm/end" {
				return
			}
			n, _ := strconv.Atoi(string(m.Payload))
			if before, ok := last[topic]; ok && n <= before {
				t.Errorf("%s: %d after %d", topic, n, before)
			}
			last[topic] = n
		}
	}()
	wg.Wait()
	p := connect(t, b, "one", true)
	p.publish("storm/end", 0, false, 0, "")
	<-done
	if st := b.Stats(); st.Online != 2 {
		t.Errorf("%d clients online, want the watcher and the last fighter", st.Online)
	}
}

// clauses: MQTT5 [MQTT-3.3.1-5] [MQTT-3.3.1-9] MQTT311 [MQTT-3.3.1-6]
// One retained topic counts up while 1,000 clients subscribe to it: nobody gets a retained replay older than a live
// message it has got, values never go back, and everybody ends with the last one.
func TestRetainedWhileSubscribing(t *testing.T) {
	b := newBroker(t, broker.Config{})
	const clients, last = 500, 1000
	pub := connect(t, b, "counter", true)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range clients {
		wg.Go(func() {
			p := connect(t, b, fmt.Sprintf("sub-%d", i), true)
			<-start
			s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("count/+")}}}
			p.send(s.Append(nil, p.v))
			seen := -1
			for seen < last {
				m, err := p.message()
				if err != nil {
					t.Errorf("client %d, at %d: %v", i, seen, err)
					return
				}
				n, _ := strconv.Atoi(string(m.Payload))
				if n < seen {
					t.Errorf("client %d: %d (retain %v) after %d", i, n, m.Retain, seen)
					return
				}
				seen = n
			}
		})
	}
	close(start)
	for n := range last + 1 {
		if err := pub.publish("count/x", 0, true, 0, strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// clauses: MQTT5 [MQTT-4.9.0-3]
// Two clients flood each other with QoS 1 and both read and acknowledge: everything arrives, nobody waits for ever.
func TestMutualFlood(t *testing.T) {
	b := newBroker(t, broker.Config{Limits: broker.Limits{MaxQueued: 1_000_000}})
	const messages = 20_000
	peers := [2]*peer{connect(t, b, "a", true), connect(t, b, "b", true)}
	peers[0].subscribe("to/0", 1)
	peers[1].subscribe("to/1", 1)
	var wg sync.WaitGroup
	for i, p := range peers {
		var sending sync.Mutex // publishes and acknowledgements go out from two goroutines
		wg.Go(func() {
			for n := range messages {
				sending.Lock()
				err := p.publish(fmt.Sprintf("to/%d", 1-i), 1, false, uint16(n%60000)+1, strconv.Itoa(n))
				sending.Unlock()
				if err != nil {
					t.Errorf("client %d: publish %d: %v", i, n, err)
					return
				}
			}
		})
		wg.Go(func() {
			acks := 0
			for next := 0; next < messages || acks < messages; {
				h, body, err := p.next()
				if err != nil {
					t.Errorf("client %d: %d received, %d acknowledged: %v", i, next, acks, err)
					return
				}
				switch h.Type {
				case mqtt.PUBACK:
					acks++
				case mqtt.PUBLISH:
					var m mqtt.Publish
					if err := m.Parse(p.v, h.Flags, body); err != nil {
						t.Error(err)
						return
					}
					if string(m.Payload) != strconv.Itoa(next) {
						t.Errorf("client %d: %s instead of %d", i, m.Payload, next)
						return
					}
					next++
					sending.Lock()
					p.puback(m.PacketID)
					sending.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

// clauses: MQTT5 [MQTT-4.6.0-5] [MQTT-4.6.0-6] MQTT311 [MQTT-4.6.0-6]
// A receiver that stalls again and again gets every QoS 1 message in the order of each publisher, and the publishers
// never wait for it.
func TestOrderWithStallingReceiver(t *testing.T) {
	b := newBroker(t, broker.Config{Limits: broker.Limits{MaxQueued: 1_000_000, MaxInflight: 7}})
	p := dial(t, b, 512) // little fits between broker and client
	p.hello("slow", true)
	p.subscribe("order/#", 1)
	const publishers, messages = 4, 2000
	var wg sync.WaitGroup
	var sent atomic.Int64
	for i := range publishers {
		wg.Go(func() {
			q := connect(t, b, fmt.Sprintf("pub-%d", i), true)
			go func() {
				for {
					if _, _, err := q.next(); err != nil {
						return
					}
				}
			}()
			for n := range messages {
				if err := q.publish(fmt.Sprintf("order/%d", i), 1, false, uint16(n)+1, strconv.Itoa(n)); err != nil {
					t.Errorf("publisher %d: %v", i, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	next := map[string]int{}
	for got := range publishers * messages {
		if got%500 == 0 {
			time.Sleep(5 * time.Millisecond) // the stall; nothing depends on its length
		}
		m, err := p.message()
		if err != nil {
			t.Fatalf("after %d messages: %v", got, err)
		}
		if topic := string(m.Topic); string(m.Payload) != strconv.Itoa(next[topic]) {
			t.Fatalf("%s: %s instead of %d", topic, m.Payload, next[topic])
		} else {
			next[topic]++
		}
	}
	wg.Wait()
}

// Publishing is never held up by a receiver that does not read at all: QoS 0 messages beyond its bound are dropped and
// counted.
func TestDeadReceiverDelaysNobody(t *testing.T) {
	b := newBroker(t, broker.Config{Limits: broker.Limits{MaxOutbound: 64 << 10, MaxQueued: 1_000_000}})
	dead := dial(t, b, 256)
	dead.hello("dead", true)
	dead.subscribe("x", 0)
	live := connect(t, b, "live", true)
	live.subscribe("x", 1)
	pub := connect(t, b, "pub", true)
	const messages = 5000
	go func() {
		for { // PUBACKs
			if _, _, err := pub.next(); err != nil {
				return
			}
		}
	}()
	go func() {
		for n := range messages {
			if pub.publish("x", 1, false, uint16(n)+1, strconv.Itoa(n)) != nil {
				return
			}
		}
	}()
	for n := range messages {
		m, err := live.message()
		if err != nil || string(m.Payload) != strconv.Itoa(n) {
			t.Fatalf("message %d: %v %v", n, m, err)
		}
	}
	if st := b.Stats(); st.DroppedOutbound == 0 {
		t.Error("nothing was dropped for the receiver that does not read")
	}
}
