package policy

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// The bounds of a subject's cache: entries, and bytes of the topics in it.
const (
	maxCached = 64
	maxTopic  = 128
)

// table is a subject's cache: each question has two places.
type table struct {
	slots []atomic.Pointer[entry]
	lost  atomic.Uint32 // answers that found no place
}

// entry is an answer, or what an answer depends on.
type entry struct {
	q        question
	decision Decision
	later    *outcome
}

func (q *question) same(o *question) bool {
	return q.action == o.action && q.qos == o.qos && q.retain == o.retain && q.topic == o.topic
}

func (s *subject) place(q *question) uint64 {
	h := uint64(q.action)<<3 | uint64(q.qos)<<1
	if q.retain {
		h++
	}
	return maphash.String(s.policy.seed, q.topic) + h*0x9e3779b97f4a7c15>>32
}

// cached returns the entry of a question, nil if there is none.
func (s *subject) cached(q *question) *entry {
	last := &s.last[q.action%4]
	if e := last.Load(); e != nil && e.q.same(q) {
		return e
	}
	t := s.cache.Load()
	if t == nil {
		return nil
	}
	i := s.place(q) & uint64(len(t.slots)-1)
	e := t.slots[i].Load()
	if e == nil || !e.q.same(q) {
		if e = t.slots[i^1].Load(); e == nil || !e.q.same(q) {
			return nil
		}
	}
	last.Store(e)
	return e
}

// remember puts an answer into the cache. When that is full, one in eight replaces another: a flood of topics costs no
// memory, and what is asked often finds its place.
func (s *subject) remember(q *question, out *outcome, d Decision) {
	if len(q.topic) > maxTopic {
		return
	}
	t := s.cache.Load()
	if t == nil {
		t = &table{slots: make([]atomic.Pointer[entry], 4)}
		if !s.cache.CompareAndSwap(nil, t) {
			return
		}
	}
	i := s.place(q) & uint64(len(t.slots)-1)
	switch {
	case t.slots[i].Load() == nil:
	case t.slots[i^1].Load() == nil:
		i ^= 1
	case len(t.slots) < maxCached:
		t = s.grow(t)
		if i = s.place(q) & uint64(len(t.slots)-1); t.slots[i].Load() != nil {
			i ^= 1
		}
	case t.lost.Add(1)%8 != 0:
		return
	}
	e := &entry{q: *q, decision: d}
	e.q.topic = strings.Clone(q.topic)
	if out.later != nil {
		kept := *out
		e.later = &kept
	}
	t.slots[i].Store(e)
}

// grow replaces a table by one of four times its size.
func (s *subject) grow(t *table) *table {
	larger := &table{slots: make([]atomic.Pointer[entry], 4*len(t.slots))}
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil {
			k := s.place(&e.q) & uint64(len(larger.slots)-1)
			if larger.slots[k].Load() != nil {
				k ^= 1
			}
			larger.slots[k].Store(e)
		}
	}
	if !s.cache.CompareAndSwap(t, larger) {
		return s.cache.Load()
	}
	return larger
}
