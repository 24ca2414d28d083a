package broker

import (
	"sync/atomic"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// Standing says whether a principal that was let in may stay. The zero value: it may.
type Standing struct {
	// Refused is what an MQTT 5 client is told. A code that CONNACK cannot have becomes 0x87 (not authorized) there, and
	// one that DISCONNECT cannot have 0x98 (administrative action).
	Refused mqtt.ReasonCode
	Text    string // the words beside it
}

// Review asks Options.Standing about every session; see there for what becomes of those that are refused. Once it has
// returned, none of them is served any more, except for the packets of one read that was under way; their connections end
// in the background. Calls at the same time share their work. It must not be called from Options.Standing.
func (b *Broker) Review() {
	if b.standing == nil {
		return
	}
	asked := b.reviews.Add(1)
	b.reviewing.Lock()
	defer b.reviewing.Unlock()
	if b.reviewed >= asked {
		return
	}
	now := b.reviews.Load()
	w := b.worker()
	defer b.release(w)
	var away auth.Principal
	var barred []*Conn
	for _, s := range b.allSessions() {
		if c := s.review(w, &away); c != nil {
			barred = append(barred, c)
		}
	}
	b.reviewed, b.unreviewed = now, false
	b.scheduleRestored()
	b.share(len(barred), func(i int) { barred[i].expel() })
}

// reviewOne is Review for one session.
func (b *Broker) reviewOne(s *session) {
	b.reviewing.Lock()
	defer b.reviewing.Unlock()
	w := b.worker()
	defer b.release(w)
	var away auth.Principal
	if c := s.review(w, &away); c != nil {
		b.spawn(c.expel)
	}
}

// reviewClient is Review for the session of a client identifier, if there is one.
func (b *Broker) reviewClient(id string) {
	sh := b.shard(id)
	sh.mu.Lock()
	s := sh.m[id]
	sh.mu.Unlock()
	if s != nil {
		b.reviewOne(s)
	}
}

// review judges a session and returns its connection if that is to be ended. away is room for what is asked about a
// session without one. The caller holds reviewing, so that an older judgement never comes after a newer one.
func (s *session) review(w *worker, away *auth.Principal) *Conn {
	for {
		s.mu.Lock()
		dead, c, r := s.dead, s.conn, s.rights.Load()
		s.mu.Unlock()
		p := r.Principal
		if dead {
			return nil
		}
		var here Standing
		if c != nil {
			here = s.b.standing(p)
		}
		frozen := false
		if c == nil || here.Refused != mqtt.Success {
			*away = auth.Principal{Name: p.Name, Method: p.Method, Kind: p.Kind, Bound: p.Bound}
			frozen = s.b.standing(away).Refused != mqtt.Success
		}
		s.mu.Lock()
		switch {
		case s.dead:
			s.mu.Unlock()
			return nil
		case s.conn != c || s.rights.Load() != r:
			s.mu.Unlock()
			continue
		}
		s.freeze(w, frozen)
		if here.Refused == mqtt.Success {
			c = nil
		} else {
			c.bar(here)
		}
		s.mu.Unlock()
		return c
	}
}

// freeze keeps everything from going into the session or out of it, or lets it again. A will that waits for its delay is
// dropped. The caller holds mu.
func (s *session) freeze(w *worker, frozen bool) {
	if s.frozen == frozen {
		return
	}
	s.frozen = frozen
	if !frozen {
		s.b.frozen.Add(-1)
		s.fill(w)
		return
	}
	s.b.frozen.Add(1)
	if s.will != nil {
		s.will, s.willAt = nil, 0
		s.schedule()
		s.save(w)
	}
}

// save has the store keep what has changed of the session itself while it has no connection. The caller holds mu.
func (s *session) save(w *worker) {
	if s.dur != nil {
		w.alter(nil, &change{Op: store.Op{Kind: store.PutSession, Session: s.dur.id, State: s.record()}}, outItem{})
	}
}

// bar has nothing of the connection served any more. Whoever calls it also has it expelled.
func (c *Conn) bar(why Standing) {
	if !why.Refused.ValidFor(mqtt.DISCONNECT) {
		why.Refused = mqtt.AdministrativeAction
	}
	c.barred.CompareAndSwap(nil, &why)
}

// expel ends a barred connection, after the packets under way have been processed.
func (c *Conn) expel() {
	c.proc.Lock()
	defer c.proc.Unlock()
	if !c.gone {
		c.dismiss()
	}
}

// dismiss ends a barred connection. The caller holds proc.
func (c *Conn) dismiss() error {
	why := c.barred.Load()
	c.b.log.Info("client disconnected by the broker", c.attrs("reason", why.Refused.String(), "text", why.Text)...)
	c.end(c.disconnect(why.Refused, why.Text), true)
	return errGone
}

// End ends, without their wills, the connections and sessions of the principals that match: for good, unlike Review. It
// returns when none of them is served any more, and ends them in the background. A client may connect again at once, to a
// session of its own, unless its authenticator knows better.
//
// done, if not nil, is called on a goroutine of its own when no crash can bring any of these sessions back, those included
// that had ended before. That may take as long as the store refuses changes; when the broker is shut down or crashes
// before, it is not called at all.
func (b *Broker) End(match func(*auth.Principal) bool, done func()) {
	var over []*session
	w := b.worker()
	defer b.release(w)
	e := &ending{open: 1, done: done}
	for _, s := range b.allSessions() {
		if s.condemn(w, match) {
			over = append(over, s)
			b.ends.watch(s, e)
		}
	}
	b.ends.watchOlder(match, e)
	b.share(len(over), func(i int) { over[i].abolish() })
	b.ends.less(b, e)
}

var removed = Standing{Refused: mqtt.AdministrativeAction, Text: "the identity has been removed"}

// condemn freezes the session if its principal matches, and reports whether it does.
func (s *session) condemn(w *worker, match func(*auth.Principal) bool) bool {
	for {
		s.mu.Lock()
		dead, r := s.dead, s.rights.Load()
		s.mu.Unlock()
		if dead || !match(r.Principal) {
			return false
		}
		s.mu.Lock()
		if s.rights.Load() != r {
			s.mu.Unlock()
			continue
		}
		if !s.dead {
			s.freeze(w, true)
			if s.conn != nil {
				s.conn.bar(removed)
			}
		}
		s.mu.Unlock()
		return true
	}
}

// finish waits until the store has been told of the connection's end.
func (c *Conn) finish() {
	c.proc.Lock()
	defer c.proc.Unlock()
}

// abolish ends a session for good, with its connection and without its will.
func (s *session) abolish() {
	s.claim.Lock()
	defer s.claim.Unlock()
	for {
		s.mu.Lock()
		dead, c, leaving := s.dead, s.conn, s.leaving
		s.mu.Unlock()
		if dead {
			return
		}
		if c == nil && leaving == nil {
			break
		}
		if c != nil {
			c.bar(removed)
			c.expel()
		} else {
			leaving.finish()
		}
	}
	w := s.b.worker()
	defer s.b.release(w)
	s.mu.Lock()
	s.will = nil
	after := s.end(w)
	s.mu.Unlock()
	after()
}

// maxSharing is how many goroutines do one thing for many connections, so that few that are slow delay nobody.
const maxSharing = 64

// share calls f with 0 … n-1, on goroutines of its own, and does not wait for them.
func (b *Broker) share(n int, f func(int)) {
	next := new(atomic.Int64)
	for range min(n, maxSharing) {
		b.spawn(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
}
