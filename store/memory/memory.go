// Package memory is a store that lives as long as its process.
package memory

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Store implements store.Store in memory: what is submitted is applied at once, and told by a goroutine that ends when
// there is nothing more to tell. It may be loaded again, by another handler, when that of before submits no more.
type Store struct {
	h store.Handler

	mu       sync.Mutex
	sessions map[store.SessionID]*session
	retained map[string]*store.Message
	records  map[string][]byte
	stats    store.Stats
	loaded   time.Time // for the first time

	told []told    // still to be told, in order
	busy bool      // somebody tells them
	idle sync.Cond // busy has become false
}

// told is a batch of ops with what has become of them.
type told struct {
	ops []*store.Op
	err error
}

type session struct {
	state    store.Session
	subs     map[string]store.Subscription
	queue    []queued // by position
	received map[uint16]bool
}

type queued struct {
	m        *store.Message
	p        *store.Placement
	size     uint64
	recorded bool
}

// New returns an empty store.
func New() *Store {
	s := &Store{sessions: make(map[store.SessionID]*session), retained: make(map[string]*store.Message),
		records: make(map[string][]byte)}
	s.idle.L = &s.mu
	return s
}

// Load implements store.Store.
func (s *Store) Load(h store.Handler) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy { // with what the handler of before is still to be told
		s.idle.Wait()
	}
	s.h = h
	if s.loaded.IsZero() {
		s.loaded = time.Now()
	}
	for _, se := range s.sessions {
		state := se.state
		var q store.QueueState
		if n := len(se.queue); n > 0 {
			first, last := se.queue[0], se.queue[n-1]
			q = store.QueueState{First: first.p.Pos, Last: last.p.Pos, BytesBefore: first.p.Bytes - first.size, BytesEnd: last.p.Bytes}
			for i := range se.queue {
				if se.queue[i].recorded {
					q.Recorded = se.queue[i].p.Pos
				}
			}
		}
		h.Session(&state, slices.Collect(maps.Values(se.subs)), slices.Collect(maps.Keys(se.received)), q)
	}
	for _, m := range s.retained {
		h.Retained(m)
	}
	return time.Since(s.loaded), nil
}

// Submit implements store.Store.
func (s *Store) Submit(ops ...*store.Op) {
	s.mu.Lock()
	var done []*store.Op
	flush := func(err error) {
		if len(done) > 0 {
			s.told = append(s.told, told{done, err})
			done = nil
		}
	}
	for _, op := range ops {
		if op.Kind == store.Publish {
			s.stats.Messages++
		}
		if !op.Take() {
			s.stats.Elided++
			continue
		}
		if err := op.CheckRecord(); err != nil {
			flush(nil)
			done = append(done, op)
			flush(err)
			continue
		}
		s.apply(op)
		done = append(done, op)
	}
	s.stats.Commits++
	flush(nil)
	if !s.busy {
		s.busy = true
		go s.tell()
	}
	s.mu.Unlock()
}

// tell calls the handler for what has been applied, until there is nothing more.
func (s *Store) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.told) > 0 {
		next := s.told[0]
		s.told = s.told[1:]
		s.mu.Unlock()
		s.h.Committed(next.ops, next.err)
		s.mu.Lock()
	}
	s.busy = false
	s.idle.Broadcast()
}

// apply carries out one op. What is meant for an ended session is left out.
func (s *Store) apply(op *store.Op) {
	se := s.sessions[op.Session]
	switch op.Kind {
	case store.PutRecord:
		s.putRecord(op.Record)
		return
	case store.PutSession:
		if se == nil {
			se = &session{subs: make(map[string]store.Subscription), received: make(map[uint16]bool)}
			s.sessions[op.Session] = se
		}
		se.state = *op.State
		return
	case store.Publish:
		if se != nil && op.PacketID != 0 {
			se.received[op.PacketID] = true
		}
		if w := s.sessions[op.Will]; w != nil {
			w.state.Will, w.state.WillAt = nil, 0
		}
		if m := op.Message; op.Retained && len(m.Payload) > 0 {
			s.retained[m.Topic] = m
		} else if op.Retained {
			delete(s.retained, m.Topic)
		}
		for _, p := range op.Placements {
			if to := s.sessions[p.Session]; to != nil && p.Take() {
				to.put(queued{m: op.Message, p: p, size: uint64(op.Message.Size())})
			}
		}
		return
	}
	if se == nil {
		return
	}
	switch op.Kind {
	case store.EndSession:
		delete(s.sessions, op.Session)
	case store.Subscribe:
		for _, sub := range op.Subscriptions {
			se.subs[sub.Filter] = sub
		}
	case store.Unsubscribe:
		for _, f := range op.Filters {
			delete(se.subs, f)
		}
	case store.Acked:
		for _, pos := range op.Positions {
			if i, ok := se.find(pos); ok {
				if i == 0 {
					se.queue[0] = queued{}
					se.queue = se.queue[1:]
				} else {
					se.queue = slices.Delete(se.queue, i, i+1)
				}
			}
		}
	case store.Recorded:
		for _, pos := range op.Positions {
			if i, ok := se.find(pos); ok {
				se.queue[i].m, se.queue[i].recorded = nil, true
			}
		}
	case store.Released:
		delete(se.received, op.PacketID)
	}
}

func (se *session) find(pos uint64) (int, bool) {
	return slices.BinarySearchFunc(se.queue, pos, func(q queued, pos uint64) int {
		switch {
		case q.p.Pos < pos:
			return -1
		case q.p.Pos > pos:
			return 1
		}
		return 0
	})
}

// put adds a message at its place; ops of different publishers may arrive in another order than their positions.
func (se *session) put(q queued) {
	i, ok := se.find(q.p.Pos)
	if !ok {
		se.queue = slices.Insert(se.queue, i, q)
	}
}

// Fetch implements store.Store.
func (s *Store) Fetch(dst []store.Queued, id store.SessionID, from, below uint64, max int, maxBytes int64) ([]store.Queued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.sessions[id]
	if se == nil {
		return dst, nil
	}
	i, _ := se.find(from)
	bytes, n := int64(0), 0
	for ; i < len(se.queue) && se.queue[i].p.Pos < below && n < max && (n == 0 || bytes < maxBytes); i++ {
		q := &se.queue[i]
		dst = append(dst, store.Queued{Message: q.m, Pos: q.p.Pos, Bytes: q.p.Bytes, SubIDs: q.p.SubIDs, Share: q.p.Share,
			QoS: q.p.QoS, Retain: q.p.Retain, Recorded: q.recorded})
		if n++; q.m != nil {
			bytes += q.m.Size()
		}
	}
	return dst, nil
}

// Ready implements store.Store.
func (s *Store) Ready() error { return nil }

// Stats implements store.Store.
func (s *Store) Stats() store.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Sessions, st.FreeBytes = len(s.sessions), -1
	return st
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy {
		s.idle.Wait()
	}
	return nil
}
