package bench

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/sealmq/sealmq/mqtt"
)

// fakeBroker is just enough of a broker for the generator to be tested, and can misbehave. It knows exact filters and
// filters that end in #.
type fakeBroker struct {
	connack  mqtt.Connack
	suback   mqtt.ReasonCode // refusal of every subscription
	puback   mqtt.ReasonCode
	drop     int           // every how manieth message is lost, 0: none
	ws       bool          // speak through a WebSocket
	hangUp   bool          // close at the first PUBLISH
	stall    chan struct{} // while it is open nothing is forwarded; nil: never
	mute     bool          // no PUBACK ever
	mu       sync.Mutex
	subs     map[*fakeConn]string
	messages int
}

type fakeConn struct {
	net.Conn
	mu sync.Mutex
	id uint16
	v  mqtt.Version
}

func (c *fakeConn) send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Write(b)
}

// start serves on loopback until the test ends; once only.
func (b *fakeBroker) start(t *testing.T) *Dialer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.subs = make(map[*fakeConn]string)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return &Dialer{Address: l.Addr().String()}
}

// framed is the server's end of a WebSocket.
type framed struct {
	net.Conn
	rest []byte
}

func (f *framed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		b, err := wsutil.ReadClientBinary(f.Conn)
		if err != nil {
			return 0, err
		}
		f.rest = b
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *framed) Write(p []byte) (int, error) {
	return len(p), wsutil.WriteServerBinary(f.Conn, p)
}

func (b *fakeBroker) serve(nc net.Conn) {
	if b.ws {
		u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "mqtt" }}
		if _, err := u.Upgrade(nc); err != nil {
			nc.Close()
			return
		}
		nc = &framed{Conn: nc}
	}
	c := &fakeConn{Conn: nc, v: mqtt.V5}
	l := &link{Conn: nc, in: make([]byte, 4096)}
	defer func() {
		b.mu.Lock()
		delete(b.subs, c)
		b.mu.Unlock()
		nc.Close()
	}()
	for {
		h, body, err := l.next()
		if err == mqtt.ErrIncomplete {
			if l.fill() != nil {
				return
			}
			continue
		}
		switch h.Type {
		case mqtt.CONNECT:
			var p mqtt.Connect
			if p.Parse(0, h.Flags, body) != nil {
				return
			}
			c.v, l.version = p.Version, p.Version
			c.send(b.connack.Append(nil, c.v))
			if b.connack.Code != 0 {
				return
			}
		case mqtt.SUBSCRIBE:
			var p mqtt.Subscribe
			if p.Parse(c.v, h.Flags, body) != nil {
				return
			}
			code := mqtt.ReasonCode(p.Filters[0].QoS)
			if b.suback != 0 {
				code = b.suback
			}
			b.mu.Lock()
			b.subs[c] = string(p.Filters[0].Filter)
			b.mu.Unlock()
			c.send((&mqtt.Suback{PacketID: p.PacketID, Codes: []mqtt.ReasonCode{code}}).Append(nil, c.v))
		case mqtt.PUBLISH:
			if b.hangUp {
				return
			}
			var p mqtt.Publish
			if p.Parse(c.v, h.Flags, body) != nil {
				return
			}
			b.route(&p)
			if p.QoS > 0 && !b.mute {
				kind := mqtt.PUBACK
				if p.QoS == 2 {
					kind = mqtt.PUBREC
				}
				c.send((&mqtt.Ack{Type: kind, PacketID: p.PacketID, Code: b.puback}).Append(nil, c.v))
			}
		case mqtt.PUBREC:
			c.send(appendAck(nil, mqtt.PUBREL, body))
		case mqtt.PUBREL:
			c.send(appendAck(nil, mqtt.PUBCOMP, body))
		}
	}
}

func (b *fakeBroker) route(p *mqtt.Publish) {
	if b.stall != nil {
		<-b.stall
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	if b.drop > 0 && b.messages%b.drop == 0 {
		return
	}
	out := *p
	group := 0
	for c, filter := range b.subs {
		if rest, ok := strings.CutPrefix(filter, "$share/bench/"); ok {
			filter = rest
			if group++; group > 1 {
				continue
			}
		}
		prefix, wild := strings.CutSuffix(filter, "#")
		if filter == string(p.Topic) || wild && strings.HasPrefix(string(p.Topic), prefix) {
			if c.id++; c.id == 0 {
				c.id = 1
			}
			if p.QoS > 0 {
				out.PacketID = c.id
			}
			c.send(out.Append(nil, c.v))
		}
	}
}

// quick is a run of a fraction of a second.
func quick(s Scenario, d *Dialer) Config {
	return Config{
		Scenario: s, Dial: d.Dial, Clients: 4, Warmup: -1,
		Duration: 200 * time.Millisecond, Drain: time.Second, Interval: 20 * time.Millisecond,
	}
}

func mustRun(t *testing.T, cfg Config) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
