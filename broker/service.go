package broker

import (
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// Service is a part of the program that clients talk to by publishing. What they publish to its topics goes to it alone:
// it is neither routed nor retained.
type Service interface {
	// Owns reports whether publications to a topic, or answers to subscriptions with a filter, are the Service's. It is
	// asked about those that begin with "$". It must not keep the slice, block or allocate.
	Owns(topic []byte) bool
	// Serve takes a publication to a topic that it owns. It is called while the client's packets are processed, so it
	// must not block: what takes time is for a goroutine of the Service's own. A connection may have four requests
	// without an answer; one that gets none counts for half a minute.
	Serve(*Request)
}

// Greeter is a Service that is also told of subscriptions.
type Greeter interface {
	Service
	// Subscribed takes a Request without payload whose Topic is a filter, owned by the Service, that the client has just
	// subscribed to. It must not block.
	Subscribed(*Request)
}

// Request is what a client asks of a Service. Everything in it is a copy.
type Request struct {
	Topic     string
	Payload   []byte
	Props     *mqtt.Properties // never nil
	ClientID  string
	Peer      auth.Peer // without its certificate; zero for a will
	Principal *auth.Principal
}

// Reply sends a message to the client of the request, on the connection on which it asked, if that has a subscription
// that matches the topic, other than a shared one, and its policy lets it receive the message. It reports whether it does;
// the message has QoS 1 where the subscription has. It may be called from any goroutine, at any time, and again.
func (r *Request) Reply(topic string, payload []byte, props *mqtt.Properties) bool { return false }

// Close ends the connection on which the client has asked, if it is there.
func (r *Request) Close(code mqtt.ReasonCode, text string) {}

// Tell sends a message to a client that is connected, as Request.Reply does, and reports whether it could.
func (b *Broker) Tell(clientID, topic string, payload []byte, props *mqtt.Properties) bool {
	return false
}
