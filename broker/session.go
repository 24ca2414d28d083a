package broker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// session is what the broker keeps for one client identifier, with or without a connection.
//
// mu guards everything below it but received2, which belongs to the connection's own goroutine. It is held for short
// steps only: never across a write to a link, and never together with another session's.
type session struct {
	b     *Broker
	id    string
	claim turn        // one CONNECT or timer at a time
	fresh bool        // made for the CONNECT under way; under claim
	undo  atomic.Bool // there are some in refused

	// received2 holds the packet identifiers of QoS 2 messages that were routed and wait for their PUBREL.
	received2 map[uint16]uint32 // its value is the epoch in which it came last
	epoch     uint32            // counts connections

	from   atomic.Pointer[store.Publisher] // what its retained messages have in common; nil before the first
	rights atomic.Pointer[rights]          // what its principal may do; set under mu

	mu       sync.Mutex
	dead     bool   // ended: nothing may be added
	frozen   bool   // its principal does not stand: nothing comes in or out
	dirty    bool   // in some worker's list of sessions to flush
	expiry   uint32 // seconds that it outlives its connection; math.MaxUint32: for ever
	conn     *Conn
	leaving  *Conn   // the one before, until all that its end changes has been submitted
	lim      *Limits // of the connection, or of the last one
	subs     map[string]*subscription
	out      []outItem
	outBytes int64
	held     int64 // bytes of out, queue and dur.ready
	charged  int64 // of these, in heldFree, what is counted in pot
	pot      *pot  // nil while nothing is
	inflight inflight
	queue    queue      // of a session that is not durable
	dur      *durable   // nil for a session that ends with its connection
	ended    chan error // told when the store has ended the session; nil: nobody waits
	refused  *refusedIDs
	replays  []*replay

	will             *store.Will
	willAt, expireAt time.Duration // on the broker's clock; 0: none
	timer            *time.Timer
}

const forever = math.MaxUint32

// refusedIDs are packet identifiers of QoS 2 messages that the store has refused to keep, and to release.
type refusedIDs struct{ kept, released []uint16 }

// delivery is how one session is to get a message.
type delivery struct {
	share  *group
	ids    *[]uint32 // subscription identifiers, nil for none
	qos    uint8
	retain bool
	wait   bool // may be queued; false: only if it can be sent at once
}

func (s *session) current() *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// push hands a message to the session and reports whether the session takes it. A QoS 0 message dropped by a bound counts
// as taken, unless another member of its group might take it.
func (s *session) push(w *worker, m *store.Message, d delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead || s.frozen {
		if s.frozen && d.share == nil {
			w.count(droppedFrozen, 1)
		}
		return false
	}
	if r := s.rights.Load(); !r.hears.Load() && !r.mayReceive(m) {
		if d.share != nil { // another member may
			w.passed = true
		} else {
			s.undelivered(w, r, m.Topic, m.QoS, m.Retain, len(m.Payload))
		}
		return false
	}
	c := s.conn
	if d.qos == 0 {
		if c == nil {
			if d.share == nil {
				w.count(droppedOffline, 1)
			}
			return false
		}
		size := m.Size()
		if s.outBytes+size > c.lim.MaxOutbound || s.held+size > heldFree && (len(s.out) > 0 || c.link.Backlog() > 0) && !s.mayHold(size) {
			if d.share != nil && !d.wait {
				return false
			}
			w.count(droppedOutbound, 1)
			return true
		}
		s.emit(w, outItem{m: m, ids: d.ids, flags: publishFlags(0, d.retain, false), size: int32(min(size, math.MaxInt32))})
		return true
	}
	if s.dur != nil {
		return s.place(w, m, d)
	}
	if c != nil && s.waiting() == 0 && s.inflight.room(c.window, c.lim.MaxOutbound) {
		s.send(w, item{m: m, share: d.share, ids: d.ids, qos: d.qos, retain: d.retain})
		return true
	}
	if d.share != nil && !d.wait {
		return false
	}
	return s.enqueue(w, m, d)
}

