package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
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
	spill    int           // every how manieth message for a client that is away is lost, 0: none
	amnesia  bool          // restart loses all sessions
	mu       sync.Mutex
	subs     map[*fakeConn]string
	sessions map[string]*fakeSession
	messages int
	kept     int // messages for clients that were away
}

// fakeSession outlives its connection.
type fakeSession struct {
	filter string
	conn   *fakeConn // nil: away
	queue  []mqtt.Publish
}

type fakeConn struct {
	net.Conn
	mu      sync.Mutex
	id      uint16
	v       mqtt.Version
	name    string
	session *fakeSession
	unacked []mqtt.Publish // to a session that is kept
}

// deliver sends a message with an identifier of the receiver's own.
func (c *fakeConn) deliver(p mqtt.Publish) {
	if c.id++; c.id == 0 {
		c.id = 1
	}
	if p.QoS > 0 {
		p.PacketID = c.id
		if c.session != nil {
			c.unacked = append(c.unacked, keep(&p))
		}
	}
	c.send(p.Append(nil, c.v))
}

// keep copies what a message has in the read buffer.
func keep(p *mqtt.Publish) mqtt.Publish {
	return mqtt.Publish{QoS: p.QoS, PacketID: p.PacketID, Topic: bytes.Clone(p.Topic), Payload: bytes.Clone(p.Payload)}
}

// acked forgets a message that its receiver has.
func (b *fakeBroker) acked(c *fakeConn, id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(c.unacked) > 0 && c.unacked[0].PacketID == id {
		c.unacked = c.unacked[1:] // as a rule
		return
	}
	for i := range c.unacked {
		if c.unacked[i].PacketID == id {
			c.unacked = append(c.unacked[:i], c.unacked[i+1:]...)
			return
		}
	}
}

// connect finds or makes the client's session and answers.
func (b *fakeBroker) connect(c *fakeConn, p *mqtt.Connect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.v, c.name = p.Version, string(p.ClientID)
	if p.CleanStart {
		delete(b.sessions, c.name)
	}
	keep := !p.CleanStart
	if c.v == mqtt.V5 {
		keep = p.Props.SessionExpiry > 0
	}
	s, present := b.sessions[c.name]
	if keep && !present {
		s = &fakeSession{}
		b.sessions[c.name] = s
	}
	ack := b.connack
	ack.SessionPresent = present && ack.Code == 0
	c.send(ack.Append(nil, c.v))
	if s == nil {
		return
	}
	if old := s.conn; old != nil {
		// Its end has not been seen yet.
		s.queue = append(old.unacked, s.queue...)
	}
	c.session, s.conn = s, c
	if s.filter != "" {
		b.subs[c] = s.filter
	}
	queue := s.queue
	s.queue = nil
	for _, p := range queue {
		c.deliver(p)
	}
}

// gone is the end of a connection.
func (b *fakeBroker) gone(c *fakeConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, c)
	if s := c.session; s != nil && s.conn == c {
		s.conn, s.queue = nil, append(c.unacked, s.queue...)
	}
}

// restart ends all connections, as a kill does.
func (b *fakeBroker) restart(context.Context) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.subs {
		c.Close()
	}
	if b.amnesia {
		clear(b.sessions)
	}
	return os.Getpid(), nil
}

// left is how many sessions there are.
func (b *fakeBroker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
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
	b.subs, b.sessions = make(map[*fakeConn]string), make(map[string]*fakeSession)
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
		b.gone(c)
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
			l.version = p.Version
			b.connect(c, &p)
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
			if c.session != nil && code < 0x80 {
				c.session.filter = b.subs[c]
			}
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
		case mqtt.DISCONNECT:
			var p mqtt.Disconnect
			if p.Parse(c.v, h.Flags, body) == nil && p.Props.Has(mqtt.PropSessionExpiry) && p.Props.SessionExpiry == 0 {
				b.mu.Lock()
				delete(b.sessions, c.name)
				b.mu.Unlock()
			}
		case mqtt.PUBACK:
			b.acked(c, binary.BigEndian.Uint16(body))
		case mqtt.PUBREC:
			b.acked(c, binary.BigEndian.Uint16(body))
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
	for _, s := range b.sessions {
		if s.conn == nil && matches(s.filter, p.Topic) {
			if b.kept++; b.spill > 0 && b.kept%b.spill == 0 {
				continue
			}
			s.queue = append(s.queue, keep(p))
		}
	}
	group := 0
	for c, filter := range b.subs {
		if rest, ok := strings.CutPrefix(filter, "$share/bench/"); ok {
			filter = rest
			if group++; group > 1 {
				continue
			}
		}
		if matches(filter, p.Topic) {
			c.deliver(*p)
		}
	}
}

func matches(filter string, topic []byte) bool {
	prefix, wild := strings.CutSuffix(filter, "#")
	return filter == string(topic) || wild && strings.HasPrefix(string(topic), prefix)
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
