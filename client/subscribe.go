package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// Subscription is a topic filter and how its messages are wanted. All but QoS
// needs version 5.
type Subscription struct {
	Filter            string
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8 // 0 send retained, 1 only if new, 2 never
}

// SubscribeOptions are the properties of a SUBSCRIBE. Version 5.
type SubscribeOptions struct {
	ID   uint32 // subscription identifier, 1 to 268,435,455; 0: none
	User []UserProperty
}

// request waits for the answer to a SUBSCRIBE, UNSUBSCRIBE or AUTH.
type request struct {
	want    mqtt.Type
	filters int
	answer  chan answer // room for one
}

type answer struct {
	codes []mqtt.ReasonCode
	err   error
}

// Subscribe asks for all in one packet and returns the server's code for each,
// in order. The error is that of the first refused one, or of the connection.
func (c *Client) Subscribe(ctx context.Context, subs ...Subscription) ([]mqtt.ReasonCode, error) {
	return c.SubscribeWith(ctx, SubscribeOptions{}, subs...)
}

// SubscribeWith is Subscribe with properties.
func (c *Client) SubscribeWith(ctx context.Context, o SubscribeOptions, subs ...Subscription) ([]mqtt.ReasonCode, error) {
	if len(subs) == 0 { // [MQTT-3.8.3-2]
		return nil, errors.New("subscribe: no topic filter")
	}
	p := mqtt.Subscribe{}
	for _, s := range subs {
		if err := c.checkSubscription(s); err != nil {
			return nil, fmt.Errorf("subscribe %q: %w", s.Filter, err)
		}
		p.Filters = append(p.Filters, mqtt.Subscription{
			Filter: []byte(s.Filter), QoS: s.QoS, NoLocal: s.NoLocal,
			RetainAsPublished: s.RetainAsPublished, RetainHandling: s.RetainHandling,
		})
	}
	if c.cfg.Version == mqtt.V5 {
		if err := checkUser(o.User); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
		if o.ID != 0 {
			if o.ID > 268_435_455 {
				return nil, fmt.Errorf("subscribe: identifier %d, 268,435,455 at most", o.ID)
			}
			if c.server.NoSubscriptionID {
				return nil, fmt.Errorf("subscribe: %w", mqtt.SubscriptionIDsNotSupported)
			}
			p.Props.SubscriptionIDs = []uint32{o.ID}
			p.Props.Set(mqtt.PropSubscriptionIDs)
		}
		setUser(&p.Props, o.User)
	} else if o.ID != 0 {
		return nil, errors.New("subscribe: an identifier needs version 5")
	}
	codes, err := c.ask(ctx, mqtt.SUBACK, len(subs), func(id uint16) []byte {
		p.PacketID = id
		return p.Append(nil, c.cfg.Version)
	})
	if err != nil {
		return codes, fmt.Errorf("subscribe %q: %w", subs[0].Filter, err)
	}
	for i, code := range codes {
		if code.IsError() {
			return codes, fmt.Errorf("subscribe %q: refused by the server: %w", subs[i].Filter, code)
		}
	}
	return codes, nil
}

// Unsubscribe ends subscriptions. The codes are nil below version 5.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]mqtt.ReasonCode, error) {
	return c.UnsubscribeWith(ctx, nil, filters...)
}

// UnsubscribeWith is Unsubscribe with user properties.
func (c *Client) UnsubscribeWith(ctx context.Context, user []UserProperty, filters ...string) ([]mqtt.ReasonCode, error) {
	if len(filters) == 0 { // [MQTT-3.10.3-2]
		return nil, errors.New("unsubscribe: no topic filter")
	}
	p := mqtt.Unsubscribe{}
	for _, f := range filters {
		if err := topic.ValidFilter(f); err != nil {
			return nil, fmt.Errorf("unsubscribe %q: %w", f, err)
		}
		p.Filters = append(p.Filters, []byte(f))
	}
	if c.cfg.Version == mqtt.V5 {
		if err := checkUser(user); err != nil {
			return nil, fmt.Errorf("unsubscribe: %w", err)
		}
		setUser(&p.Props, user)
	}
	codes, err := c.ask(ctx, mqtt.UNSUBACK, len(filters), func(id uint16) []byte {
		p.PacketID = id
		return p.Append(nil, c.cfg.Version)
	})
	if err != nil {
		return codes, fmt.Errorf("unsubscribe %q: %w", filters[0], err)
	}
	for i, code := range codes {
		if code.IsError() {
			return codes, fmt.Errorf("unsubscribe %q: refused by the server: %w", filters[i], code)
		}
	}
	return codes, nil
}

