package crash

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// faultKind is what a broker can do wrong.
type faultKind string

const (
	lostMessage  faultKind = "acknowledged message lost"
	lostWill     faultKind = "will lost"
	duplicate    faultKind = "QoS 2 message delivered twice"
	disorder     faultKind = "order not kept"
	stale        faultKind = "stale retained message"
	lostSession  faultKind = "session not as it must be"
	stray        faultKind = "message without a subscription"
	otherTrouble faultKind = "trouble"
)

// fault is one of them, with its place in the journal.
type fault struct {
	kind    faultKind
	client  string
	message messageID
	at      int // index of the event
	text    string
}

func (f fault) String() string {
	return fmt.Sprintf("%s: %s %s", f.kind, f.client, f.text)
}

// report is the outcome of a check.
type report struct {
	kills        int
	acknowledged int // messages
	deliveries   int // that had to be, and those that were beyond
	faults       []fault
}

// count is the number of faults of a kind; of lost messages each counts once, in
// however many subscribers it is missing.
func (r report) count(k faultKind) int {
	messages := make(map[messageID]bool)
	n := 0
	for _, f := range r.faults {
		if f.kind == k && (f.message.n == 0 || k != lostMessage && k != lostWill || !messages[f.message]) {
			messages[f.message] = true
			n++
		}
	}
	return n
}

// never is an index behind every journal.
const never = math.MaxInt

// sent is a message and its indices in the journal.
type sent struct {
	first, acked, done int // never: has not happened
	abandoned          bool
	will               bool
	event
}

// span is a time during which a session had a subscription: for certain between
// SUBACK and UNSUBSCRIBE, perhaps between SUBSCRIBE and UNSUBACK.
type span struct {
	asked, from, to, gone int
	filter                string
	qos                   byte
}

type receipt struct {
	client  string
	message messageID
}

