package broker

import (
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// answer is an acknowledgement that leaves when what it acknowledges is durable. A connection's answers leave in the
// order in which their packets came.
type answer struct {
	c       *Conn
	it      outItem
	ready   bool      // guarded by the session's mu
	replays []*replay // what follows a SUBACK
	weight  int64     // see Conn.addUnstored
	silent  bool      // nothing is to be sent
	qos     uint8     // of the PUBLISH that it answers, 0 for another packet; 1 counts against the client's Receive Maximum
}

// change is an op with what is needed beside it, in one allocation.
type change struct {
	store.Op
	answer answer
	first  [1]*store.Placement
	place  store.Placement
}

// answer puts a packet into the client's own outbox, behind what still waits for the disk.
func (c *Conn) answer(it outItem) {
	s := c.sess
	s.mu.Lock()
	waits := len(c.answers) > 0 && it.kind != mqtt.PINGRESP
	if waits {
		c.answers = append(c.answers, &answer{c: c, it: it, ready: true, weight: weight(int64(it.size))})
	} else {
		s.emit(c.w, it)
	}
	s.mu.Unlock()
	if waits {
		c.addUnstored(weight(int64(it.size)))
	}
}

// answerAfter has a packet sent when the change is durable. It is called before the change is submitted.
func (c *Conn) answerAfter(ch *change, it outItem, qos uint8) {
	size := int64(it.size)
	if ch.Message != nil {
		size += ch.Message.Size()
	}
	for i := range ch.Subscriptions {
		size += int64(len(ch.Subscriptions[i].Filter))
	}
	for _, f := range ch.Filters {
		size += int64(len(f))
	}
	ch.answer = answer{c: c, it: it, qos: qos, weight: weight(size)}
	c.addUnstored(ch.answer.weight)
	ch.Wait = &ch.answer
	if qos == 1 {
		c.unacked.Add(1)
	}
	s := c.sess
	s.mu.Lock()
	c.answers = append(c.answers, &ch.answer)
	s.mu.Unlock()
}

// release sends an answer as soon as those before it have left.
func (a *answer) release(w *worker) {
	c := a.c
	s := c.sess
	if a.silent {
		c.addUnstored(-a.weight)
		return
	}
	if a.qos == 1 {
		c.unacked.Add(-1)
	}
	gone := int64(0)
	defer func() { c.addUnstored(-gone) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	a.ready = true
	if s.conn != c { // the connection is gone; the client will ask again
		c.answers = nil
		return
	}
	n := 0
	for n < len(c.answers) && c.answers[n].ready {
		s.emit(w, c.answers[n].it)
		s.replay(w, c.answers[n].replays)
		gone += c.answers[n].weight
		c.answers[n] = nil
		n++
	}
	if c.answers = c.answers[n:]; len(c.answers) == 0 {
		c.answers = nil
	}
}

// refused answers that a change has failed. An MQTT 5 publisher is told; others are disconnected, and ask again when
// they are back [MQTT311 MQTT-4.8.0-2].
func (a *answer) refused(w *worker, op *store.Op, err error) {
	c := a.c
	s := c.sess
	switch {
	case a.qos == 2: // the client may send it again, and it will not be a repetition
		s.mu.Lock()
		s.refusals().kept = append(s.refusals().kept, a.it.id)
		s.mu.Unlock()
		s.undo.Store(true)
	case op.Kind == store.Released: // the store still has it
		s.mu.Lock()
		s.refusals().released = append(s.refusals().released, op.PacketID)
		s.mu.Unlock()
		s.undo.Store(true)
	}
	if a.silent || a.qos > 0 && c.version == mqtt.V5 {
		a.it.code = mqtt.QuotaExceeded
		a.release(w)
		return
	}
	s.b.spawn(func() { c.kick(mqtt.QuotaExceeded, err.Error()) })
}

func (s *session) refusals() *refusedIDs {
	if s.refused == nil {
		s.refused = new(refusedIDs)
	}
	return s.refused
}

// placement returns a place for one message in one queue.
func (w *worker) placement() *store.Placement {
	if w.change == nil {
		w.newChange()
		return &w.change.place
	}
	if len(w.places) == 0 {
		w.places = make([]store.Placement, 16)
	}
	p := &w.places[0]
	w.places = w.places[1:]
	return p
}

// newChange begins the op of the publication under way.
func (w *worker) newChange() {
	ch := &change{}
	ch.Kind, ch.Time = store.Publish, w.b.now()
	ch.Placements = ch.first[:0]
	w.change, w.straight, w.linger = ch, true, 0
}

// current returns the op of the publication under way.
func (w *worker) current(m *store.Message) *store.Op {
	if w.change == nil {
		w.newChange()
	}
	w.change.Message = m
	return &w.change.Op
}

// settle ends a publication: it has its op submitted, if there is one, and the publisher answered, at once or when the
// message is durable. c is the publisher's connection, if any; one that published with QoS 0 gets no answer.
func (w *worker) settle(c *Conn, it outItem) {
	ch := w.change
	if lock := w.retaining; lock != nil {
		w.retaining = nil
		defer lock.Unlock()
	}
	qos := w.pub.qos
	w.pub = publication{}
	if ch == nil {
		if c != nil && qos > 0 {
			c.answer(it)
		}
		return
	}
	w.change = nil
	if c != nil {
		ch.Lane = &c.lane
		if qos > 0 {
			c.answerAfter(ch, it, qos)
		} else {
			ch.answer = answer{c: c, silent: true, weight: weight(ch.Message.Size())}
			ch.Wait = &ch.answer
			c.addUnstored(ch.answer.weight)
		}
	}
	if w.straight && w.linger < impatient && !ch.Must() {
		ch.Linger = w.linger
	}
	if !ch.Prepare() {
		w.elided = append(w.elided, &ch.Op)
		return
	}
	w.ops = append(w.ops, &ch.Op)
	if ch.Retained { // under the lock that gives the messages of the topic their order
		w.submit()
	}
}

// alter has another change of a session submitted. The answer, if c is not nil, leaves when it is durable.
func (w *worker) alter(c *Conn, ch *change, it outItem) {
	ch.Time = w.b.now()
	if c != nil {
		ch.Lane = &c.lane
		c.answerAfter(ch, it, 0)
	}
	w.ops = append(w.ops, &ch.Op)
}

// submit hands the worker's ops to the store, in their order.
func (w *worker) submit() {
	for len(w.orphans) > 0 { // what they cause may leave others
		rest := w.orphans
		w.orphans = nil
		w.reroute(rest)
	}
	for i, s := range w.telling {
		w.telling[i] = nil
		s.mu.Lock()
		s.dur.telling = false
		acks := s.dur.acks
		s.dur.acks = nil
		dead := s.dead
		s.mu.Unlock()
		if !dead {
			w.alter(nil, &change{Op: store.Op{Kind: store.Acked, Session: s.dur.id, Positions: acks}}, outItem{})
		}
	}
	w.telling = w.telling[:0]
	if len(w.ops) > 0 {
		w.b.store.Submit(w.ops...)
		clear(w.ops)
		w.ops = w.ops[:0]
	}
	for len(w.elided) > 0 {
		op := w.elided[len(w.elided)-1]
		w.elided = w.elided[:len(w.elided)-1]
		w.ended(op, nil)
	}
}

// ended releases whoever waits for an op.
func (w *worker) ended(op *store.Op, err error) {
	switch wait := op.Wait.(type) {
	case *answer:
		if err != nil {
			wait.refused(w, op, err)
		} else {
			wait.release(w)
		}
	case chan error:
		wait <- err
	case *session: // that has ended
		if wait.ended != nil {
			select {
			case wait.ended <- err:
			default: // told before
			}
		}
		if err != nil {
			w.b.tryAgain(op, err)
		} else {
			w.b.ends.over(wait)
		}
	case *dueWill:
		if err != nil {
			wait.later()
		}
	default:
		switch {
		case err == nil:
		case op.Kind == store.PutRecord: // its owner's to repeat
		case op.Kind == store.Publish:
			if omitted, ok := w.b.hush.allow(w.b.now(), "refused message", ""); ok {
				w.b.log.Warn("message that nobody waits for is not stored", "topic", op.Message.Topic, "error", err,
					"not_logged_before", omitted)
			}
		default:
			w.b.tryAgain(op, err)
		}
	}
}

// Committed implements store.Handler.
func (h handler) Committed(ops []*store.Op, err error) {
	b := h.b
	w := b.worker()
	defer b.release(w)
	now := b.now()
	if len(ops) > 0 && ops[0].Kind != store.PutRecord { // a record has no time
		before := b.commit.Load()
		b.commit.Store(before + (int64(now-ops[0].Time-ops[0].Linger)-before)/8)
	}
	for _, op := range ops { // all of them before what waits behind one is sent
		for _, p := range op.Placements {
			s := p.Receiver.(*session)
			s.mu.Lock()
			if op.Linger > 0 && err == nil && !s.dur.stored(p.Pos) {
				s.dur.heard(now - op.Time) // in vain
			}
			s.dur.done(p.Pos, err != nil)
			if err != nil {
				s.hold(w, -s.dur.unready(p))
				if p.Pos >= s.dur.next {
					s.waited(p.Pos, op.Message.Size())
				}
			}
			s.mu.Unlock()
		}
	}
	for _, op := range ops {
		for _, p := range op.Placements {
			s := p.Receiver.(*session)
			s.mu.Lock()
			if s.conn != nil && (s.dur.ready.n > 0 || !s.dur.caughtUp()) {
				s.fill(w)
			}
			s.unload()
			s.mu.Unlock()
		}
		w.ended(op, err)
		if len(w.dirty) >= maxDirty {
			w.flush()
		}
	}
}

// needsStore reports whether a publication must be stored for somebody: it is retained, its publisher's session keeps
// QoS 2 packet identifiers, or a durable session wants it.
func (b *Broker) needsStore(p *publication) bool {
	if p.retain || p.qos == 2 && p.from != nil && p.from.dur != nil {
		return true
	}
	if p.qos == 0 {
		return false
	}
	found := false
	for _, set := range b.index.Lookup(p.topic).Sets() {
		set.Each(func(sub *subscription) bool {
			switch {
			case sub.sess != nil:
				found = sub.sess.dur != nil && sub.options().qos() > 0
			case sub.group != nil:
				found = sub.group.durable()
			}
			return !found
		})
	}
	return found
}
