package topic

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
)

// trie holds the filters with wildcards, by level. An edge may be many levels
// long, so that a filter adds at most two nodes, however deep it is. The
// edges to literal levels lie in one table for the whole trie: a node with a
// million children costs what a node with one does.
type trie[S any] struct {
	seed  maphash.Seed
	start uint64 // hash of the root's path
	plus  uint64 // hash of the level +
	root  node[S]
	edges table[edge[S]] // by the path's hash including the edge's first level
	locks [64]sync.Mutex // of writers, by the filter's first level

	// What happens to a path counts in marks. A filter that appears is counted
	// once, where its path leaves those that were there before; gen counts all.
	// A result is good as long as none of the counters it read has moved.
	marks [1 << markBits]atomic.Uint32
	gen   atomic.Uint64
}

const markBits = 14

// node is the end of a path of levels. No literal levels: look at no edge.
type node[S any] struct {
	set      atomic.Pointer[Set[S]]  // filter that ends here
	multi    atomic.Pointer[Set[S]]  // filter that ends here with /#
	plus     atomic.Pointer[edge[S]] // edge whose first level is +
	literals atomic.Int32            // number of the other edges
}

// edge is immutable: to split one is to put another in its place. Its label
// has one level or more, never #, and first is the length of the first.
type edge[S any] struct {
	parent, child *node[S]
	label         string
	first         int32
}

func (t *trie[S]) init(seed maphash.Seed, shardBits uint) {
	t.seed = seed
	t.start = maphash.String(seed, "")
	t.plus = maphash.String(seed, "+")
	t.edges = newTable[edge[S]](shardBits)
}

// step extends the hash of a path by the hash of a level.
func step(path, level uint64) uint64 {
	hi, lo := bits.Mul64(path^level, 0x9E3779B97F4A7C15)
	return hi ^ lo
}

func (t *trie[S]) level(path uint64, level string) uint64 {
	if level == "+" {
		return step(path, t.plus)
	}
	return step(path, maphash.String(t.seed, level))
}

// literal is the mark of a path whose last level is literal, wild that of
// everything else that can happen at a path: its end, /#, /+.
func literal(path uint64) uint32 { return uint32(path) & (1<<markBits - 1) }
func wild(path uint64) uint32    { return uint32(path>>32) & (1<<markBits - 1) }

// touch says that a filter appeared that goes on from path with next. It
// comes after the change itself.
func (t *trie[S]) touch(path uint64, next string, end bool) {
	mark := wild(path)
	if !end && next != "+" && next != "#" {
		mark = literal(t.level(path, next))
	}
	t.marks[mark].Add(1)
	t.gen.Add(1)
}

// lock returns the lock of the part of the trie in which filter lies.
func (t *trie[S]) lock(filter string) *sync.Mutex {
	first, _, _ := strings.Cut(filter, "/")
	return &t.locks[maphash.String(t.seed, first)%uint64(len(t.locks))]
}

// edge returns the edge from n that begins with level; path includes level.
func (t *trie[S]) edge(n *node[S], path uint64, level string) *edge[S] {
	if level == "+" {
		return n.plus.Load()
	}
	if n.literals.Load() == 0 {
		return nil
	}
	return t.edges.shard(path).find(path, func(e *edge[S]) bool {
		return e.parent == n && e.label[:e.first] == level
	})
}

// attach publishes e in its parent, in the place of old if that is not nil.
func (t *trie[S]) attach(path uint64, old, e *edge[S]) {
	if e.label[:e.first] == "+" {
		e.parent.plus.Store(e)
		return
	}
	s := t.edges.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old != nil {
		s.swap(path, old, e)
		return
	}
	e.parent.literals.Add(1)
	s.put(path, e)
}

func (t *trie[S]) detach(path uint64, e *edge[S]) {
	if e.label[:e.first] == "+" {
		e.parent.plus.Store(nil)
		return
	}
	s := t.edges.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(path, e)
	e.parent.literals.Add(-1)
}

func newEdge[S any](parent, child *node[S], label string) edge[S] {
	first := strings.IndexByte(label, '/')
	if first < 0 {
		first = len(label)
	}
	return edge[S]{parent: parent, child: child, label: label, first: int32(first)}
}

