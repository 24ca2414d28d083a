package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
)

// recordedService keeps what it is asked until a script has it answered.
type recordedService struct {
	mu   sync.Mutex
	open []*broker.Request
}

func (s *recordedService) Owns(topic []byte) bool {
	return bytes.HasPrefix(topic, []byte("$pki/")) || bytes.HasPrefix(topic, []byte("$aws/"))
}

func (s *recordedService) Serve(r *broker.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, r)
}

func (s *recordedService) Subscribed(r *broker.Request) {
	if r.Topic == "$pki/renew/advice" {
		r.Reply(r.Topic, []byte("welcome "+r.ClientID), nil)
	}
}

// command carries out a "server" line: asked CLIENT TOPIC payload=…, answer TOPIC payload=…, unheard TOPIC, hangup. All
// but the first are about the oldest request; the last one and "done" take it off the list.
func (s *recordedService) command(b *broker.Broker, word string, options []testkit.Option) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		return errors.New("nothing was asked")
	}
	r := s.open[0]
	props := &mqtt.Properties{CorrelationData: r.Props.CorrelationData}
	if props.CorrelationData != nil {
		props.Set(mqtt.PropCorrelationData)
	}
	topic, payload := "", ""
	for i, o := range options {
		switch {
		case o.Key == "payload":
			payload = o.Value
		case o.Key == "response_topic":
			topic = string(r.Props.ResponseTopic)
		case i == 0:
			topic = o.Key
		}
	}
	switch word {
	case "asked":
		last := s.open[len(s.open)-1]
		want := options[1].Key
		if got := last.Topic; got != want || last.ClientID != options[0].Key || string(last.Payload) != payload {
			return fmt.Errorf("%s asked %s: %q", last.ClientID, got, last.Payload)
		}
		return nil
	case "hangup":
		r.Close(mqtt.NotAuthorized, "go away")
	case "answer":
		if !r.Reply(topic, []byte(payload), props) {
			return errors.New("nobody listens")
		}
	case "unheard":
		if r.Reply(topic, []byte(payload), props) {
			return errors.New("somebody listens")
		}
	}
	s.open = s.open[1:]
	return nil
}
