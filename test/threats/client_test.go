package threats

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// client is one connection, whose packets the test sees.
type client struct {
	t *testing.T
	net.Conn
	v  mqtt.Version
	in *bufio.Reader
	id uint16 // the packet identifier used last

	later []mqtt.Publish // messages that came while something else was waited for
}

// dial opens a connection to a listener, through TLS where that has it.
func (b *broker) dial(t *testing.T, listener string, who identity) *client {
	t.Helper()
	c := b.dialPlain(t, listener)
	if listener == "plain" {
		return c
	}
	return newClient(t, tls.Client(c.Conn, b.tls(t, who)))
}

// dialPlain opens a connection in the clear.
func (b *broker) dialPlain(t *testing.T, listener string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", b.address[listener])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(*patience))
	return newClient(t, nc)
}

func newClient(t *testing.T, nc net.Conn) *client {
	return &client{t: t, Conn: nc, v: mqtt.V5, in: bufio.NewReader(nc)}
}

// hello is the CONNECT of a client that has an identifier and nothing else.
func hello(id string) *mqtt.Connect {
	return &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte(id)}
}

// lasting is hello of a client whose session outlives its connection.
func lasting(id string) *mqtt.Connect {
	p := &mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id)}
	p.Props.SessionExpiry = 1000
	p.Props.Set(mqtt.PropSessionExpiry)
	return p
}

// connect connects to a listener and is let in.
func (b *broker) connect(t *testing.T, listener string, who identity, p *mqtt.Connect) *client {
	t.Helper()
	c := b.dial(t, listener, who)
	if ack := c.open(p); ack.Code != mqtt.Success {
		t.Fatalf("%s as %q: %v %s", listener, p.ClientID, ack.Code, ack.Props.ReasonString)
	}
	return c
}

// refused connects to a listener and is not let in.
func (b *broker) refused(t *testing.T, listener string, who identity, p *mqtt.Connect) mqtt.ReasonCode {
	t.Helper()
	c := b.dial(t, listener, who)
	ack := c.open(p)
	if ack.Code == mqtt.Success {
		t.Errorf("%s as %q is let in", listener, p.ClientID)
	}
	c.ended()
	return ack.Code
}

// open sends CONNECT and returns the answer.
func (c *client) open(p *mqtt.Connect) *mqtt.Connack {
	c.t.Helper()
	c.v = p.Version
	c.send(p.Append(nil, c.v))
	var ack mqtt.Connack
	h, body := c.next()
	if h.Type != mqtt.CONNACK {
		c.t.Fatalf("packet type %d instead of CONNACK", h.Type)
	}
	c.parse(ack.Parse(c.v, h.Flags, body))
	return &ack
}

// send writes; that the broker may have closed shows when the answer is read.
func (c *client) send(b []byte) {
	c.Write(b)
}

func (c *client) parse(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("the broker sent what cannot be read: %v", err)
	}
}

// next is the next packet.
func (c *client) next() (mqtt.Header, []byte) {
	c.t.Helper()
	h, body, err := c.read()
	if err != nil {
		c.t.Fatalf("no packet: %v", err)
	}
	return h, body
}

func (c *client) read() (mqtt.Header, []byte, error) {
	for n := 2; ; n++ {
		b, err := c.in.Peek(n)
		if err != nil {
			return mqtt.Header{}, nil, err
		}
		h, err := mqtt.ParseHeader(b)
		if err == mqtt.ErrIncomplete {
			continue
		}
		if err != nil {
			return h, nil, err
		}
		c.in.Discard(h.Size)
		body := make([]byte, h.Length)
		_, err = io.ReadFull(c.in, body)
		return h, body, err
	}
}

// await returns the next packet of a type; messages that come before are kept.
func (c *client) await(typ mqtt.Type) (uint8, []byte) {
	c.t.Helper()
	for {
		h, body := c.next()
		if h.Type == typ {
			return h.Flags, body
		}
		c.take(h, body)
	}
}

