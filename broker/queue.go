package broker

import "github.com/sealmq/sealmq/store"

// item is a message that waits for one session.
type item struct {
	m      *store.Message
	share  *group
	ids    *[]uint32 // subscription identifiers, nil for none
	qos    uint8
	retain bool
}

// queue is a ring of items that grows as needed and gives its memory back when it runs empty.
type queue struct {
	ring  []item // length a power of two
	head  int
	n     int
	bytes int64
}

func (q *queue) push(it item) {
	if q.n == len(q.ring) {
		grown := make([]item, max(4, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = it
	q.n++
	q.bytes += it.m.Size()
}

// pop removes the oldest item. The queue must not be empty.
func (q *queue) pop() item {
	it := q.ring[q.head]
	q.ring[q.head] = item{}
	q.bytes -= it.m.Size()
	q.head = (q.head + 1) & (len(q.ring) - 1)
	if q.n--; q.n == 0 {
		q.ring, q.head = nil, 0
	}
	return it
}
