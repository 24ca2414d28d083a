package broker

import (
	"bytes"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// newWill copies the will out of a CONNECT and checks what its client may publish.
func (c *Conn) newWill(p *mqtt.Connect, id string, principal *auth.Principal) (*store.Will, mqtt.ReasonCode, string) {
	m := &p.Will
	if code, text := c.publishable(m.Topic); code != mqtt.Success {
		return nil, code, "will: " + text
	}
	r := newRights(principal)
	if ok, limited := r.mayPublish(m.Topic, m.QoS, m.Retain, len(m.Payload)); !ok {
		d := Denial{ClientID: id, Action: auth.Publish, Topic: lent(m.Topic), QoS: m.QoS, Retain: m.Retain,
			Size: len(m.Payload), Limited: limited}
		if why := c.b.denied(r, d, c.version == mqtt.V5); why != "" {
			return nil, mqtt.NotAuthorized, "the will may not be published: " + why
		}
		return nil, mqtt.NotAuthorized, "the will's topic may not be published to"
	}
	if !payloadFits(&m.Props, m.Payload) {
		return nil, mqtt.PayloadFormatInvalid, "the will's payload is not UTF-8 as its payload format says"
	}
	delay := m.Props.WillDelay
	if most := uint32(c.lim.MaxWillDelay / time.Second); most > 0 && delay > most {
		c.limited(limitedWillDelay, "max_will_delay", "client", id, "delay", delay)
		delay = most
	}
	return &store.Will{
		Topic: append([]byte(nil), m.Topic...), Payload: append([]byte(nil), m.Payload...),
		Props: m.AppendForwardProps(nil), Expiry: m.Props.MessageExpiry, HasExpiry: m.Props.Has(mqtt.PropMessageExpiry),
		Delay: delay, QoS: m.QoS, Retain: m.Retain,
	}, mqtt.Success, ""
}

// publishWill sends the will of a session [MQTT-3.1.2-14][MQTT-3.1.2-15], if it still may be published.
func (s *session) publishWill(w *worker, wl *store.Will) {
	r := s.rights.Load()
	if ok, limited := r.mayPublish(wl.Topic, wl.QoS, wl.Retain, len(wl.Payload)); !ok {
		w.count(droppedDenied, 1)
		w.b.denied(r, Denial{ClientID: s.id, Action: auth.Publish, Topic: lent(wl.Topic), QoS: wl.QoS, Retain: wl.Retain,
			Size: len(wl.Payload), Limited: limited}, false)
		w.b.log.Warn("will refused", "client", s.id, "topic", string(wl.Topic))
		s.forgetWill(w)
		return
	}
	if len(wl.Topic) > 0 && wl.Topic[0] == '$' && w.b.owns(wl.Topic) {
		w.b.service.Serve(newRequest(s, string(wl.Topic), wl.Payload, wl.Props))
		s.forgetWill(w)
		return
	}
	d := &dueWill{s: s, will: wl, seq: w.b.seq.Load()}
	if wl.HasExpiry {
		d.expires = w.b.expires(wl.Expiry)
	}
	d.publish(w, false)
}

// dueWill is a will on its way to its receivers and into the store.
type dueWill struct {
	s       *session
	will    *store.Will
	expires int64
	seq     uint64 // of the retained message that was the newest when it was due
}

// publish routes the will. While the store refuses changes only those get it who need none; late says that it is the others'
// turn.
func (d *dueWill) publish(w *worker, late bool) {
	s, wl := d.s, d.will
	p := publication{topic: wl.Topic, payload: wl.Payload, props: wl.Props, expires: d.expires, from: s, qos: wl.QoS, retain: wl.Retain}
	if s.dur != nil {
		p.will = s.dur.id
	}
	switch refused := w.refusal() != nil && w.b.needsStore(&p); {
	case refused:
		d.later()
		if late {
			return
		}
		p.part, p.will, p.retain = partLive, 0, false
	case late:
		p.part = partStored
		if m, _ := w.b.retained.Get(lent(wl.Topic)); m != nil && m.Seq > d.seq {
			p.retain = false // what came after it stays
		}
		if s.current() != nil {
			p.will = 0 // the record has another one
		}
	}
	w.route(p)
	limit := w.over
	if w.change != nil {
		w.change.Wait = d
	}
	w.settle(nil, outItem{})
	if limit != "" {
		w.count(limitedRetained, 1)
		if omitted, ok := w.b.hush.allow(w.b.now(), limit, s.id); ok {
			w.b.warnLimit(limit, omitted, []any{"client", s.id, "will", clip(wl.Topic), "principal", s.rights.Load().Name})
		}
		s.forgetWill(w)
	}
}

// later has the will published to those who wait for the store.
func (d *dueWill) later() {
	b := d.s.b
	time.AfterFunc(againPause, func() {
		b.spawn(func() {
			w := b.worker()
			defer b.release(w)
			d.publish(w, true)
		})
	})
}

// forgetWill has the store forget a will that was taken from the session and is not a message.
func (s *session) forgetWill(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead { // its record goes, or is gone
		s.save(w)
	}
}

// publishable checks a topic name that a client wants to publish to against what no policy can allow.
func (c *Conn) publishable(name []byte) (mqtt.ReasonCode, string) {
	if len(name) > 0 && name[0] == '$' && reserved(name) && !(c.bridge && bytes.HasPrefix(name, bridgeState)) {
		return mqtt.NotAuthorized, "the broker alone publishes to this topic"
	}
	if len(name) > c.lim.MaxTopicLength {
		c.limited(limitedTopicLength, "max_topic_length", "bytes", len(name))
		return mqtt.TopicNameInvalid, "topic longer than max_topic_length"
	}
	if c.lim.MaxTopicLevels < 65535 && levels(name) > c.lim.MaxTopicLevels {
		c.limited(limitedTopicLevels, "max_topic_levels", "levels", levels(name))
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
