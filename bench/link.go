package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// handshakeTime is the longest that the answer to CONNECT or SUBSCRIBE may take.
const handshakeTime = 60 * time.Second

// ServerError is a broker that said no, in a CONNACK or a DISCONNECT.
type ServerError struct {
	Packet mqtt.Type
	Code   mqtt.ReasonCode
	Reason string // the broker's own words, possibly empty
}

func (e *ServerError) Error() string {
	what := "connection refused by the broker"
	if e.Packet == mqtt.DISCONNECT {
		what = "disconnected by the broker"
	}
	s := fmt.Sprintf("%s: %s (0x%02X)", what, strings.ToLower(e.Code.String()), uint8(e.Code))
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// SubscribeError is a subscription that the broker refused.
type SubscribeError struct {
	Filter string
	Code   mqtt.ReasonCode
}

func (e *SubscribeError) Error() string {
	return fmt.Sprintf("subscription %q refused by the broker: %s (0x%02X)", e.Filter, strings.ToLower(e.Code.String()), uint8(e.Code))
}

// PublishError is a message that the broker refused.
type PublishError struct {
	Code  mqtt.ReasonCode
	Count uint64
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("%d messages refused by the broker, the first with: %s (0x%02X)", e.Count, strings.ToLower(e.Code.String()), uint8(e.Code))
}

// errClosed is a broker that ends a connection without a word.
var errClosed = errors.New("connection closed by the broker")

// ErrLost is wrapped by the error of a connection that ended while it was needed.
var ErrLost = errors.New("connection lost")

func randomName() string { return strings.ToLower(rand.Text()[:8]) }

// link is one connection to the broker. in[r:w] has been read and not yet parsed.
type link struct {
	net.Conn
	sock       *socket
	version    mqtt.Version
	in         []byte
	r, w       int
	receiveMax int // packets that the broker takes unacknowledged
	keepAlive  uint16
	present    bool // the broker kept the session
	resumed    bool // by a TLS ticket
}

// open makes connection i and sends CONNECT. buffer is what is read from the kernel at a time, 0 for as little as needed.
func (r *run) open(ctx context.Context, dial DialFunc, i int, id string, s session, buffer int) (*link, error) {
	l := &link{sock: &socket{}, version: r.cfg.Version}
	if buffer > 0 {
		l.sock.buf = make([]byte, buffer)
	}
	c, err := dial(ctx, i, l.sock.under)
	if err != nil {
		return nil, err
	}
	if !l.sock.used {
		c = l.sock.under(c)
	}
	l.Conn = c
	l.in = make([]byte, max(buffer, 512))
	if err := r.hello(l, id, s); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// hello is CONNECT and CONNACK.
func (r *run) hello(l *link, id string, s session) error {
	p := mqtt.Connect{
		Version: l.version, CleanStart: s == transient, KeepAlive: r.cfg.KeepAlive, ClientID: []byte(id),
		HasUsername: r.cfg.Username != "", Username: []byte(r.cfg.Username),
		HasPassword: r.cfg.Password != nil, Password: r.cfg.Password,
	}
	if s == persistent && l.version == mqtt.V5 {
		p.Props.SessionExpiry = sessionExpiry
		p.Props.Set(mqtt.PropSessionExpiry)
	}
	l.SetDeadline(time.Now().Add(handshakeTime))
	if _, err := l.Write(p.Append(nil, l.version)); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	h, body, err := l.packet()
	if err != nil {
		return fmt.Errorf("wait for CONNACK: %w", err)
	}
	if h.Type != mqtt.CONNACK {
		return fmt.Errorf("wait for CONNACK: the broker sent %v", h.Type)
	}
	var ack mqtt.Connack
	if err := ack.Parse(l.version, h.Flags, body); err != nil {
		return fmt.Errorf("CONNACK: %w", err)
	}
	if ack.Code != mqtt.Success {
		return &ServerError{Packet: mqtt.CONNACK, Code: ack.Code, Reason: string(ack.Props.ReasonString)}
	}
	l.present = ack.SessionPresent
	l.keepAlive = r.cfg.KeepAlive
	l.receiveMax = maxInflight
	if ack.Props.Has(mqtt.PropReceiveMaximum) {
		l.receiveMax = int(ack.Props.ReceiveMaximum)
	}
	if ack.Props.Has(mqtt.PropServerKeepAlive) {
		l.keepAlive = ack.Props.ServerKeepAlive
	}
	if ack.Props.Has(mqtt.PropMaximumQoS) && ack.Props.MaximumQoS < r.cfg.QoS && r.cfg.Messages() {
		return fmt.Errorf("QoS %d: the broker takes no more than QoS %d", r.cfg.QoS, ack.Props.MaximumQoS)
	}
	if most := ack.Props.MaximumPacketSize; ack.Props.Has(mqtt.PropMaximumPacketSize) && r.cfg.Messages() && int64(r.cfg.Payload) > int64(most) {
		return fmt.Errorf("payload %d bytes: the broker takes packets of at most %d bytes", r.cfg.Payload, most)
	}
	l.resumed = didResume(l.Conn)
	return l.SetDeadline(time.Time{})
}

// subscribe asks for one filter and waits for the answer.
func (l *link) subscribe(filter string, qos uint8) error {
	p := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}
	l.SetDeadline(time.Now().Add(handshakeTime))
	if _, err := l.Write(p.Append(nil, l.version)); err != nil {
		return fmt.Errorf("send SUBSCRIBE: %w", err)
	}
	h, body, err := l.packet()
	if err != nil {
		return fmt.Errorf("wait for SUBACK: %w", err)
	}
	var ack mqtt.Suback
	if h.Type != mqtt.SUBACK {
		return fmt.Errorf("wait for SUBACK: the broker sent %v", h.Type)
	}
	if err := ack.Parse(l.version, h.Flags, body); err != nil {
		return fmt.Errorf("SUBACK: %w", err)
	}
	if len(ack.Codes) != 1 {
		return fmt.Errorf("SUBACK: %d reason codes for one filter", len(ack.Codes))
	}
	if ack.Codes[0].IsError() {
		return &SubscribeError{Filter: filter, Code: ack.Codes[0]}
	}
	if ack.Codes[0] != mqtt.ReasonCode(qos) {
		return fmt.Errorf("subscription %q: asked for QoS %d, the broker grants %d", filter, qos, uint8(ack.Codes[0]))
	}
	return l.SetDeadline(time.Time{})
}

// packet waits for one packet. A DISCONNECT is an error. The body is valid until the next call.
func (l *link) packet() (mqtt.Header, []byte, error) {
	for {
		h, body, err := l.next()
		if err == nil && h.Type == mqtt.DISCONNECT {
			return h, nil, l.disconnected(h, body)
		}
		if err != mqtt.ErrIncomplete {
			return h, body, err
		}
		if err := l.fill(); err != nil {
			return h, nil, err
		}
	}
}

// next is the next packet that has been read whole, or mqtt.ErrIncomplete.
func (l *link) next() (mqtt.Header, []byte, error) {
	h, err := mqtt.ParseHeader(l.in[l.r:l.w])
	if err != nil {
		return h, nil, err
	}
	begin := l.r + h.Size
	end := begin + h.Length
	if end > l.w {
		if need := h.Size + h.Length; need > len(l.in) {
			bigger := make([]byte, need+need/2)
			l.r, l.w = 0, copy(bigger, l.in[l.r:l.w])
			l.in = bigger
		}
		return h, nil, mqtt.ErrIncomplete
	}
	l.r = end
	return h, l.in[begin:end], nil
}

// fill reads more, at least one byte.
func (l *link) fill() error {
	if l.r > 0 {
		l.w = copy(l.in, l.in[l.r:l.w])
		l.r = 0
	}
	n, err := l.Read(l.in[l.w:])
	l.w += n
	switch {
	case n > 0 || err == nil:
		return nil
	case err == io.EOF:
		return errClosed
	}
	return err
}

// discard reads until the connection ends.
func (l *link) discard() error {
	for {
		_, _, err := l.next()
		if err == mqtt.ErrIncomplete {
			err = l.fill()
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) disconnected(h mqtt.Header, body []byte) error {
	var d mqtt.Disconnect
	if err := d.Parse(l.version, h.Flags, body); err != nil {
		return fmt.Errorf("DISCONNECT: %w", err)
	}
	return &ServerError{Packet: mqtt.DISCONNECT, Code: d.Code, Reason: string(d.Props.ReasonString)}
}

// bye ends the connection orderly.
func (l *link) bye() {
	l.SetWriteDeadline(time.Now().Add(time.Second))
	l.Write((&mqtt.Disconnect{}).Append(nil, l.version))
	l.Close()
}

// name numbers a client: prefix-s17.
func name(prefix, kind string, i int) string { return prefix + "-" + kind + strconv.Itoa(i) }
