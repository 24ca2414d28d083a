package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Config says how to connect. It must not be modified while a client uses it.
type Config struct {
	// Dial makes the connection, TLS handshake included. Required. See [Dialer].
	Dial func(context.Context) (net.Conn, error)

	// Version is the protocol version. Default mqtt.V5.
	Version mqtt.Version
	// ClientID may be empty with CleanStart; the server then assigns one.
	// Version 3.1 wants 1 to 23 bytes.
	ClientID string
	// CleanStart asks for a session without past. In versions 3 the session then
	// also ends with the connection.
	CleanStart bool
	// SessionExpiry is how long the server keeps the session after the
	// connection, in seconds; 0 not at all, 0xFFFFFFFF for ever. Version 5.
	SessionExpiry uint32
	// Session carries unacknowledged messages from one connection to the next.
	// Default nil: they end with the connection.
	Session *Session
	// KeepAlive is the longest silence of this side, in seconds. Default 0: off.
	// The server may set another [MQTT-3.1.2-21].
	KeepAlive uint16

	Username string
	// HasUsername sends an empty user name; a non-empty one is always sent.
	HasUsername bool
	// Password is sent unless nil. Without a user name it needs version 5
	// [MQTT-3.1.2-22].
	Password []byte

	// Will is what the server publishes if the connection ends without DISCONNECT.
	Will *Message

	// ReceiveMaximum bounds the QoS 1 and 2 messages that the server may send
	// ahead. Default 0: 65,535. Version 5.
	ReceiveMaximum uint16
	// MaximumPacketSize is the largest packet accepted, in bytes. Default 0: the
	// protocol's own limit, 256 MiB. Version 5 tells the server; all versions
	// close the connection over it.
	MaximumPacketSize uint32
	// TopicAliasMaximum is how many aliases the server may use. Default 0. Version 5.
	TopicAliasMaximum uint16
	// RequestResponseInfo asks the server for Server.ResponseInfo. Version 5.
	RequestResponseInfo bool
	// NoProblemInfo tells the server to leave out reason strings. Version 5.
	NoProblemInfo bool
	// User are the user properties of CONNECT. Version 5.
	User []UserProperty

	// AuthMethod begins enhanced authentication with AuthData; OnAuth answers
	// each challenge. Version 5.
	AuthMethod string
	AuthData   []byte
	OnAuth     func(challenge []byte) (answer []byte, err error)

	// OnMessage is called for each message, one at a time, in order. QoS 1 and 2
	// are acknowledged when it returns. It may call PublishAsync with QoS 0, but
	// must not wait for the server and not call Disconnect or Wait.
	OnMessage func(*Message)
	// OnDisconnect is called once when the connection has ended, with what Err
	// returns. The same restrictions apply.
	OnDisconnect func(error)

	// AckTimeout bounds the wait for CONNACK, SUBACK, UNSUBACK, PINGRESP and for
	// a stalled write. Default 20 s. Messages have no such bound: their
	// handshake ends with the connection or the caller's context.
	AckTimeout time.Duration
}

const defaultAckTimeout = 20 * time.Second

// maxPacket is the largest packet there can be: five bytes of header and the
// largest Remaining Length [MQTT-1.5.5].
const maxPacket = 5 + 268_435_455

func (c *Config) withDefaults() Config {
	d := *c
	if d.Version == 0 {
		d.Version = mqtt.V5
	}
	if d.AckTimeout <= 0 {
		d.AckTimeout = defaultAckTimeout
	}
	if d.Session == nil {
		d.Session = new(Session)
	}
	return d
}