// check reads a journal and finds what must not be:
//
//   - Every acknowledged message reaches every session that was subscribed when it
//     was sent and has not sent an UNSUBSCRIBE. QoS 1 is acknowledged by PUBACK, QoS 2
//     by PUBREC unless the publisher ended its session before PUBCOMP. A will counts
//     as acknowledged when its client has got CONNACK and is never seen again.
//   - What publisher and subscription give QoS 2 is delivered once at most.
//   - The first deliveries of one publisher's messages of one topic and one QoS
//     come in their order. (What was first sent before the subscription may come
//     late, when its publisher has to send it again.)
//   - A retained message is none older than the last acknowledged one, and is there
//     unless its removal was sent.
//   - A session that CONNACK has confirmed is present at the next connection, unless
//     the client has ended it; then it is not.
//   - Nothing is delivered that was sent after UNSUBACK.
//
// Messages without an acknowledgement may be delivered or not.
func check(events []event) report {
	c := &checker{
		messages: make(map[messageID]*sent), spans: make(map[string][]*span), sessions: make(map[string]*session),
		receipts: make(map[receipt]int), newest: make(map[string]messageID), values: make(values),
	}
	for i, e := range events {
		c.message(i, e)
		c.subscription(i, e)
		c.session(i, e)
		c.retained(i, e)
		switch e.kind {
		case kill:
			c.kills++
		case trouble:
			c.fault(otherTrouble, e.client, messageID{}, i, e.text)
		}
	}
	for i, e := range events { // all that is known of messages and subscriptions is known
		if e.kind == deliver && !e.retain {
			c.delivery(i, e)
		}
	}
	c.missing()
	slices.SortStableFunc(c.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return c.report
}

type checker struct {
	report
	messages map[messageID]*sent
	spans    map[string][]*span // by client
	sessions map[string]*session
	receipts map[receipt]int
	newest   map[string]messageID // by subscriber, publisher, topic and QoS
	values   values
	probed   map[string]bool // topics whose retained message came; nil: nobody looks
}

func (c *checker) fault(k faultKind, client string, m messageID, at int, text string) {
	c.faults = append(c.faults, fault{k, client, m, at, text})
}

func (c *checker) message(i int, e event) {
	if e.message.n == 0 {
		return
	}
	m := c.messages[e.message]
	switch e.kind {
	case publish:
		if m == nil {
			c.messages[e.message] = &sent{first: i, acked: never, done: never, will: e.text != "", event: e}
		}
	case puback:
		m.acked, m.done = i, i
	case pubrec, alone: // a will may be published at any time from then on
		m.acked = min(m.acked, i)
	case pubcomp:
		m.done = i
	case abandon:
		m.abandoned = true
	}
}

func (c *checker) subscription(i int, e event) {
	last := func() *span {
		for _, s := range slices.Backward(c.spans[e.client]) {
			if s.filter == e.topic {
				return s
			}
		}
		return nil
	}
	switch s := last(); {
	case e.kind == subscrib && (s == nil || s.to != never):
		c.spans[e.client] = append(c.spans[e.client], &span{i, never, never, never, e.topic, e.qos})
	case e.kind == suback:
		s.from = min(s.from, i)
	case e.kind == unsub && s != nil:
		s.to = min(s.to, i)
	case e.kind == unsuback && s != nil:
		s.gone = i
	}
}

// session is what is known of a client's session at the broker.
type session struct {
	certain, exists bool
	clean, durable  bool // of the last CONNECT
}

func (c *checker) session(i int, e event) {
	if e.kind != connect && e.kind != connack {
		return
	}
	s := c.sessions[e.client]
	if s == nil {
		s = &session{certain: true}
		c.sessions[e.client] = s
	}
	if e.kind == connect {
		s.clean, s.durable = e.clean, e.durable
		if e.clean || !s.exists {
			s.certain = false // until it is answered, and forgotten if it never is
		}
		return
	}
	switch {
	case s.clean && e.present:
		c.fault(lostSession, e.client, messageID{}, i, "asked for a clean session and was told of an old one")
	case !s.clean && s.certain && s.exists && !e.present:
		c.fault(lostSession, e.client, messageID{}, i, "its session is gone")
	}
	s.certain, s.exists = true, s.durable
}

func (c *checker) retained(i int, e event) {
	c.values.observe(e)
	switch e.kind {
	case probe:
		c.probed = make(map[string]bool)
	case retained:
		c.probed[e.topic] = true
		if v := c.values[e.topic]; v == nil || !v.mayBe(e.message.n) {
			c.fault(stale, e.client, e.message, i, e.String())
		}
	case probeEnd:
		for topic, v := range c.values {
			if !c.probed[topic] && !v.mayBeAbsent() {
				c.fault(stale, e.client, v.settled, i, fmt.Sprintf("nothing is retained on %s, where %v was", topic, v.settled))
			}
		}
	}
}

func (c *checker) delivery(i int, e event) {
	m := c.messages[e.message]
	if m == nil || m.topic != e.topic {
		c.fault(otherTrouble, e.client, e.message, i, "nobody sent this: "+e.String())
		return
	}
	var subscribed, throughout bool
	var qos byte
	for _, s := range c.spans[e.client] {
		if matches(s.filter, e.topic) {
			subscribed = subscribed || s.asked < m.done && s.gone > m.first
			throughout = throughout || s.from < m.first && s.to > i
			qos = min(s.qos, m.qos)
		}
	}
	if !subscribed {
		c.fault(stray, e.client, e.message, i, e.String())
		return
	}
	r := receipt{e.client, e.message}
	c.receipts[r]++
	if c.receipts[r] > 1 {
		if qos == 2 {
			c.fault(duplicate, e.client, e.message, i, e.String())
		}
		return
	}
	c.deliveries++
	key := fmt.Sprintf("%s %s %s %d", e.client, m.message.publisher, m.topic, m.qos)
	if before := c.newest[key]; before.n > e.message.n && throughout {
		c.fault(disorder, e.client, e.message, i, fmt.Sprintf("first delivery after that of %v: %v", before, e))
	}
	if c.newest[key].n < e.message.n {
		c.newest[key] = e.message
	}
}

// missing finds the messages that were not delivered but had to be.
func (c *checker) missing() {
	for id, m := range c.messages {
		if m.acked == never || m.abandoned && m.done == never {
			continue
		}
		k := lostWill
		if !m.will {
			k = lostMessage
			c.acknowledged++
		}
		if m.clear {
			continue // has no payload to know it by
		}
		for client, spans := range c.spans {
			had := slices.ContainsFunc(spans, func(s *span) bool {
				return matches(s.filter, m.topic) && s.from < m.first && s.to == never
			})
			if had && c.receipts[receipt{client, id}] == 0 {
				c.fault(k, client, id, m.acked, fmt.Sprintf("never got %v", id))
			}
		}
	}
}

// matches knows the filters of this harness: a last level of + or #, or none.
func matches(filter, topic string) bool {
	if head, ok := strings.CutSuffix(filter, "#"); ok {
		return strings.HasPrefix(topic, head)
	}
	if head, ok := strings.CutSuffix(filter, "+"); ok {
		rest, ok := strings.CutPrefix(topic, head)
		return ok && !strings.Contains(rest, "/")
	}
	return filter == topic
}
