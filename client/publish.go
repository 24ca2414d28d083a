package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// Publish sends m and waits for the end of its handshake: nothing for QoS 0,
// PUBACK for 1, PUBCOMP (or a PUBREC that refuses) for 2. The code is the
// server's; one that IsError is returned as the error, too. With a
// Config.Session, a message whose connection was lost stays in the session and
// goes out again with the next.
func (c *Client) Publish(ctx context.Context, m *Message) (mqtt.ReasonCode, error) {
	type outcome struct {
		code mqtt.ReasonCode
		err  error
	}
	ch := make(chan outcome, 1)
	if err := c.PublishAsync(ctx, m, func(code mqtt.ReasonCode, err error) { ch <- outcome{code, err} }); err != nil {
		return 0, err
	}
	select {
	case o := <-ch:
		return o.code, publishError(m, o.code, o.err)
	default:
	}
	select {
	case o := <-ch:
		return o.code, publishError(m, o.code, o.err)
	case <-ctx.Done():
		return 0, publishError(m, 0, ctx.Err())
	case <-c.stopped:
		select {
		case o := <-ch:
			return o.code, publishError(m, o.code, o.err)
		default:
			return 0, publishError(m, 0, c.Err())
		}
	}
}

func publishError(m *Message, code mqtt.ReasonCode, err error) error {
	if err == nil && code.IsError() {
		err = code
	}
	if err != nil {
		return fmt.Errorf("publish %q: %w", m.Topic, err)
	}
	return nil
}

// PublishAsync queues m and returns; done, unless nil, is called once when the
// handshake has ended, from the client's own goroutine, and must not block. It
// waits, as long as ctx allows, while the server's receive maximum is used up
// or 256 KiB are unsent. An error means that m was not queued and done will not
// be called. Messages leave in the order of the calls.
func (c *Client) PublishAsync(ctx context.Context, m *Message, done func(mqtt.ReasonCode, error)) error {
	if err := c.publish(ctx, m, done); err != nil {
		return fmt.Errorf("publish %q: %w", m.Topic, err)
	}
	return nil
}

func (c *Client) publish(ctx context.Context, m *Message, done func(mqtt.ReasonCode, error)) error {
	if err := checkMessage(m, c.cfg.Version, false); err != nil {
		return err
	}
	if err := c.allowed(m); err != nil {
		return err
	}
	p := mqtt.Publish{QoS: m.QoS, Retain: m.Retain, Topic: []byte(m.Topic), Payload: m.Payload}
	if c.cfg.Version == mqtt.V5 {
		m.properties(&p.Props)
	}
	if m.QoS > 0 {
		p.PacketID = 1 // the size must be that of the real packet
	}
	if err := c.fits(p.Size(c.cfg.Version) + aliasSize(m)); err != nil {
		return err
	}
	if err := c.out.room(ctx); err != nil {
		return err
	}
	if m.QoS == 0 {
		setAlias(&p, m)
		if !c.out.queue(p.Append(nil, c.cfg.Version)) {
			return c.gone()
		}
		if done != nil {
			done(mqtt.Success, nil)
		}
		return nil
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.gone()
	}
	if done == nil {
		done = func(mqtt.ReasonCode, error) {}
	}
	return c.enter(&p, m, done)
}

// enter gives the message its packet id and place: ids, session and wire have
// one order [MQTT-4.6.0-1].
func (c *Client) enter(p *mqtt.Publish, m *Message, done func(mqtt.ReasonCode, error)) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.owner != c {
		return c.gone()
	}
	p.PacketID = c.s.nextID(c.requested)
	if p.PacketID == 0 {
		<-c.slots
		return fmt.Errorf("no packet id is free: %w", mqtt.QuotaExceeded)
	}
	// A repetition goes over another connection, where the alias means nothing
	// [MQTT-3.3.2-7]: the packet that is kept is without it.
	kept := p.Append(nil, c.cfg.Version)
	sent := kept
	if setAlias(p, m) {
		sent = p.Append(nil, c.cfg.Version)
	}
	if !c.out.queue(sent) {
		<-c.slots
		return c.gone()
	}
	c.s.add(&outgoing{packet: kept, id: p.PacketID, qos: m.QoS, done: done})
	return nil
}

