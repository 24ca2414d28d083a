package topic

import (
	"sync/atomic"
	"unsafe"
)

// Matches is the filters that match one topic name. It does not change; the
// sets that it leads to do.
type Matches[S any] struct {
	topic string
	sets  []*Set[S]
	exact *Set[S] // the one of sets whose filter is topic
	reads []read
	lost  bool
	used  atomic.Bool   // since the cache's hand last passed
	state atomic.Uint32 // fresh, then live in the cache, then dead
	gen   atomic.Uint64 // trie.gen when reads were last found unmoved
	few   [2]*Set[S]    // room for sets
}

const (
	fresh = iota
	live
	dead
)

// Topic returns the topic name, in memory that callers may keep and share.
func (m *Matches[S]) Topic() string { return m.topic }

// Sets returns the subscriptions by filter, each matching filter once, in no
// order. A set may have become empty. The slice must not be modified.
func (m *Matches[S]) Sets() []*Set[S] { return m.sets }

func (m *Matches[S]) bytes() int {
	return int(unsafe.Sizeof(*m)) + len(m.topic) + cap(m.sets)*int(unsafe.Sizeof(m)) + len(m.reads)*int(unsafe.Sizeof(read{}))
}

// cache keeps Matches by topic name, with a bound on entries and bytes for
// each shard. What was not asked for since the hand last came by goes first.
// A full shard lets in only what was asked for before, as far as door recalls:
// topics that are used once cost less and push nothing out.
type cache[S any] struct {
	table[Matches[S]]
	parts      []part // beside the shard with the same number
	maxEntries int    // of a part
	maxBytes   int
	door       []atomic.Uint32 // four marks of a byte each
}

type part struct {
	full    atomic.Bool // something had to go
	entries int
	bytes   int
	hand    uint32
}

func newCache[S any](entries, bytes int, shardBits uint) cache[S] {
	n := 1 << shardBits
	return cache[S]{
		table:      newTable[Matches[S]](shardBits),
		parts:      make([]part, n),
		maxEntries: entries / n,
		maxBytes:   bytes / n,
		door:       make([]atomic.Uint32, entries/4+1),
	}
}

// admits tells whether the matches of a name that is not there may be put.
func (c *cache[S]) admits(hash uint64) bool {
	if c.maxEntries < 1 {
		return false
	}
	if !c.parts[hash>>c.shift].full.Load() {
		return true
	}
	word := &c.door[hash%uint64(len(c.door))]
	shift := hash >> 32 & 3 * 8
	old := word.Load()
	// Another goroutine's mark may be lost here. It will come again.
	word.Store(old&^(0xFF<<shift) | uint32(hash>>34&0xFF)<<shift)
	return old>>shift&0xFF == uint32(hash>>34&0xFF)
}

func (c *cache[S]) find(hash uint64, name []byte) *Matches[S] {
	return c.shard(hash).find(hash, func(m *Matches[S]) bool { return m.topic == string(name) })
}

// kill makes what is cached for the topic name invalid.
func (c *cache[S]) kill(hash uint64, name string) {
	if m := c.shard(hash).find(hash, func(m *Matches[S]) bool { return m.topic == name }); m != nil {
		m.state.Store(dead)
	}
}

// put adds m, in place of what is there for the same topic. It reports false
// when m is too large, or when somebody else is writing: nobody waits here.
func (c *cache[S]) put(hash uint64, m *Matches[S]) bool {
	size := m.bytes()
	if size > c.maxBytes/2 {
		return false
	}
	s, p := c.shard(hash), &c.parts[hash>>c.shift]
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	old := s.find(hash, func(o *Matches[S]) bool { return o.topic == m.topic })
	if old != nil {
		// Dead before it is out of reach: kill finds it, or has no need to.
		old.state.Store(dead)
		p.bytes += size - old.bytes()
		s.swap(hash, old, m)
	} else {
		p.entries++
		p.bytes += size
		s.put(hash, m)
	}
	for p.entries > c.maxEntries || p.bytes > c.maxBytes {
		p.full.Store(true)
		evict(p, s, m)
	}
	return true
}

// evict takes out one entry other than keep, which is not alone.
func evict[S any](p *part, s *shard[Matches[S]], keep *Matches[S]) {
	for cells := s.cells.Load(); ; p.hand++ {
		m := cells.cell[p.hand&cells.mask].p.Load()
		if m == nil || m == s.tomb || m == keep {
			continue
		}
		if m.state.Load() == live && m.used.Swap(false) {
			continue
		}
		m.state.Store(dead)
		p.entries--
		p.bytes -= m.bytes()
		s.drop(p.hand)
		return
	}
}
