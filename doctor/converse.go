package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
	"github.com/sealmq/sealmq/transport/websocket"
)

// untrusted is a broker that shows another, worse certificate than before.
type untrusted struct{ step Step }

func (u *untrusted) Error() string { return u.step.Text }

// open connects as the client, up to where MQTT begins.
func (e *exam) open() (net.Conn, error) {
	conn, err := e.dial()
	if err != nil {
		return nil, err
	}
	if e.url.TLS {
		cfg := e.tlsConfig(e.o.ALPN)
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return e.verifyAgain(s.PeerCertificates) }
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := &tls.Certificate{PrivateKey: e.key}
			for _, part := range e.id.chain {
				c.Certificate = append(c.Certificate, part.Raw)
			}
			return c, nil
		}
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(e.ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = t
	}
	return conn, nil
}

// verifyAgain holds the broker to what was judged: nobody may take its place.
func (e *exam) verifyAgain(chain []*x509.Certificate) error {
	now := e.o.Now()
	chain = judged(chain)
	trusted, named := judgeTrust(chain, e.trust, now), judgeName(chain[0], e.url.Host)
	switch {
	case e.acceptable(trusted, named):
		return nil
	case trusted.Status == Failed:
		return &untrusted{trusted}
	}
	return &untrusted{named}
}

// converse examines MQTT: version 5 first, 3.1.1 if that is not understood.
func (e *exam) converse() {
	again, s := e.attempt(mqtt.V5)
	if again {
		var second Step
		if again, second = e.attempt(mqtt.V311); again {
			e.step(e.explainSilence(s, second))
		}
	}
}

// attempt holds one conversation. again means that the broker did not seem to
// understand; then the step, which says how, has not been told yet.
func (e *exam) attempt(v mqtt.Version) (again bool, s Step) {
	conn, err := e.open()
	if err != nil {
		e.step(e.judgeOpen(err))
		return false, s
	}
	defer func() { conn.Close() }()
	e.renew()
	if e.url.WebSocket {
		up, err := websocket.NewClient(conn, e.hostHeader(), e.url.Path, websocket.ClientOptions{})
		if alert := remoteAlert(err); err != nil && alert >= 0 {
			e.step(judgeClientAlert(alert, e.id))
			return false, s
		} else if err != nil {
			e.step(judgeUpgrade(err, e.url.Path))
			return false, s
		}
		conn = up
	}
	t := &talk{conn: conn, v: v, renew: e.renew}
	p := &mqtt.Connect{
		Version: v, CleanStart: true, KeepAlive: 30, ClientID: []byte(e.o.ClientID),
		HasUsername: e.o.Username != "" || v != mqtt.V5 && e.o.Password != nil, Username: []byte(e.o.Username),
		HasPassword: e.o.Password != nil, Password: e.o.Password,
	}
	if v == mqtt.V5 {
		p.Props.MaximumPacketSize = maxPacket
		p.Props.Set(mqtt.PropMaximumPacketSize)
	}
	ack, err := t.connect(p)
	if err != nil {
		return e.judgeConnect(t, err)
	}
	e.passed(v, ack)
	e.exercise(t, ack)
	bye := mqtt.Disconnect{}
	conn.Write(bye.Append(nil, v))
	return false, s
}

