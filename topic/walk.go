package topic

import (
	"bytes"
	"hash/maphash"
	"strings"
	"sync"
)

// walk is one search of the trie for a topic name, with its working memory.
type walk[S any] struct {
	name   []byte
	levels []span // of name, as far as they were needed
	next   int    // where in name the next level begins, -1: no more
	todo   []visit[S]
	sets   []*Set[S]
	reads  []read
	lost   bool // reads is not complete
}

type span struct {
	from, to int32
	hash     uint64
}

// visit is a node that the name's first depth levels lead to.
type visit[S any] struct {
	node  *node[S]
	path  uint64
	depth int
}

// read is a mark that the result depends on, and its value at the time.
type read struct{ mark, value uint32 }

// maxReads bounds what a cached result remembers. One that depends on more is
// good until any wildcard filter appears.
const maxReads = 256

func (w *walk[S]) reset(name []byte) {
	w.name, w.next, w.lost = name, 0, false
	w.levels, w.todo, w.sets, w.reads = w.levels[:0], w.todo[:0], w.sets[:0], w.reads[:0]
}

// level returns the i-th level of the name, false after the last. Levels are
// found as the trie asks for them: a name may have 65,536.
func (w *walk[S]) level(t *trie[S], i int) (span, bool) {
	for len(w.levels) <= i {
		if w.next < 0 {
			return span{}, false
		}
		from, to := w.next, len(w.name)
		if n := bytes.IndexByte(w.name[from:], '/'); n >= 0 {
			to = from + n
			w.next = to + 1
		} else {
			w.next = -1
		}
		w.levels = append(w.levels, span{int32(from), int32(to), maphash.Bytes(t.seed, w.name[from:to])})
	}
	return w.levels[i], true
}

// read notes a mark. It comes before the look at what the mark stands for.
func (w *walk[S]) read(t *trie[S], mark uint32) {
	if len(w.reads) < maxReads && !w.lost {
		w.reads = append(w.reads, read{mark, t.marks[mark].Load()})
	} else {
		w.lost = true
	}
}

func (w *walk[S]) found(s *Set[S]) {
	if s != nil {
		w.sets = append(w.sets, s)
	}
}

// match appends to w.sets the sets of all filters that match the name. Every
// edge is followed at most once, every level of the name hashed once.
func (t *trie[S]) match(w *walk[S]) {
	w.todo = append(w.todo, visit[S]{&t.root, t.start, 0})
	for len(w.todo) > 0 {
		v := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]

		// No wildcard in the first level matches $ [MQTT-4.7.2-1].
		open := v.depth > 0 || !bytes.HasPrefix(w.name, []byte{'$'})
		w.read(t, wild(v.path))
		if open {
			w.found(v.node.multi.Load())
		}
		l, ok := w.level(t, v.depth)
		if !ok {
			w.found(v.node.set.Load())
			continue
		}
		path := step(v.path, l.hash)
		w.read(t, literal(path))
		if open && v.node.plus.Load() != nil {
			t.follow(w, v, step(v.path, t.plus), nil)
		}
		if v.node.literals.Load() != 0 {
			t.follow(w, v, path, name(w, l))
		}
	}
}

func name[S any](w *walk[S], l span) []byte { return w.name[l.from:l.to:l.to] }

// follow takes the edge to a literal level, or to + if level is nil, and puts
// what it leads to on w.todo. An edge that was split while its inner marks
// were read is followed again: they might count what its label lacks.
func (t *trie[S]) follow(w *walk[S], v visit[S], path uint64, level []byte) {
	e := t.child(v.node, path, level)
	for e != nil {
		to, ok := t.along(w, e, visit[S]{e.child, path, v.depth + 1})
		again := e
		if len(e.label) > int(e.first) {
			again = t.child(v.node, path, level)
		}
		if again == e {
			if ok {
				w.todo = append(w.todo, to)
			}
			return
		}
		e = again
	}
}

func (t *trie[S]) child(n *node[S], path uint64, level []byte) *edge[S] {
	if level == nil {
		return n.plus.Load()
	}
	return t.edges.shard(path).find(path, func(e *edge[S]) bool {
		return e.parent == n && e.label[:e.first] == string(level)
	})
}

// along compares the levels of e's label after the first with the name's, v
// being after the first. It reports where they lead, false if they differ.
func (t *trie[S]) along(w *walk[S], e *edge[S], v visit[S]) (visit[S], bool) {
	for rest := e.label[e.first:]; rest != ""; v.depth++ {
		rest = rest[1:]
		n := strings.IndexByte(rest, '/')
		if n < 0 {
			n = len(rest)
		}
		want := rest[:n]
		rest = rest[n:]
		w.read(t, wild(v.path))
		l, ok := w.level(t, v.depth)
		if !ok {
			return v, false
		}
		path := step(v.path, l.hash)
		w.read(t, literal(path))
		switch want {
		case "+":
			v.path = step(v.path, t.plus)
		case string(name(w, l)):
			v.path = path
		default:
			return v, false
		}
	}
	return v, true
}

// release gives w back without what it points to. One that a strange name or
// a crowd of filters has made large is left to the garbage collector.
func (w *walk[S]) release(pool *sync.Pool) {
	const most = 1024
	if cap(w.levels) > most || cap(w.todo) > most || cap(w.sets) > most {
		return
	}
	w.name = nil
	clear(w.sets)
	pool.Put(w)
}