// Reauthenticate runs enhanced authentication once more [MQTT-4.12.1-1].
func (c *Client) Reauthenticate(ctx context.Context, data []byte) error {
	if c.cfg.Version != mqtt.V5 || c.cfg.AuthMethod == "" {
		return errors.New("reauthenticate: the connection was made without an authentication method")
	}
	_, err := c.ask(ctx, mqtt.AUTH, 0, func(uint16) []byte {
		return c.authPacket(mqtt.ReAuthenticate, data)
	})
	if err != nil {
		return fmt.Errorf("reauthenticate: %w", err)
	}
	return nil
}

// ask sends a packet and waits for its answer, AckTimeout at most.
func (c *Client) ask(ctx context.Context, want mqtt.Type, filters int, packet func(id uint16) []byte) ([]mqtt.ReasonCode, error) {
	r := &request{want: want, filters: filters, answer: make(chan answer, 1)}
	var id uint16
	c.s.mu.Lock()
	if c.s.owner != c {
		c.s.mu.Unlock()
		return nil, c.gone()
	}
	if want == mqtt.AUTH {
		if c.reauth != nil {
			c.s.mu.Unlock()
			return nil, errors.New("already under way")
		}
	} else if id = c.s.nextID(c.requested); id == 0 {
		c.s.mu.Unlock()
		return nil, fmt.Errorf("no packet id is free: %w", mqtt.QuotaExceeded)
	}
	b := packet(id)
	err := c.fits(len(b))
	if err == nil && !c.out.queue(b) {
		err = c.gone()
	}
	if err == nil && want == mqtt.AUTH {
		c.reauth = r
	} else if err == nil {
		c.requests[id] = r
	}
	c.s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(c.cfg.AckTimeout)
	defer timer.Stop()
	select {
	case a := <-r.answer:
		return a.codes, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, fmt.Errorf("%v: %w within %v", want, ErrTimeout, c.cfg.AckTimeout)
	}
}

// requested reports whether a SUBSCRIBE or UNSUBSCRIBE uses id; s.mu is held.
func (c *Client) requested(id uint16) bool {
	_, ok := c.requests[id]
	return ok
}

func (c *Client) checkSubscription(s Subscription) error {
	if err := topic.ValidFilter(s.Filter); err != nil {
		return fmt.Errorf("%w: %w", mqtt.TopicFilterInvalid, err)
	}
	v5 := c.cfg.Version == mqtt.V5
	shared := v5 && strings.HasPrefix(s.Filter, "$share/")
	switch {
	case s.QoS > 2:
		return fmt.Errorf("QoS %d: %w", s.QoS, mqtt.MalformedPacket)
	case s.RetainHandling > 2:
		return fmt.Errorf("retain handling %d: %w", s.RetainHandling, mqtt.MalformedPacket)
	case !v5 && (s.NoLocal || s.RetainAsPublished || s.RetainHandling != 0):
		return errors.New("no local, retain as published and retain handling need version 5")
	case shared && s.NoLocal: // [MQTT-3.8.3-4]
		return fmt.Errorf("no local on a shared subscription: %w", mqtt.ProtocolError)
	case shared && c.server.NoShared:
		return mqtt.SharedSubscriptionsNotSupported
	case c.server.NoWildcard && strings.ContainsAny(s.Filter, "+#"):
		return mqtt.WildcardSubscriptionsNotSupported
	}
	if shared {
		if _, _, _, err := topic.ParseShare(s.Filter); err != nil {
			return fmt.Errorf("%w: %w", mqtt.TopicFilterInvalid, err)
		}
	}
	return nil
}
