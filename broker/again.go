package broker

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq/store"
)

// againPause is how long the broker waits before it asks a store that has refused changes again.
const againPause = 10 * time.Second

// again holds changes that nobody waits for and that the store has refused, until it takes them. There is one of each kind
// for a session at most.
type again struct {
	mu    sync.Mutex
	ops   []*change
	found map[againKey]*change
	due   bool // a timer runs
}

type againKey struct {
	session store.SessionID
	kind    store.Kind
}

// tryAgain has a refused change made later: that a message is done with, that a session has ended, or what is to be known of
// it by then.
func (b *Broker) tryAgain(op *store.Op, err error) {
	if omitted, ok := b.hush.allow(b.now(), "refused change", ""); ok {
		b.log.Error("store session: it is tried again", "error", err, "not_logged_before", omitted)
	}
	a := &b.again
	a.mu.Lock()
	defer a.mu.Unlock()
	key := againKey{op.Session, op.Kind}
	if ch := a.found[key]; ch != nil {
		ch.Positions = append(ch.Positions, op.Positions...)
	} else {
		if a.found == nil {
			a.found = make(map[againKey]*change)
		}
		ch = &change{Op: store.Op{Kind: op.Kind, Session: op.Session, State: op.State, Positions: op.Positions, Wait: op.Wait}}
		a.found[key] = ch
		a.ops = append(a.ops, ch)
	}
	b.rearm()
}

// rearm has the changes made after a pause. The caller holds again.mu.
func (b *Broker) rearm() {
	if !b.again.due {
		b.again.due = true
		time.AfterFunc(againPause, func() { b.spawn(b.repeat) })
	}
}

// repeat submits what was refused, if the store takes changes.
func (b *Broker) repeat() {
	a := &b.again
	a.mu.Lock()
	a.due = false
	if b.store.Ready() != nil {
		b.rearm()
		a.mu.Unlock()
		return
	}
	ops := a.ops
	a.ops, a.found = nil, nil
	a.mu.Unlock()
	w := b.worker()
	defer b.release(w)
	for _, ch := range ops {
		if ch.Kind == store.PutSession {
			b.saveAgain(w, ch.State)
		} else {
			w.alter(nil, ch, outItem{})
		}
	}
}

// saveAgain stores what a session is now, if it is the same and has no connection: the record of that is newer.
func (b *Broker) saveAgain(w *worker, old *store.Session) {
	sh := b.shard(old.ClientID)
	sh.mu.Lock()
	s := sh.m[old.ClientID]
	sh.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead && s.conn == nil && s.dur != nil && s.dur.id == old.ID {
		s.save(w)
	}
}
