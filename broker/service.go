package broker

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// Service is a part of the program that clients talk to by publishing. What they publish to its topics goes to it alone:
// it is neither routed nor retained.
type Service interface {
	// Owns reports whether publications to a topic are the Service's. It is asked about those that begin with "$", and must
	// not keep the slice, block or allocate.
	Owns(topic []byte) bool
	// Serve takes a publication to a topic that it owns. It is called while the client's packets are processed, so it
	// must not block: what takes time is for a goroutine of the Service's own.
	Serve(*Request)
}

// Greeter is a Service that is also told of subscriptions.
type Greeter interface {
	Service
	// Subscribed takes a Request without payload, whose Topic is a filter that the client has just subscribed to and for
	// which Owns is true. It must not block.
	Subscribed(*Request)
}

// The bounds of requests. A connection may have maxRequests without an answer, so that it cannot keep the Service from
// serving others; one that gets none counts for answerTime.
const (
	maxRequests    = 4
	answerTime     = 30 * time.Second
	maxRequestSize = 64 << 10
)

// overhead is about what a PUBLISH has beside topic, properties and payload.
const overhead = 24

// Request is what a client asks of a Service. Everything in it is a copy.
type Request struct {
	Topic     string
	Payload   []byte           // at most 64 KiB, with the properties
	Props     *mqtt.Properties // never nil
	ClientID  string
	Peer      auth.Peer // without its certificate; zero when a will is published
	Principal *auth.Principal

	c *Conn // nil: nobody to answer
	t *ticket
}

// ticket is a request's place among those without an answer.
type ticket struct {
	since    time.Duration // on the broker's clock
	answered atomic.Bool
}

// Reply sends a message to the client of the request, on the connection on which it asked, if that has a subscription
// that matches the topic, other than a shared one, its policy lets it receive the message, and it takes packets that large.
// It reports whether it does; the message has QoS 1 where the subscription has. It may be called from any goroutine, at any time, and again. Of props
// those count that a PUBLISH passes on; nil: none.
func (r *Request) Reply(topic string, payload []byte, props *mqtt.Properties) bool {
	if r.c == nil {
		return false
	}
	r.t.answered.Store(true)
	return r.c.tell(topic, payload, props)
}

// Close ends the connection on which the client has asked, if it is there.
func (r *Request) Close(code mqtt.ReasonCode, text string) {
	if r.c == nil {
		return
	}
	r.t.answered.Store(true)
	r.c.b.spawn(func() { r.c.kick(code, text) })
}

// Tell sends a message to a client that is connected, as Request.Reply does, and reports whether it could.
func (b *Broker) Tell(clientID, topic string, payload []byte, props *mqtt.Properties) bool {
	sh := b.shard(clientID)
	sh.mu.Lock()
	s := sh.m[clientID]
	sh.mu.Unlock()
	if s == nil {
		return false
	}
	c := s.current()
	return c != nil && c.tell(topic, payload, props)
}

// owns reports whether a topic that begins with "$" is the Service's.
func (b *Broker) owns(topic []byte) bool { return b.service != nil && b.service.Owns(topic) }

// ask hands a PUBLISH to the Service and acknowledges it.
func (c *Conn) ask(p *mqtt.Publish, name []byte) error {
	w, s := c.w, c.sess
	if len(p.Payload)+len(p.RawProps) > maxRequestSize {
		w.count(droppedRequest, 1)
		return c.decline(p, name, mqtt.QuotaExceeded, fmt.Sprintf("a request may have %d bytes", maxRequestSize))
	}
	if p.QoS == 2 && s.dur != nil {
		if err := w.refusal(); err != nil {
			return c.refuseStore(p, name, err)
		}
	}
	t := c.ticket()
	if t == nil {
		w.count(droppedRequest, 1)
		return c.decline(p, name, mqtt.QuotaExceeded, fmt.Sprintf("%d requests of this connection wait for their answers", maxRequests))
	}
	r := newRequest(s, string(name), p.Payload, p.RawProps)
	r.Peer, r.c, r.t = c.peer, c, t
	c.b.service.Serve(r)
	w.pub = publication{qos: p.QoS}
	switch p.QoS {
	case 0:
		w.settle(c, outItem{})
	case 1:
		w.settle(c, control(mqtt.PUBACK, p.PacketID, mqtt.Success))
	case 2:
		c.taken(p.PacketID)
		w.settle(c, control(mqtt.PUBREC, p.PacketID, mqtt.Success))
	}
	return nil
}

