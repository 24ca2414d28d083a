package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// authenticate turns the CONNECT into a principal, in several steps when it names an authentication method. used is the
// length of the CONNECT in partial.
func (c *Conn) authenticate(r io.Reader, p *mqtt.Connect, cred *auth.Credentials, used int) (*auth.Principal, []byte, error) {
	ctx := context.Background()
	if p.Version != mqtt.V5 || !p.Props.Has(mqtt.PropAuthMethod) {
		principal, err := c.b.auth.Authenticate(ctx, cred)
		if err == nil && principal == nil {
			err = errors.New("the authenticator returned neither a principal nor an error")
		}
		if err != nil {
			return nil, nil, c.refuseAuth(err)
		}
		return principal, nil, nil
	}
	c.authMethod = string(p.Props.AuthMethod)
	var x auth.Exchange
	if e, ok := c.b.auth.(auth.Enhanced); ok {
		x = e.Exchange(c.authMethod, cred)
	}
	if x == nil { // [MQTT-4.12.0-1]
		return nil, nil, c.refuse(mqtt.BadAuthenticationMethod, "this authentication method is not known here")
	}
	// The exchange reads on in a buffer of its own, since p and cred point into this one.
	connect := c.partial
	c.kept = int64(cap(connect))
	c.partial = append(make([]byte, 0, max(512, len(connect)-used)), connect[used:]...)
	defer func() { c.partial = append(connect[:used:used], c.partial...) }()
	data := p.Props.AuthData
	for {
		reply, principal, err := x.Next(ctx, data)
		if err != nil {
			return nil, nil, c.refuseAuth(err)
		}
		if principal != nil {
			return principal, reply, nil
		}
		question := c.auth(mqtt.ContinueAuthentication, reply) // [MQTT-4.12.0-2]
		if int64(len(question)) > c.maxSend {
			return nil, nil, c.refuse(mqtt.PacketTooLarge, "")
		}
		c.link.Write(question)
		h, err := c.read(r)
		if err != nil {
			return nil, nil, c.refuseRead(err)
		}
		body := append([]byte(nil), c.partial[h.Size:h.Size+h.Length]...)
		c.partial = c.partial[:copy(c.partial, c.partial[h.Size+h.Length:])]
		var a mqtt.Auth
		switch h.Type {
		case mqtt.AUTH:
			if err = a.Parse(mqtt.V5, h.Flags, body); err == nil && c.tooMany(&a.Props) {
				err = &mqtt.Error{Code: mqtt.QuotaExceeded, Text: manyProperties}
			}
		case mqtt.DISCONNECT:
			c.gone = true
			c.link.Close(true)
			return nil, nil, errGone
		default:
			err = &mqtt.Error{Code: mqtt.ProtocolError, Text: "a " + h.Type.String() + " before CONNACK"}
		}
		if err == nil && (a.Code != mqtt.ContinueAuthentication || string(a.Props.AuthMethod) != c.authMethod) {
			err = &mqtt.Error{Code: mqtt.ProtocolError, Text: "AUTH does not continue the exchange"}
		}
		if err != nil {
			return nil, nil, c.refuseRead(err)
		}
		data = a.Props.AuthData
	}
}

// auth encodes an AUTH with the connection's method [MQTT-4.12.0-5].
func (c *Conn) auth(code mqtt.ReasonCode, data []byte) []byte {
	a := mqtt.Auth{Code: code}
	a.Props.AuthMethod = []byte(c.authMethod)
	a.Props.Set(mqtt.PropAuthMethod)
	if data != nil {
		a.Props.AuthData = data
		a.Props.Set(mqtt.PropAuthData)
	}
	return a.Append(nil, mqtt.V5)
}

func (c *Conn) refuseAuth(err error) error {
	var no *auth.Refusal
	if errors.As(err, &no) {
		return c.refuse(no.Code, no.Text)
	}
	c.logRefused(slog.LevelError, "authentication failed to decide", "not decided", "error", err)
	return c.refuse(mqtt.ServerUnavailable, "authentication is not available at the moment")
}
