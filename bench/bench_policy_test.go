package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/store/memory"
)

// BenchmarkPolicy is a message from one client to others: with no policy, one of one rule, and one of 10,000. Each message is
// asked about once for its publisher and once for each receiver. Without socket it is what happens inside the broker alone;
// with it, each message is also written to a TCP connection, without TLS.
func BenchmarkPolicy(b *testing.B) {
	for _, way := range []policedTraffic{{1, 1, 0, true}, {1, 32, 0, true}, {1, 1, 0, false}, {1, 1, 1, false}, {1, 32, 0, false}, {100, 1, 0, false}} {
		for _, rules := range []int{0, 1, 10_000} {
			b.Run(fmt.Sprintf("receivers=%d/topics=%d/qos=%d/socket=%v/rules=%d", way.receivers, way.topics, way.qos, way.socket, rules),
				func(b *testing.B) { way.run(b, policed(b, rules)) })
		}
	}
}

type policedTraffic struct {
	receivers, topics int
	qos               uint8
	socket            bool
}

// policed is a broker whose clients have a policy of that many rules, none of which is in vain.
func policed(b *testing.B, rules int) *broker.Broker {
	o := broker.Options{Store: memory.New(), Auth: everyone{}}
	if rules > 0 {
		var text strings.Builder
		text.WriteString("policy everybody {\n  allow publish, subscribe dt/${user}/#\n")
		for i := range rules - 1 {
			fmt.Fprintf(&text, "  allow publish, subscribe site/%d/+/${user}\n", i)
		}
		text.WriteString("}\n")
		file, err := policy.Parse("sealmq.policy", []byte(text.String()))
		if err != nil {
			b.Fatal(err)
		}
		compiled, err := policy.Compile(file)
		if err != nil {
			b.Fatal(err)
		}
		live := policy.NewLive(compiled)
		o.Authorize = func(clientID string, peer *auth.Peer, p *auth.Principal) (auth.Policy, error) {
			if p.Policy != nil {
				return p.Policy, nil
			}
			return live.For(policy.Identify(p, peer, clientID, nil)), nil
		}
	}
	br, err := broker.New(broker.Config{SysInterval: -1}, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { br.Shutdown(context.Background()) })
	br.Reauthorize()
	return br
}

// everyone lets everybody in under one name.
type everyone struct{}

func (everyone) Authenticate(context.Context, *auth.Credentials) (*auth.Principal, error) {
	return &auth.Principal{Name: "one", Method: "password"}, nil
}

// nowhere is a link that takes everything.
type nowhere struct{}

func (nowhere) Write([]byte) error { return nil }
func (nowhere) Backlog() int       { return 0 }
func (nowhere) Close(bool)         {}

// wire is a link to a TCP connection whose other end reads.
type wire struct {
	nowhere
	net.Conn
}

func (w wire) Write(p []byte) error {
	_, err := w.Conn.Write(p)
	return err
}

func (w wire) Close(linger bool) { w.Conn.Close() }

func newWire(b *testing.B) broker.Link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan bool)
	go func() { io.Copy(io.Discard, far); close(done) }()
	b.Cleanup(func() { near.Close(); <-done; far.Close() })
	return wire{Conn: near}
}

func policyClient(b *testing.B, br *broker.Broker, id string, link broker.Link) *broker.Conn {
	c := br.NewConn(link, auth.Peer{}, broker.Limits{})
	hello := mqtt.Connect{Version: mqtt.V311, ClientID: []byte(id), CleanStart: true}
	if err := c.Open(strings.NewReader(string(hello.Append(nil, mqtt.V311)))); err != nil {
		b.Fatal(err)
	}
	return c
}

func (t policedTraffic) run(b *testing.B, br *broker.Broker) {
	var subs []*broker.Conn
	for i := range t.receivers {
		var link broker.Link = nowhere{}
		if t.socket {
			link = newWire(b)
		}
		c := policyClient(b, br, fmt.Sprint("s", i), link)
		s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("dt/one/#"), QoS: t.qos}}}
		if err := c.Data(s.Append(nil, mqtt.V311)); err != nil {
			b.Fatal(err)
		}
		c.Flush()
		subs = append(subs, c)
	}
	pub := policyClient(b, br, "p", nowhere{})
	var packets [][]byte
	for i := range t.topics {
		m := mqtt.Publish{Topic: fmt.Appendf(nil, "dt/one/line-%d/temperature", i), Payload: make([]byte, 64), QoS: t.qos, PacketID: 7}
		packets = append(packets, m.Append(nil, mqtt.V311))
	}
	id := uint16(0)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		pub.Data(packets[n%t.topics])
		pub.Flush()
		if t.qos == 0 {
			continue
		}
		if id++; id == 0 {
			id = 1
		}
		for _, s := range subs {
			s.Data([]byte{0x40, 2, byte(id >> 8), byte(id)})
			s.Flush()
		}
	}
}