// ticket gives a request its place, nil when there is none.
func (c *Conn) ticket() *ticket {
	now := c.b.now()
	if c.asking == nil {
		c.asking = new([maxRequests]*ticket)
	}
	for i, t := range c.asking {
		if t == nil || t.answered.Load() || now-t.since >= answerTime {
			c.asking[i] = &ticket{since: now}
			return c.asking[i]
		}
	}
	return nil
}

// newRequest copies what a client has published, with its encoded properties.
func newRequest(s *session, name string, payload, props []byte) *Request {
	r := &Request{Topic: name, Payload: append([]byte(nil), payload...), Props: new(mqtt.Properties), ClientID: s.id}
	r.Principal = s.rights.Load().Principal
	if len(props) > 0 {
		if _, err := r.Props.Parse(append(mqtt.AppendVarint(nil, len(props)), props...), mqtt.PropertyContext(mqtt.PUBLISH)); err != nil {
			r.Props.Reset()
		}
	}
	return r
}

// greet tells the Service of subscriptions.
func (c *Conn) greet(filters []string) {
	for _, f := range filters {
		r := newRequest(c.sess, f, nil, nil)
		r.Peer, r.c, r.t = c.peer, c, new(ticket)
		c.b.greeter.Subscribed(r)
	}
}

// tell sends a message to this connection alone, if its client listens to the topic.
func (c *Conn) tell(name string, payload []byte, props *mqtt.Properties) bool {
	if topic.ValidName(name) != nil {
		return false
	}
	b, s := c.b, c.sess
	m := store.NewMessage(name, payload, nil)
	if props != nil {
		m.Props = (&mqtt.Publish{Props: *props}).AppendForwardProps(nil)
		if props.Has(mqtt.PropMessageExpiry) {
			m.Expires = b.expires(props.MessageExpiry)
		}
	}
	w := b.worker()
	defer b.release(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || s.dead || s.frozen || c.barred.Load() != nil {
		return false
	}
	d, ok := s.listens(name)
	if m.QoS = d.qos; !ok || !s.mayReceive(w, m) {
		return false
	}
	size := m.Size()
	if int64(len(name)+len(payload)+len(m.Props)+overhead) > c.maxSend { // told here, not when it is written
		w.count(droppedTooLarge, 1)
		return false
	}
	switch {
	case d.qos == 0 && (s.outBytes+size > c.lim.MaxOutbound || !s.mayHold(size)):
		w.count(droppedOutbound, 1)
		return false
	case d.qos == 0:
		s.emit(w, outItem{m: m, ids: d.ids, size: int32(size)})
		return true
	case s.dur != nil:
		ok = s.place(w, m, d)
		w.settle(nil, outItem{})
		return ok
	case s.waiting() == 0 && s.inflight.room(c.window, c.lim.MaxOutbound):
		s.send(w, item{m: m, ids: d.ids, qos: 1})
		return true
	}
	return s.enqueue(w, m, d)
}

// listens reports whether the client has subscribed to a topic by itself, and how it is to get a message of QoS 1 there.
// The caller holds mu.
func (s *session) listens(name string) (d delivery, ok bool) {
	d.wait = true
	var ids []uint32
	for _, sub := range s.subs {
		if sub.share != nil || !topic.Match(sub.filter, name) {
			continue
		}
		o := sub.options()
		d.qos, ok = max(d.qos, min(o.qos(), 1)), true
		if id := o.id(); id != 0 {
			ids = append(ids, id)
		}
	}
	if ids != nil {
		d.ids = &ids
	}
	return d, ok
}
