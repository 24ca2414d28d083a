package broker

import (
	"fmt"
	"sync"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// Publish routes a message from the embedding program. Topic, Payload, Props, QoS and Retain of m are used; the slices
// may be reused afterwards. It reports whether anybody was subscribed; what a durable session is to get, or is retained, may
// not be stored yet. It may publish to topics that clients may not, such as $SYS.
func (b *Broker) Publish(m *store.Message) (bool, error) {
	if err := topic.ValidName(m.Topic); err != nil {
		return false, fmt.Errorf("publish: %w", err)
	}
	if m.QoS > 2 {
		return false, fmt.Errorf("publish: QoS %d is none of 0, 1 and 2", m.QoS)
	}
	w := b.worker()
	defer b.release(w)
	w.count(received, 1)
	matched := w.route(publication{topic: []byte(m.Topic), payload: m.Payload, props: m.Props, qos: m.QoS, retain: m.Retain})
	w.settle(nil, outItem{})
	return matched, nil
}

// Subscribe calls fn for every message published to a topic that the filter matches, until cancel is called; a call may
// still be under way when cancel returns. fn runs inside the publisher's work: it must neither block nor publish nor
// change the message. Further calls of cancel do nothing.
func (b *Broker) Subscribe(filter string, fn func(*store.Message)) (cancel func(), err error) {
	if err := topic.ValidFilter(filter); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	sub := &subscription{local: fn, filter: filter}
	ref := b.index.Insert(filter, sub)
	return sync.OnceFunc(func() { b.index.Remove(ref) }), nil
}
