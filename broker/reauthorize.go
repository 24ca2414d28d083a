package broker

import (
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// Reauthorize asks Options.Authorize about every session, after a policy has changed. When it returns, every session has
// its policy of now, what waited in outboxes and may not be received any more is dropped, and subscriptions that are not
// allowed any more are withdrawn and told to Options.Withdrawn. What waits in queues is looked at when it is due.
//
// A principal that is refused loses its connection, without its will; its session stays as it is, but nothing comes in or
// out until it is allowed again. It must not be called from any function of the Options.
func (b *Broker) Reauthorize() {
	if b.onAuthorize == nil {
		return
	}
	b.authorizations.Add(1)
	all := b.allSessions()
	b.reauthorize(all)
	for _, s := range all {
		s.withdrawLost()
	}
}

// reauthorize is Reauthorize for some sessions, but withdraws nothing.
func (b *Broker) reauthorize(list []*session) {
	b.reviewing.Lock()
	defer b.reviewing.Unlock()
	w := b.worker()
	defer b.release(w)
	var expelled []*Conn
	for _, s := range list {
		if c := s.reauthorize(w); c != nil {
			expelled = append(expelled, c)
		}
		if len(w.dirty) >= maxDirty {
			w.flush()
		}
	}
	b.unauthorized = false
	b.scheduleRestored()
	b.share(len(expelled), func(i int) { expelled[i].expel() })
}

// reauthorizeOne is Reauthorize for one session.
func (b *Broker) reauthorizeOne(s *session) {
	b.reviewing.Lock()
	w := b.worker()
	c := s.reauthorize(w)
	b.release(w)
	b.reviewing.Unlock()
	if c != nil {
		b.spawn(c.expel)
	}
	s.withdrawLost()
}

// reauthorize gives the session its policy of now, and returns its connection if that is to be ended. The caller holds
// reviewing, so that an older policy never comes after a newer one.
func (s *session) reauthorize(w *worker) *Conn {
	for {
		s.mu.Lock()
		dead, before := s.dead, s.rights.Load()
		s.mu.Unlock()
		if dead {
			return nil
		}
		p, err := s.b.authorize(s.id, nil, before.Principal, nil)
		var after *rights
		switch {
		case err != nil:
			after = noRights(before.Principal, before.restored)
		case before.restored:
			after = restoredRights(p)
		default:
			after = newRights(p)
		}
		after.owner = before.owner
		if before.told != nil {
			after.told = before.told
		}
		s.mu.Lock()
		switch {
		case s.dead:
			s.mu.Unlock()
			return nil
		case s.rights.Load() != before:
			s.mu.Unlock()
			continue
		}
		s.rights.Store(after)
		c := s.conn
		if c != nil {
			s.sift(w)
		}
		if err == nil {
			c = nil
		} else if c != nil {
			c.bar(refusal(err))
		}
		s.mu.Unlock()
		return c
	}
}

// sift takes messages that may not be received any more out of the outbox. Those that are encoded already stay. The caller
// holds mu.
func (s *session) sift(w *worker) {
	r := s.rights.Load()
	var gone []outItem
	kept := s.out[:0]
	for _, it := range s.out {
		if it.m == nil || r.mayReceive(it.m) {
			kept = append(kept, it)
			continue
		}
		s.outBytes -= int64(it.size)
		s.hold(w, -int64(it.size))
		if it.id != 0 {
			gone = append(gone, it)
		} else {
			s.withheld(w, nil, it.m)
		}
	}
	clear(s.out[len(kept):])
	s.out = kept
	for _, it := range gone {
		if i := s.inflight.find(it.id); i >= 0 {
			s.inflight.at(i).sent = it.flags&8 != 0
			s.withhold(w, i)
		}
	}
	if len(gone) > 0 {
		s.fill(w)
	}
}

// withhold ends the handshake of the message at place i, which may not be received any more. If the client may have it
// already, it waits for the PUBREL of a QoS 2 message, and would take a later one with the same packet identifier for a
// repetition. The caller holds mu.
func (s *session) withhold(w *worker, i int) {
	fl := s.inflight.at(i)
	if fl.qos == 2 && fl.sent {
		s.withheld(w, nil, fl.m)
		id := s.inflight.id(i)
		s.inflight.release(i)
		s.emit(w, control(mqtt.PUBREL, id, mqtt.Success))
		return
	}
	s.withheld(w, fl.share, fl.m)
	s.finish(w, i)
}

// withheld drops a message that may not be received any more, or leaves it to another member of its group.
func (s *session) withheld(w *worker, share *group, m *store.Message) {
	if share != nil {
		w.orphans = append(w.orphans, orphan{share, m})
		return
	}
	s.undelivered(w, s.rights.Load(), m.Topic, m.QoS, m.Retain, len(m.Payload))
}

// withdrawChunk is how many subscriptions are withdrawn while the connection's packets wait.
const withdrawChunk = 256

// withdrawLost withdraws the subscriptions that the session's policy does not allow any more.
func (s *session) withdrawLost() {
	r := s.rights.Load()
	lost := s.lost(r)
	if len(lost) == 0 {
		r.settle()
		return
	}
	w := s.b.worker()
	defer s.b.release(w)
	var gone []string
	for from := 0; from < len(lost); from += withdrawChunk {
		some := lost[from:min(from+withdrawChunk, len(lost))]
		alone := s.alone(func() {
			r := s.rights.Load()
			if !r.dormant {
				gone = append(gone, s.withdraw(w, r, some)...)
			}
			w.submit() // before what the connection submits later
		})
		if !alone {
			s.b.withdrawn(s, gone)
			return
		}
	}
	r.settle()
	s.b.withdrawn(s, gone)
}

// lost returns the subscriptions that r does not allow.
func (s *session) lost(r *rights) (lost []*subscription) {
	if r.dormant || r.policy == nil {
		return nil
	}
	s.mu.Lock()
	all := make([]*subscription, 0, len(s.subs))
	for _, sub := range s.subs {
		all = append(all, sub)
	}
	s.mu.Unlock()
	for _, sub := range all {
		if !r.maySubscribe(sub) {
			lost = append(lost, sub)
		}
	}
	return lost
}

func (r *rights) maySubscribe(sub *subscription) bool {
	plain := sub.filter
	if sub.share != nil {
		plain = sub.share.entry.filter
	}
	return r.may(auth.Subscribe, plain, sub.options().qos(), false)
}

// withdraw ends those of the subscriptions that are still there and that r still does not allow. Nobody else changes the
// session's subscriptions meanwhile.
func (s *session) withdraw(w *worker, r *rights, list []*subscription) (gone []string) {
	for _, sub := range list {
		s.mu.Lock()
		there := s.subs[sub.filter] == sub
		s.mu.Unlock()
		if there && !r.maySubscribe(sub) && s.unsubscribe(w, sub.filter) {
			gone = append(gone, sub.filter)
		}
	}
	if len(gone) > 0 && s.dur != nil {
		w.alter(nil, &change{Op: store.Op{Kind: store.Unsubscribe, Session: s.dur.id, Filters: gone}}, outItem{})
	}
	return gone
}

// alone calls f while nobody else changes the session's subscriptions, connects to it or ends it. It reports false if the
// session has ended. The caller holds no lock.
func (s *session) alone(f func()) bool {
	for {
		s.mu.Lock()
		dead, c := s.dead, s.conn
		s.mu.Unlock()
		switch {
		case dead:
			return false
		case c != nil && s.with(c, f):
			return true
		case c == nil && s.without(f):
			return true
		}
	}
}

// with calls f between the packets of a connection, if the session still has it.
func (s *session) with(c *Conn, f func()) bool {
	c.proc.Lock()
	defer c.proc.Unlock()
	if s.current() != c {
		return false
	}
	f()
	return true
}

// without calls f if the session has no connection, and will have none meanwhile.
func (s *session) without(f func()) bool {
	s.claim.Lock()
	defer s.claim.Unlock()
	s.mu.Lock()
	dead, c, leaving := s.dead, s.conn, s.leaving
	s.mu.Unlock()
	switch {
	case dead || c != nil:
		return false
	case leaving != nil:
		leaving.finish()
		return false
	}
	f()
	return true
}

// withdrawn tells of subscriptions that a session has lost.
func (b *Broker) withdrawn(s *session, gone []string) {
	if len(gone) == 0 {
		return
	}
	b.log.Warn("subscriptions withdrawn", "client", s.id, "count", len(gone), "filters", gone[:min(len(gone), maxLogged)])
	if b.onWithdrawn != nil {
		b.onWithdrawn(s.id, s.rights.Load().Principal, gone)
	}
}

// maxLogged is how many filters a log line names.
const maxLogged = 8
