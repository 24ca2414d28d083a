package topic

import "sync"

// Index holds subscriptions by topic filter. S is what one subscription is to
// the caller.
type Index[S any] struct {
	mu   sync.RWMutex
	sets map[string]*Set[S]
	subs int
}

// NewIndex returns an empty index.
func NewIndex[S any]() *Index[S] { return &Index[S]{sets: map[string]*Set[S]{}} }

// Set is the subscriptions of one filter.
type Set[S any] struct {
	filter string
	mu     sync.RWMutex
	subs   map[int]*S
	next   int
}

// Ref names one subscription within the index.
type Ref[S any] struct {
	set  *Set[S]
	slot int
}

// Matches is the filters that match one topic name.
type Matches[S any] struct {
	topic string
	sets  []*Set[S]
}

// Filter returns the filter of the subscription; the caller need not keep its own copy.
func (r Ref[S]) Filter() string { return r.set.filter }

// Topic returns the topic name.
func (m *Matches[S]) Topic() string { return m.topic }

// Sets returns the subscriptions by filter, in no order. Do not modify it.
func (m *Matches[S]) Sets() []*Set[S] { return m.sets }

// Filter returns the filter that all subscriptions of the set share.
func (s *Set[S]) Filter() string { return s.filter }

// Len returns the number of subscriptions.
func (s *Set[S]) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.subs)
}

// Each calls f for every subscription until it returns false.
func (s *Set[S]) Each(f func(*S) bool) {
	s.mu.RLock()
	all := make([]*S, 0, len(s.subs))
	for _, p := range s.subs {
		all = append(all, p)
	}
	s.mu.RUnlock()
	for _, p := range all {
		if !f(p) {
			return
		}
	}
}

// Insert adds a subscription to filter, which must be valid. The same s may
// be inserted more than once; each Ref stands for one of them.
func (x *Index[S]) Insert(filter string, s *S) Ref[S] {
	x.mu.Lock()
	defer x.mu.Unlock()
	set := x.sets[filter]
	if set == nil {
		set = &Set[S]{filter: filter, subs: map[int]*S{}}
		x.sets[filter] = set
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	set.next++
	set.subs[set.next] = s
	x.subs++
	return Ref[S]{set, set.next}
}

// Remove takes the subscription out. It may be called once for each Ref.
func (x *Index[S]) Remove(r Ref[S]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	delete(r.set.subs, r.slot)
	x.subs--
	if len(r.set.subs) == 0 {
		delete(x.sets, r.set.filter)
	}
}

// Lookup returns what matches the topic name, which must be valid.
func (x *Index[S]) Lookup(name []byte) *Matches[S] {
	m := &Matches[S]{topic: string(name)}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for f, set := range x.sets {
		if Match(f, m.topic) {
			m.sets = append(m.sets, set)
		}
	}
	return m
}

// Len returns how many distinct filters and how many subscriptions there are.
func (x *Index[S]) Len() (filters, subscriptions int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.sets), x.subs
}
