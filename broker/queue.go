package broker

import "github.com/sealmq/sealmq/store"

// item is a message that waits for one session.
type item struct {
	m        *store.Message // nil when recorded
	share    *group
	ids      *[]uint32        // subscription identifiers, nil for none
	place    *store.Placement // in the queue of a durable session; nil in others
	qos      uint8
	retain   bool
	dup      bool // may have been sent before a restart
	recorded bool // the client has it; only PUBREL and PUBCOMP are missing
}

func (it *item) size() int64 {
	if it.m == nil {
		return 0
	}
	return it.m.Size()
}

// ring is a queue of values that grows as needed and gives its memory back when it runs empty.
type ring[T any] struct {
	slots []T // length a power of two
	head  int
	n     int
}

func (r *ring[T]) push(v T) {
	if r.n == len(r.slots) {
		grown := make([]T, max(4, 2*len(r.slots)))
		for i := range r.n {
			grown[i] = *r.at(i)
		}
		r.slots, r.head = grown, 0
	}
	r.n++
	*r.at(r.n - 1) = v
}

// at returns the i-th oldest value.
func (r *ring[T]) at(i int) *T { return &r.slots[(r.head+i)&(len(r.slots)-1)] }

// pop removes the oldest value. The ring must not be empty.
func (r *ring[T]) pop() T {
	var zero T
	v := *r.at(0)
	*r.at(0) = zero
	r.head = (r.head + 1) & (len(r.slots) - 1)
	if r.n--; r.n == 0 {
		r.slots, r.head = nil, 0
	}
	return v
}

// queue is a ring of messages that knows how large they are.
type queue struct {
	ring[item]
	bytes int64
}

func (q *queue) push(it item) {
	q.ring.push(it)
	q.bytes += it.size()
}

// pop removes the oldest item. The queue must not be empty.
func (q *queue) pop() item {
	it := q.ring.pop()
	q.bytes -= it.size()
	return it
}
