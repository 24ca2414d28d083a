package broker

import (
	"bytes"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// will is the message that a client left for the case that its connection is lost.
type will struct {
	topic, payload, props []byte
	expiry                uint32 // s, counted from its publication
	hasExpiry             bool
	delay                 uint32 // s
	qos                   uint8
	retain                bool
}

// newWill copies the will out of a CONNECT and checks what its client may publish.
func (c *Conn) newWill(p *mqtt.Connect, principal *auth.Principal) (*will, mqtt.ReasonCode, string) {
	m := &p.Will
	if code, text := c.publishable(m.Topic); code != mqtt.Success {
		return nil, code, "will: " + text
	}
	if !principal.May(auth.Publish, string(m.Topic), m.QoS, m.Retain) {
		return nil, mqtt.NotAuthorized, "the will's topic may not be published to"
	}
	if !payloadFits(&m.Props, m.Payload) {
		return nil, mqtt.PayloadFormatInvalid, "the will's payload is not UTF-8 as its payload format says"
	}
	return &will{
		topic: append([]byte(nil), m.Topic...), payload: append([]byte(nil), m.Payload...),
		props: m.AppendForwardProps(nil), expiry: m.Props.MessageExpiry, hasExpiry: m.Props.Has(mqtt.PropMessageExpiry),
		delay: m.Props.WillDelay, qos: m.QoS, retain: m.Retain,
	}, mqtt.Success, ""
}

// publish sends the will in the name of its session [MQTT-3.1.2-14][MQTT-3.1.2-15], if it still may be published.
func (wl *will) publish(w *worker, s *session) {
	s.mu.Lock()
	principal := s.principal
	s.mu.Unlock()
	if !principal.May(auth.Publish, string(wl.topic), wl.qos, wl.retain) {
		w.count(droppedDenied, 1)
		w.b.log.Warn("will refused", "client", s.id, "topic", string(wl.topic))
		return
	}
	p := publication{topic: wl.topic, payload: wl.payload, props: wl.props, from: s, qos: wl.qos, retain: wl.retain}
	if wl.hasExpiry {
		p.expires = w.b.expires(wl.expiry)
	}
	w.route(p)
}

// publishable checks a topic name that a client wants to publish to against what no policy can allow.
func (c *Conn) publishable(name []byte) (mqtt.ReasonCode, string) {
	if len(name) > 0 && name[0] == '$' && reserved(name) && !(c.bridge && bytes.HasPrefix(name, bridgeState)) {
		return mqtt.NotAuthorized, "the broker alone publishes to this topic"
	}
	if c.lim.MaxTopicLevels < 65535 && levels(name) > c.lim.MaxTopicLevels {
		return mqtt.TopicNameInvalid, "topic with more levels than max_topic_levels"
	}
	return mqtt.Success, ""
}

// bridgeState is where Mosquitto's bridges tell whether they are connected, by will and by retained message.
var bridgeState = []byte("$SYS/broker/connection/")

// reserved tells topics that only the broker may publish to.
func reserved(name []byte) bool {
	for _, root := range [...]string{"$SYS", "$CONTROL"} {
		if len(name) >= len(root) && string(name[:len(root)]) == root && (len(name) == len(root) || name[len(root)] == '/') {
			return true
		}
	}
	return false
}