// take keeps a message and acknowledges it.
func (c *client) take(h mqtt.Header, body []byte) {
	c.t.Helper()
	switch h.Type {
	case mqtt.PUBLISH:
		var p mqtt.Publish
		c.parse(p.Parse(c.v, h.Flags, body))
		c.later = append(c.later, p)
		if p.QoS > 0 {
			c.send((&mqtt.Ack{Type: mqtt.PUBACK + mqtt.Type(p.QoS-1), PacketID: p.PacketID}).Append(nil, c.v))
		}
	case mqtt.PUBREL:
		a := mqtt.Ack{Type: mqtt.PUBREL}
		c.parse(a.Parse(c.v, h.Flags, body))
		c.send((&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: a.PacketID}).Append(nil, c.v))
	case mqtt.DISCONNECT:
		var d mqtt.Disconnect
		c.parse(d.Parse(c.v, h.Flags, body))
		c.t.Fatalf("disconnected: %v %s", d.Code, d.Props.ReasonString)
	default:
		c.t.Fatalf("packet type %d came unasked", h.Type)
	}
}

// subscribe asks for a filter and returns the answer.
func (c *client) subscribe(filter string, qos uint8) mqtt.ReasonCode {
	c.t.Helper()
	c.id++
	c.send((&mqtt.Subscribe{PacketID: c.id, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}).Append(nil, c.v))
	var ack mqtt.Suback
	flags, body := c.await(mqtt.SUBACK)
	c.parse(ack.Parse(c.v, flags, body))
	return ack.Codes[0]
}

// publish sends a message and returns what it is answered at last.
func (c *client) publish(topic string, qos uint8, retain bool, payload string) mqtt.ReasonCode {
	c.t.Helper()
	p := mqtt.Publish{Topic: []byte(topic), QoS: qos, Retain: retain, Payload: []byte(payload)}
	if qos > 0 {
		c.id++
		p.PacketID = c.id
	}
	c.send(p.Append(nil, c.v))
	ack := func(typ mqtt.Type) mqtt.ReasonCode {
		a := mqtt.Ack{Type: typ}
		flags, body := c.await(typ)
		c.parse(a.Parse(c.v, flags, body))
		return a.Code
	}
	switch qos {
	case 1:
		return ack(mqtt.PUBACK)
	case 2:
		if code := ack(mqtt.PUBREC); code.IsError() {
			return code
		}
		c.send((&mqtt.Ack{Type: mqtt.PUBREL, PacketID: c.id}).Append(nil, c.v))
		return ack(mqtt.PUBCOMP)
	}
	return mqtt.Success
}

// until returns the topics of the messages that come before the one whose
// payload is last.
func (c *client) until(last string) (topics []string) {
	c.t.Helper()
	for {
		for i, m := range c.later {
			if string(m.Payload) == last {
				c.later = c.later[i+1:]
				return topics
			}
			topics = append(topics, string(m.Topic))
		}
		c.later = nil
		h, body := c.next()
		c.take(h, body)
	}
}

// alive has the broker answer.
func (c *client) alive() {
	c.t.Helper()
	c.send(mqtt.AppendPingreq(nil))
	c.await(mqtt.PINGRESP)
}

// ended reads until the broker has closed the connection, and returns the reason
// that it gave, 0 if none.
func (c *client) ended() (reason mqtt.ReasonCode) {
	c.t.Helper()
	for {
		h, body, err := c.read()
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Fatal("the broker has not closed the connection")
		}
		if err != nil {
			return reason
		}
		if h.Type == mqtt.DISCONNECT {
			var d mqtt.Disconnect
			c.parse(d.Parse(c.v, h.Flags, body))
			reason = d.Code
		}
	}
}

// disconnect ends the connection orderly.
func (c *client) disconnect() {
	c.send((&mqtt.Disconnect{}).Append(nil, c.v))
	c.ended()
}

// String is for failures.
func (c *client) String() string { return fmt.Sprintf("client at %v", c.LocalAddr()) }
