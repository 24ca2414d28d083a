package broker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

func violation(code mqtt.ReasonCode, format string, a ...any) error {
	return &mqtt.Error{Code: code, Text: fmt.Sprintf(format, a...)}
}

// packet processes one packet. The caller holds proc; an error means that the connection has ended.
func (c *Conn) packet(h mqtt.Header, body []byte) error {
	switch h.Type {
	case mqtt.PUBLISH:
		if c.meter != nil {
			c.meter.take(h.Size + h.Length)
		}
		return c.onPublish(h.Flags, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return c.onAck(h, body)
	case mqtt.SUBSCRIBE:
		return c.onSubscribe(h.Flags, body)
	case mqtt.UNSUBSCRIBE:
		return c.onUnsubscribe(h.Flags, body)
	case mqtt.PINGREQ:
		if len(body) != 0 {
			return c.fail(violation(mqtt.MalformedPacket, "PINGREQ with a body"))
		}
		c.answer(control(mqtt.PINGRESP, 0, mqtt.Success)) // [MQTT-3.12.4-1]
		return nil
	case mqtt.DISCONNECT:
		return c.onDisconnect(h.Flags, body)
	case mqtt.AUTH:
		return c.onAuth(h.Flags, body)
	}
	// A second CONNECT [MQTT-3.1.0-2], or a packet that only servers send.
	return c.fail(violation(mqtt.ProtocolError, "a %v from a connected client", h.Type))
}

func (c *Conn) onPublish(flags uint8, body []byte) error {
	w := c.w
	p := &w.publish
	if err := p.Parse(c.version, flags, body); err != nil {
		return c.fail(err)
	}
	w.count(received, 1)
	if p.Props.Has(mqtt.PropSubscriptionIDs) { // [MQTT-3.3.4-6]
		return c.fail(violation(mqtt.ProtocolError, "PUBLISH from a client with a subscription identifier"))
	}
	name, err := c.unalias(p)
	if err != nil {
		return c.fail(err)
	}
	switch {
	case int(p.QoS) > c.lim.MaxQoS:
		return c.fail(violation(mqtt.QoSNotSupported, "PUBLISH with QoS %d, above max_qos", p.QoS))
	case p.Retain && c.lim.NoRetain:
		return c.fail(violation(mqtt.RetainNotSupported, "retained messages are switched off here"))
	}
	s := c.sess
	switch {
	case p.QoS > 0:
		if done, err := c.repeated(p); done || err != nil {
			return err
		}
	case c.b.sheds(shedQoS0) && !(len(name) > 0 && name[0] == '$' && c.b.owns(name)):
		w.count(shedPublishes, 1)
		return nil
	}

	code, text := c.publishable(name)
	if len(p.Props.User) > 0 && c.tooMany(&p.Props) {
		code, text = mqtt.QuotaExceeded, manyProperties
	}
	if r := s.rights.Load(); code == mqtt.Success && r.policy != nil {
		if ok, limited := r.mayPublish(name, p.QoS, p.Retain, len(p.Payload)); !ok {
			code, text = c.forbid(r, p, name, limited)
		}
	}
	if code == mqtt.Success && !payloadFits(&p.Props, p.Payload) {
		code, text = mqtt.PayloadFormatInvalid, "payload is not UTF-8 as its payload format says"
	}
	if code != mqtt.Success {
		return c.refusePublish(p, name, code, text)
	}

	if len(name) > 0 && name[0] == '$' && c.b.owns(name) {
		return c.ask(p, name)
	}
	pub := publication{topic: name, payload: p.Payload, from: s, qos: p.QoS, retain: p.Retain}
	if len(p.RawProps) > 0 {
		w.props = p.AppendForwardProps(w.props[:0])
		pub.props = w.props
		if p.Props.Has(mqtt.PropMessageExpiry) {
			pub.expires = c.b.expires(p.Props.MessageExpiry)
		}
	}
	if p.QoS > 0 || p.Retain {
		if err := w.refusal(); err != nil && c.b.needsStore(&pub) {
			return c.refuseStore(p, name, err)
		}
	}
	matched := w.route(pub)
	if w.over != "" {
		return c.refuseRetained(p, name)
	}
	if !matched && c.version == mqtt.V5 {
		if code = mqtt.NoMatchingSubscribers; w.full > 0 && !p.Retain {
			code = mqtt.QuotaExceeded
		}
	}
	switch p.QoS {
	case 0:
		w.settle(c, outItem{})
	case 1:
		w.settle(c, control(mqtt.PUBACK, p.PacketID, code)) // [MQTT-4.3.2-4]
	case 2:
		if !code.IsError() {
			c.taken(p.PacketID)
		}
		w.settle(c, control(mqtt.PUBREC, p.PacketID, code)) // [MQTT-4.3.3-8]
	}
	return nil
}

// repeated handles a QoS 1 or 2 PUBLISH whose packet identifier is known, and reports whether it is done with, and
// checks the client's quota.
func (c *Conn) repeated(p *mqtt.Publish) (done bool, err error) {
	s := c.sess
	if s.undo.Load() {
		c.forgetUndone()
	}
	epoch, known := s.received2[p.PacketID]
	counts := c.version == mqtt.V5 && (!known || epoch != s.epoch)
	if counts && c.unanswered+int(c.unacked.Load()) >= c.lim.ReceiveMaximum { // [MQTT-3.3.4-7]
		return false, c.fail(violation(mqtt.ReceiveMaximumExceeded, "more than %d publications without an answer", c.lim.ReceiveMaximum))
	}
	switch {
	case !known && p.QoS == 2 && len(s.received2) >= c.maxUnreleased() && !c.forgetOldest():
		return false, c.fail(violation(mqtt.ReceiveMaximumExceeded, "%d QoS 2 publications wait for PUBREL, as many as max_inflight_messages allows", len(s.received2)))
	case !known:
		return false, nil
	case p.QoS == 2: // [MQTT-4.3.3-10]
		c.remember(p.PacketID)
		c.answer(control(mqtt.PUBREC, p.PacketID, mqtt.Success))
		return true, nil
	case c.version == mqtt.V5:
		c.answer(control(mqtt.PUBACK, p.PacketID, mqtt.PacketIDInUse))
		return true, nil
	}
	c.forget(p.PacketID) // the client has lost its state and uses the identifier for something else
	return false, nil
}

// maxUnreleased is how many QoS 2 packet identifiers of a client may wait for their PUBREL, those of earlier connections
// among them.
func (c *Conn) maxUnreleased() int { return max(c.lim.MaxInflight, c.lim.ReceiveMaximum) }

// forgetOldest makes room for a QoS 2 packet identifier. Those that have come last on the connection longest ago are
// forgotten: a client that goes on would have repeated them first when it came back [MQTT-4.4.0-1], so it does not know of
// them any more. It reports false when all are of this connection.
func (c *Conn) forgetOldest() bool {
	s := c.sess
	oldest := s.epoch
	for _, epoch := range s.received2 {
		oldest = min(oldest, epoch)
	}
	if oldest == s.epoch {
		return false
	}
	for id, epoch := range s.received2 {
		if epoch != oldest {
			continue
		}
		c.forget(id)
		if s.dur != nil { // if the store refuses, it still has it after a restart
			c.w.alter(nil, &change{Op: store.Op{Kind: store.Released, Session: s.dur.id, PacketID: id, Wait: make(chan error, 1)}}, outItem{})
		}
	}
	return true
}

// taken notes the packet identifier of the QoS 2 message under way, for good if the session is durable.
func (c *Conn) taken(id uint16) {
	w, s := c.w, c.sess
	c.remember(id)
	if s.dur != nil {
		if w.change == nil {
			w.newChange()
		}
		w.change.Session, w.change.PacketID = s.dur.id, id
	}
}

// remember notes the packet identifier of a QoS 2 message that waits for PUBREL. The client's quota counts those of
// this connection alone, section 4.9.
func (c *Conn) remember(id uint16) {
	s := c.sess
	if s.received2 == nil {
		s.received2 = make(map[uint16]uint32)
	}
	if epoch, ok := s.received2[id]; !ok || epoch != s.epoch {
		c.unanswered++
	}
	s.received2[id] = s.epoch
}

// forget is the opposite of remember. It reports whether the identifier was known.
func (c *Conn) forget(id uint16) bool {
	s := c.sess
	epoch, ok := s.received2[id]
	if !ok {
		return false
	}
	if epoch == s.epoch {
		c.unanswered--
	}
	delete(s.received2, id)
	if len(s.received2) == 0 {
		s.received2 = nil
	}
	return true
}

// forgetUndone forgets the packet identifiers of messages that the store has refused: they are not the broker's.
func (c *Conn) forgetUndone() {
	s := c.sess
	s.mu.Lock()
	s.undo.Store(false)
	ids := s.refusals()
	s.refused = nil
	s.mu.Unlock()
	for _, id := range ids.released {
		if s.received2 == nil {
			s.received2 = make(map[uint16]uint32)
		}
		if _, known := s.received2[id]; !known {
			s.received2[id] = 0 // of an earlier connection
		}
	}
	for _, id := range ids.kept {
		c.forget(id)
	}
}

// unalias returns the topic name of a PUBLISH and notes its alias.
func (c *Conn) unalias(p *mqtt.Publish) ([]byte, error) {
	if !p.Props.Has(mqtt.PropTopicAlias) {
		return p.Topic, nil
	}
	a := int(p.Props.TopicAlias)
	if a > c.lim.TopicAliasMaximum { // [MQTT-3.3.2-9]
		return nil, violation(mqtt.TopicAliasInvalid, "topic alias %d is above the maximum of %d", a, c.lim.TopicAliasMaximum)
	}
	if len(p.Topic) > 0 {
		for len(c.aliasIn) < a {
			c.aliasIn = append(c.aliasIn, "")
		}
		if c.aliasIn[a-1] != string(p.Topic) {
			c.aliasIn[a-1] = string(p.Topic)
		}
		return p.Topic, nil
	}
	if a > len(c.aliasIn) || c.aliasIn[a-1] == "" {
		return nil, violation(mqtt.ProtocolError, "topic alias %d has not been set on this connection", a)
	}
	c.topicBuf = append(c.topicBuf[:0], c.aliasIn[a-1]...)
	return c.topicBuf, nil
}

// payloadFits checks a payload against its Payload Format Indicator.
func payloadFits(p *mqtt.Properties, payload []byte) bool {
	return !p.Has(mqtt.PropPayloadFormat) || p.PayloadFormat != 1 || utf8.Valid(payload)
}

// refusePublish answers a PUBLISH that is not carried out. MQTT 3 has no words for it, so its clients get the ordinary
// acknowledgement [MQTT311 MQTT-3.3.5-2].
func (c *Conn) refusePublish(p *mqtt.Publish, name []byte, code mqtt.ReasonCode, text string) error {
	c.w.count(droppedDenied, 1)
	return c.decline(p, name, code, text)
}

// refuseRetained answers a PUBLISH that is beyond a bound of retained messages, and was routed to nobody.
func (c *Conn) refuseRetained(p *mqtt.Publish, name []byte) error {
	limit := c.w.over
	c.w.settle(nil, outItem{})
	c.limited(limitedRetained, limit, "topic", clip(name), "principal", c.sess.rights.Load().Name)
	return c.decline(p, name, mqtt.QuotaExceeded, "more retained messages than "+limit+" allows")
}

// decline is refusePublish without the count.
func (c *Conn) decline(p *mqtt.Publish, name []byte, code mqtt.ReasonCode, text string) error {
	if c.b.log.Enabled(context.Background(), slog.LevelDebug) {
		c.b.log.Debug("publish refused", c.attrs("topic", string(name), "reason", code.String(), "text", text)...)
	}
	answer := mqtt.PUBACK
	if p.QoS == 2 {
		answer = mqtt.PUBREC
	}
	switch {
	case p.QoS == 0:
		if code == mqtt.PayloadFormatInvalid && c.version == mqtt.V5 {
			return c.fail(violation(code, "%s", text))
		}
	case c.version != mqtt.V5:
		if p.QoS == 2 {
			c.remember(p.PacketID)
		}
		c.answer(control(answer, p.PacketID, mqtt.Success))
	default:
		a := mqtt.Ack{Type: answer, PacketID: p.PacketID, Code: code}
		if c.problems { // [MQTT-3.1.2-29]
			a.Props.ReasonString = []byte(text)
			a.Props.Set(mqtt.PropReasonString)
			if int64(a.Size(mqtt.V5)) > c.maxSend {
				a.Props.Reset()
			}
		}
		c.answer(encoded(a.Append(nil, mqtt.V5)))
	}
	return nil
}

// refuseStore answers a PUBLISH that cannot be stored. MQTT 3 has no words for it, so its clients are disconnected and
// send it again when they are back [MQTT311 MQTT-4.8.0-2].
func (c *Conn) refuseStore(p *mqtt.Publish, name []byte, err error) error {
	if c.version != mqtt.V5 {
		return c.fail(violation(mqtt.QuotaExceeded, "the message cannot be stored: %v", err))
	}
	return c.refusePublish(p, name, mqtt.QuotaExceeded, "the message cannot be stored")
}

func (c *Conn) onAck(h mqtt.Header, body []byte) error {
	w, s := c.w, c.sess
	a := &w.ack
	a.Type = h.Type
	if err := a.Parse(c.version, h.Flags, body); err != nil {
		return c.fail(err)
	}
	if len(a.Props.User) > 0 && c.tooMany(&a.Props) {
		return c.failMany()
	}
	switch h.Type {
	case mqtt.PUBACK:
		s.acked(w, a.PacketID, mqtt.PUBACK)
	case mqtt.PUBREC:
		if a.Code.IsError() { // [MQTT-4.4.0-2]
			s.acked(w, a.PacketID, mqtt.PUBREC)
		} else {
			s.recorded(w, c, a.PacketID)
		}
	case mqtt.PUBCOMP:
		s.acked(w, a.PacketID, mqtt.PUBCOMP)
	case mqtt.PUBREL:
		code := mqtt.Success
		if s.undo.Load() {
			c.forgetUndone()
		}
		if !c.forget(a.PacketID) { // [MQTT-4.3.3-12]
			code = mqtt.PacketIDNotFound
		} else if s.dur != nil {
			w.alter(c, &change{Op: store.Op{Kind: store.Released, Session: s.dur.id, PacketID: a.PacketID}}, control(mqtt.PUBCOMP, a.PacketID, code))
			return nil
		}
		c.answer(control(mqtt.PUBCOMP, a.PacketID, code)) // [MQTT-4.3.3-11]
	}
	return nil
}

func (c *Conn) onDisconnect(flags uint8, body []byte) error {
	var d mqtt.Disconnect
	if err := d.Parse(c.version, flags, body); err != nil {
		return c.fail(err)
	}
	if c.tooMany(&d.Props) {
		return c.failMany()
	}
	if d.Props.Has(mqtt.PropServerReference) {
		return c.fail(violation(mqtt.ProtocolError, "DISCONNECT from a client with a server reference"))
	}
	if d.Props.Has(mqtt.PropSessionExpiry) {
		fixed := c.sess.rights.Load().Transient // whatever CONNECT had
		if c.expiry == 0 && d.Props.SessionExpiry != 0 && !fixed {
			return c.fail(violation(mqtt.ProtocolError, "DISCONNECT sets a session expiry that CONNECT had as 0"))
		}
		if !fixed {
			c.expiry = c.capExpiry(d.Props.SessionExpiry)
		}
		c.sess.mu.Lock()
		c.sess.expiry = c.expiry
		c.sess.mu.Unlock()
	}
	c.b.log.Info("client disconnected", c.attrs("reason", disconnectReason(d.Code), "connected_for", (c.b.now()-c.since).Round(time.Millisecond))...)
	c.w.submit()
	c.end(nil, d.Code != mqtt.NormalDisconnection)
	return errGone
}

// answerable ends the connection when the answer to a packet, which cannot be made shorter, is larger than the client
// takes [MQTT-3.1.2-24]. Nothing has been done for the packet yet.
func (c *Conn) answerable(size int) error {
	if int64(size) > c.maxSend {
		return c.fail(violation(mqtt.PacketTooLarge, "the answer has %d bytes, more than the client's maximum packet size", size))
	}
	return nil
}

// levels is how many levels a topic name or filter has.
func levels[T ~string | ~[]byte](s T) int { return bytes.Count([]byte(s), slash) + 1 }

var slash = []byte("/")

// disconnectReason names a client's reason; 0 has another name in DISCONNECT than elsewhere.
func disconnectReason(code mqtt.ReasonCode) string {
	if code == mqtt.NormalDisconnection {
		return "Normal disconnection"
	}
	return code.String()
}
