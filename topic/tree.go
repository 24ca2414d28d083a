package topic

import (
	"strings"
	"sync"
)

// Tree holds values by topic name and finds those that a filter matches without looking at the others.
type Tree[V any] struct {
	mu     sync.RWMutex
	root   treeNode[V]
	byName map[string]*treeItem[V]
}

type treeItem[V any] struct {
	name  string
	value V
}

// treeNode is one level of the tree.
type treeNode[V any] struct {
	children map[string]*treeNode[V]
	item     *treeItem[V]
	deep     map[string]*treeItem[V] // of names with more than maxTreeDepth levels, by name
}

// maxTreeDepth bounds the nodes that one name can take: each costs far more than the slash that asks for it.
const maxTreeDepth = 32

func (n *treeNode[V]) empty() bool { return n.item == nil && len(n.children) == 0 && len(n.deep) == 0 }

// NewTree returns an empty tree.
func NewTree[V any]() *Tree[V] { return &Tree[V]{byName: make(map[string]*treeItem[V])} }

// Set makes v the value of a valid topic name.
func (t *Tree[V]) Set(name string, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	it := &treeItem[V]{name, v}
	t.byName[name] = it
	n, depth := &t.root, 0
	for level := range strings.SplitSeq(name, "/") {
		if depth++; depth > maxTreeDepth {
			if n.deep == nil {
				n.deep = make(map[string]*treeItem[V], 1)
			}
			n.deep[name] = it
			return
		}
		next := n.children[level]
		if next == nil {
			next = &treeNode[V]{}
			if n.children == nil {
				n.children = make(map[string]*treeNode[V], 1)
			}
			n.children[level] = next
		}
		n = next
	}
	n.item = it
}

// Delete removes a name and reports whether it was there.
func (t *Tree[V]) Delete(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.byName[name]; !ok {
		return false
	}
	delete(t.byName, name)
	levels := strings.SplitN(name, "/", maxTreeDepth+1)
	deep := len(levels) > maxTreeDepth
	levels = levels[:min(len(levels), maxTreeDepth)]
	path := make([]*treeNode[V], 0, len(levels))
	n := &t.root
	for _, level := range levels {
		path = append(path, n)
		n = n.children[level]
	}
	if deep {
		delete(n.deep, name)
	} else {
		n.item = nil
	}
	for i := len(levels) - 1; i >= 0 && n.empty(); i-- {
		n = path[i]
		delete(n.children, levels[i])
	}
	return true
}

// Get returns the value of a name.
func (t *Tree[V]) Get(name string) (v V, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if it := t.byName[name]; it != nil {
		return it.value, true
	}
	return v, false
}

// Len returns how many names there are.
func (t *Tree[V]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byName)
}

// Match calls fn for every name that the valid filter matches, in no order, until fn returns false. What is set or
// deleted meanwhile may or may not be seen. fn must not change the tree.
func (t *Tree[V]) Match(filter string, fn func(name string, v V) bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if it := t.byName[filter]; it != nil {
			fn(it.name, it.value)
		}
		return
	}
	t.walk(filter, func(it *treeItem[V]) bool { return fn(it.name, it.value) })
}

// treeVisit is a node still to be looked at with what is left of the filter; done means that the filter has ended there.
type treeVisit[V any] struct {
	n    *treeNode[V]
	rest string
	done bool
	all  bool // below a "#": everything
}

func (t *Tree[V]) walk(filter string, fn func(*treeItem[V]) bool) {
	stack := []treeVisit[V]{{n: &t.root, rest: filter}}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !v.done {
			for name, it := range v.n.deep {
				if Match(filter, name) && !fn(it) {
					return
				}
			}
		}
		if v.all || v.done {
			if v.n.item != nil && !fn(v.n.item) {
				return
			}
			if v.all {
				for _, c := range v.n.children {
					stack = append(stack, treeVisit[V]{n: c, all: true})
				}
			}
			continue
		}
		level, rest, more := strings.Cut(v.rest, "/")
		first := v.n == &t.root
		switch level {
		case "#":
			// "a/#" also matches "a" itself, and a leading "#" no topic that begins with "$" [MQTT-4.7.2-1].
			if !first && v.n.item != nil && !fn(v.n.item) {
				return
			}
			for name, c := range v.n.children {
				if !first || !strings.HasPrefix(name, "$") {
					stack = append(stack, treeVisit[V]{n: c, all: true})
				}
			}
		case "+":
			for name, c := range v.n.children {
				if !first || !strings.HasPrefix(name, "$") {
					stack = append(stack, treeVisit[V]{n: c, rest: rest, done: !more})
				}
			}
		default:
			if c := v.n.children[level]; c != nil {
				stack = append(stack, treeVisit[V]{n: c, rest: rest, done: !more})
			}
		}
	}
}
