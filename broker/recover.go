package broker

import (
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// handler is what the store calls.
type handler struct {
	b   *Broker
	lim *Limits // of sessions that it brings back
}

// Session implements store.Handler: it brings back a session that the store has kept. One that had a connection has lost
// it at this moment, as far as its will and its expiry are concerned, and only once: from here on its deadlines are stored.
func (h handler) Session(r *store.Session, subs []store.Subscription, received []uint16, queue store.QueueState) {
	b := h.b
	s := &session{
		b: b, id: r.ClientID, dur: newDurable(r.ID), lim: h.lim, expiry: r.Expiry,
		will: r.Will, willAt: r.WillAt, expireAt: r.ExpireAt,
	}
	s.rights.Store(restoredRights(&auth.Principal{Name: r.Name, Method: r.Method, Kind: r.Kind, Bound: r.Bound}))
	b.nextSession.Store(max(b.nextSession.Load(), uint64(r.ID)))
	d := s.dur
	d.again, d.recorded = r.Sent, queue.Recorded
	if queue.Last != 0 {
		d.next, d.tail, d.base = queue.First, queue.Last, queue.Last+1
		d.total = queue.BytesEnd
		d.count, d.bytes = int(queue.Last-queue.First)+1, int64(queue.BytesEnd-queue.BytesBefore)
	}
	if d.tail < r.Sent { // what was sent last is acknowledged; its packet identifiers stay used for a while
		d.tail = r.Sent
		d.base = d.tail + 1
		if queue.Last == 0 {
			d.next = d.tail + 1
		}
	}
	if r.Online {
		d.again = d.tail
	}
	for _, id := range received {
		if s.received2 == nil {
			s.received2 = make(map[uint16]uint32, len(received))
		}
		s.received2[id] = 0
	}
	sh := b.shard(s.id)
	if other := sh.m[s.id]; other != nil { // an end that the store refused, and then another beginning
		if other.dur.id > d.id {
			b.over = append(b.over, d.id)
			return
		}
		b.over = append(b.over, other.dur.id)
		for _, sub := range other.subs {
			b.dropSubscription(sub)
		}
		other.dead = true
		b.uses.end(other.rights.Load().owner)
	} else {
		b.known.Add(1)
	}
	b.uses.restore(s.rights.Load().owner, use{sessions: 1})
	sh.m[s.id] = s
	for i := range subs {
		s.restore(&subs[i])
	}
	if r.Online {
		b.lost = append(b.lost, s)
	} else {
		b.detached = append(b.detached, s)
	}
}

// restore brings back a subscription.
func (s *session) restore(r *store.Subscription) {
	_, plain, shared, err := topic.ParseShare(r.Filter)
	if err != nil {
		s.b.log.Error("restore subscription", "client", s.id, "filter", r.Filter, "error", err)
		return
	}
	sub := &subscription{sess: s, filter: r.Filter}
	sub.setOptions(packOptions(r.QoS, r.NoLocal, r.RetainAsPublished, r.ID))
	if s.subs == nil {
		s.subs = make(map[string]*subscription, 1)
	}
	s.subs[r.Filter] = sub
	if r.Replay {
		s.dur.owed = append(s.dur.owed, sub)
	}
	if shared {
		s.b.groups.join(s.b, r.Filter, plain, sub)
		sub.share.move(sub, false)
	} else {
		sub.ref = s.b.index.Insert(r.Filter, sub)
	}
}

// Retained implements store.Handler.
func (h handler) Retained(m *store.Message) {
	h.b.retained.Set(m.Topic, m)
	n, owner := retainedUse(m)
	h.b.uses.restore(owner, n)
	if m.Expires != 0 {
		h.b.sweepLater()
	}
	h.b.seq.Store(max(h.b.seq.Load(), m.Seq))
}

// load brings back what the store holds and lets the time of its sessions begin.
func (b *Broker) load(lim Limits) error {
	clock, err := b.store.Load(handler{b, b.limits(lim)})
	if err != nil {
		return err
	}
	b.base, b.start = clock, time.Now()
	// The clock is past the number of every session that was ever begun: there is less than one in a nanosecond.
	b.nextSession.Store(max(b.nextSession.Load(), uint64(clock)))
	w := b.worker()
	defer b.release(w)
	for _, id := range b.over {
		w.alter(nil, &change{Op: store.Op{Kind: store.EndSession, Session: id}}, outItem{})
	}
	for _, s := range b.lost {
		if s.dead {
			continue
		}
		s.mu.Lock()
		now := max(b.now(), 1)
		if s.will != nil {
			s.willAt = now + time.Duration(s.will.Delay)*time.Second
		}
		switch {
		case s.expiry == 0:
			s.expireAt = now
		case s.expiry != forever:
			s.expireAt = now + time.Duration(s.expiry)*time.Second
		}
		if s.will != nil && s.expireAt != 0 {
			s.willAt = min(s.willAt, s.expireAt)
		}
		w.alter(nil, &change{Op: store.Op{Kind: store.PutSession, Session: s.dur.id, State: s.record()}}, outItem{})
		s.mu.Unlock()
	}
	w.submit() // before a timer publishes a will, which takes it out of the record
	b.restored = append(b.lost, b.detached...)
	b.lost, b.detached, b.over = nil, nil, nil
	b.scheduleRestored()
	return nil
}

// scheduleRestored lets the will delays and expiries of restored sessions run, once all that may speak against them has
// been asked.
func (b *Broker) scheduleRestored() {
	if b.unreviewed || b.unauthorized {
		return
	}
	for _, s := range b.restored {
		s.mu.Lock()
		if !s.dead && s.conn == nil {
			s.schedule()
		}
		s.mu.Unlock()
	}
	b.restored = nil
}
