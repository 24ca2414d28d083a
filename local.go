package sealmq

import (
	"fmt"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// Message is an application message between the server and the program that embeds it.
type Message struct {
	Topic   string
	Payload []byte
	QoS     uint8
	Retain  bool

	// Properties are those that MQTT 5 passes on from publisher to subscriber:
	// payload format, content type, response topic, correlation data and user
	// properties. Others are not sent.
	Properties mqtt.Properties
}

// Publish gives a message to every subscriber, with the rights of the server:
// topics that clients may not write to, such as $SYS, are allowed. It reports
// whether anybody was subscribed. The message may be changed afterwards.
func (s *Server) Publish(m Message) (subscribed bool, err error) {
	p := mqtt.Publish{Props: m.Properties}
	return s.broker.Publish(&store.Message{
		Topic: m.Topic, Payload: m.Payload, Props: p.AppendForwardProps(nil), QoS: m.QoS, Retain: m.Retain,
	})
}

// Subscribe calls fn with every message published to a topic that the filter
// matches, until cancel is called; a call may still be under way when cancel
// returns. fn runs on the goroutine that reads the publisher's connection: it
// must not block, publish or subscribe, but hand such work to a goroutine of its
// own. The message stays valid and must not be changed. Retained messages of
// before are not delivered.
func (s *Server) Subscribe(filter string, fn func(Message)) (cancel func(), err error) {
	return s.broker.Subscribe(filter, func(m *store.Message) {
		out := Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
		if len(m.Props) > 0 {
			b := append(mqtt.AppendVarint(nil, len(m.Props)), m.Props...)
			if _, err := out.Properties.Parse(b, mqtt.PropertyContext(mqtt.PUBLISH)); err != nil {
				s.log.Error("read properties", "topic", m.Topic, "error", fmt.Sprint(err))
			}
		}
		fn(out)
	})
}