// passed tells what worked up to CONNACK.
func (e *exam) passed(v mqtt.Version, ack *mqtt.Connack) {
	if e.url.TLS {
		e.clientAccepted()
	}
	if e.url.WebSocket {
		e.step(pass(StepWebSocket, "the broker upgrades %s to WebSocket", show(e.url.Path)))
	}
	m := &Session{Version: v.String(), ClientID: e.o.ClientID, SessionPresent: ack.SessionPresent, KeepAlive: 30, ReceiveMaximum: 65535, MaximumQoS: 2, RetainAvailable: true}
	q := &ack.Props
	if q.Has(mqtt.PropAssignedClientID) {
		m.ClientID = show(string(q.AssignedClientID))
	}
	if q.Has(mqtt.PropServerKeepAlive) {
		m.KeepAlive = q.ServerKeepAlive
	}
	if q.Has(mqtt.PropReceiveMaximum) {
		m.ReceiveMaximum = q.ReceiveMaximum
	}
	if q.Has(mqtt.PropMaximumPacketSize) {
		m.MaximumPacketSize = q.MaximumPacketSize
	}
	if q.Has(mqtt.PropMaximumQoS) {
		m.MaximumQoS = q.MaximumQoS
	}
	m.RetainAvailable = !q.Has(mqtt.PropRetainAvailable) || q.RetainAvailable == 1
	e.report.MQTT = m
	text := "MQTT " + m.Version
	if m.ClientID != "" {
		text += fmt.Sprintf(", client id %q", m.ClientID)
	}
	if v != mqtt.V5 {
		text += "; version 5 was not accepted"
	}
	e.step(pass(StepConnect, "%s", text))
}

func (e *exam) clientAccepted() {
	switch {
	case len(e.id.chain) > 0 && e.id.asked:
		e.step(pass(StepClientCert, "the broker accepts the certificate of %s", nameOf(e.id.chain[0])))
	case len(e.id.chain) > 0:
		e.step(pass(StepClientCert, "the broker does not ask for the certificate"))
	case e.id.asked:
		e.step(pass(StepClientCert, "the broker asks for a certificate, and goes on without"))
	}
}

// judgeOpen explains what went wrong before MQTT.
func (e *exam) judgeOpen(err error) Step {
	var u *untrusted
	alert := remoteAlert(err)
	switch {
	case errors.As(err, &u):
		return u.step
	case alert >= 0:
		return judgeClientAlert(alert, e.id)
	case isTimeout(err) || errors.Is(err, context.Canceled):
		return fail(StepClientCert, transport.CauseTimeout, "tls", "the second handshake did not end", hint(transport.CauseTimeout))
	}
	return e.leftUs(StepClientCert)
}

// leftUs is a connection that the broker closed without a word after it could
// judge the client.
func (e *exam) leftUs(step string) Step {
	switch {
	case e.id.asked && len(e.id.chain) == 0:
		return fail(step, transport.CauseNoClientCert, "silent", "the broker asked for a client certificate, got none and hung up without a word",
			"--cert FILE --key FILE; "+hint(transport.CauseNoClientCert))
	case e.id.asked:
		return fail(step, CauseHungUp, "silent", "the broker hung up without a word after it saw the client certificate; it may not accept it, or not like CONNECT",
			"look into the broker's log for this address")
	}
	return fail(step, CauseHungUp, "connect", "the broker hung up on CONNECT without a word", "look into the broker's log for this address; give --id, --username and --password-file if it wants them")
}

// judgeConnect explains an answer to CONNECT that is no success.
func (e *exam) judgeConnect(t *talk, err error) (again bool, s Step) {
	var no *refusal
	alert := remoteAlert(err)
	switch {
	case alert >= 0:
		// With TLS 1.3 the verdict about the client's certificate comes this late.
		e.step(judgeClientAlert(alert, e.id))
		return false, s
	case errors.As(err, &no):
		s = judgeReason(no, len(e.id.chain) > 0 && e.id.asked, e.o)
		if t.v == mqtt.V5 && no.code == mqtt.UnsupportedProtocolVersion {
			return true, s
		}
		if e.url.TLS {
			e.clientAccepted()
		}
		e.step(s)
		return false, s
	case e.url.TLS && len(t.got) > 0 && recognise(t.got) == kindHTTP:
		e.step(judgeTLSHTTP(e.target(e.addr)))
		return false, s
	case !e.url.TLS && !e.url.WebSocket && len(t.got) > 0 && recognise(t.got) != kindMQTT:
		e.step(judgeNotMQTT(recognise(t.got), e.target(e.addr), e.authority()))
		return false, s
	}
	var strange *notMQTT
	switch {
	case errors.As(err, &strange):
		s = fail(StepConnect, CauseNoMQTT, "malformed", show(strange.Error()), "check that this is an MQTT broker")
	case isTimeout(err):
		s = fail(StepConnect, transport.CauseTimeout, "connect", "no CONNACK comes", "check that the port is the broker's; look into its log")
	default:
		s = e.leftUs(StepConnect)
	}
	return true, s
}

