package topic

import (
	"hash/maphash"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Tree holds values by topic name and finds those that a filter matches without looking at the others. It may be used
// by any number of goroutines. Readers take no lock: a Match of millions of names delays no writer, and a writer no Match.
type Tree[V any] struct {
	seed  maphash.Seed
	items table[treeItem[V]] // by name; the shard's lock is held by whoever adds or removes the name
	order treeOrder[V]       // the same items, sorted
	n     atomic.Int64
}

// treeItem is a name from when it is set until it is deleted. Then value is nil for good: setting the name again makes
// another item.
type treeItem[V any] struct {
	name  string
	value atomic.Pointer[V]
}

const treeBits = 11

// NewTree returns an empty tree.
func NewTree[V any]() *Tree[V] {
	t := &Tree[V]{seed: maphash.MakeSeed(), items: newTable[treeItem[V]](treeBits)}
	t.order.root.Store(&treeNode[V]{})
	return t
}

func (t *Tree[V]) find(hash uint64, name string) *treeItem[V] {
	return t.items.shard(hash).find(hash, func(it *treeItem[V]) bool { return it.name == name })
}

// Set makes v the value of a valid topic name. The tree keeps the name as it was given when it was not there.
func (t *Tree[V]) Set(name string, v V) {
	hash := maphash.String(t.seed, name)
	if it := t.find(hash, name); it != nil && it.replace(&v) {
		return
	}
	s := t.items.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := t.find(hash, name); it != nil {
		it.value.Store(&v)
		return
	}
	it := &treeItem[V]{name: name}
	it.value.Store(&v)
	s.put(hash, it)
	t.order.change(it, true)
	t.n.Add(1)
}

// replace changes the value, unless the item is deleted.
func (it *treeItem[V]) replace(v *V) bool {
	for {
		old := it.value.Load()
		if old == nil {
			return false
		}
		if it.value.CompareAndSwap(old, v) {
			return true
		}
	}
}

// Delete removes a name and reports whether it was there.
func (t *Tree[V]) Delete(name string) bool {
	hash := maphash.String(t.seed, name)
	s := t.items.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	it := t.find(hash, name)
	if it == nil {
		return false
	}
	it.value.Store(nil)
	s.remove(hash, it)
	t.order.change(it, false)
	t.n.Add(-1)
	return true
}

// Get returns the value of a name.
func (t *Tree[V]) Get(name string) (v V, ok bool) {
	if it := t.find(maphash.String(t.seed, name), name); it != nil {
		if p := it.value.Load(); p != nil {
			return *p, true
		}
	}
	return v, false
}

// Len returns how many names there are.
func (t *Tree[V]) Len() int { return int(t.n.Load()) }

// Match calls fn for every name that the valid filter matches, until fn returns false. A name that was there before and
// stays is found once, with one of the values that it had meanwhile; one that is set for the first time or deleted
// meanwhile may or may not be found. fn may take its time and may use the tree.
func (t *Tree[V]) Match(filter string, fn func(name string, v V) bool) {
	if !strings.ContainsAny(filter, "+#") {
		if v, ok := t.Get(filter); ok {
			fn(filter, v)
		}
		return
	}
	_, from := treeStep(filter, "")
	for {
		items, end := t.order.seek(from)
		i := searchItems(items, from)
		from = treeKey{end, ""}
		for i < len(items) {
			it := items[i]
			i++
			verdict, to := treeStep(filter, it.name)
			switch verdict {
			case treeFound:
				if v := it.value.Load(); v != nil && !fn(it.name, *v) {
					return
				}
			case treeSeek:
				if i < len(items) && to.compare(items[i].name) > 0 {
					i += searchItems(items[i:], to)
				}
				if i == len(items) && to.compare(end) > 0 {
					from = to
				}
			case treeDone:
				return
			}
		}
		if end == "" {
			return
		}
	}
}

// treeKey is a place in the order: that of the two texts joined, which saves joining them.
type treeKey struct{ a, b string }

// compare tells where the key lies: -1 before s, 0 at s, 1 after s.
func (k treeKey) compare(s string) int {
	if len(s) < len(k.a) {
		return strings.Compare(k.a, s)
	}
	if c := strings.Compare(k.a, s[:len(k.a)]); c != 0 {
		return c
	}
	return strings.Compare(k.b, s[len(k.a):])
}

type treeVerdict int

const (
	treeFound treeVerdict = iota // the filter matches the name
	treeNext                     // it does not; it may match the name that follows
	treeSeek                     // it matches nothing before the key
	treeDone                     // it matches nothing that follows
)

// treeStep tells what a filter has to do with a name, and where in the order of bytes it can match again. The names below
// "a/" lie together there, but "a" and "a/b" have "a-" between them.
func treeStep(filter, name string) (treeVerdict, treeKey) {
	if name != "" && name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return treeSeek, treeKey{a: "%"} // [MQTT-4.7.2-1]
	}
	for p := 0; ; { // name[:p] is matched, and empty or ends in a slash; filter is what is left
		rest := name[p:]
		if filter == "#" {
			return treeFound, treeKey{}
		}
		if strings.HasPrefix(filter, "+") {
			e := strings.IndexByte(rest, '/')
			switch {
			case len(filter) == 1 && e < 0, e < 0 && filter == "+/#":
				return treeFound, treeKey{}
			case len(filter) == 1:
				return treeSeek, below(name[:p+e])
			case e < 0:
				return treeNext, treeKey{}
			}
			p += e + 1
			filter = filter[2:]
			continue
		}
		// Literal levels up to the next wildcard.
		run := filter
		if i := strings.IndexByte(filter, '+'); i >= 0 {
			run = filter[:i]
			if strings.HasPrefix(rest, run) {
				p += i
				filter = filter[i:]
				continue
			}
		} else if strings.HasSuffix(filter, "#") {
			run = filter[:len(filter)-2]
			if slashed := filter[:len(filter)-1]; rest == run || strings.HasPrefix(rest, slashed) {
				return treeFound, treeKey{}
			} else if run < rest && rest < slashed {
				return treeSeek, treeKey{name[:p], slashed}
			}
		} else if rest == run {
			return treeFound, treeKey{}
		}
		switch {
		case rest < run:
			return treeSeek, treeKey{name[:p], run}
		case p == 0:
			return treeDone, treeKey{}
		default:
			return treeSeek, below(name[:p-1])
		}
	}
}

