package topic

import (
	"sync"
	"sync/atomic"
)

// table is a hash table that is read without locks and written shard by
// shard. It holds pointers only: what makes two of them equal is the caller's
// business. A shard is one array with linear probing; growing copies one
// shard, never the table, so that no insertion is long.
type table[E any] struct {
	shards []shard[E]
	shift  uint // of a hash, to the shard's number
}

// shard is locked by its user around everything but find.
type shard[E any] struct {
	mu    sync.Mutex
	cells atomic.Pointer[cells[E]]
	tomb  *E // stands where something was removed in the middle of a run
	live  int
	used  int // live and tombs
}

type cells[E any] struct {
	mask uint32
	cell []cell[E]
}

// cell: tag is written before p, and read after it, so that whoever sees p
// sees its tag. The low bits of the hash are the tag, the high ones the shard.
type cell[E any] struct {
	p   atomic.Pointer[E]
	tag atomic.Uint32
}

const minCells = 4

// newTable makes a table of 1<<bits shards.
func newTable[E any](bits uint) table[E] {
	t := table[E]{shards: make([]shard[E], 1<<bits), shift: 64 - bits}
	tomb := new(E)
	for i := range t.shards {
		t.shards[i].tomb = tomb
	}
	return t
}

func (t *table[E]) shard(hash uint64) *shard[E] { return &t.shards[hash>>t.shift] }

// find returns what has the hash and satisfies eq, nil if nothing does. It
// needs no lock, and sees everything put before it began and not removed.
func (s *shard[E]) find(hash uint64, eq func(*E) bool) *E {
	c := s.cells.Load()
	if c == nil {
		return nil
	}
	for i := uint32(hash); ; i++ {
		e := &c.cell[i&c.mask]
		p := e.p.Load()
		if p == nil {
			return nil
		}
		if e.tag.Load() == uint32(hash) && p != s.tomb && eq(p) {
			return p
		}
	}
}

// put adds p, which the caller knows to be absent.
func (s *shard[E]) put(hash uint64, p *E) {
	c := s.cells.Load()
	if c == nil || (s.used+1)*4 > len(c.cell)*3 {
		c = s.resize()
	}
	i := uint32(hash)
	for {
		q := c.cell[i&c.mask].p.Load()
		if q == nil {
			s.used++
			break
		}
		if q == s.tomb {
			break
		}
		i++
	}
	s.live++
	e := &c.cell[i&c.mask]
	e.tag.Store(uint32(hash))
	e.p.Store(p)
}

// swap puts p in the place of old, in one step for readers.
func (s *shard[E]) swap(hash uint64, old, p *E) {
	if e, _ := s.cellOf(hash, old); e != nil {
		e.p.Store(p)
	}
}

// remove takes p out and reports whether it was there.
func (s *shard[E]) remove(hash uint64, p *E) bool {
	e, i := s.cellOf(hash, p)
	if e == nil {
		return false
	}
	s.drop(i)
	return true
}

func (s *shard[E]) cellOf(hash uint64, p *E) (*cell[E], uint32) {
	c := s.cells.Load()
	if c == nil {
		return nil, 0
	}
	for i := uint32(hash); ; i++ {
		e := &c.cell[i&c.mask]
		switch e.p.Load() {
		case p:
			return e, i
		case nil:
			return nil, 0
		}
	}
}

// drop empties cell i. At the end of a run nothing lies beyond, so the cell,
// and tombs before it, become free; elsewhere a tomb keeps the run together.
func (s *shard[E]) drop(i uint32) {
	c := s.cells.Load()
	s.live--
	switch {
	case s.live == 0:
		s.used = 0
		s.cells.Store(nil)
		return
	case c.cell[(i+1)&c.mask].p.Load() != nil:
		c.cell[i&c.mask].p.Store(s.tomb)
	default:
		c.cell[i&c.mask].p.Store(nil)
		s.used--
		for i--; c.cell[i&c.mask].p.Load() == s.tomb; i-- {
			c.cell[i&c.mask].p.Store(nil)
			s.used--
		}
	}
	if len(c.cell) > minCells && s.live*8 < len(c.cell) {
		s.resize()
	}
}

// resize moves what is live to an array with room for half as much again.
func (s *shard[E]) resize() *cells[E] {
	n := minCells
	for n < 2*(s.live+1) {
		n *= 2
	}
	to := &cells[E]{mask: uint32(n - 1), cell: make([]cell[E], n)}
	if from := s.cells.Load(); from != nil {
		for k := range from.cell {
			p := from.cell[k].p.Load()
			if p == nil || p == s.tomb {
				continue
			}
			tag := from.cell[k].tag.Load()
			i := tag
			for to.cell[i&to.mask].p.Load() != nil {
				i++
			}
			to.cell[i&to.mask].tag.Store(tag)
			to.cell[i&to.mask].p.Store(p)
		}
	}
	s.used = s.live
	s.cells.Store(to)
	return to
}