// publisher returns what the session's retained messages say of it, and the limits that they have.
func (s *session) publisher() (*store.Publisher, *Limits) {
	owner := s.rights.Load().owner
	p := s.from.Load()
	if p == nil || p.Owner != owner {
		p = &store.Publisher{ClientID: s.id, Owner: owner}
		s.from.Store(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p, s.lim
}

// waiting is how many messages are in the queue.
func (s *session) waiting() int { return s.queue.n }

// send gives a QoS 1 or 2 message a packet identifier and puts it into the outbox.
func (s *session) send(w *worker, it item) {
	fl := flight{m: it.m, share: it.share, ids: it.ids, place: it.place, qos: it.qos, retain: it.retain, state: published, sent: true}
	var id uint16
	if it.place != nil {
		id = packetID(it.place.Pos)
		s.inflight.addAs(fl, id)
		s.dur.sent = max(s.dur.sent, it.place.Pos)
	} else {
		id = s.inflight.add(fl)
	}
	s.emit(w, outItem{m: it.m, ids: it.ids, id: id, flags: publishFlags(it.qos, it.retain, it.dup), size: int32(min(it.m.Size(), math.MaxInt32))})
}

// sendRecorded goes on with a QoS 2 message that the client had before the broker started.
func (s *session) sendRecorded(w *worker, it item) {
	id := packetID(it.place.Pos)
	s.inflight.addAs(flight{place: it.place, qos: 2, state: released, sent: true}, id)
	s.emit(w, control(mqtt.PUBREL, id, mqtt.Success))
}

// enqueue keeps a QoS 1 or 2 message until the client's window opens.
func (s *session) enqueue(w *worker, m *store.Message, d delivery) bool {
	if s.dur != nil {
		return s.place(w, m, d)
	}
	if !s.makeRoom(w, m.Size(), d.share != nil) {
		w.full++
		return false
	}
	if !s.mayHold(m.Size()) {
		if d.share == nil {
			w.count(droppedQueue, 1)
		}
		w.full++
		return false
	}
	s.queue.push(item{m: m, share: d.share, ids: d.ids, qos: d.qos, retain: d.retain})
	s.hold(w, m.Size())
	return true
}

// fill moves messages into the outbox as far as the client's window and the outbox allow: first what an earlier
// connection left unacknowledged, then the queue, then retained messages of new subscriptions.
func (s *session) fill(w *worker) {
	c := s.conn
	if c == nil || s.frozen {
		return
	}
	now := int64(s.b.now())
	f := &s.inflight
	for f.resend < f.len() {
		i := f.resend
		fl := f.at(i)
		switch fl.state {
		case done:
			f.resend++
			continue
		case released:
			f.resend++
			f.active++
			s.emit(w, control(mqtt.PUBREL, f.id(i), mqtt.Success))
			continue
		}
		if f.active >= c.window {
			return
		}
		f.resend++
		f.active++
		if !fl.sent && fl.m.Expires != 0 && now > fl.m.Expires {
			w.count(droppedExpired, 1)
			s.finish(w, i)
			continue
		}
		if !s.rights.Load().mayReceive(fl.m) {
			s.withhold(w, i)
			continue
		}
		s.emit(w, outItem{m: fl.m, ids: fl.ids, id: f.id(i), flags: publishFlags(fl.qos, fl.retain, fl.sent),
			size: int32(min(fl.m.Size(), math.MaxInt32))})
		fl.sent = true
	}
	if s.dur != nil {
		s.fillDurable(w, now)
	}
	for s.waiting() > 0 && f.room(c.window, c.lim.MaxOutbound) {
		it := s.queue.pop()
		s.hold(w, -it.m.Size())
		if it.m.Expires != 0 && now > it.m.Expires {
			w.count(droppedExpired, 1) // [MQTT-3.3.2-5]
			continue
		}
		if s.rights.Load().mayReceive(it.m) {
			s.send(w, it)
		} else {
			s.withheld(w, it.share, it.m)
		}
	}
	s.fillReplays(w, now)
}

// acked ends the handshake of a packet identifier after PUBACK, PUBCOMP or a refusing PUBREC, and reports whether it was
// in use in that state.
func (s *session) acked(w *worker, id uint16, t mqtt.Type) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.inflight.find(id)
	if i < 0 {
		return false
	}
	fl := s.inflight.at(i)
	switch t {
	case mqtt.PUBACK:
		if fl.qos != 1 {
			return false
		}
	case mqtt.PUBREC:
		if fl.qos != 2 || fl.state != published {
			return false
		}
	case mqtt.PUBCOMP:
		if fl.qos != 2 || fl.state != released {
			return false
		}
	}
	if p := fl.place; p != nil && p.Op() != nil {
		s.dur.heard(s.b.now() - p.Op().Time)
	}
	s.finish(w, i)
	if s.inflight.resend < s.inflight.len() || s.waiting() > 0 || len(s.replays) > 0 ||
		s.dur != nil && (s.dur.ready.n > 0 || !s.dur.caughtUp()) {
		s.fill(w)
	}
	return true
}

// finish ends the handshake of the message at place i.
func (s *session) finish(w *worker, i int) {
	p := s.inflight.at(i).place
	s.inflight.finish(i)
	if p != nil {
		s.acknowledge(w, p)
	}
}

// recorded handles a PUBREC: the message is the client's now, and PUBREL follows, as soon as that is durable. An unknown
// identifier is answered with 0x92, since the client waits for a PUBREL.
func (s *session) recorded(w *worker, c *Conn, id uint16) {
	s.mu.Lock()
	i := s.inflight.find(id)
	code := mqtt.Success
	var p *store.Placement
	if i < 0 || s.inflight.at(i).qos != 2 {
		code = mqtt.PacketIDNotFound
	} else if s.inflight.at(i).state == published {
		p = s.inflight.at(i).place
		s.inflight.release(i)
	}
	s.mu.Unlock()
	if p != nil {
		w.alter(c, &change{Op: store.Op{Kind: store.Recorded, Session: s.dur.id, Positions: []uint64{p.Pos}}}, control(mqtt.PUBREL, id, code))
		return
	}
	c.answer(control(mqtt.PUBREL, id, code))
}

// drop ends handshakes of messages that could not be sent: expired in the outbox, or too large for the client
// [MQTT-3.1.2-25].
func (s *session) drop(w *worker, ids []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if i := s.inflight.find(id); i >= 0 {
			s.finish(w, i)
		}
	}
	s.fill(w)
}

