package broker

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// sink is a link that takes everything.
type sink struct{ bytes int }

func (s *sink) Write(p []byte) error { s.bytes += len(p); return nil }
func (s *sink) Backlog() int         { return 0 }
func (s *sink) Close(bool)           {}

// once is a reader of one packet.
type once []byte

func (o *once) Read(p []byte) (int, error) {
	n := copy(p, *o)
	*o = (*o)[n:]
	return n, nil
}

func benchBroker(t testing.TB) *Broker {
	b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: auth.Certificates{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	return b
}

func benchConn(t testing.TB, b *Broker, id string, v mqtt.Version, filter string, qos uint8) *Conn {
	c := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, Limits{})
	hello := mqtt.Connect{Version: v, ClientID: []byte(id), CleanStart: true}
	r := once(hello.Append(nil, v))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	if filter != "" {
		s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}
		if err := c.Data(s.Append(nil, v)); err != nil {
			t.Fatal(err)
		}
		c.Flush()
	}
	return c
}

// A short message to n receivers is one allocation, whatever n and whatever the versions.
func TestPublishAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pool of workers
	for _, n := range []int{0, 1, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := benchBroker(t)
			for i := range n {
				benchConn(t, b, fmt.Sprint("s", i), [...]mqtt.Version{mqtt.V311, mqtt.V5}[i%2], "a/+", 0)
			}
			pub := benchConn(t, b, "p", mqtt.V311, "", 0)
			m := mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 64)}
			packet := m.Append(nil, mqtt.V311)
			got := testing.AllocsPerRun(200, func() {
				if err := pub.Data(packet); err != nil {
					t.Fatal(err)
				}
				pub.Flush()
			})
			if want := float64(min(n, 1)); got > want {
				t.Errorf("%v allocations for one message to %d receivers, want %v", got, n, want)
			}
		})
	}
}

func BenchmarkPublish(bm *testing.B) {
	for _, n := range []int{1, 200} {
		for _, batch := range []int{1, 50} {
			bm.Run(fmt.Sprintf("receivers=%d/batch=%d", n, batch), func(bm *testing.B) {
				b := benchBroker(bm)
				for i := range n {
					benchConn(bm, b, fmt.Sprint("s", i), mqtt.V311, "a/b", 0)
				}
				pub := benchConn(bm, b, "p", mqtt.V311, "", 0)
				m := mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 64)}
				var packets []byte
				for range batch {
					packets = m.Append(packets, mqtt.V311)
				}
				bm.ReportAllocs()
				for bm.Loop() {
					pub.Data(packets)
					pub.Flush()
				}
				bm.ReportMetric(float64(bm.Elapsed().Nanoseconds())/float64(bm.N*n*batch), "ns/message")
			})
		}
	}
}

// A QoS 1 message from one client to another and its two acknowledgements.
func BenchmarkQoS1(bm *testing.B) {
	b := benchBroker(bm)
	sub := benchConn(bm, b, "s", mqtt.V311, "a/b", 1)
	pub := benchConn(bm, b, "p", mqtt.V311, "", 0)
	m := mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 64), QoS: 1, PacketID: 7}
	packet := m.Append(nil, mqtt.V311)
	id := uint16(0)
	bm.ReportAllocs()
	for bm.Loop() {
		pub.Data(packet)
		pub.Flush()
		if id++; id == 0 {
			id = 1
		}
		sub.Data([]byte{0x40, 2, byte(id >> 8), byte(id)})
		sub.Flush()
	}
}
