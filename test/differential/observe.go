package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/mqtt"
)

// event is something that a broker did, as it is compared: without what it may
// choose freely, such as its packet identifiers.
type event struct {
	kind string // CONNACK, PUBLISH, CLOSED, ...
	text string // what else is compared, and fits into a pattern of differences.txt
	more string // what is compared but differs with every sequence: topic and payload

	// Of the copies of a PUBLISH: the highest QoS, whether any had RETAIN, or had
	// not, and all subscription identifiers.
	qos          byte
	retain, live bool
	subs         []uint32
}

// String is the event as patterns see it.
func (e event) String() string { return strings.TrimRight(e.kind+" "+e.text, " ") }

func (e event) whole() string { return strings.TrimRight(e.String()+" "+e.more, " ") }

// observe decodes a packet of the broker. The client's lock is held.
func (c *client) observe(first byte, body []byte) event {
	kind, flags, v := mqtt.Type(first>>4), first&15, mqtt.Version(c.version)
	bad := func(err error) event {
		return event{kind: "UNREADABLE", text: packetName(byte(kind)), more: fmt.Sprintf("%v: % x", err, body[:min(len(body), 60)])}
	}
	switch kind {
	case mqtt.CONNACK:
		var p mqtt.Connack
		err := p.Parse(v, flags, body)
		if err != nil { // the answer to a version that does not exist is of the nearest
			err = p.Parse(mqtt.V5, flags, body)
		}
		if err != nil {
			return bad(err)
		}
		text := fmt.Sprintf("%#02x", uint8(p.Code))
		if p.SessionPresent {
			text += " present"
		}
		if p.Props.Has(mqtt.PropAssignedClientID) {
			text += " assigned"
			c.assigned = string(p.Props.AssignedClientID)
		}
		return event{kind: "CONNACK", text: text}
	case mqtt.PUBLISH:
		var p mqtt.Publish
		if err := p.Parse(v, flags, body); err != nil {
			if topic, _, ok := cutString(body); ok && first&1 != 0 {
				c.hold(topic)
			}
			return bad(err)
		}
		return c.message(&p)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		p := mqtt.Ack{Type: kind}
		if err := p.Parse(v, flags, body); err != nil {
			return bad(err)
		}
		e := event{kind: packetName(byte(kind)), text: fmt.Sprintf("%#02x", uint8(p.Code)), more: fmt.Sprintf("id=%d", p.PacketID)}
		// 0x10 may stand for 0x00 where nobody has subscribed (sections 3.4.2.1, 3.5.2.1).
		if p.Code == mqtt.NoMatchingSubscribers && (kind == mqtt.PUBACK || kind == mqtt.PUBREC) {
			e.text = "0x00"
		}
		if kind == mqtt.PUBREC && !p.Code.IsError() {
			c.release = append(c.release, p.PacketID)
		}
		if kind == mqtt.PUBREL {
			e.more = "of nothing"
			m := c.wait[p.PacketID]
			if m == nil {
				m = &inbox{message: "of nothing", qos: 2}
				c.wait[p.PacketID] = m
			}
			e.more = m.message
			m.released, m.answered = true, false
		}
		return e
	case mqtt.SUBACK:
		var p mqtt.Suback
		if err := p.Parse(v, flags, body); err != nil {
			return bad(err)
		}
		return event{kind: "SUBACK", text: codes(p.Codes), more: fmt.Sprintf("id=%d", p.PacketID)}
	case mqtt.UNSUBACK:
		var p mqtt.Unsuback
		if err := p.Parse(v, flags, body); err != nil {
			return bad(err)
		}
		return event{kind: "UNSUBACK", text: codes(p.Codes), more: fmt.Sprintf("id=%d", p.PacketID)}
	case mqtt.DISCONNECT:
		var p mqtt.Disconnect
		if err := p.Parse(v, flags, body); err != nil || v != mqtt.V5 {
			return bad(err)
		}
		return event{kind: "DISCONNECT", text: fmt.Sprintf("%#02x", uint8(p.Code))}
	}
	return bad(nil)
}

// hold notes the topic of a retained message.
func (c *client) hold(topic string) {
	if c.topics == nil {
		c.topics = make(map[string]bool)
	}
	c.topics[topic] = true
}