// end takes the session out of the broker: subscriptions, queue and messages under way. Messages of shared
// subscriptions that were not sent, or were sent with QoS 1 and not acknowledged, go to other members. The caller holds
// mu and calls the returned function after releasing it.
func (s *session) end(w *worker) func() {
	if s.dead {
		return func() {}
	}
	s.dead = true
	if s.dur != nil {
		s.b.ends.begin(s)
	}
	if s.frozen {
		s.b.frozen.Add(-1)
	}
	s.clearTimer()
	wl := s.will
	s.will = nil
	rest := s.orphans(w, func(*group) bool { return true }, true)
	subs := s.subs
	s.subs, s.inflight, s.replays = nil, inflight{}, nil
	s.queue = queue{}
	below := uint64(0)
	if q := s.dur; q != nil {
		s.hold(w, -q.ready.bytes)
		q.ready = queue{}
		// What is not known to be stored may not be found there.
		below = max(q.next, q.base)
		for pos := below; pos <= q.tail; pos++ {
			if it := &q.pending.at(int(pos - q.base)).it; it.share != nil && it.m != nil {
				rest = append(rest, orphan{it.share, it.m})
			}
		}
	}
	return func() {
		shared := false
		for _, sub := range subs {
			s.b.dropSubscription(sub)
			shared = shared || sub.share != nil
		}
		s.b.bury(s)
		w.reroute(rest)
		if wl != nil {
			s.publishWill(w, wl)
		}
		if s.dur != nil {
			s.forget(w, shared, below)
		} else {
			s.b.ends.over(s)
		}
	}
}

// forget has the store end the session, after the messages of shared subscriptions that wait in it have gone to others.
func (s *session) forget(w *worker, shared bool, below uint64) {
	q := s.dur
	end := &change{Op: store.Op{Kind: store.EndSession, Session: q.id, Wait: s}}
	if !shared || q.caughtUp() {
		w.alter(nil, end, outItem{})
		return
	}
	if !s.b.spawn(func() {
		w := s.b.worker()
		defer s.b.release(w)
		for next := q.next; next < below; {
			list, err := s.b.store.Fetch(nil, q.id, next, below, fetchCount, fetchBytes)
			if err != nil {
				s.b.log.Error("read queued messages", "client", s.id, "from", next, "error", err)
			}
			if len(list) == 0 {
				break
			}
			for i := range list {
				if e := &list[i]; e.Share != "" && e.Message != nil && (e.QoS != 2 || e.Pos > q.again) {
					if g := s.b.groups.find(e.Share); g != nil {
						w.reroute([]orphan{{g, e.Message}})
					}
				}
			}
			next = list[len(list)-1].Pos + 1
			w.flush()
		}
		w.alter(nil, end, outItem{})
	}) && s.ended != nil {
		s.ended <- errGone
	}
}

// dropSubscription removes a subscription from the index or its group.
func (b *Broker) dropSubscription(sub *subscription) {
	if sub.share != nil {
		b.groups.leave(b, sub)
	} else {
		b.index.Remove(sub.ref)
	}
}

// schedule arms the session's timer for whatever comes first. The caller holds mu.
func (s *session) schedule() {
	next := s.expireAt
	if s.willAt != 0 && (next == 0 || s.willAt < next) {
		next = s.willAt
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if next == 0 {
		return
	}
	s.timer = time.AfterFunc(max(next-s.b.now(), 0), func() { s.b.spawn(s.onTimer) })
}

// clearTimer forgets the will delay and the expiry. The caller holds mu.
func (s *session) clearTimer() {
	s.willAt, s.expireAt = 0, 0
	s.schedule()
}

func (s *session) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

// onTimer publishes a delayed will and ends an expired session. It does not come between a CONNECT's claim and its
// CONNACK: either the session ends before, or it is resumed.
func (s *session) onTimer() {
	s.claim.Lock()
	defer s.claim.Unlock()
	w := s.b.worker()
	defer s.b.release(w)
	s.mu.Lock()
	if s.dead || s.conn != nil {
		s.mu.Unlock()
		return
	}
	now := s.b.now()
	var after []func()
	if s.willAt != 0 && now >= s.willAt {
		wl := s.will
		s.will, s.willAt = nil, 0
		after = append(after, func() { s.publishWill(w, wl) })
	}
	if s.expireAt != 0 && now >= s.expireAt {
		after = append(after, s.end(w))
	} else {
		s.schedule()
	}
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
}
