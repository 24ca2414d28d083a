package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// readLoop handles what arrives until the connection ends, then cleans up.
func (c *Client) readLoop() {
	written := make(chan struct{})
	go func() {
		c.writeLoop()
		close(written)
	}()
	err := c.receive()
	if err != nil {
		c.stop(err)
	}
	// After an ending that this side began, the rest is read and dropped, so
	// that unread bytes do not turn our last packet into a reset.
	var scrap [512]byte
	for {
		if _, err := c.conn.Read(scrap[:]); err != nil {
			break
		}
	}
	c.conn.Close()
	<-written
	c.abandon()
	if c.cfg.OnDisconnect != nil {
		c.cfg.OnDisconnect(c.err)
	}
	close(c.stopped)
}

// stop ends the connection for err; a server of version 5 that broke the
// protocol is told the reason [MQTT-4.13.1-1].
func (c *Client) stop(err error) {
	var (
		se *ServerError
		me *mqtt.Error
	)
	switch {
	case c.leaving != nil:
		c.finish(ErrClosed, c.leaving.Append(nil, c.cfg.Version))
	case errors.As(err, &se):
		c.finish(err, nil)
	case errors.As(err, &me):
		var last []byte
		if c.cfg.Version == mqtt.V5 {
			last = (&mqtt.Disconnect{Code: me.Code}).Append(nil, mqtt.V5)
		}
		c.finish(c.violation(err), last)
	case errors.Is(err, io.EOF):
		c.finish(fmt.Errorf("%w: closed by the server", ErrConnectionLost), nil)
	default:
		c.finish(fmt.Errorf("%w: %w", ErrConnectionLost, err), nil)
	}
}

// abandon gives the session back and answers everyone who still waits.
func (c *Client) abandon() {
	c.s.mu.Lock()
	requests := c.requests
	c.requests = nil
	if c.reauth != nil {
		requests[0] = c.reauth
	}
	var lost []*outgoing
	if !c.shared {
		lost = c.s.take()
	}
	c.s.owner = nil
	c.s.mu.Unlock()
	for _, r := range requests {
		r.answer <- answer{err: c.err}
	}
	for _, o := range lost {
		o.done(0, c.err)
	}
}

func (c *Client) receive() error {
	var (
		publish mqtt.Publish
		ack     mqtt.Ack
	)
	v := c.cfg.Version
	for {
		h, body, err := c.in.next()
		if err != nil {
			return err
		}
		select {
		case <-c.done:
			return nil
		default:
		}
		c.lastRead.Store(time.Now().UnixNano())
		switch h.Type {
		case mqtt.PUBLISH:
			if err = publish.Parse(v, h.Flags, body); err == nil {
				err = c.onPublish(&publish)
			}
		case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
			ack.Type = h.Type
			if err = ack.Parse(v, h.Flags, body); err == nil {
				err = c.onAck(&ack)
			}
		case mqtt.SUBACK:
			p := new(mqtt.Suback)
			if err = p.Parse(v, h.Flags, body); err == nil {
				err = c.onAnswer(mqtt.SUBACK, p.PacketID, p.Codes)
			}
		case mqtt.UNSUBACK:
			p := new(mqtt.Unsuback)
			if err = p.Parse(v, h.Flags, body); err == nil {
				err = c.onAnswer(mqtt.UNSUBACK, p.PacketID, p.Codes)
			}
		case mqtt.PINGRESP:
			c.out.pingAt.Store(0)
		case mqtt.DISCONNECT:
			p := new(mqtt.Disconnect)
			if v != mqtt.V5 {
				err = unexpected(h.Type)
			} else if err = p.Parse(v, h.Flags, body); err == nil {
				return serverError(mqtt.DISCONNECT, p.Code, &p.Props)
			}
		case mqtt.AUTH:
			err = c.onAuth(h, body)
		default:
			err = unexpected(h.Type)
		}
		if err != nil {
			return err
		}
		if c.leaving != nil && c.last == 0 {
			c.finish(ErrClosed, c.leaving.Append(nil, v))
			return nil
		}
	}
}

func unexpected(t mqtt.Type) error {
	return protocolError("%v from a server", t)
}