// spot is how far a filter's path goes within the trie.
type spot[S any] struct {
	node *node[S]
	path uint64   // hash of the levels that are there
	rest string   // levels that are not
	end  bool     // none are left, not even an empty one
	edge *edge[S] // edge from node on which the path ends, nil: at node itself
	from uint64   // hash that edge is filed under
	at   int      // length of the part of edge.label that agrees
}

// hop is an edge and the hash that it is filed under.
type hop[S any] struct {
	edge *edge[S]
	path uint64
}

// locate follows filter as far as it can. Each edge passed is given to trail,
// if that is not nil.
func (t *trie[S]) locate(filter string, trail *[]hop[S]) spot[S] {
	p := spot[S]{node: &t.root, path: t.start, rest: filter}
	for !p.end && p.rest != "#" {
		level, rest, more := strings.Cut(p.rest, "/")
		from := t.level(p.path, level)
		e := t.edge(p.node, from, level)
		if e == nil {
			return p
		}
		p.path, p.rest, p.end = from, rest, !more
		at := int(e.first)
		for at < len(e.label) {
			have, _, _ := strings.Cut(e.label[at+1:], "/")
			level, rest, more := strings.Cut(p.rest, "/")
			if p.end || level != have {
				p.edge, p.from, p.at = e, from, at
				return p
			}
			p.path, p.rest, p.end = t.level(p.path, level), rest, !more
			at += 1 + len(have)
		}
		p.node = e.child
		if trail != nil {
			*trail = append(*trail, hop[S]{e, from})
		}
	}
	return p
}

// place is where in a node the set of a filter lies.
func (p *spot[S]) place() *atomic.Pointer[Set[S]] {
	if p.end {
		return &p.node.set
	}
	return &p.node.multi
}

// there tells whether the whole path exists as a node.
func (p *spot[S]) there() bool { return p.edge == nil && (p.end || p.rest == "#") }

// find returns the set of filter, nil if there is none.
func (t *trie[S]) find(filter string) *Set[S] {
	if p := t.locate(filter, nil); p.there() {
		return p.place().Load()
	}
	return nil
}

// insert adds the set of a filter that has none. The caller holds its lock.
func (t *trie[S]) insert(set *Set[S]) {
	p := t.locate(set.filter, nil)
	if p.edge == nil {
		t.grow(p, set)
	} else {
		t.split(p, set)
	}
	level, _, _ := strings.Cut(p.rest, "/")
	t.touch(p.path, level, p.end)
}

// grow adds to a node what is left of the set's filter.
func (t *trie[S]) grow(p spot[S], set *Set[S]) {
	if p.there() {
		p.place().Store(set)
		return
	}
	// One object: whoever follows the edge looks at the node next.
	leaf := new(struct {
		edge edge[S]
		node node[S]
	})
	n, label := &leaf.node, p.rest
	if prefix, ok := strings.CutSuffix(label, "/#"); ok {
		label = prefix
		n.multi.Store(set)
	} else {
		n.set.Store(set)
	}
	e := &leaf.edge
	*e = newEdge(p.node, n, label)
	t.attach(t.level(p.path, label[:e.first]), nil, e)
}

// split puts a node where the set's filter leaves the edge, complete before
// any reader sees it.
func (t *trie[S]) split(p spot[S], set *Set[S]) {
	mid := new(node[S])
	lower := newEdge(mid, p.edge.child, p.edge.label[p.at+1:])
	t.attach(t.level(p.path, lower.label[:lower.first]), nil, &lower)
	at := p
	at.node, at.edge = mid, nil
	t.grow(at, set)
	// A copy: the label would otherwise hold a filter that may leave.
	upper := newEdge(p.node, mid, strings.Clone(p.edge.label[:p.at]))
	t.attach(p.from, p.edge, &upper)
}

// remove takes set out, with the nodes that it leaves empty, and reports
// whether it was there. The caller holds its lock.
func (t *trie[S]) remove(set *Set[S]) bool {
	var space [16]hop[S]
	trail := space[:0]
	p := t.locate(set.filter, &trail)
	if !p.there() || p.place().Load() != set {
		return false
	}
	p.place().Store(nil)
	for i := len(trail) - 1; i >= 0; i-- {
		n := trail[i].edge.child
		if n.set.Load() != nil || n.multi.Load() != nil || n.plus.Load() != nil || n.literals.Load() != 0 {
			break
		}
		t.detach(trail[i].path, trail[i].edge)
	}
	return true
}
