package interop

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func TestPahoGo(t *testing.T) { matrix(t, pahoGo{}) }

// pahoGo is paho.mqtt.golang, which speaks MQTT 3.1 and 3.1.1.
type pahoGo struct{}

func (pahoGo) start(*testing.T) (missing string) { return "" }

func (pahoGo) versions() []version { return []version{v31, v311} }

func (pahoGo) options(s session, conn net.Conn) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + s.Server.addr()).SetClientID(s.ID).
		SetProtocolVersion(uint(s.Version)).SetCleanSession(!s.Persistent).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
	if w := s.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	return o
}

func (p pahoGo) publish(_ *testing.T, s session, msgs ...message) error {
	raw, conn, err := dial(s.Server)
	if err != nil {
		return err
	}
	defer raw.Close()
	c := mqtt.NewClient(p.options(s, conn))
	if err := finished(c.Connect()); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := finished(c.Publish(m.Topic, m.QoS, m.Retain, m.Payload)); err != nil {
			return err
		}
	}
	c.Disconnect(250)
	return nil
}

func (p pahoGo) listen(t *testing.T, s session, subs ...subscription) (*listener, error) {
	raw, conn, err := dial(s.Server)
	if err != nil {
		return nil, err
	}
	l := newListener(t)
	o := p.options(s, conn)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		l.got(message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
	})
	o.SetConnectionLostHandler(func(mqtt.Client, error) { l.closed() })
	c := mqtt.NewClient(o)
	l.stop = func() {
		c.Disconnect(250)
		l.closed()
	}
	l.kill = func() { raw.Close() }
	if err := finished(c.Connect()); err != nil {
		return nil, err
	}
	filters := map[string]byte{}
	for _, sub := range subs {
		filters[sub.Filter] = sub.QoS
	}
	token := c.SubscribeMultiple(filters, nil).(*mqtt.SubscribeToken)
	if err := finished(token); err != nil {
		return nil, err
	}
	for filter, code := range token.Result() {
		if code >= 0x80 {
			return nil, fmt.Errorf("SUBACK %#x for %s", code, filter)
		}
	}
	return l, nil
}

func finished(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no acknowledgement")
	}
	return token.Error()
}

// dial connects to a listener. Closing raw ends the connection without a word
// of TLS or MQTT.
func dial(e endpoint) (raw, conn net.Conn, err error) {
	raw, err = net.DialTimeout("tcp", e.addr(), patience)
	if err != nil || !e.tls() {
		return raw, raw, err
	}
	cfg := &tls.Config{ServerName: e.host, RootCAs: x509.NewCertPool()}
	ca, err := os.ReadFile(e.ca)
	if err == nil {
		cfg.RootCAs.AppendCertsFromPEM(ca)
		if e.cert != "" {
			var own tls.Certificate
			own, err = tls.LoadX509KeyPair(e.cert, e.key)
			// Sent even when the server has not named its CA as acceptable.
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}
	}
	secure := tls.Client(raw, cfg)
	if err == nil {
		raw.SetDeadline(time.Now().Add(patience))
		err = secure.Handshake()
		raw.SetDeadline(time.Time{})
	}
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return raw, secure, nil
}
