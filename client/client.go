package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Client is one connection to a server. Its methods may be called from any goroutine.
type Client struct {
	cfg    Config
	conn   net.Conn
	server Server
	s      *Session
	shared bool // the session is the caller's and outlives the connection
	in     reader
	out    writer

	slots chan struct{} // one taken per QoS 1 or 2 message under way [MQTT-3.3.4-9]

	// Guarded by s.mu, so that packet ids are shared with messages.
	requests map[uint16]*request
	reauth   *request
	resume   []*outgoing // wait for quota after a reconnect

	// The reader's own.
	aliases  map[uint16]string
	incoming map[uint16]struct{} // QoS 2 received on this connection, not released
	leaving  *mqtt.Disconnect    // set by Leave
	last     uint16              // QoS 2 message whose PUBREL Leave waits for

	ending   sync.Once
	err      error         // set before done is closed
	done     chan struct{} // the connection is over or being ended
	stopped  chan struct{} // both goroutines have ended
	lastRead atomic.Int64  // unix nanoseconds
}

// Server is what the server said in CONNACK; absent properties have their
// protocol defaults.
type Server struct {
	SessionPresent    bool
	ClientID          string // the assigned one, or our own
	KeepAlive         uint16 // the one in force, seconds
	SessionExpiry     uint32 // the one in force, seconds
	ReceiveMaximum    uint16
	MaximumPacketSize uint32 // 0: no limit of the server's
	MaximumQoS        uint8
	TopicAliasMaximum uint16
	NoRetain          bool
	NoWildcard        bool
	NoSubscriptionID  bool
	NoShared          bool
	ResponseInfo      string
	ReasonString      string
	AuthData          []byte
	User              []UserProperty
}

// Connect dials, sends CONNECT and waits for CONNACK. A refusal is a
// [*ServerError]; every other error says at which step it happened.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	shared := cfg.Session != nil
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.AckTimeout)
	defer cancel()
	conn, err := cfg.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &Client{
		cfg:      cfg,
		conn:     conn,
		s:        cfg.Session,
		shared:   shared,
		requests: make(map[uint16]*request),
		incoming: make(map[uint16]struct{}),
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	c.in.init(conn, int(min(uint64(cfg.MaximumPacketSize), maxPacket)))
	c.out.init(conn, cfg.AckTimeout)

	if !c.s.claim(c) {
		conn.Close()
		return nil, fmt.Errorf("connect: %w", errSessionInUse)
	}
	// The context's end interrupts reads and writes.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = c.open(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.s.release()
		conn.Close()
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("wait for CONNACK: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.begin()
	return c, nil
}

// open is the conversation up to CONNACK.
func (c *Client) open(ctx context.Context) error {
	p := c.cfg.connect()
	if _, err := c.conn.Write(p.Append(nil, c.cfg.Version)); err != nil {
		// A refusal may already be waiting to be read; it says more.
		if ack, rerr := c.readConnack(); rerr == nil && ack.Code.IsError() {
			return serverError(mqtt.CONNACK, ack.Code, &ack.Props)
		} else if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, net.ErrClosed) {
			return fmt.Errorf("send CONNECT: %w", rerr)
		}
		return fmt.Errorf("send CONNECT: %w", err)
	}
	ack, err := c.readConnack()
	if err != nil {
		return err
	}
	if ack.Code.IsError() {
		return serverError(mqtt.CONNACK, ack.Code, &ack.Props)
	}
	if ack.SessionPresent && c.cfg.CleanStart { // [MQTT-3.2.2-2] [MQTT-3.2.2-4]
		return c.violation(&mqtt.Error{Code: mqtt.ProtocolError, Text: "protocol error: session present after a clean start"})
	}
	c.learn(ack)
	return nil
}

// readConnack reads up to CONNACK, answering AUTH on the way [MQTT-4.12.0-3].
func (c *Client) readConnack() (*mqtt.Connack, error) {
	for {
		h, body, err := c.in.next()
		if err != nil {
			var me *mqtt.Error
			if errors.As(err, &me) {
				return nil, c.violation(err)
			}
			return nil, fmt.Errorf("wait for CONNACK: %w", err)
		}
		switch {
		case h.Type == mqtt.CONNACK:
			ack := new(mqtt.Connack)
			if err := ack.Parse(c.cfg.Version, h.Flags, body); err != nil {
				return nil, c.violation(err)
			}
			return ack, nil
		case h.Type == mqtt.AUTH && c.cfg.AuthMethod != "" && c.cfg.Version == mqtt.V5:
			reply, _, err := c.answerAuth(h, body)
			if err != nil {
				return nil, c.violation(err)
			}
			if _, err := c.conn.Write(reply); err != nil {
				return nil, fmt.Errorf("send AUTH: %w", err)
			}
		default:
			return nil, c.violation(&mqtt.Error{Code: mqtt.ProtocolError, Text: fmt.Sprintf("protocol error: %v before CONNACK", h.Type)})
		}
	}
}

// violation is a mistake of the server's before the session stands: there is
// nothing to answer, the connection is closed.
func (c *Client) violation(err error) error {
	return fmt.Errorf("the server broke the protocol: %w", err)
}