// below is the place after all names that begin with s and a slash.
func below(s string) treeKey { return treeKey{s, "0"} } // '0' follows '/'

// treeOrder is a B+ tree. Its inner nodes never change: whoever has loaded the root sees one division into leaves. The
// names that a leaf is for never change either; another takes its place when it is divided or joined.
type treeOrder[V any] struct {
	root atomic.Pointer[treeNode[V]]
	mu   sync.Mutex // of the division: held by whoever stores root. Then leaves, in any order
}

const (
	maxTreeNode = 32
	minTreeNode = 8 // of all but the root and a leaf that has just been divided
)

// treeNode is an inner node or, without kids, a leaf.
type treeNode[V any] struct {
	seps []string // kids[i+1] is for the names from seps[i] on
	kids []*treeNode[V]

	mu    sync.Mutex
	dead  bool                           // replaced: items stay for readers, writers start again from the root
	items atomic.Pointer[[]*treeItem[V]] // sorted; replaced as a whole, nil when empty
}

func (n *treeNode[V]) load() []*treeItem[V] {
	if p := n.items.Load(); p != nil {
		return *p
	}
	return nil
}

func (n *treeNode[V]) store(items []*treeItem[V]) {
	if len(items) == 0 {
		n.items.Store(nil)
	} else {
		n.items.Store(&items)
	}
}

// index returns which kid the names at k belong to.
func (n *treeNode[V]) index(k treeKey) int {
	return sort.Search(len(n.seps), func(i int) bool { return k.compare(n.seps[i]) < 0 })
}

// searchItems returns how many of the sorted items lie before k.
func searchItems[V any](items []*treeItem[V], k treeKey) int {
	return sort.Search(len(items), func(i int) bool { return k.compare(items[i].name) <= 0 })
}

// seek returns the items of the leaf that is for the names at k, and where the next leaf begins, "" if it is the last.
func (o *treeOrder[V]) seek(k treeKey) (items []*treeItem[V], end string) {
	n := o.root.Load()
	for n.kids != nil {
		i := n.index(k)
		if i < len(n.seps) {
			end = n.seps[i]
		}
		n = n.kids[i]
	}
	return n.load(), end
}

// changed returns a copy of a leaf's items with one added or removed.
func changed[V any](items []*treeItem[V], it *treeItem[V], add bool) []*treeItem[V] {
	i := searchItems(items, treeKey{a: it.name})
	if add {
		to := make([]*treeItem[V], 0, len(items)+1)
		return append(append(append(to, items[:i]...), it), items[i:]...)
	}
	to := make([]*treeItem[V], 0, len(items)-1)
	return append(append(to, items[:i]...), items[i+1:]...)
}

