package broker

import (
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// durable is the part of a session that the store keeps: the queue of QoS 1 and 2 messages by position. It is guarded by
// the session's mu.
//
// A message gets its position when it enters. It is then in one of three places: handed out (on its way to the client, or
// done with), in ready (positions below next), or in the store alone (next … tail). While next is beyond tail the session
// is caught up, and messages go straight from the publisher to the outbox; otherwise they are fetched, and a publisher
// only moves tail. pending holds what is not yet known to be stored, so that the change from fetching to the straight way
// misses nothing: what is fetched ends where pending begins.
type durable struct {
	id    store.SessionID
	tail  uint64 // the position given last
	next  uint64 // positions below it have been handed out or are in ready
	total uint64 // size of everything that was ever placed, see store.Placement

	ready    queue
	pending  ring[pending]
	base     uint64 // position of the first one in pending; tail+1 when there is none
	fetching bool

	count int   // messages that wait, in ready and in the store
	bytes int64 // their size

	sent     uint64        // the highest position that was sent
	recorded uint64        // the highest position of which the client has sent PUBREC before the broker started
	again    uint64        // positions up to it may have been sent before, by an earlier broker or on an earlier connection
	back     uint64        // positions up to it that wait were under way before, or are dropped: they do not count as waiting
	rtt      time.Duration // about how long the client takes to acknowledge

	owed []*subscription // whose retained messages a restart has kept from the queue; under the session's claim
	paid []*subscription // of which the store is still to be told that theirs are in the queue

	acks    []uint64 // positions that the store is still to be told of
	telling bool     // in some worker's list for that
}

// pending is a placement that is not yet known to be stored.
type pending struct {
	it   item // what it places; empty if that has failed
	done bool // stored, not needed any more, or failed
}

// What is ready beyond a client's window, and what one fetch brings, is bounded by these.
const (
	maxReady      = 512
	maxReadyBytes = 1 << 20
	fetchCount    = 256
	fetchBytes    = 512 << 10
)

func newDurable(id store.SessionID) *durable { return &durable{id: id, next: 1, base: 1} }

func (d *durable) caughtUp() bool { return d.next > d.tail }

// stored reports whether a position is known to be stored.
func (d *durable) stored(pos uint64) bool {
	return pos < d.base || pos-d.base < uint64(d.pending.n) && d.pending.at(int(pos-d.base)).done
}

// done notes that a position is stored, or needs not be.
func (d *durable) done(pos uint64, failed bool) {
	if pos < d.base || pos-d.base >= uint64(d.pending.n) {
		return
	}
	p := d.pending.at(int(pos - d.base))
	p.done = true
	if failed {
		p.it = item{}
	}
	for d.pending.n > 0 && d.pending.at(0).done {
		d.pending.pop()
		d.base++
	}
}

// unready takes the message of a placement that was refused out of ready, since its publisher will send it again, and
// returns its size.
func (d *durable) unready(p *store.Placement) (size int64) {
	for i := range d.ready.n {
		if it := d.ready.at(i); it.place == p { // which is not stored, and so beyond back
			size = it.size()
			d.ready.bytes -= size
			d.bytes -= size
			it.m = nil
		}
	}
	return size
}

// packetID is the packet identifier of a position: after a restart a QoS 2 message is sent again with the one that it
// had, though none was stored.
func packetID(pos uint64) uint16 { return uint16((pos-1)%maxIDs) + 1 }

// usable reports whether a message may be sent under its packet identifier; not while a client still owes the
// acknowledgement of the one 65,535 positions before.
func (f *inflight) usable(pos uint64) bool { return f.find(packetID(pos)) < 0 }

// place gives a QoS 1 or 2 message its position in the queue of a durable session, and sends it if it can. It reports
// false when the session does not take it.
func (s *session) place(w *worker, m *store.Message, d delivery) bool {
	q, c := s.dur, s.conn
	open := c != nil && q.caughtUp() && q.ready.n == 0 && s.inflight.room(c.window, c.lim.MaxOutbound) && s.inflight.usable(q.tail+1)
	size := m.Size()
	if !open {
		if d.share != nil && !d.wait {
			return false
		}
		if !s.makeRoom(w, size, d.share != nil) {
			w.full++
			return false
		}
	}
	caughtUp := q.caughtUp()
	q.tail++
	q.total += uint64(size)
	p := w.placement()
	*p = store.Placement{Session: q.id, Pos: q.tail, Bytes: q.total, QoS: d.qos, Retain: d.retain, Receiver: s}
	it := item{m: m, share: d.share, ids: d.ids, place: p, qos: d.qos, retain: d.retain}
	if d.ids != nil {
		p.SubIDs = *d.ids
	}
	if d.share != nil {
		p.Share = d.share.key
	}
	w.current(m).Place(p)
	q.pending.push(pending{it: it})
	if open && d.qos == 1 {
		q.next++
		s.send(w, it)
		w.linger = max(w.linger, q.patience(time.Duration(s.b.commit.Load())))
		return true
	}
	w.straight = false
	q.count++
	q.bytes += size
	if caughtUp && c != nil && q.ready.n < maxReady && q.ready.bytes+size < maxReadyBytes && s.mayHold(size) {
		q.next++
		s.ready(w, it)
	}
	return true
}

// ready puts an item among those that go out next.
func (s *session) ready(w *worker, it item) {
	s.dur.ready.push(it)
	s.hold(w, it.size())
}

// takeReady is the opposite of ready.
func (s *session) takeReady(w *worker) item {
	it := s.dur.ready.pop()
	s.hold(w, -it.size())
	return it
}

// makeRoom reports whether a message of some size may wait besides what waits already. Which message gives way when the
// queue is full is the listener's choice; a message of a group goes to another member instead.
func (s *session) makeRoom(w *worker, size int64, shared bool) bool {
	for {
		count, bytes := s.queued()
		if count < s.lim.MaxQueued && bytes+size <= s.lim.MaxQueuedBytes {
			return true
		}
		if shared {
			return false
		}
		w.count(droppedQueue, 1)
		if !s.lim.DropOldest || s.lim.MaxQueued == 0 || size > s.lim.MaxQueuedBytes || !s.dropOldest(w) {
			return false
		}
	}
}

// queued is how many messages wait for the client's window, and their size.
func (s *session) queued() (count int, bytes int64) {
	if s.dur != nil {
		return s.dur.count, s.dur.bytes
	}
	return s.queue.n, s.queue.bytes
}

// dropOldest drops the oldest message that waits and reports whether there was one.
func (s *session) dropOldest(w *worker) bool {
	q := s.dur
	switch {
	case q == nil && s.queue.n == 0:
		return false
	case q == nil:
		it := s.queue.pop()
		s.hold(w, -it.size())
	case q.ready.n > 0 && (q.ready.at(0).recorded || q.ready.at(0).place.Pos <= q.back):
		return false // it is the client's, and waits for PUBREL; or it may be
	case q.ready.n > 0:
		it := s.takeReady(w)
		s.waited(it.place.Pos, it.size())
		s.acknowledge(w, it.place)
	default: // it is in the store, and how large it is there; the average comes near
		pos := max(q.next, q.back+1)
		if pos > q.tail || pos <= q.recorded {
			return false
		}
		s.waited(pos, q.bytes/int64(max(q.count, 1)))
		if pos == q.next {
			q.next++
		} else { // those under way before it stay
			q.back = pos
		}
		if i := int(pos - q.base); pos >= q.base && q.pending.at(i).it.place != nil {
			s.acknowledge(w, q.pending.at(i).it.place)
		} else {
			s.tell(w, pos)
		}
	}
	return true
}

// waited notes that a message waits no longer.
func (s *session) waited(pos uint64, size int64) {
	q := s.dur
	if pos > q.back {
		q.count = max(q.count-1, 0)
		q.bytes = max(q.bytes-size, 0)
	}
	if q.caughtUp() && q.ready.n == 0 { // positions that were never used have been counted too
		q.count, q.bytes = 0, 0
	}
}

// acknowledge notes that a message is done with: acknowledged by the client, or dropped.
func (s *session) acknowledge(w *worker, p *store.Placement) {
	switch p.Acknowledge() {
	case store.Written:
		s.tell(w, p.Pos)
	case store.Elided:
		w.elided = append(w.elided, p.Op())
		fallthrough
	case store.Spared:
		s.dur.done(p.Pos, true) // nobody asks for it again
	}
}

// tell has the store told that a message is done with, at the end of the worker's event.
func (s *session) tell(w *worker, pos uint64) {
	q := s.dur
	q.acks = append(q.acks, pos)
	if !q.telling {
		q.telling = true
		w.telling = append(w.telling, s)
	}
}

// fillDurable moves messages into the outbox as far as the client's window allows.
func (s *session) fillDurable(w *worker, now int64) {
	for s.sendReady(w, now); s.more(w); {
		s.sendReady(w, now)
	}
}

// sendReady sends what is ready, in order: a QoS 2 message that is not yet stored holds up those behind it.
func (s *session) sendReady(w *worker, now int64) {
	q, c, f := s.dur, s.conn, &s.inflight
	for q.ready.n > 0 && f.room(c.window, c.lim.MaxOutbound) {
		front := q.ready.at(0)
		pos := front.place.Pos
		if front.qos == 2 && !q.stored(pos) || !f.usable(pos) {
			return
		}
		it := s.takeReady(w)
		s.waited(pos, it.size())
		switch {
		case it.recorded:
			s.sendRecorded(w, it)
		case it.m == nil: // refused
		case it.m.Expires != 0 && now > it.m.Expires && !(it.dup && it.qos == 2): // [MQTT-3.3.2-5][MQTT-4.3.3-7]
			w.count(droppedExpired, 1)
			s.acknowledge(w, it.place)
		case s.rights.Load().mayReceive(it.m):
			s.send(w, it)
		case it.dup && it.qos == 2: // see withhold
			s.withheld(w, nil, it.m)
			s.sendRecorded(w, it)
		default:
			s.withheld(w, it.share, it.m)
			s.acknowledge(w, it.place)
		}
	}
}

// more makes further messages ready and reports whether there are any at once; those in the store are fetched.
func (s *session) more(w *worker) bool {
	q, c := s.dur, s.conn
	if q.caughtUp() || q.fetching || q.ready.n >= maxReady/2 || !s.inflight.room(c.window, c.lim.MaxOutbound) {
		return false
	}
	if q.next < q.base {
		from, below := q.next, q.base
		q.fetching = s.b.spawn(func() { s.fetch(from, below) })
		return false
	}
	// What remains is not yet known to be stored. From here on the session is caught up.
	for ; q.next <= q.tail; q.next++ {
		if p := q.pending.at(int(q.next - q.base)); p.it.m != nil {
			s.ready(w, p.it)
		}
	}
	return q.ready.n > 0
}

// leave forgets what is ready when the connection ends: the next one has it fetched again.
func (s *session) leave(w *worker) {
	q := s.dur
	if q.ready.n == 0 {
		return
	}
	s.hold(w, -q.ready.bytes)
	q.next = q.ready.at(0).place.Pos
	q.ready = queue{}
}

// unload forgets what is under way to a client that is away: the next connection has it fetched again. It waits until
// nothing is pending, where messages that are done with may still be. The caller holds mu.
func (s *session) unload() {
	q, f := s.dur, &s.inflight
	if q == nil || s.dead || s.conn != nil || s.leaving != nil || q.pending.n > 0 || f.len() == 0 {
		return
	}
	next, back, again := q.next, q.back, q.again
	for i := range f.len() {
		fl := f.at(i)
		if fl.state == done {
			continue
		}
		pos := fl.place.Pos
		next, back = min(next, pos), max(back, pos)
		if fl.sent {
			again = max(again, pos)
		}
	}
	q.next, q.back, q.again = next, back, again
	s.inflight = inflight{}
}

// fetch reads messages from the store, which may take its time, and puts them into ready.
func (s *session) fetch(from, below uint64) {
	b := s.b
	b.fetches <- struct{}{}
	list, err := b.store.Fetch(nil, s.dur.id, from, below, fetchCount, fetchBytes)
	<-b.fetches
	w := b.worker()
	defer b.release(w)
	w.reroute(s.take(w, list, err, from, below))
}

// take puts what was fetched into ready, and returns messages for other members of groups that the session has left.
func (s *session) take(w *worker, list []store.Queued, err error, from, below uint64) (rest []orphan) {
	b := s.b
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.dur
	q.fetching = false
	c := s.conn
	if s.dead || c == nil {
		return nil
	}
	if err != nil {
		b.log.Error("read queued messages", "client", s.id, "from", from, "error", err)
		b.spawn(func() { c.kick(mqtt.ImplementationSpecificError, "messages that wait for this client cannot be read") })
		return nil
	}
	if q.next < from { // another connection began before these
		s.fill(w)
		return nil
	}
	places := make([]store.Placement, len(list))
	for i := range list {
		e := &list[i]
		if e.Pos < q.next { // dropped meanwhile
			continue
		}
		places[i] = store.Placement{Session: q.id, Pos: e.Pos, Bytes: e.Bytes}
		it := item{m: e.Message, place: &places[i], qos: e.QoS, retain: e.Retain, dup: e.Pos <= q.again, recorded: e.Recorded}
		if len(e.SubIDs) > 0 {
			it.ids = &e.SubIDs
		}
		if e.Share != "" {
			it.share = b.groups.find(e.Share)
		}
		q.next = e.Pos + 1
		if it.share != nil && it.m != nil && s.subs[e.Share] == nil && !(it.dup && it.qos == 2) {
			rest = append(rest, orphan{it.share, it.m})
			s.waited(e.Pos, it.size())
			s.acknowledge(w, it.place)
			continue
		}
		s.ready(w, it)
		if e.Pos > q.back {
			q.bytes = int64(q.total-e.Bytes) + q.waitingReady() // exact again
		}
	}
	if len(list) == 0 || len(list) < fetchCount && sizeOf(list) < fetchBytes {
		q.next = max(q.next, below)
	}
	s.fill(w)
	return rest
}

// waitingReady is the size of what is ready and counts as waiting.
func (d *durable) waitingReady() int64 {
	if d.ready.n == 0 || d.ready.at(0).place.Pos > d.back {
		return d.ready.bytes
	}
	n := int64(0)
	for i := d.ready.n - 1; i >= 0 && d.ready.at(i).place.Pos > d.back; i-- {
		n += d.ready.at(i).size()
	}
	return n
}

func sizeOf(list []store.Queued) (n int64) {
	for i := range list {
		if m := list[i].Message; m != nil {
			n += m.Size()
		}
	}
	return n
}

// patience is how long the store may wait for the client's acknowledgement before it writes what was sent: about as long
// as the client takes, if that is not much more than writing takes. For a slow client it does not wait.
func (d *durable) patience(commit time.Duration) time.Duration {
	if d.rtt > max(2*commit, alwaysPatient) {
		return impatient
	}
	return 2*d.rtt + 2*time.Millisecond
}

const (
	alwaysPatient = 5 * time.Millisecond
	impatient     = time.Duration(1<<63 - 1)
)

// heard notes how long an acknowledgement took, or that it took longer than the store could wait.
func (d *durable) heard(took time.Duration) { d.rtt += (took - d.rtt) / 8 }

// record is what the store keeps of the session itself while it has no connection. The caller holds mu.
func (s *session) record() *store.Session {
	p := s.rights.Load()
	return &store.Session{
		ID: s.dur.id, ClientID: s.id, Name: p.Name, Method: p.Method, Kind: p.Kind, Bound: p.Bound,
		Expiry: s.expiry, Sent: max(s.dur.sent, s.dur.again), WillAt: s.willAt, ExpireAt: s.expireAt, Will: s.will,
	}
}
