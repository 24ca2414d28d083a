package interop

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

func TestPahoGo5(t *testing.T) { matrix(t, pahoGo5{}) }

// pahoGo5 is paho.golang, which speaks MQTT 5.
type pahoGo5 struct{}

func (pahoGo5) start(*testing.T) (missing string) { return "" }

func (pahoGo5) versions() []version { return []version{v5} }

// sendsNoWillContentType: of a will's properties paho.golang 0.23 writes those
// that a CONNECT has, too.
func (pahoGo5) sendsNoWillContentType() {}

func (pahoGo5) connect(ctx context.Context, s session, cfg paho.ClientConfig) (c *paho.Client, raw net.Conn, err error) {
	raw, conn, err := dial(s.Server)
	if err != nil {
		return nil, nil, err
	}
	cfg.Conn = packets.NewThreadSafeConn(conn)
	cfg.PacketTimeout = patience
	connect := &paho.Connect{ClientID: s.ID, CleanStart: !s.Persistent, KeepAlive: 60}
	if s.Persistent {
		expiry := uint32(sessionExpiry)
		connect.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	if w := s.Will; w != nil {
		p := pahoProperties(*w)
		connect.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain}
		connect.WillProperties = &paho.WillProperties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
			CorrelationData: p.CorrelationData, PayloadFormat: p.PayloadFormat, MessageExpiry: p.MessageExpiry, User: p.User}
	}
	c = paho.NewClient(cfg)
	ack, err := c.Connect(ctx, connect)
	if err != nil {
		raw.Close()
		if ack != nil {
			err = fmt.Errorf("CONNACK %#x: %w", ack.ReasonCode, err)
		}
		return nil, nil, err
	}
	return c, raw, nil
}

func (p pahoGo5) publish(t *testing.T, s session, msgs ...message) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, raw, err := p.connect(ctx, s, paho.ClientConfig{})
	if err != nil {
		return err
	}
	defer raw.Close()
	for _, m := range msgs {
		_, err := c.Publish(ctx, &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: pahoProperties(m)})
		if err != nil {
			return err
		}
	}
	return c.Disconnect(&paho.Disconnect{})
}

func (p pahoGo5) listen(t *testing.T, s session, subs ...subscription) (*listener, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l := newListener(t)
	c, raw, err := p.connect(ctx, s, paho.ClientConfig{
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			l.got(pahoMessage(r.Packet))
			return true, nil
		}},
	})
	if err != nil {
		return nil, err
	}
	go func() {
		<-c.Done()
		l.closed()
	}()
	l.stop = func() { c.Disconnect(&paho.Disconnect{}) }
	l.kill = func() { raw.Close() }
	var request paho.Subscribe
	for _, sub := range subs {
		request.Subscriptions = append(request.Subscriptions, paho.SubscribeOptions{Topic: sub.Filter, QoS: sub.QoS})
	}
	_, err = c.Subscribe(ctx, &request)
	return l, err
}

func pahoProperties(m message) *paho.PublishProperties {
	p := &paho.PublishProperties{ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.Correlation}
	if m.UTF8 {
		one := byte(1)
		p.PayloadFormat = &one
	}
	if m.Expiry > 0 {
		p.MessageExpiry = &m.Expiry
	}
	for _, u := range m.User {
		key, value, _ := strings.Cut(u, ":")
		p.User.Add(key, value)
	}
	return p
}

func pahoMessage(p *paho.Publish) message {
	m := message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain}
	if q := p.Properties; q != nil {
		m.ContentType, m.ResponseTopic, m.Correlation = q.ContentType, q.ResponseTopic, q.CorrelationData
		m.UTF8 = q.PayloadFormat != nil && *q.PayloadFormat == 1
		if q.MessageExpiry != nil {
			m.Expiry = *q.MessageExpiry
		}
		for _, u := range q.User {
			m.User = append(m.User, u.Key+":"+u.Value)
		}
	}
	return m
}