// explainSilence is asked when neither version was understood.
func (e *exam) explainSilence(five, three Step) Step {
	switch {
	case e.url.WebSocket:
	case e.url.TLS:
		if e.provokeTLS() == kindHTTP {
			return judgeTLSHTTP(e.target(e.addr))
		}
	default:
		if e.speaksTLS() {
			return judgeNotMQTT(kindTLS, e.target(e.addr), e.authority())
		}
		if k := e.provoke(e.get()); k != kindMQTT && k != kindOther && k != kindClosed && k != kindSilent {
			return judgeNotMQTT(k, e.target(e.addr), e.authority())
		}
	}
	if five.Cause == CauseConnect { // it understood that much
		return five
	}
	return three
}

func judgeTLSHTTP(target string) Step {
	return fail(StepConnect, transport.CauseMQTTOnWebSocket, "", target+" speaks HTTP over TLS: it may be a listener for WebSocket",
		"connect with wss://"+target+"/mqtt, or to the MQTT port (8883)")
}

// provokeTLS says GET over TLS and tells what answers.
func (e *exam) provokeTLS() kind {
	conn, err := e.open()
	if err != nil {
		return kindClosed
	}
	defer conn.Close()
	conn.Write(e.get())
	return listen(conn)
}

// speaksTLS tells whether a ClientHello is answered.
func (e *exam) speaksTLS() bool {
	conn, err := e.dial()
	if err != nil {
		return false
	}
	defer conn.Close()
	h := hello{version: tls.VersionTLS12, suites: ecdhe(), groups: []tls.CurveID{tls.X25519, tls.CurveP256}}
	a := h.ask(conn)
	return a.err == nil
}

// judgeUpgrade explains a failed upgrade to WebSocket.
func judgeUpgrade(err error, path string) Step {
	text := strings.TrimPrefix(err.Error(), "websocket upgrade: ")
	no := func(c transport.Cause, reason, fix string) Step {
		return fail(StepWebSocket, c, reason, "no upgrade to WebSocket at "+show(path)+": "+show(text), fix)
	}
	switch {
	case strings.Contains(text, "answered 404"):
		return no(transport.CausePath, "", "put the broker's path into the URL: wss://HOST/PATH")
	case strings.Contains(text, "answered 403"):
		return no(transport.CauseOrigin, "", "let the broker, or the proxy in front of it, accept this client")
	case strings.Contains(text, "sub-protocol"):
		return no(transport.CauseSubprotocol, "", "check that the server speaks MQTT over WebSocket, at this path")
	case strings.Contains(text, "answered "):
		return no(transport.CauseNotUpgrade, "", "check path and port, and that a proxy in between forwards the Upgrade header")
	case isTimeout(err):
		return no(transport.CauseTimeout, "websocket", "check that the port is one for WebSocket: without it, the URL is mqtts://")
	}
	return no(CauseNoWebSocket, "", "check that the port is one for WebSocket: without it, the URL is mqtts://")
}