// Validate reports what no server could accept.
func (c *Config) Validate() error {
	v := c.Version
	if v == 0 {
		v = mqtt.V5
	}
	switch {
	case c.Dial == nil:
		return errors.New("client config: Dial is nil")
	case v != mqtt.V5 && v != mqtt.V311 && v != mqtt.V31:
		return fmt.Errorf("client config: Version %d is unknown", v)
	case v == mqtt.V31 && (len(c.ClientID) == 0 || len(c.ClientID) > 23):
		return fmt.Errorf("client config: ClientID has %d bytes, version 3.1 wants 1 to 23", len(c.ClientID))
	case v == mqtt.V311 && c.ClientID == "" && !c.CleanStart: // [MQTT-3.1.3-8]
		return errors.New("client config: an empty ClientID needs CleanStart")
	case v != mqtt.V5 && c.Password != nil && c.Username == "" && !c.HasUsername: // 3.1.1 [MQTT-3.1.2-22]
		return errors.New("client config: a password without a user name needs version 5")
	case v != mqtt.V5 && (c.SessionExpiry != 0 || c.AuthMethod != "" || len(c.User) > 0):
		return errors.New("client config: SessionExpiry, AuthMethod and User need version 5")
	case c.AuthMethod == "" && c.AuthData != nil:
		return errors.New("client config: AuthData without AuthMethod")
	case c.Will != nil && c.Will.QoS > 2:
		return fmt.Errorf("client config: Will.QoS %d", c.Will.QoS)
	}
	err := errors.Join(checkText("ClientID", c.ClientID), checkText("Username", c.Username),
		checkText("AuthMethod", c.AuthMethod), checkUser(c.User))
	if err != nil {
		return fmt.Errorf("client config: %w", err)
	}
	if len(c.Password) > 65535 || len(c.AuthData) > 65535 {
		return errors.New("client config: Password or AuthData is longer than 65,535 bytes")
	}
	if c.Will != nil {
		if len(c.Will.Payload) > 65535 {
			return errors.New("client config: Will.Payload is longer than 65,535 bytes")
		}
		if err := checkMessage(c.Will, v, true); err != nil {
			return fmt.Errorf("client config: will: %w", err)
		}
	}
	return nil
}

// connect is the CONNECT packet.
func (c *Config) connect() *mqtt.Connect {
	p := &mqtt.Connect{
		Version:     c.Version,
		CleanStart:  c.CleanStart,
		KeepAlive:   c.KeepAlive,
		ClientID:    []byte(c.ClientID),
		HasUsername: c.Username != "" || c.HasUsername,
		Username:    []byte(c.Username),
		HasPassword: c.Password != nil,
		Password:    c.Password,
	}
	v5 := c.Version == mqtt.V5
	if w := c.Will; w != nil {
		p.HasWill = true
		p.Will = mqtt.Will{QoS: w.QoS, Retain: w.Retain, Topic: []byte(w.Topic), Payload: w.Payload}
		if v5 {
			w.properties(&p.Will.Props)
			if w.WillDelay != 0 {
				p.Will.Props.WillDelay = w.WillDelay
				p.Will.Props.Set(mqtt.PropWillDelay)
			}
		}
	}
	if !v5 {
		return p
	}
	q := &p.Props
	if c.SessionExpiry != 0 {
		q.SessionExpiry = c.SessionExpiry
		q.Set(mqtt.PropSessionExpiry)
	}
	if c.ReceiveMaximum != 0 {
		q.ReceiveMaximum = c.ReceiveMaximum
		q.Set(mqtt.PropReceiveMaximum)
	}
	if c.MaximumPacketSize != 0 {
		q.MaximumPacketSize = c.MaximumPacketSize
		q.Set(mqtt.PropMaximumPacketSize)
	}
	if c.TopicAliasMaximum != 0 {
		q.TopicAliasMaximum = c.TopicAliasMaximum
		q.Set(mqtt.PropTopicAliasMaximum)
	}
	if c.RequestResponseInfo {
		q.RequestResponseInfo = 1
		q.Set(mqtt.PropRequestResponseInfo)
	}
	if c.NoProblemInfo {
		q.RequestProblemInfo = 0
		q.Set(mqtt.PropRequestProblemInfo)
	}
	if c.AuthMethod != "" {
		q.AuthMethod = []byte(c.AuthMethod)
		q.Set(mqtt.PropAuthMethod)
		if c.AuthData != nil {
			q.AuthData = c.AuthData
			q.Set(mqtt.PropAuthData)
		}
	}
	setUser(q, c.User)
	return p
}
