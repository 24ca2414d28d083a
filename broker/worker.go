package broker

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// worker is the scratch space of one goroutine that works for the broker: what it encodes into, and which sessions it
// has to flush when its event ends.
type worker struct {
	b      *Broker
	stripe int
	dirty  []*session
	queued int64 // change of Broker.outbound not yet added to it
	buf    []byte
	spares [][]outItem // empty outbox arrays
	spare  int         // items that they have room for
	props  []byte

	publish mqtt.Publish
	ack     mqtt.Ack

	// State of the publication being routed.
	pub    publication
	m      *store.Message
	name   string
	taken  int
	visit  func(*subscription) bool
	merge  func(*subscription) bool
	merged map[*session]merged
	groups []*group
	full   int    // receivers whose queue had no room
	over   string // the limit that keeps the publication from being retained: it has reached nobody; else empty
	passed bool   // members of the group under way were passed over since they may not receive it
	encode bool   // the publication may be encoded at once for QoS 0

	chunks []*[]byte // empty ones
	given  int       // chunks that the event has taken

	// What it has for the store.
	change    *change           // op of the publication under way, nil while it needs none
	places    []store.Placement // unused ones
	straight  bool              // everybody in change has been sent the message
	linger    time.Duration     // how long their acknowledgements may take
	retaining *sync.Mutex       // held until the publication is settled
	ops       []*store.Op       // to be submitted
	elided    []*store.Op       // that need not be
	orphans   []orphan          // for other members of their groups, before anything is submitted
	telling   []*session        // with acknowledgements to tell
	asked     bool              // refuses is what the store says in this event
	refuses   error
}

func newWorker(b *Broker) *worker {
	w := &worker{b: b, stripe: int(b.stripe.Add(1) % stripes), merged: make(map[*session]merged)}
	w.visit, w.merge = w.deliver, w.collect
	return w
}

func (b *Broker) worker() *worker { return b.workers.Get().(*worker) }

// release flushes what the worker's event has produced and gives it back.
func (b *Broker) release(w *worker) {
	w.flush()
	b.workers.Put(w)
}

// array returns an empty outbox array, and keep takes one back.
func (w *worker) array() []outItem {
	n := len(w.spares)
	if n == 0 {
		return nil
	}
	a := w.spares[n-1]
	w.spares[n-1] = nil
	w.spares = w.spares[:n-1]
	w.spare -= cap(a)
	return a
}

func (w *worker) keep(a []outItem) {
	clear(a)
	if w.spare+cap(a) <= maxSpare {
		w.spare += cap(a)
		w.spares = append(w.spares, a[:0])
	}
}

// maxSpare is how many items the outbox arrays that a worker keeps have room for, all together.
const maxSpare = 16 << 10

func (w *worker) count(k counter, n uint64) { w.b.counters.add(w.stripe, k, n) }

// refusal returns why the store refuses changes at present, nil if it does not. It is asked once in an event.
func (w *worker) refusal() error {
	if !w.asked {
		w.asked, w.refuses = true, w.b.store.Ready()
	}
	return w.refuses
}

// flush submits what is for the store and writes every session that has something new.
func (w *worker) flush() {
	w.asked, w.given = false, 0
	w.submit()
	for i := 0; i < len(w.dirty); i++ { // grows if a flush makes more work
		s := w.dirty[i]
		w.dirty[i] = nil
		s.flush(w)
		if len(w.ops)+len(w.elided)+len(w.telling)+len(w.orphans) > 0 {
			w.submit()
		}
	}
	w.dirty = w.dirty[:0]
	if cap(w.dirty) > 2*maxDirty {
		w.dirty = nil
	}
	if w.queued != 0 {
		w.b.outbound.Add(w.queued)
		w.queued = 0
	}
}

// maxDirty is after how many receivers a large fan-out is flushed before it goes on.
const maxDirty = 1024

// publication is a message on its way in. Its slices are the publisher's and are copied when somebody wants the message.
type publication struct {
	topic   []byte
	payload []byte
	props   []byte
	from    *session // for no-local; nil when the broker itself publishes
	expires int64
	will    store.SessionID // whose will it is, 0: none
	qos     uint8
	retain  bool
	passing bool // not to be stored, though it is retained
	part    part // for whom it is
}

// part says which receivers a publication is for.
type part uint8

const (
	partAll    part = iota
	partLive        // those who need no store
	partStored      // those for whom it must be stored
)

// meets reports whether a receiver for whom a message must be stored, or must not, is among them.
func (p part) meets(stored bool) bool { return p == partAll || stored == (p == partStored) }

// merged is what the overlapping subscriptions of one session add up to: one copy, the highest QoS, all identifiers
// [MQTT-3.3.4-2][MQTT-3.3.4-4].
type merged struct {
	ids    []uint32
	qos    uint8
	retain bool
}

func (g merged) delivery() delivery {
	d := delivery{qos: g.qos, retain: g.retain, wait: true}
	if g.ids != nil {
		ids := g.ids
		d.ids = &ids
	}
	return d
}

// route delivers a publication to everybody who wants it and reports whether anybody did. A retained one that is beyond a
// limit, which is in over then, reaches nobody. settle must follow.
func (w *worker) route(p publication) bool {
	match := w.b.index.Lookup(p.topic)
	w.pub, w.m, w.name, w.taken, w.full = p, nil, match.Topic(), 0, 0
	if w.over = ""; p.retain {
		if w.routeRetained(); w.over != "" {
			w.m, w.name = nil, ""
			return false
		}
	} else {
		w.fanOut(match)
	}
	if p.will != 0 { // also when nobody wants it, or it would be published again after a restart
		w.current(w.message()).Will = p.will
	}
	w.m, w.name = nil, ""
	return w.taken > 0
}