// exercise uses the connection: PINGREQ, a message there and back, the limits.
func (e *exam) exercise(t *talk, ack *mqtt.Connack) {
	if err := t.ping(); err != nil {
		e.step(judgeLoss(StepPing, "PINGREQ", err))
		return
	}
	e.step(pass(StepPing, "the broker answers PINGREQ"))
	topic := e.o.Topic
	if topic == "" {
		topic = "doctor/" + strings.ToLower(rand.Text())
	}
	s := t.roundTrip(topic, min(1, e.report.MQTT.MaximumQoS))
	if s.Cause == CauseDenied && e.o.Topic == "" {
		// Not being allowed an unheard-of topic is no fault.
		s.Status = Warning
	}
	e.step(s)
	e.step(limits(e.report.MQTT))
}

func (t *talk) roundTrip(topic string, qos uint8) Step {
	denied := func(what string, code mqtt.ReasonCode) Step {
		s := fail(StepRoundTrip, CauseDenied, what, fmt.Sprintf("this client may not %s %s: %v", what, show(topic), code),
			"name a topic that it may use with --topic, or change its rights on the broker")
		s.Code = int(code)
		return s
	}
	code, err := t.subscribe(topic, qos)
	if err != nil {
		return judgeLoss(StepRoundTrip, "SUBSCRIBE", err)
	}
	// Versions 3 have one code for every failure.
	if code == mqtt.NotAuthorized || t.v != mqtt.V5 && code.IsError() {
		return denied("subscribe", code)
	}
	if code.IsError() {
		s := fail(StepRoundTrip, CauseConnect, "subscribe", fmt.Sprintf("the broker refuses to subscribe %s: %v", show(topic), code), "look into the broker's log")
		s.Code = int(code)
		return s
	}
	payload := []byte("doctor " + rand.Text())
	code, err = t.echo(topic, payload, qos)
	switch {
	case err != nil && isTimeout(err):
		s := fail(StepRoundTrip, CauseLost, "", "the message to "+show(topic)+" does not come back", "look into the broker's log")
		if t.v != mqtt.V5 {
			s.Text += "; a broker of this version cannot say that the client may not publish it"
		}
		return s
	case err != nil:
		if t.v != mqtt.V5 {
			return fail(StepRoundTrip, CauseHungUp, "publish", "the broker hung up on a message to "+show(topic)+"; it may not be for this client", "name a topic that it may use with --topic; look into the broker's log")
		}
		return judgeLoss(StepRoundTrip, "PUBLISH", err)
	case code == mqtt.NotAuthorized:
		return denied("publish", code)
	case code.IsError():
		s := fail(StepRoundTrip, CauseConnect, "publish", fmt.Sprintf("the broker refuses the message to %s: %v", show(topic), code), "look into the broker's log")
		s.Code = int(code)
		return s
	}
	return pass(StepRoundTrip, "a message to %s comes back", show(topic))
}

// judgeLoss is a connection that ends, or falls silent, after CONNACK.
func judgeLoss(step, packet string, err error) Step {
	var no *refusal
	switch {
	case errors.As(err, &no):
		s := fail(step, CauseConnect, "disconnect", fmt.Sprintf("the broker disconnects after %s: %v%s", packet, no.code, quoted(no.reason)), reasonFix(no.code))
		s.Code = int(no.code)
		return s
	case isTimeout(err):
		return fail(step, CauseSilent, "", "the broker does not answer "+packet, "look into the broker's log; is it overloaded?")
	}
	return fail(step, CauseHungUp, strings.ToLower(packet), "the broker hung up after "+packet, "look into the broker's log")
}

func limits(m *Session) Step {
	var parts []string
	add := func(format string, a ...any) { parts = append(parts, fmt.Sprintf(format, a...)) }
	add("keep alive %d s", m.KeepAlive)
	add("%d messages at a time", m.ReceiveMaximum)
	if m.MaximumPacketSize > 0 {
		add("packets up to %d bytes", m.MaximumPacketSize)
	}
	add("QoS up to %d", m.MaximumQoS)
	if !m.RetainAvailable {
		add("nothing retained")
	}
	if m.SessionPresent {
		add("a session was there")
	}
	return pass(StepLimits, "%s", strings.Join(parts, ", "))
}