func protocolError(format string, a ...any) error {
	return &mqtt.Error{Code: mqtt.ProtocolError, Text: "protocol error: " + fmt.Sprintf(format, a...)}
}

func (c *Client) onPublish(p *mqtt.Publish) error {
	name, err := c.topicOf(p)
	if err != nil {
		return err
	}
	if c.leaving != nil {
		return nil // not acknowledged: the server keeps it for the next connection
	}
	switch p.QoS {
	case 0:
		c.deliver(p, name)
	case 1:
		c.deliver(p, name)
		c.ack(mqtt.PUBACK, p.PacketID, mqtt.Success) // [MQTT-4.3.2-4]
	case 2:
		// Delivered at the first PUBLISH; the id is remembered up to PUBREL, so
		// that a repetition is only acknowledged [MQTT-4.3.3-10].
		c.incoming[p.PacketID] = struct{}{}
		if limit := c.cfg.ReceiveMaximum; limit != 0 && len(c.incoming) > int(limit) {
			return &mqtt.Error{Code: mqtt.ReceiveMaximumExceeded, Text: "receive maximum exceeded"}
		}
		c.s.mu.Lock()
		_, again := c.s.received[p.PacketID]
		if !again {
			if c.s.received == nil {
				c.s.received = make(map[uint16]struct{})
			}
			c.s.received[p.PacketID] = struct{}{}
		}
		c.s.mu.Unlock()
		if !again {
			c.deliver(p, name)
		}
		c.ack(mqtt.PUBREC, p.PacketID, mqtt.Success)
		if c.leaving != nil {
			c.last = p.PacketID
			c.conn.SetReadDeadline(time.Now().Add(lingerTime))
		}
	}
	return nil
}

func (c *Client) deliver(p *mqtt.Publish, name string) {
	if c.cfg.OnMessage != nil {
		c.cfg.OnMessage(messageOf(p, name))
	}
}

// topicOf resolves and learns topic aliases [MQTT-3.3.2-8] [MQTT-3.3.2-10].
func (c *Client) topicOf(p *mqtt.Publish) (string, error) {
	if !p.Props.Has(mqtt.PropTopicAlias) {
		if len(p.Topic) == 0 {
			return "", protocolError("PUBLISH without topic and topic alias")
		}
		return string(p.Topic), nil
	}
	alias := p.Props.TopicAlias
	if alias == 0 || alias > c.cfg.TopicAliasMaximum {
		return "", &mqtt.Error{Code: mqtt.TopicAliasInvalid, Text: fmt.Sprintf("topic alias %d, maximum %d", alias, c.cfg.TopicAliasMaximum)}
	}
	if len(p.Topic) == 0 {
		name, ok := c.aliases[alias]
		if !ok {
			return "", protocolError("topic alias %d has no topic", alias)
		}
		return name, nil
	}
	name := string(p.Topic)
	if c.aliases == nil {
		c.aliases = make(map[uint16]string)
	}
	c.aliases[alias] = name
	return name, nil
}

func (c *Client) ack(t mqtt.Type, id uint16, code mqtt.ReasonCode) {
	a := mqtt.Ack{Type: t, PacketID: id, Code: code}
	var space [8]byte
	c.out.queue(a.Append(space[:0], c.cfg.Version))
}

