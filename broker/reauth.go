package broker

import (
	"context"
	"errors"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// reauth is a re-authentication under way, section 4.12.1.
type reauth struct {
	x    auth.Exchange
	busy bool // the authenticator is deciding; guarded by proc
}

// onAuth begins or continues a re-authentication. The authenticator may block, so it works on a goroutine of its own
// while the connection goes on.
func (c *Conn) onAuth(flags uint8, body []byte) error {
	if c.version != mqtt.V5 {
		return c.fail(violation(mqtt.ProtocolError, "AUTH is a packet of MQTT 5"))
	}
	var a mqtt.Auth
	if err := a.Parse(c.version, flags, body); err != nil {
		return c.fail(err)
	}
	if c.tooMany(&a.Props) {
		return c.failMany()
	}
	if c.authMethod == "" { // [MQTT-4.12.0-7]
		return c.fail(violation(mqtt.ProtocolError, "AUTH, but CONNECT had no authentication method"))
	}
	if string(a.Props.AuthMethod) != c.authMethod { // [MQTT-4.12.1-1]
		return c.fail(violation(mqtt.ProtocolError, "AUTH with another authentication method than CONNECT"))
	}
	switch {
	case a.Code == mqtt.ReAuthenticate && c.reauth == nil:
		cred := &auth.Credentials{Peer: c.peer, Version: c.version, ClientID: c.sess.id}
		e, ok := c.b.auth.(auth.Enhanced)
		if !ok {
			return c.fail(violation(mqtt.BadAuthenticationMethod, "this authentication method is not known here"))
		}
		x := e.Exchange(c.authMethod, cred)
		if x == nil {
			return c.fail(violation(mqtt.BadAuthenticationMethod, "this authentication method is not known here"))
		}
		c.reauth = &reauth{x: x}
	case a.Code == mqtt.ContinueAuthentication && c.reauth != nil && !c.reauth.busy:
	default:
		return c.fail(violation(mqtt.ProtocolError, "AUTH with reason %v does not fit here", a.Code))
	}
	c.reauth.busy = true
	x, data := c.reauth.x, append([]byte(nil), a.Props.AuthData...)
	if !c.b.spawn(func() { c.reauthenticate(x, data) }) {
		return errGone
	}
	return nil
}

func (c *Conn) reauthenticate(x auth.Exchange, data []byte) {
	reply, principal, err := x.Next(context.Background(), data)
	w := c.b.worker()
	defer c.b.release(w)
	c.proc.Lock()
	defer c.proc.Unlock()
	if c.gone {
		return
	}
	s := c.sess
	switch {
	case err != nil:
		code, text := mqtt.NotAuthorized, ""
		var no *auth.Refusal
		if errors.As(err, &no) {
			code, text = no.Code, no.Text
		}
		c.b.log.Warn("re-authentication failed", c.attrs("error", err.Error())...)
		c.end(c.disconnect(code, text), true) // [MQTT-4.12.1-2]
		return
	case principal != nil && !principal.Same(s.rights.Load().Principal):
		c.b.log.Warn("re-authentication as another identity", c.attrs("principal", principal.Name)...)
		c.end(c.disconnect(mqtt.NotAuthorized, "re-authentication changed the identity"), true)
		return
	}
	var granted *rights
	authorized := c.b.authorizations.Load()
	if principal != nil {
		q, err := c.b.authorize(s.id, nil, principal, s.rights.Load().Principal.Policy)
		if err != nil {
			why := refusal(err)
			c.b.log.Warn("re-authentication refused", c.attrs("error", err.Error())...)
			c.end(c.disconnect(why.Refused, why.Text), true)
			return
		}
		granted = newRights(q)
		granted.owner = s.rights.Load().owner
		if told := s.rights.Load().told; told != nil {
			granted.told = told
		}
	}
	code := mqtt.ContinueAuthentication
	c.reauth.busy = false
	if principal != nil {
		code, c.reauth = mqtt.Success, nil
	}
	answer := c.auth(code, reply)
	if int64(len(answer)) > c.maxSend {
		c.end(c.disconnect(mqtt.PacketTooLarge, ""), true)
		return
	}
	s.mu.Lock()
	if principal != nil {
		s.rights.Store(granted)
		s.sift(w)
		c.b.wheel.remove(c)
		c.b.wheel.add(c, c.alive.limit, principal.Until)
	}
	s.emit(w, encoded(answer))
	s.mu.Unlock()
	switch {
	case granted == nil:
	case c.b.authorizations.Load() != authorized:
		c.b.spawn(func() { c.b.reauthorizeOne(s) })
	default:
		c.b.spawn(s.withdrawLost)
	}
}
