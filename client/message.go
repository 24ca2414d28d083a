package client

import "github.com/sealmq/sealmq/mqtt"

// Message is an application message. Properties need version 5 and are left
// out below it; a nil pointer, nil slice or empty string is an absent property.
type Message struct {
	Topic   string
	Payload []byte
	QoS     uint8
	Retain  bool

	// Dup and PacketID are set on received messages only.
	Dup      bool
	PacketID uint16

	PayloadFormat   *uint8  // 0 bytes, 1 UTF-8 text
	MessageExpiry   *uint32 // seconds
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty

	// SubscriptionIDs are those of the subscriptions that a received message
	// matched. Never sent [MQTT-3.3.4-6].
	SubscriptionIDs []uint32

	// TopicAlias is sent along with the topic, at most what the server allows
	// [MQTT-3.3.2-9]. With an empty Topic the alias stands alone.
	TopicAlias uint16

	// WillDelay is in seconds; it counts only on Config.Will.
	WillDelay uint32
}

// UserProperty is one name and value; order and repetition are kept.
type UserProperty struct{ Key, Value string }

// properties fills p with what a PUBLISH or a will carries.
func (m *Message) properties(p *mqtt.Properties) {
	if m.PayloadFormat != nil {
		p.PayloadFormat = *m.PayloadFormat
		p.Set(mqtt.PropPayloadFormat)
	}
	if m.MessageExpiry != nil {
		p.MessageExpiry = *m.MessageExpiry
		p.Set(mqtt.PropMessageExpiry)
	}
	if m.ContentType != "" {
		p.ContentType = []byte(m.ContentType)
		p.Set(mqtt.PropContentType)
	}
	if m.ResponseTopic != "" {
		p.ResponseTopic = []byte(m.ResponseTopic)
		p.Set(mqtt.PropResponseTopic)
	}
	if m.CorrelationData != nil {
		p.CorrelationData = m.CorrelationData
		p.Set(mqtt.PropCorrelationData)
	}
	setUser(p, m.User)
}

func setUser(p *mqtt.Properties, user []UserProperty) {
	if len(user) == 0 {
		return
	}
	for _, u := range user {
		p.User = append(p.User, mqtt.UserProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
	}
	p.Set(mqtt.PropUser)
}

// messageOf copies a received PUBLISH: the result is the receiver's to keep.
func messageOf(p *mqtt.Publish, topic string) *Message {
	m := &Message{
		Topic:    topic,
		Payload:  append([]byte{}, p.Payload...),
		QoS:      p.QoS,
		Retain:   p.Retain,
		Dup:      p.Dup,
		PacketID: p.PacketID,
	}
	q := &p.Props
	if q.Has(mqtt.PropPayloadFormat) {
		m.PayloadFormat = new(q.PayloadFormat)
	}
	if q.Has(mqtt.PropMessageExpiry) {
		m.MessageExpiry = new(q.MessageExpiry)
	}
	if q.Has(mqtt.PropTopicAlias) {
		m.TopicAlias = q.TopicAlias
	}
	if q.Has(mqtt.PropContentType) {
		m.ContentType = string(q.ContentType)
	}
	if q.Has(mqtt.PropResponseTopic) {
		m.ResponseTopic = string(q.ResponseTopic)
	}
	if q.Has(mqtt.PropCorrelationData) {
		m.CorrelationData = append([]byte{}, q.CorrelationData...)
	}
	if q.Has(mqtt.PropSubscriptionIDs) {
		m.SubscriptionIDs = append([]uint32(nil), q.SubscriptionIDs...)
	}
	for _, u := range q.User {
		m.User = append(m.User, UserProperty{string(u.Key), string(u.Value)})
	}
	return m
}