func codes(list []mqtt.ReasonCode) string {
	var all []string
	for _, code := range list {
		all = append(all, fmt.Sprintf("%#02x", uint8(code)))
	}
	return strings.Join(all, ",")
}

// message takes a PUBLISH note of, and makes it comparable. Aliases are resolved.
func (c *client) message(p *mqtt.Publish) event {
	if c.version == 5 && p.Props.Has(mqtt.PropTopicAlias) {
		if c.aliases == nil {
			c.aliases = make(map[uint16]string)
		}
		if len(p.Topic) > 0 {
			c.aliases[p.Props.TopicAlias] = string(p.Topic)
		} else {
			p.Topic = []byte(c.aliases[p.Props.TopicAlias])
		}
	}
	var text []string
	if len(p.Payload) > 0 && p.Payload[0] == 'w' {
		text = append(text, "will")
	}
	if p.Retain {
		c.hold(string(p.Topic))
	}
	if p.Dup {
		text = append(text, "dup")
	}
	add := func(id mqtt.Property, format string, v any) {
		if p.Props.Has(id) {
			text = append(text, fmt.Sprintf(format, v))
		}
	}
	add(mqtt.PropPayloadFormat, "payload-format=%d", p.Props.PayloadFormat)
	add(mqtt.PropMessageExpiry, "message-expiry=%t", p.Props.MessageExpiry > 0)
	add(mqtt.PropContentType, "content-type=%q", p.Props.ContentType)
	add(mqtt.PropResponseTopic, "response-topic=%q", p.Props.ResponseTopic)
	add(mqtt.PropCorrelationData, "correlation=%q", p.Props.CorrelationData)
	for _, u := range p.Props.User {
		text = append(text, fmt.Sprintf("user-property=%q:%q", u.Key, u.Value))
	}
	name := fmt.Sprintf("%q %q", short(string(p.Topic)), short(string(p.Payload)))
	if p.QoS > 0 {
		c.wait[p.PacketID] = &inbox{message: name, qos: p.QoS}
	}
	return event{kind: "PUBLISH", text: strings.Join(text, " "), more: name, qos: p.QoS, retain: p.Retain, live: !p.Retain, subs: slices.Clone(p.Props.SubscriptionIDs)}
}

// comparable merges copies of one message and sorts what may come in any order.
//
// A server may send a message once for each subscription that matches, or once
// with the highest QoS and all identifiers [MQTT-3.3.4-2, MQTT-3.3.4-3], so both
// become the same here. The order of packets for different topics, and of
// acknowledgements among them, is free.
func comparable(events []event) []event {
	var all []event
	for _, e := range events {
		i := -1
		if e.kind == "PUBLISH" || e.kind == "PUBREL" {
			i = slices.IndexFunc(all, func(o event) bool { return o.kind == e.kind && o.text == e.text && o.more == e.more })
		}
		if i < 0 {
			e.subs = slices.Clone(e.subs)
			all = append(all, e)
			continue
		}
		o := &all[i]
		o.qos, o.retain, o.live = max(o.qos, e.qos), o.retain || e.retain, o.live || e.live
		o.subs = append(o.subs, e.subs...)
	}
	for i := range all {
		e := &all[i]
		if e.kind != "PUBLISH" {
			continue
		}
		slices.Sort(e.subs)
		e.subs = slices.Compact(e.subs)
		how := fmt.Sprintf("q%d ", e.qos)
		switch {
		case e.retain && e.live:
			how += "retained-and-not "
		case e.retain:
			how += "retained "
		}
		e.text = strings.TrimSpace(how + e.text)
		if len(e.subs) > 0 {
			e.text += " subscriptions=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(e.subs), " ", "+"), "[]")
		}
	}
	slices.SortFunc(all, func(a, b event) int { return strings.Compare(a.whole(), b.whole()) })
	return all
}

// without returns what is in a and not in b, both sorted by comparable.
func without(a, b []event) []event {
	left := make(map[string]int)
	for _, e := range b {
		left[e.whole()]++
	}
	var rest []event
	for _, e := range a {
		if left[e.whole()]--; left[e.whole()] < 0 {
			rest = append(rest, e)
		}
	}
	return rest
}
