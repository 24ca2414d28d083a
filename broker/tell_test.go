package broker

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// asked is a Service below $pki that hands on what it is asked.
type asked chan *Request

func (a asked) Owns(topic []byte) bool { return bytes.HasPrefix(topic, []byte("$pki/")) }
func (a asked) Serve(r *Request)       { a <- r }

func serving(t testing.TB, s Service) *Broker {
	t.Helper()
	b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: auth.Certificates{}, Service: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	return b
}

// request publishes and returns what the service is asked.
func request(t testing.TB, c *Conn, a asked, p mqtt.Publish) *Request {
	t.Helper()
	packet := p.Append(nil, mqtt.V5)
	if err := c.Data(packet); err != nil {
		t.Fatal(err)
	}
	clear(packet) // what the service has got is a copy
	c.Flush()
	return <-a
}

// A request is a copy of everything, and its properties come along.
func TestRequestIsACopy(t *testing.T) {
	a := make(asked, 1)
	b := serving(t, a)
	c := benchConn(t, b, "pump", mqtt.V5, "", 0)
	p := mqtt.Publish{Topic: []byte("$pki/x"), Payload: []byte("csr")}
	p.Props.ResponseTopic, p.Props.CorrelationData, p.Props.ContentType = []byte("a/b"), []byte{1, 2}, []byte("application/json")
	p.Props.User = []mqtt.UserProperty{{Key: []byte("k"), Value: []byte("v")}}
	p.Props.Set(mqtt.PropResponseTopic, mqtt.PropCorrelationData, mqtt.PropContentType)
	r := request(t, c, a, p)
	q := r.Props
	if r.Topic != "$pki/x" || string(r.Payload) != "csr" || r.ClientID != "pump" || r.Principal == nil || !r.Peer.Anonymous ||
		string(q.ResponseTopic) != "a/b" || !bytes.Equal(q.CorrelationData, []byte{1, 2}) || string(q.ContentType) != "application/json" ||
		fmt.Sprintf("%s", q.User) != "[{k v}]" {
		t.Errorf("got %+v with %+v", r, q)
	}
	if r := request(t, c, a, mqtt.Publish{Topic: []byte("$pki/x")}); r.Props == nil || !r.Props.Empty() || len(r.Payload) > 0 {
		t.Errorf("got %+v", r)
	}
}

// Answers come from any goroutine, before and after the connection and the broker have ended.
func TestReplyAtAnyTime(t *testing.T) {
	a := make(asked, 1)
	b := serving(t, a)
	var late []*Request
	for i := range 20 {
		c := benchConn(t, b, "pump", mqtt.V5, "$pki/#", uint8(i%3))
		r := request(t, c, a, mqtt.Publish{Topic: []byte("$pki/x")})
		if !r.Reply("$pki/y", []byte("first"), nil) || !b.Tell("pump", "$pki/y", nil, nil) {
			t.Error("a client that is connected was not told")
		}
		if r.Reply("$pki/#", nil, nil) || r.Reply("", nil, nil) || r.Reply("t", nil, nil) || b.Tell("valve", "$pki/y", nil, nil) {
			t.Error("somebody was told what nobody listens to")
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for r.Reply("$pki/y", []byte("again"), nil) {
				}
				r.Close(mqtt.NotAuthorized, "")
			})
		}
		c.Closed(nil)
		wg.Wait()
		late = append(late, r)
	}
	c := benchConn(t, b, "pump", mqtt.V5, "$pki/#", 1) // the same client, another connection
	for _, r := range late {
		if r.Reply("$pki/y", nil, nil) {
			t.Error("a later connection was told")
		}
		r.Close(mqtt.NotAuthorized, "")
	}
	r := request(t, c, a, mqtt.Publish{Topic: []byte("$pki/x")})
	if err := b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Close(mqtt.NotAuthorized, "")
	if r.Reply("$pki/y", nil, nil) || b.Tell("pump", "$pki/y", nil, nil) {
		t.Error("somebody was told after the end")
	}
}

