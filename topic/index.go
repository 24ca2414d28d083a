package topic

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// The bounds of the match cache of [NewIndex].
const (
	CacheEntries = 1 << 16
	CacheBytes   = 32 << 20
)

// Index holds subscriptions by topic filter. S is what one subscription is to
// the caller; the index holds pointers to it and never looks at it.
//
// All methods may be called at any time from any goroutine. Lookup and the
// reading of its result take no lock. A Lookup that begins after an Insert
// has returned sees that subscription, one that begins after a Remove has
// returned does not.
type Index[S any] struct {
	seed    maphash.Seed
	exact   table[Set[S]]  // filters without wildcards
	locks   [64]sync.Mutex // of writers of exact, by filter
	wild    trie[S]
	cache   cache[S]
	walks   sync.Pool
	filters atomic.Int64
	subs    atomic.Int64
}

// NewIndex returns an empty index with a match cache of [CacheEntries] and
// [CacheBytes].
func NewIndex[S any]() *Index[S] { return NewIndexCache[S](CacheEntries, CacheBytes) }

// NewIndexCache returns an empty index that keeps the matches of at most
// entries topic names, in about bytes of memory. 0 keeps none.
func NewIndexCache[S any](entries, bytes int) *Index[S] {
	const tableBits = 10
	cacheBits := uint(6)
	for cacheBits > 0 && entries>>cacheBits < 16 {
		cacheBits--
	}
	x := &Index[S]{seed: maphash.MakeSeed()}
	x.exact = newTable[Set[S]](tableBits)
	x.wild.init(x.seed, tableBits)
	x.cache = newCache[S](entries, bytes, cacheBits)
	x.walks.New = func() any { return new(walk[S]) }
	return x
}

// Len returns how many distinct filters and how many subscriptions there are;
// they may be old by the time they are used.
func (x *Index[S]) Len() (filters, subscriptions int) {
	return int(x.filters.Load()), int(x.subs.Load())
}

// Insert adds a subscription to filter, which must be valid and, if it was
// shared, without $share/GROUP/. The filter is kept, not copied. The same s
// may be inserted again; each Ref stands for one subscription.
func (x *Index[S]) Insert(filter string, s *S) Ref[S] {
	x.subs.Add(1)
	wild := strings.ContainsAny(filter, "+#")
	hash := uint64(0)
	if !wild {
		hash = maphash.String(x.seed, filter)
	}
	if set := x.find(filter, wild, hash); set != nil {
		if r, ok := set.add(s); ok {
			return r
		}
	}
	mu := x.lock(filter, wild, hash)
	mu.Lock()
	defer mu.Unlock()
	if set := x.find(filter, wild, hash); set != nil {
		if r, ok := set.add(s); ok {
			return r
		}
		x.unlink(set, wild, hash)
	}
	set := &Set[S]{filter: filter}
	r, _ := set.add(s)
	x.filters.Add(1)
	// Whoever finds the set before what is cached without it is invalid waits
	// in add: its Insert must not return so early.
	set.mu.Lock()
	defer set.mu.Unlock()
	if wild {
		x.wild.insert(set)
		return r
	}
	shard := x.exact.shard(hash)
	shard.mu.Lock()
	shard.put(hash, set)
	shard.mu.Unlock()
	x.cache.kill(hash, filter)
	return r
}

// Remove takes out the subscription that r stands for. Each Ref can be used
// once: its place may be another's afterwards. The zero Ref does nothing.
func (x *Index[S]) Remove(r Ref[S]) {
	set := r.set
	if set == nil {
		return
	}
	died := set.remove(r)
	x.subs.Add(-1)
	if !died {
		return
	}
	wild := strings.ContainsAny(set.filter, "+#")
	hash := uint64(0)
	if !wild {
		hash = maphash.String(x.seed, set.filter)
	}
	mu := x.lock(set.filter, wild, hash)
	mu.Lock()
	x.unlink(set, wild, hash)
	mu.Unlock()
}

func (x *Index[S]) lock(filter string, wild bool, hash uint64) *sync.Mutex {
	if wild {
		return x.wild.lock(filter)
	}
	return &x.locks[hash%uint64(len(x.locks))]
}

func (x *Index[S]) find(filter string, wild bool, hash uint64) *Set[S] {
	if wild {
		return x.wild.find(filter)
	}
	return x.exact.shard(hash).find(hash, func(s *Set[S]) bool { return s.filter == filter })
}

// unlink takes a dead set out, unless another writer has done so already.
func (x *Index[S]) unlink(set *Set[S], wild bool, hash uint64) {
	removed := false
	if wild {
		removed = x.wild.remove(set)
	} else {
		shard := x.exact.shard(hash)
		shard.mu.Lock()
		removed = shard.remove(hash, set)
		shard.mu.Unlock()
	}
	if removed {
		x.filters.Add(-1)
	}
}

// Lookup returns the subscriptions whose filters match the topic name, which
// must be valid. The result may be kept: [Index.Current] tells how long it is
// good. A name that is in the cache costs no allocation.
func (x *Index[S]) Lookup(name []byte) *Matches[S] {
	hash := maphash.Bytes(x.seed, name)
	old := x.cache.find(hash, name)
	if old != nil && x.Current(old) {
		if !old.used.Load() {
			old.used.Store(true)
		}
		return old
	}
	keep := old != nil || x.cache.admits(hash)
	m := x.match(hash, name, keep)
	if keep && x.cache.put(hash, m) && x.exactly(hash, name) == m.exact {
		// Whoever inserted the exact filter since then has found m and
		// made it dead, which it stays.
		m.state.CompareAndSwap(fresh, live)
	}
	return m
}

// Current reports whether m is what Lookup would return, without the cost of
// finding it: a publisher may keep the result for its topic. It may report
// false for a result that is still good.
func (x *Index[S]) Current(m *Matches[S]) bool {
	gen := x.wild.gen.Load()
	switch {
	case m.state.Load() != live:
		return false
	case m.gen.Load() == gen:
		return true
	case m.lost:
		return false
	}
	for _, r := range m.reads {
		if x.wild.marks[r.mark].Load() != r.value {
			return false
		}
	}
	m.gen.Store(gen)
	return true
}

func (x *Index[S]) exactly(hash uint64, name []byte) *Set[S] {
	return x.exact.shard(hash).find(hash, func(s *Set[S]) bool { return s.filter == string(name) })
}

// match searches, without the cache. Only if keep is set does the result
// remember what it depends on.
func (x *Index[S]) match(hash uint64, name []byte, keep bool) *Matches[S] {
	w := x.walks.Get().(*walk[S])
	w.reset(name)
	w.lost = !keep
	m := &Matches[S]{topic: string(name)}
	m.gen.Store(x.wild.gen.Load())
	if m.exact = x.exactly(hash, name); m.exact != nil {
		w.sets = append(w.sets, m.exact)
	}
	x.wild.match(w)
	m.sets = append(m.few[:0:len(m.few)], w.sets...)
	if m.lost = w.lost; !m.lost {
		m.reads = append(make([]read, 0, len(w.reads)), w.reads...)
	}
	w.release(&x.walks)
	return m
}