func (c *Client) learn(ack *mqtt.Connack) {
	p := &ack.Props
	c.server = Server{
		SessionPresent: ack.SessionPresent,
		ClientID:       c.cfg.ClientID,
		KeepAlive:      c.cfg.KeepAlive,
		SessionExpiry:  c.cfg.SessionExpiry,
		ReceiveMaximum: 65535,
		MaximumQoS:     2,
	}
	if c.cfg.Version == mqtt.V31 {
		// 3.1 cannot tell; the server keeps what was not asked to be clean.
		c.server.SessionPresent = !c.cfg.CleanStart
	}
	s := &c.server
	if p.Has(mqtt.PropAssignedClientID) {
		s.ClientID = string(p.AssignedClientID)
	}
	if p.Has(mqtt.PropServerKeepAlive) {
		s.KeepAlive = p.ServerKeepAlive
	}
	if p.Has(mqtt.PropSessionExpiry) {
		s.SessionExpiry = p.SessionExpiry
	}
	if p.Has(mqtt.PropReceiveMaximum) {
		s.ReceiveMaximum = p.ReceiveMaximum
	}
	if p.Has(mqtt.PropMaximumPacketSize) {
		s.MaximumPacketSize = p.MaximumPacketSize
	}
	if p.Has(mqtt.PropMaximumQoS) {
		s.MaximumQoS = p.MaximumQoS
	}
	if p.Has(mqtt.PropTopicAliasMaximum) {
		s.TopicAliasMaximum = p.TopicAliasMaximum
	}
	s.NoRetain = p.Has(mqtt.PropRetainAvailable) && p.RetainAvailable == 0
	s.NoWildcard = p.Has(mqtt.PropWildcardAvailable) && p.WildcardAvailable == 0
	s.NoSubscriptionID = p.Has(mqtt.PropSubscriptionIDAvailable) && p.SubscriptionIDAvailable == 0
	s.NoShared = p.Has(mqtt.PropSharedAvailable) && p.SharedAvailable == 0
	s.ResponseInfo = string(p.ResponseInfo)
	s.ReasonString = string(p.ReasonString)
	if p.Has(mqtt.PropAuthData) {
		s.AuthData = append([]byte{}, p.AuthData...)
	}
	for _, u := range p.User {
		s.User = append(s.User, UserProperty{string(u.Key), string(u.Value)})
	}
}

// begin resumes the session and starts the two goroutines.
func (c *Client) begin() {
	c.conn.SetDeadline(time.Time{})
	c.slots = make(chan struct{}, c.server.ReceiveMaximum)
	c.lastRead.Store(time.Now().UnixNano())
	lost := c.restore()
	go c.readLoop()
	for _, o := range lost {
		o.done(0, ErrSessionLost)
	}
}

// Server is what the server said in CONNACK.
func (c *Client) Server() Server { return c.server }

// Version is the protocol version spoken.
func (c *Client) Version() mqtt.Version { return c.cfg.Version }

// Done is closed when the connection is over; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while connected, ErrClosed after Disconnect, a *ServerError after
// the server's DISCONNECT, else an error wrapping ErrConnectionLost,
// ErrTimeout or *mqtt.Error.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Wait returns when the connection is over, both goroutines have ended and
// OnDisconnect has returned.
func (c *Client) Wait() { <-c.stopped }

// Disconnect ends the connection in order: what is queued is sent first. With
// DisconnectWithWill the server publishes the will. It waits for the server to
// close, a second at most.
func (c *Client) Disconnect(code mqtt.ReasonCode) error {
	return c.DisconnectWith(&mqtt.Disconnect{Code: code})
}

// DisconnectWith is Disconnect with properties. A session expiry is refused if
// CONNECT had none [MQTT-3.14.2-2].
func (c *Client) DisconnectWith(p *mqtt.Disconnect) error {
	if p.Props.Has(mqtt.PropSessionExpiry) && p.Props.SessionExpiry != 0 && c.cfg.SessionExpiry == 0 {
		return fmt.Errorf("disconnect: session expiry %d s after none in CONNECT: %w", p.Props.SessionExpiry, mqtt.ProtocolError)
	}
	c.finish(ErrClosed, p.Append(nil, c.cfg.Version))
	<-c.stopped
	if err := c.Err(); err != ErrClosed {
		return err
	}
	return nil
}

// Leave is Disconnect from inside OnMessage: the message that is being handled
// is acknowledged to the end first, and none after it is delivered.
func (c *Client) Leave(code mqtt.ReasonCode) {
	c.leaving = &mqtt.Disconnect{Code: code}
}

// LeaveWith is Leave with properties.
func (c *Client) LeaveWith(p *mqtt.Disconnect) { c.leaving = p }

// Close drops the connection without DISCONNECT: the server publishes the will.
func (c *Client) Close() error {
	c.finish(ErrClosed, nil)
	<-c.stopped
	return nil
}

// finish ends the connection, once; last, if any, is sent behind what is queued.
func (c *Client) finish(err error, last []byte) {
	c.ending.Do(func() {
		c.err = err
		close(c.done)
		if last == nil {
			c.conn.Close()
		}
		c.out.close(last)
	})
}