// change adds an item that is not there, or removes one that is. The caller holds the lock of its name.
func (o *treeOrder[V]) change(it *treeItem[V], add bool) {
	k := treeKey{a: it.name}
	for {
		root := o.root.Load()
		n := root
		for n.kids != nil {
			n = n.kids[n.index(k)]
		}
		n.mu.Lock()
		if n.dead {
			n.mu.Unlock()
			continue
		}
		had := n.load()
		fits := add && len(had) < maxTreeNode || !add && len(had) > minTreeNode || !add && n == root
		if fits {
			n.store(changed(had, it, add))
		}
		n.mu.Unlock()
		if !fits {
			o.divide(it, add)
		}
		return
	}
}

// divide does the same with another division into leaves, if that is needed.
func (o *treeOrder[V]) divide(it *treeItem[V], add bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := treeKey{a: it.name}
	var path []*treeNode[V]
	var at []int
	n := o.root.Load()
	for n.kids != nil {
		path, at = append(path, n), append(at, n.index(k))
		n = n.kids[at[len(at)-1]]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	had := n.load()
	items := changed(had, it, add)
	if len(items) <= maxTreeNode && (len(items) >= minTreeNode || add || len(path) == 0) {
		n.store(items)
		return
	}
	n.dead = true
	now := &treeNode[V]{}
	now.store(items)
	next, sep := now.halve(add && items[len(items)-1] == it)
	for i := len(path) - 1; i >= 0; i-- {
		parent, from, to := path[i], at[i], at[i]+1
		if next == nil && now.size() < minTreeNode {
			// Join it with a neighbour; every parent has two kids at least.
			var left, right *treeNode[V]
			if to < len(parent.kids) {
				left, right = now, parent.kids[to]
				to++
			} else {
				from--
				left, right = parent.kids[from], now
			}
			old := left
			if left == now {
				old = right
			}
			if old.kids == nil {
				old.mu.Lock()
				defer old.mu.Unlock()
				old.dead = true
			}
			now = join(left, right, parent.seps[from])
			next, sep = now.halve(false)
		}
		kids, seps := []*treeNode[V]{now}, []string(nil)
		if next != nil {
			kids, seps = append(kids, next), []string{sep}
		}
		now = &treeNode[V]{
			kids: slices.Concat(parent.kids[:from], kids, parent.kids[to:]),
			seps: slices.Concat(parent.seps[:from], seps, parent.seps[to-1:]),
		}
		next, sep = now.halve(false)
	}
	switch {
	case next != nil:
		now = &treeNode[V]{kids: []*treeNode[V]{now, next}, seps: []string{sep}}
	case len(now.kids) == 1:
		now = now.kids[0]
	}
	o.root.Store(now)
}

func (n *treeNode[V]) size() int {
	if n.kids != nil {
		return len(n.kids)
	}
	return len(n.load())
}

// join makes one node, perhaps too large, of two neighbours; sep is what divided them.
func join[V any](left, right *treeNode[V], sep string) *treeNode[V] {
	n := &treeNode[V]{}
	if left.kids == nil {
		n.store(slices.Concat(left.load(), right.load()))
		return n
	}
	n.kids = slices.Concat(left.kids, right.kids)
	n.seps = slices.Concat(left.seps, []string{sep}, right.seps)
	return n
}

// halve divides a node that is not reachable yet, if it is too large: it returns the second half and where that begins.
// A leaf that grows at its end keeps what it had: names that come in order fill their leaves.
func (n *treeNode[V]) halve(atEnd bool) (*treeNode[V], string) {
	if n.size() <= maxTreeNode {
		return nil, ""
	}
	half := &treeNode[V]{}
	i := n.size() / 2
	if n.kids != nil {
		sep := n.seps[i-1]
		half.kids, half.seps = slices.Clone(n.kids[i:]), slices.Clone(n.seps[i:])
		n.kids, n.seps = slices.Clone(n.kids[:i]), slices.Clone(n.seps[:i-1])
		return half, sep
	}
	items := n.load()
	if atEnd {
		i = len(items) - 1
	}
	half.store(slices.Clone(items[i:]))
	n.store(slices.Clone(items[:i]))
	return half, separator(items[i-1].name, items[i].name)
}

// separator returns the shortest text after left and not after right. It keeps neither alive.
func separator(left, right string) string {
	i := 0
	for i < len(left) && left[i] == right[i] {
		i++
	}
	return strings.Clone(right[:i+1])
}