// An answer that is larger than the client takes is not sent, and the service learns it.
func TestReplyTooLarge(t *testing.T) {
	a := make(asked, 1)
	b := serving(t, a)
	c := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, Limits{})
	hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("small"), CleanStart: true}
	hello.Props.MaximumPacketSize = 500
	hello.Props.Set(mqtt.PropMaximumPacketSize)
	rd := once(hello.Append(nil, mqtt.V5))
	if err := c.Open(&rd); err != nil {
		t.Fatal(err)
	}
	s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("$pki/#"), QoS: 1}}}
	if err := c.Data(s.Append(nil, mqtt.V5)); err != nil {
		t.Fatal(err)
	}
	r := request(t, c, a, mqtt.Publish{Topic: []byte("$pki/x")})
	if !r.Reply("$pki/y", make([]byte, 450), nil) || r.Reply("$pki/y", make([]byte, 500), nil) {
		t.Error("want 450 bytes sent, and 500 refused")
	}
}

// More answers than the client's window has room for wait, in order, as far as the queue goes.
func TestRepliesBeyondTheWindow(t *testing.T) {
	a := make(asked, 1)
	b, err := New(Config{SysInterval: -1, Limits: Limits{MaxInflight: 2, MaxQueued: 3}},
		Options{Store: memory.New(), Auth: auth.Certificates{}, Service: a})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	c := benchConn(t, b, "pump", mqtt.V5, "$pki/#", 1)
	r := request(t, c, a, mqtt.Publish{Topic: []byte("$pki/x")})
	n := 0
	for r.Reply("$pki/y", []byte{byte(n)}, nil) {
		n++
	}
	if n != 5 {
		t.Errorf("%d answers were taken, want 2 in flight and 3 that wait", n)
	}
	for id := range uint16(5) {
		ack := mqtt.Ack{Type: mqtt.PUBACK, PacketID: id + 1}
		if err := c.Data(ack.Append(nil, mqtt.V5)); err != nil {
			t.Fatal(err)
		}
		c.Flush()
	}
	if sent := b.Stats().Sent; sent != 5 {
		t.Errorf("%d answers were sent", sent)
	}
}

// A token that is renewed in an exchange moves the end of the connection, and one that is not ends it.
func TestUntilMovesWithReauthentication(t *testing.T) {
	b := benchBroker(t)
	c := benchConn(t, b, "a", mqtt.V5, "", 0)
	soon, later := time.Now().Add(time.Minute), time.Now().Add(time.Hour)
	for _, until := range []time.Time{soon, later, {}, soon} {
		b.wheel.remove(c)
		b.wheel.add(c, 0, until)
		if listed := !until.IsZero(); c.alive.listed != listed || listed && c.alive.until != until.UnixNano() {
			t.Errorf("until %v: listed %v, until %v", until, c.alive.listed, time.Unix(0, c.alive.until))
		}
	}
	b.wheel.remove(c)
	b.wheel.add(c, 0, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)) // RFC 5280: no well-defined end
	if c.alive.listed {
		t.Error("a certificate without an end is watched")
	}
	if b.wheel.n != 0 {
		t.Errorf("%d connections are counted", b.wheel.n)
	}
}

// A message that is routed, or whose topic begins with "$" and is not the service's, costs no allocation more beside one.
func TestPublishAllocationsBesideService(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pool of workers
	b := serving(t, make(asked))
	for _, topic := range []string{"a/b", "$other/b"} {
		benchConn(t, b, "s", mqtt.V311, topic, 0)
		pub := benchConn(t, b, "p", mqtt.V311, "", 0)
		m := mqtt.Publish{Topic: []byte(topic), Payload: make([]byte, 64)}
		packet := m.Append(nil, mqtt.V311)
		if n := testing.AllocsPerRun(200, func() {
			pub.Data(packet)
			pub.Flush()
		}); n > 1 {
			t.Errorf("%v allocations for a message to %s", n, topic)
		}
	}
}

// A broker with a service pays for it with one look at a topic's first byte.
func BenchmarkPublishBesideService(bm *testing.B) {
	b := serving(bm, make(asked))
	benchConn(bm, b, "s", mqtt.V311, "a/b", 0)
	pub := benchConn(bm, b, "p", mqtt.V311, "", 0)
	m := mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 64)}
	packet := m.Append(nil, mqtt.V311)
	bm.ReportAllocs()
	for bm.Loop() {
		pub.Data(packet)
		pub.Flush()
	}
}