// gone is why nothing can be sent any more.
func (c *Client) gone() error {
	<-c.done
	return c.err
}

func setAlias(p *mqtt.Publish, m *Message) bool {
	if m.TopicAlias == 0 {
		return false
	}
	p.Props.TopicAlias = m.TopicAlias
	p.Props.Set(mqtt.PropTopicAlias)
	return true
}

// aliasSize is the most that a topic alias adds: property and length byte.
func aliasSize(m *Message) int {
	if m.TopicAlias == 0 {
		return 0
	}
	return 5
}

// allowed holds m against what CONNACK said [MQTT-3.2.2-11] [MQTT-3.2.2-14]
// [MQTT-3.3.2-9].
func (c *Client) allowed(m *Message) error {
	switch s := &c.server; {
	case m.QoS > s.MaximumQoS:
		return fmt.Errorf("the server's highest is QoS %d: %w", s.MaximumQoS, mqtt.QoSNotSupported)
	case m.Retain && s.NoRetain:
		return fmt.Errorf("the server keeps no retained messages: %w", mqtt.RetainNotSupported)
	case m.TopicAlias > s.TopicAliasMaximum:
		return fmt.Errorf("alias %d, the server allows %d: %w", m.TopicAlias, s.TopicAliasMaximum, mqtt.TopicAliasInvalid)
	case m.Topic == "" && m.QoS > 0:
		return fmt.Errorf("an alias alone cannot be repeated on another connection: %w", mqtt.TopicNameInvalid)
	}
	return nil
}

// fits holds a packet's size against the server's limit [MQTT-3.2.2-15].
func (c *Client) fits(size int) error {
	limit := uint32(maxPacket)
	if s := c.server.MaximumPacketSize; s != 0 {
		limit = min(limit, s)
	}
	if uint64(size) > uint64(limit) {
		return fmt.Errorf("%d bytes, the server takes %d: %w", size, limit, mqtt.PacketTooLarge)
	}
	return nil
}

// checkMessage finds what no server could accept.
func checkMessage(m *Message, v mqtt.Version, will bool) error {
	if m.QoS > 2 {
		return fmt.Errorf("QoS %d: %w", m.QoS, mqtt.MalformedPacket)
	}
	if v != mqtt.V5 && m.TopicAlias != 0 {
		return fmt.Errorf("a topic alias needs version 5")
	}
	if m.Topic != "" || m.TopicAlias == 0 || will {
		if err := topic.ValidName(m.Topic); err != nil {
			return fmt.Errorf("%w: %w", mqtt.TopicNameInvalid, err)
		}
	}
	if v != mqtt.V5 {
		return nil
	}
	if m.ResponseTopic != "" { // [MQTT-3.3.2-14]
		if err := topic.ValidName(m.ResponseTopic); err != nil {
			return fmt.Errorf("response topic: %w", err)
		}
	}
	if m.PayloadFormat != nil && *m.PayloadFormat > 1 {
		return fmt.Errorf("payload format %d is neither 0 nor 1", *m.PayloadFormat)
	}
	if len(m.CorrelationData) > 65535 {
		return fmt.Errorf("correlation data has %d bytes, 65,535 at most", len(m.CorrelationData))
	}
	if err := checkText("content type", m.ContentType); err != nil {
		return err
	}
	return checkUser(m.User)
}

func checkUser(user []UserProperty) error {
	for _, u := range user {
		if err := checkText("user property name", u.Key); err != nil {
			return err
		}
		if err := checkText("user property value", u.Value); err != nil {
			return err
		}
	}
	return nil
}

// checkText is what every UTF-8 string must be [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func checkText(what, s string) error {
	switch {
	case len(s) > 65535:
		return fmt.Errorf("%s has %d bytes, 65,535 at most", what, len(s))
	case strings.ToValidUTF8(s, "") != s:
		return fmt.Errorf("%s is not UTF-8", what)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%s contains U+0000", what)
	}
	return nil
}
