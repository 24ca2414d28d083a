// Package memory is a store that lives as long as its process.
package memory

import (
	"strings"
	"sync"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// Store implements store.Store in memory.
type Store struct {
	mu     sync.RWMutex
	root   node
	byName map[string]*store.Message

	queues sync.Map // client identifier → *queue
}

// node is one level of the tree of retained topics.
type node struct {
	children map[string]*node
	message  *store.Message
	deep     map[string]*store.Message // of topics with more than maxDepth levels, by name
}

// maxDepth bounds the nodes that one topic can take: each costs far more than the slash that asks for it.
const maxDepth = 32

func (n *node) empty() bool { return n.message == nil && len(n.children) == 0 && len(n.deep) == 0 }

// New returns an empty store.
func New() *Store { return &Store{byName: make(map[string]*store.Message)} }

// SetRetained implements store.Store.
func (s *Store) SetRetained(m *store.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byName[m.Topic] = m
	n, depth := &s.root, 0
	for level := range strings.SplitSeq(m.Topic, "/") {
		if depth++; depth > maxDepth {
			if n.deep == nil {
				n.deep = make(map[string]*store.Message, 1)
			}
			n.deep[m.Topic] = m
			return nil
		}
		next := n.children[level]
		if next == nil {
			next = &node{}
			if n.children == nil {
				n.children = make(map[string]*node, 1)
			}
			n.children[level] = next
		}
		n = next
	}
	n.message = m
	return nil
}

// ClearRetained implements store.Store.
func (s *Store) ClearRetained(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byName[name]; !ok {
		return nil
	}
	delete(s.byName, name)
	levels := strings.SplitN(name, "/", maxDepth+1)
	deep := len(levels) > maxDepth
	levels = levels[:min(len(levels), maxDepth)]
	path := make([]*node, 0, len(levels))
	n := &s.root
	for _, level := range levels {
		path = append(path, n)
		n = n.children[level]
	}
	if deep {
		delete(n.deep, name)
	} else {
		n.message = nil
	}
	for i := len(levels) - 1; i >= 0 && n.empty(); i-- {
		n = path[i]
		delete(n.children, levels[i])
	}
	return nil
}

// RetainedMessage implements store.Store.
func (s *Store) RetainedMessage(name string) (*store.Message, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name], nil
}

// RetainedCount implements store.Store.
func (s *Store) RetainedCount() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byName)
}

// Retained implements store.Store.
func (s *Store) Retained(filter string, fn func(*store.Message) bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !strings.ContainsAny(filter, "+#") {
		if m := s.byName[filter]; m != nil {
			fn(m)
		}
		return nil
	}
	s.walk(filter, fn)
	return nil
}

// visit is a node still to be looked at with what is left of the filter; done means that the filter has ended there.
type visit struct {
	n    *node
	rest string
	done bool
	all  bool // below a "#": everything
}

// walk visits every message that the filter matches.
func (s *Store) walk(filter string, fn func(*store.Message) bool) {
	stack := []visit{{n: &s.root, rest: filter}}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !v.done {
			for name, m := range v.n.deep {
				if topic.Match(filter, name) && !fn(m) {
					return
				}
			}
		}
		if v.all || v.done {
			if v.n.message != nil && !fn(v.n.message) {
				return
			}
			if v.all {
				for _, c := range v.n.children {
					stack = append(stack, visit{n: c, all: true})
				}
			}
			continue
		}
		level, rest, more := strings.Cut(v.rest, "/")
		first := v.n == &s.root
		switch level {
		case "#":
			// "a/#" also matches "a" itself, and a leading "#" no topic that begins with "$" [MQTT-4.7.2-1].
			if !first && v.n.message != nil && !fn(v.n.message) {
				return
			}
			for name, c := range v.n.children {
				if !first || !strings.HasPrefix(name, "$") {
					stack = append(stack, visit{n: c, all: true})
				}
			}
		case "+":
			for name, c := range v.n.children {
				if !first || !strings.HasPrefix(name, "$") {
					stack = append(stack, visit{n: c, rest: rest, done: !more})
				}
			}
		default:
			if c := v.n.children[level]; c != nil {
				stack = append(stack, visit{n: c, rest: rest, done: !more})
			}
		}
	}
}

// OpenQueue implements store.Store.
func (s *Store) OpenQueue(clientID string) (store.Queue, error) {
	q, _ := s.queues.LoadOrStore(clientID, &queue{})
	return q.(*queue), nil
}

// DropQueue implements store.Store.
func (s *Store) DropQueue(clientID string) error {
	s.queues.Delete(clientID)
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error { return nil }

// queue is a ring of items that grows as needed and gives its memory back when it runs empty.
type queue struct {
	ring  []store.Item // length a power of two
	head  int
	n     int
	bytes int64
}

func (q *queue) Push(it store.Item) error {
	if q.n == len(q.ring) {
		grown := make([]store.Item, max(4, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = it
	q.n++
	q.bytes += it.Message.Size()
	return nil
}

func (q *queue) Front() (store.Item, bool) {
	if q.n == 0 {
		return store.Item{}, false
	}
	return q.ring[q.head], true
}

func (q *queue) Pop() {
	if q.n == 0 {
		return
	}
	q.bytes -= q.ring[q.head].Message.Size()
	q.ring[q.head] = store.Item{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	if q.n--; q.n == 0 {
		q.ring, q.head = nil, 0
	}
}

func (q *queue) Len() int     { return q.n }
func (q *queue) Bytes() int64 { return q.bytes }
