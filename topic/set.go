package topic

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Set is the subscriptions of one filter. Reading it takes no lock. A set
// that has become empty stays so: the filter's next subscription opens
// another one.
type Set[S any] struct {
	filter string
	first  atomic.Pointer[S] // most filters have one subscription only
	chunks atomic.Pointer[chunk[S]]
	mu     sync.Mutex // of writers, over all but what is atomic
	free   *chunk[S]  // the chunks with room, linked by nextFree
	n      atomic.Int32
	dead   bool
}

// chunk is some slots for subscriptions, which keep their place for life.
// Chunks form a list: they are put at its head and leave when they are
// empty. One that has left keeps its next, so that a reader on it goes on.
type chunk[S any] struct {
	next               atomic.Pointer[chunk[S]]
	prev               *chunk[S]
	prevFree, nextFree *chunk[S]
	used               uint64 // a bit for each slot
	slots              []atomic.Pointer[S]
}

// Ref is where one subscription lies in an [Index]: what Insert returns and
// Remove takes. The zero Ref is none.
type Ref[S any] struct {
	set   *Set[S]
	chunk *chunk[S] // nil: set.first
	slot  uint8
}

// Filter returns the filter of the subscription, "" for the zero Ref. It
// shares the index's memory, so that the caller need not keep a copy.
func (r Ref[S]) Filter() string {
	if r.set == nil {
		return ""
	}
	return r.set.filter
}

// Filter returns the filter that the subscriptions of the set have in common.
func (s *Set[S]) Filter() string { return s.filter }

// Len returns the number of subscriptions; it may be old by the time it is used.
func (s *Set[S]) Len() int { return int(s.n.Load()) }

// Each calls f for the subscriptions, in no order, until f returns false. It
// calls for each one that was there before and still is after, once; for those
// that come or go meanwhile it may. f may change the index.
func (s *Set[S]) Each(f func(*S) bool) {
	if p := s.first.Load(); p != nil && !f(p) {
		return
	}
	for c := s.chunks.Load(); c != nil; c = c.next.Load() {
		for i := range c.slots {
			if p := c.slots[i].Load(); p != nil && !f(p) {
				return
			}
		}
	}
}

// add puts p into the set, unless the set is dead.
func (s *Set[S]) add(p *S) (r Ref[S], ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return r, false
	}
	n := s.n.Add(1)
	if s.first.Load() == nil {
		s.first.Store(p)
		return Ref[S]{set: s}, true
	}
	c := s.free
	if c == nil {
		c = s.grow(int(n))
	}
	i := bits.TrailingZeros64(^c.used)
	c.used |= 1 << i
	if c.full() {
		s.unfree(c)
	}
	c.slots[i].Store(p)
	return Ref[S]{set: s, chunk: c, slot: uint8(i)}, true
}

// remove empties the slot of r and reports whether the set has died of it.
func (s *Set[S]) remove(r Ref[S]) (died bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := r.chunk; c == nil {
		s.first.Store(nil)
	} else {
		if c.full() {
			if c.nextFree = s.free; s.free != nil {
				s.free.prevFree = c
			}
			s.free = c
		}
		c.slots[r.slot].Store(nil)
		if c.used &^= 1 << r.slot; c.used == 0 {
			s.unfree(c)
			s.unlink(c)
		}
	}
	s.dead = s.n.Add(-1) == 0
	return s.dead
}

// grow puts a chunk at the head of both lists: small ones for small sets.
func (s *Set[S]) grow(n int) *chunk[S] {
	size := 64
	switch {
	case n <= 5:
		size = 4
	case n <= 21:
		size = 16
	}
	c := &chunk[S]{slots: make([]atomic.Pointer[S], size)}
	head := s.chunks.Load()
	if head != nil {
		head.prev = c
	}
	c.next.Store(head)
	s.chunks.Store(c)
	s.free = c
	return c
}

func (c *chunk[S]) full() bool { return bits.OnesCount64(c.used) == len(c.slots) }

func (s *Set[S]) unfree(c *chunk[S]) {
	if c.prevFree != nil {
		c.prevFree.nextFree = c.nextFree
	} else {
		s.free = c.nextFree
	}
	if c.nextFree != nil {
		c.nextFree.prevFree = c.prevFree
	}
	c.prevFree, c.nextFree = nil, nil
}

func (s *Set[S]) unlink(c *chunk[S]) {
	next := c.next.Load()
	if next != nil {
		next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next.Store(next)
	} else {
		s.chunks.Store(next)
	}
	c.prev = nil
}
