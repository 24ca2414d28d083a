package broker_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// patience is how long a test waits for what must happen; only a failing test waits that long.
const patience = 60 * time.Second

func newBroker(t testing.TB, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.New(cfg, broker.Options{Store: memory.New(), Auth: auth.Certificates{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error("shutdown:", err)
		}
	})
	return b
}

// peer is a client reduced to bytes: what a test sends is what goes out.
type peer struct {
	t   testing.TB
	end *testkit.End
	v   mqtt.Version
	buf []byte
	pos int
}

// dial connects a client without reading the CONNACK.
func dial(t testing.TB, b *broker.Broker, bound int) *peer {
	server, end := testkit.Pipe(bound)
	link := testkit.NewLink(server)
	c := b.NewConn(link, auth.Peer{Addr: "pipe", Listener: "test", Transport: "tcp", Anonymous: true}, broker.Limits{})
	link.OnWritable = c.Writable
	go func() {
		if c.Open(server) == nil {
			testkit.Drive(server, link, c)
		}
	}()
	t.Cleanup(func() { end.Close() })
	return &peer{t: t, end: end, v: mqtt.V311}
}

// connect connects a client and reads its CONNACK.
func connect(t testing.TB, b *broker.Broker, id string, clean bool) *peer {
	t.Helper()
	p := dial(t, b, 0)
	p.hello(id, clean)
	return p
}

func (p *peer) hello(id string, clean bool) {
	p.t.Helper()
	c := mqtt.Connect{Version: p.v, ClientID: []byte(id), CleanStart: clean}
	p.send(c.Append(nil, p.v))
	h, _, err := p.next()
	if err != nil || h.Type != mqtt.CONNACK {
		p.t.Fatalf("%s: CONNACK: %v %v", id, h.Type, err)
	}
}

func (p *peer) send(b []byte) error {
	_, err := p.end.Write(b)
	return err
}

func (p *peer) subscribe(filter string, qos uint8) {
	p.t.Helper()
	s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}
	p.send(s.Append(nil, p.v))
	for {
		h, _, err := p.next()
		if err != nil {
			p.t.Fatal("SUBACK:", err)
		}
		if h.Type == mqtt.SUBACK {
			return
		}
	}
}

func (p *peer) publish(topic string, qos uint8, retain bool, id uint16, payload string) error {
	m := mqtt.Publish{Topic: []byte(topic), QoS: qos, Retain: retain, PacketID: id, Payload: []byte(payload)}
	return p.send(m.Append(nil, p.v))
}

func (p *peer) puback(id uint16) error {
	a := mqtt.Ack{Type: mqtt.PUBACK, PacketID: id}
	return p.send(a.Append(nil, p.v))
}

// next reads one packet; its body is valid until the following call.
func (p *peer) next() (mqtt.Header, []byte, error) {
	for {
		h, err := mqtt.ParseHeader(p.buf[p.pos:])
		if err == nil && len(p.buf)-p.pos >= h.Size+h.Length {
			body := p.buf[p.pos+h.Size : p.pos+h.Size+h.Length]
			p.pos += h.Size + h.Length
			return h, body, nil
		}
		if err != nil && err != mqtt.ErrIncomplete {
			return h, nil, err
		}
		p.buf = append([]byte(nil), p.buf[p.pos:]...)
		p.pos = 0
		chunk := make([]byte, 4096)
		p.end.SetReadDeadline(time.Now().Add(patience))
		n, err := p.end.Read(chunk)
		p.buf = append(p.buf, chunk[:n]...)
		if n == 0 && err != nil {
			if err == io.EOF {
				return h, nil, err
			}
			return h, nil, err
		}
	}
}

// message reads up to the next PUBLISH and answers it when it has QoS 1.
func (p *peer) message() (*mqtt.Publish, error) {
	for {
		h, body, err := p.next()
		if err != nil {
			return nil, err
		}
		if h.Type != mqtt.PUBLISH {
			continue
		}
		var m mqtt.Publish
		if err := m.Parse(p.v, h.Flags, body); err != nil {
			return nil, err
		}
		if m.QoS == 1 {
			p.puback(m.PacketID)
		}
		return &m, nil
	}
}