// routeRetained holds the topic's stripe, until the publication is settled, while it stores and delivers, so that everybody
// sees the publishes of one topic in the order in which they were retained, and the last one delivered is the one that is
// kept. Who is subscribed is looked up after storing: whoever subscribes later finds the message among the retained ones.
func (w *worker) routeRetained() {
	lock := &w.b.retain[stripeOf(w.b, w.name)]
	lock.Lock()
	w.retaining = lock
	if w.b.testOnlyRetaining != nil {
		w.b.testOnlyRetaining()
	}
	m := w.message()
	old, _ := w.b.retained.Get(w.name)
	var lim *Limits
	if from := w.pub.from; from != nil {
		m.From, lim = from.publisher()
	}
	clears := len(m.Payload) == 0
	if !clears {
		if w.over = w.b.uses.retain(old, m, lim, &w.b.cfg); w.over != "" {
			return
		}
	}
	m.Seq = w.b.seq.Add(1)
	if clears {
		w.b.retained.Delete(w.name) // [MQTT-3.3.1-6]
		w.b.uses.retain(old, nil, nil, &w.b.cfg)
	} else {
		w.b.retained.Set(w.name, m) // [MQTT-3.3.1-5]
		if m.Expires != 0 {
			w.b.sweepLater()
		}
	}
	if !w.pub.passing {
		w.current(m).Retained = true
	}
	w.fanOut(w.b.index.Lookup(w.pub.topic))
}

// message builds the message that all receivers share.
func (w *worker) message() *store.Message {
	if w.m != nil {
		return w.m
	}
	p := &w.pub
	m := store.NewMessage(w.name, p.payload, p.props)
	m.Expires, m.QoS, m.Retain = p.expires, p.qos, p.retain
	w.m = m
	return m
}

func (w *worker) fanOut(match *topic.Matches[subscription]) {
	sets := match.Sets()
	receivers := 0
	for _, s := range sets {
		receivers += s.Len()
	}
	w.encode = w.encodable(receivers)
	switch len(sets) {
	case 0:
		return
	case 1:
		sets[0].Each(w.visit)
	default:
		// The largest set is streamed; only the others are collected to find sessions that are in several.
		big := 0
		for i, s := range sets {
			if s.Len() > sets[big].Len() {
				big = i
			}
		}
		for i, s := range sets {
			if i != big {
				s.Each(w.merge)
			}
		}
		sets[big].Each(w.visit)
		for s, g := range w.merged {
			w.give(s, g.delivery())
		}
		clear(w.merged)
	}
	for i, g := range w.groups {
		w.groups[i] = nil
		if w.pub.part != partAll && !w.pub.part.meets(w.pub.qos > 0 && g.durable()) {
			continue
		}
		if g.route(w, w.message()) {
			w.taken++
		}
	}
	w.groups = w.groups[:0]
}

// wants resolves what is not a plain subscription of a session and reports whether sub still is to be delivered to.
func (w *worker) wants(sub *subscription, o options) bool {
	switch {
	case sub.group != nil:
		w.groups = append(w.groups, sub.group)
		return false
	case sub.local != nil && w.pub.part == partStored:
		return false
	case sub.local != nil:
		sub.local(w.message())
		w.taken++
		return false
	}
	return !(o.noLocal() && sub.sess == w.pub.from)
}

// collect adds one subscription to what its session gets.
func (w *worker) collect(sub *subscription) bool {
	o := sub.options()
	if !w.wants(sub, o) {
		return true
	}
	g := w.merged[sub.sess]
	w.merged[sub.sess] = w.join(g, o)
	return true
}

func (w *worker) join(g merged, o options) merged {
	g.qos = max(g.qos, min(w.pub.qos, o.qos()))
	g.retain = g.retain || w.pub.retain && o.retainAsPublished()
	if id := o.id(); id != 0 {
		g.ids = append(g.ids, id)
	}
	return g
}

// deliver hands the message to the session of one subscription.
func (w *worker) deliver(sub *subscription) bool {
	o := sub.options()
	if !w.wants(sub, o) {
		return true
	}
	if len(w.merged) > 0 {
		if other, ok := w.merged[sub.sess]; ok {
			delete(w.merged, sub.sess)
			g := w.join(other, o)
			w.give(sub.sess, g.delivery())
			return true
		}
	}
	w.give(sub.sess, delivery{ids: sub.ids(), qos: min(w.pub.qos, o.qos()), retain: w.pub.retain && o.retainAsPublished(), wait: true})
	return true
}

func (w *worker) give(s *session, d delivery) {
	if w.pub.part != partAll && !w.pub.part.meets(d.qos > 0 && s.dur != nil) {
		return
	}
	if d.qos == 0 && w.encode && d.ids == nil {
		if done, taken := s.pushEncoded(w); done {
			if taken {
				w.taken++
			}
			return
		}
	}
	if s.push(w, w.message(), d) {
		w.taken++
	}
	if len(w.dirty) >= maxDirty && !w.pub.retain {
		ch, m, pub, straight, linger, full := w.change, w.m, w.pub, w.straight, w.linger, w.full
		w.change = nil
		w.flush() // which may publish what waited for room
		w.change, w.m, w.pub, w.straight, w.linger, w.full = ch, m, pub, straight, linger, full
	}
}

func stripeOf(b *Broker, name string) uint64 { return maphash.String(b.seed, name) % retainStripes }

// expires turns a Message Expiry Interval into a deadline.
func (b *Broker) expires(seconds uint32) int64 {
	return max(int64(b.now()+time.Duration(seconds)*time.Second), 1) // 0 is "never"
}