func (c *Client) onAck(a *mqtt.Ack) error {
	if a.Type == mqtt.PUBREL {
		delete(c.incoming, a.PacketID)
		if c.last == a.PacketID {
			c.last = 0
		}
		c.s.mu.Lock()
		_, known := c.s.received[a.PacketID]
		delete(c.s.received, a.PacketID)
		c.s.mu.Unlock()
		code := mqtt.Success
		if !known && c.cfg.Version == mqtt.V5 {
			code = mqtt.PacketIDNotFound
		}
		c.ack(mqtt.PUBCOMP, a.PacketID, code) // [MQTT-4.3.3-11]
		return nil
	}
	c.s.mu.Lock()
	o := c.s.byID[a.PacketID]
	if o == nil || o.unsent {
		c.s.mu.Unlock()
		if a.Type == mqtt.PUBREC { // the server waits for a PUBREL
			code := mqtt.Success
			if c.cfg.Version == mqtt.V5 {
				code = mqtt.PacketIDNotFound
			}
			if !a.Code.IsError() {
				c.ack(mqtt.PUBREL, a.PacketID, code)
			}
		}
		return nil
	}
	ended := true
	switch {
	case (a.Type == mqtt.PUBACK) != (o.qos == 1):
		c.s.mu.Unlock()
		return protocolError("%v for a message with QoS %d", a.Type, o.qos)
	case a.Type == mqtt.PUBREC && !a.Code.IsError():
		ended = false
		o.released, o.packet = true, nil // never sent again [MQTT-4.3.3-5]
		c.ack(mqtt.PUBREL, o.id, mqtt.Success)
	case a.Type == mqtt.PUBCOMP && !o.released:
		c.s.mu.Unlock()
		return protocolError("PUBCOMP before PUBREC")
	}
	if ended {
		c.s.remove(o)
		c.freeSlot()
	}
	c.s.mu.Unlock()
	if ended {
		code := a.Code
		if a.Type == mqtt.PUBCOMP && code == mqtt.PacketIDNotFound {
			// After a repeated PUBREL: the server had completed it before.
			code = mqtt.Success
		}
		o.done(code, nil)
	}
	return nil
}

func (c *Client) onAnswer(t mqtt.Type, id uint16, codes []mqtt.ReasonCode) error {
	c.s.mu.Lock()
	r := c.requests[id]
	delete(c.requests, id)
	c.s.mu.Unlock()
	if r == nil {
		return nil
	}
	var err error
	if r.want != t {
		err = protocolError("%v where %v was due", t, r.want)
	} else if len(codes) != r.filters && (t == mqtt.SUBACK || c.cfg.Version == mqtt.V5) {
		err = protocolError("%v with %d reason codes for %d filters", t, len(codes), r.filters)
	}
	r.answer <- answer{codes: codes, err: err}
	return err
}

func (c *Client) authPacket(code mqtt.ReasonCode, data []byte) []byte {
	p := mqtt.Auth{Code: code}
	p.Props.AuthMethod = []byte(c.cfg.AuthMethod)
	p.Props.Set(mqtt.PropAuthMethod)
	if data != nil {
		p.Props.AuthData = data
		p.Props.Set(mqtt.PropAuthData)
	}
	return p.Append(nil, mqtt.V5)
}

// answerAuth reads an AUTH; reply is nil when it says Success.
func (c *Client) answerAuth(h mqtt.Header, body []byte) (reply []byte, done bool, err error) {
	var p mqtt.Auth
	if err := p.Parse(mqtt.V5, h.Flags, body); err != nil {
		return nil, false, err
	}
	if string(p.Props.AuthMethod) != c.cfg.AuthMethod { // [MQTT-4.12.0-5]
		return nil, false, protocolError("AUTH with another method")
	}
	switch {
	case p.Code == mqtt.Success:
		return nil, true, nil
	case p.Code != mqtt.ContinueAuthentication:
		return nil, false, protocolError("AUTH with reason code 0x%02X", uint8(p.Code))
	case c.cfg.OnAuth == nil:
		return nil, false, errors.New("the server asks for authentication data and OnAuth is nil")
	}
	answer, err := c.cfg.OnAuth(append([]byte{}, p.Props.AuthData...))
	if err != nil {
		return nil, false, fmt.Errorf("authenticate: %w", err)
	}
	return c.authPacket(mqtt.ContinueAuthentication, answer), false, nil
}

func (c *Client) onAuth(h mqtt.Header, body []byte) error {
	c.s.mu.Lock()
	r := c.reauth
	c.s.mu.Unlock()
	if r == nil || c.cfg.Version != mqtt.V5 {
		return unexpected(mqtt.AUTH)
	}
	reply, done, err := c.answerAuth(h, body)
	if reply != nil {
		c.out.queue(reply)
	}
	if err == nil && !done {
		return nil
	}
	c.s.mu.Lock()
	c.reauth = nil
	c.s.mu.Unlock()
	r.answer <- answer{err: err}
	return err
}
