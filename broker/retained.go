package broker

import (
	"cmp"
	"math"
	"slices"

	"github.com/sealmq/sealmq/store"
)

// replay is the retained messages that a new subscription is still to get.
//
// It holds what was retained when the subscription was made. Each topic is looked up again at its turn, under the
// session's lock: a publisher stores a retained message before it delivers it, so a subscriber never gets an older value
// after a newer one, and never misses both.
//
// There is one for a subscription at most: subscribing again begins it anew, so that a client that asks and does not read
// makes the broker hold nothing more.
//
// A SUBSCRIBE that has the same filter twice is like two of them [MQTT-3.8.4-5]: its replay has two rounds.
type replay struct {
	sub    *subscription
	list   []*store.Message
	rounds []options        // of this round and those after it
	whole  []*store.Message // for the rounds after this one
	owed   bool             // the store knows that messages are still to be put into the queue
}

// maxRounds bounds how often one packet has the same messages sent, beside the last round.
const maxRounds = 8

// round adds a round with the options that the subscription has then.
func (r *replay) round(o options) {
	if len(r.rounds) == maxRounds {
		r.rounds[maxRounds-1] = o
	} else {
		r.rounds = append(r.rounds, o)
	}
}

// collect finds the retained messages, in the order in which they were published.
func (r *replay) collect(b *Broker) {
	b.retained.Match(r.sub.filter, func(_ string, m *store.Message) bool {
		r.list = append(r.list, m)
		return true
	})
	slices.SortFunc(r.list, func(a, b *store.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	if len(r.rounds) > 1 {
		r.whole = slices.Clone(r.list)
	}
}

// advance is done with the first message. After the last one of a round the next round begins, if there is one.
func (r *replay) advance() {
	r.list[0], r.list = nil, r.list[1:]
	if len(r.list) > 0 || len(r.rounds) <= 1 {
		return
	}
	if r.list, r.rounds = r.whole, r.rounds[1:]; len(r.rounds) == 1 {
		r.whole = nil
	} else {
		r.list = slices.Clone(r.list)
	}
}

// rest is what is kept of a replay when its connection ends: each message once, with the highest QoS that it still was to
// be sent with.
func (r *replay) rest() ([]*store.Message, options) {
	if len(r.rounds) <= 1 {
		return r.list, r.rounds[0]
	}
	return r.whole, slices.MaxFunc(r.rounds, func(a, b options) int { return cmp.Compare(a.qos(), b.qos()) })
}

// replay begins to send retained messages. The caller holds mu.
func (s *session) replay(w *worker, replays []*replay) {
	if len(replays) == 0 {
		return
	}
	for _, r := range replays {
		if s.conn != nil && s.conn.asked[r.sub] == r {
			delete(s.conn.asked, r.sub)
		}
		if len(r.list) == 0 {
			s.replayed(r)
			continue
		}
		if s.subs[r.sub.filter] != r.sub { // unsubscribed meanwhile
			continue
		}
		if under := r.sub.replay; under != nil { // what is left of it is in the new one
			under.list, under.rounds, under.whole = r.list, r.rounds, r.whole
			under.owed = under.owed || r.owed
			continue
		}
		r.sub.replay = r
		s.replays = append(s.replays, r)
	}
	s.fill(w)
	if len(s.replays) > 0 && !s.dirty {
		s.dirty = true
		w.dirty = append(w.dirty, s)
	}
}

// replayBytes is how much of a replay waits in the outbox at a time.
const replayBytes = 64 << 10

// fillReplays moves retained messages into the outbox while there is room. QoS 1 and 2 messages that wait in the queue
// are older than what a replay would find, so they go first. The caller holds the session's mu.
func (s *session) fillReplays(w *worker, now int64) {
	for len(s.replays) > 0 {
		r := s.replays[0]
		for len(r.list) > 0 {
			if s.outBytes >= replayBytes {
				return
			}
			m := s.retainedNow(r.list[0], now)
			o := r.rounds[0]
			if m == nil || o.noLocal() && s.sent(m) || !s.mayReceive(w, m) { // [MQTT-3.8.3-3]
				r.advance()
				continue
			}
			d := delivery{ids: r.sub.ids(), qos: min(m.QoS, o.qos()), retain: true, wait: true} // [MQTT311 MQTT-3.3.1-8]
			if d.qos > 0 {
				if s.waiting() > 0 || s.dur != nil && (s.dur.ready.n > 0 || !s.dur.caughtUp()) || !s.inflight.room(s.conn.window, s.conn.lim.MaxOutbound) {
					return
				}
				if s.dur != nil {
					s.place(w, m, d)
					w.settle(nil, outItem{})
				} else {
					s.send(w, item{m: m, ids: d.ids, qos: d.qos, retain: true})
				}
			} else {
				s.emit(w, outItem{m: m, ids: d.ids, flags: publishFlags(0, true, false), size: int32(min(m.Size(), math.MaxInt32))})
			}
			r.advance()
		}
		s.replayed(r)
		r.sub.replay = nil
		s.replays[0], s.replays = nil, s.replays[1:]
	}
	s.replays = nil
}

// lasting reports whether there are messages among those of a replay that go through the queue of a durable session.
func (r *replay) lasting() bool {
	wanted := func(o options) bool { return o.qos() > 0 }
	return slices.ContainsFunc(r.rounds, wanted) && slices.ContainsFunc(r.list, func(m *store.Message) bool { return m.QoS > 0 })
}

// replayed notes that all messages of a replay are in the queue. The caller holds mu.
func (s *session) replayed(r *replay) {
	if !r.owed || s.dur == nil {
		return
	}
	r.owed = false
	s.dur.paid = append(s.dur.paid, r.sub)
	if c := s.conn; c != nil && len(s.dur.paid) == 1 {
		s.b.spawn(func() {
			c.proc.Lock() // between the packets
			defer c.proc.Unlock()
			w := s.b.worker()
			defer s.b.release(w)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.conn == c {
				s.pay(w)
			}
		})
	}
}

// owes reports whether messages of a replay for the subscription are still to be put into the queue. The caller holds mu.
func (s *session) owes(sub *subscription) bool {
	r := sub.replay
	if r == nil && s.conn != nil {
		r = s.conn.asked[sub]
	}
	return r != nil && r.owed
}

// pay tells the store which replays are in the queue. The caller holds mu, and the connection's proc or the session's
// claim: so nothing can be told of a subscription after its end.
func (s *session) pay(w *worker) {
	d := s.dur
	if d == nil {
		return
	}
	var list []store.Subscription
	for _, sub := range d.paid {
		if s.subs[sub.filter] == sub && !s.owes(sub) {
			list = append(list, sub.stored())
		}
	}
	d.paid = nil
	if list != nil {
		w.alter(nil, &change{Op: store.Op{Kind: store.Subscribe, Session: d.id, Subscriptions: list}}, outItem{})
	}
}

// owedReplays begins again what a restart has cut short. The caller holds claim, and no other lock.
func (s *session) owedReplays() []*replay {
	if s.dur == nil || s.dur.owed == nil {
		return nil
	}
	var list []*replay
	for _, sub := range s.dur.owed {
		r := &replay{sub: sub, owed: true}
		r.round(sub.options())
		r.collect(s.b)
		list = append(list, r)
	}
	s.dur.owed = nil
	return list
}

// sent reports whether a retained message is the session's own.
func (s *session) sent(m *store.Message) bool { return m.From != nil && m.From.ClientID == s.id }

// retainedNow returns what is retained for the topic of m at this moment, nil if nothing is.
func (s *session) retainedNow(m *store.Message, now int64) *store.Message {
	cur, _ := s.b.retained.Get(m.Topic)
	if cur == nil || cur.Expires != 0 && now > cur.Expires {
		return nil
	}
	return cur
}

// keepReplays puts the QoS 1 and 2 messages of unfinished replays into the queue of a session that outlives its
// connection. The caller holds mu.
func (s *session) keepReplays(w *worker) {
	if s.frozen {
		return
	}
	now := int64(s.b.now())
	for _, r := range s.replays {
		list, o := r.rest()
		for _, old := range list {
			m := s.retainedNow(old, now)
			if m != nil && !(o.noLocal() && s.sent(m)) && min(m.QoS, o.qos()) > 0 && s.mayReceive(w, m) {
				s.enqueue(w, m, delivery{ids: r.sub.ids(), qos: min(m.QoS, o.qos()), retain: true, wait: true})
				w.settle(nil, outItem{})
			}
		}
		s.replayed(r)
	}
}
