package gate

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
)

// holder is what a table holds of a key.
type holder[E any] interface {
	*E
	// keep tells how long the entry still matters, in ns: nothing is lost with one at or below 0. Among the others the
	// smallest goes first; one that is pinned never goes.
	keep(now int64) int64
}

const (
	pinned = math.MaxInt64

	shards       = 64
	ways         = 4 // slots of a bucket
	firstBuckets = 4 // of a shard
)

// table is a bounded hash table. Every key may be in two buckets of four slots; nothing is ever searched beyond them.
// Entries that do not matter any more are overwritten. When all eight matter, the shard doubles until the table has the size
// that it may have; after that the one of the eight that matters least goes.
type table[E any, P holder[E]] struct {
	seed    maphash.Seed
	buckets int         // of a shard, at most
	any     atomic.Bool // there has been an entry
	shards  [shards]shard[E]
}

// shard is a part with a lock of its own. Pointers to entries are good while it is held.
type shard[E any] struct {
	sync.Mutex
	slots []slot[E]
	_     [32]byte // neighbours' locks are not on one cache line
}

type slot[E any] struct {
	key key
	val E
}

// open makes the table ready for most entries, which is at most three quarters of its slots: nearly all find room.
func (t *table[E, P]) open(seed maphash.Seed, most int) {
	t.seed, t.buckets = seed, firstBuckets
	for t.buckets*ways*shards*3/4 < most {
		t.buckets *= 2
	}
}

// lock locks the shard of a key.
func (t *table[E, P]) lock(p spot) *shard[E] {
	s := &t.shards[p.hash%shards]
	s.Lock()
	return s
}

// pair are the two buckets of a hash among slots, never the same twice.
func pair[E any](slots []slot[E], hash uint64) (a, b []slot[E]) {
	mask := uint64(len(slots)/ways - 1)
	i := hash >> 6 & mask
	j := i ^ max(hash>>35&mask, 1)
	return slots[i*ways:][:ways], slots[j*ways:][:ways]
}

// find returns the entry of a key, or nil.
func (t *table[E, P]) find(s *shard[E], p spot) P {
	if s.slots == nil {
		return nil
	}
	a, b := pair(s.slots, p.hash)
	for i := range a {
		if a[i].key == p.key {
			return &a[i].val
		}
	}
	for i := range b {
		if b[i].key == p.key {
			return &b[i].val
		}
	}
	return nil
}

// make returns an empty entry for a key that has none, or nil if there is no room.
func (t *table[E, P]) make(s *shard[E], p spot, now int64) P {
	t.any.Store(true)
	if s.slots == nil {
		s.slots = make([]slot[E], firstBuckets*ways)
	}
	for {
		sl, least := t.least(s.slots, p.hash, now)
		if least > 0 && t.grow(s, now) {
			continue
		}
		if least == pinned {
			return nil
		}
		*sl = slot[E]{key: p.key}
		return &sl.val
	}
}

// least is the slot of the two buckets that matters least, and how much. If nothing in either matters it is one of the bucket
// with more of that, so that buckets fill evenly.
func (t *table[E, P]) least(slots []slot[E], hash uint64, now int64) (*slot[E], int64) {
	a, b := pair(slots, hash)
	i, least, free := t.leastOf(a, now)
	j, other, more := t.leastOf(b, now)
	if more > free || more == free && other < least {
		return &b[j], other
	}
	return &a[i], least
}

// leastOf does it in one bucket, and counts the slots that do not matter.
func (t *table[E, P]) leastOf(bucket []slot[E], now int64) (at int, least int64, free int) {
	least = pinned
	for i := range bucket {
		k := int64(math.MinInt64)
		if bucket[i].key.kind != empty {
			k = P(&bucket[i].val).keep(now)
		}
		if k <= 0 {
			free++
		}
		if k < least {
			at, least = i, k
		}
	}
	return at, least, free
}

// grow doubles a shard, more than once if its entries do not find room; false: it has its size.
func (t *table[E, P]) grow(s *shard[E], now int64) bool {
	for n := 2 * len(s.slots) / ways; n <= t.buckets; n *= 2 {
		slots := make([]slot[E], n*ways)
		if t.move(slots, s.slots, now) {
			s.slots = slots
			return true
		}
	}
	return false
}

// move puts the entries that matter into other slots; false: one found no room.
func (t *table[E, P]) move(to, from []slot[E], now int64) bool {
	for i := range from {
		f := &from[i]
		if f.key.kind == empty || P(&f.val).keep(now) <= 0 {
			continue
		}
		sl, least := t.least(to, hash(t.seed, f.key), now)
		if least > 0 {
			return false
		}
		*sl = *f
	}
	return true
}

// each calls fn with every entry, a shard at a time under its lock, and removes those for which it returns false.
func (t *table[E, P]) each(fn func(k key, e P) bool) {
	if !t.any.Load() {
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.Lock()
		for j := range s.slots {
			if sl := &s.slots[j]; sl.key.kind != empty && !fn(sl.key, &sl.val) {
				*sl = slot[E]{}
			}
		}
		s.Unlock()
	}
}
