package transport

import "sync"

const (
	smallChunk = 4 << 10
	largeChunk = 64 << 10
)

// A chunk is a piece of a queue; b[off:n] waits to be sent.
type chunk struct {
	next   *chunk
	off, n int
	b      []byte
}

// Pools shared by all connections: most have nothing queued.
var (
	smallChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, largeChunk)} }}
)

// queue holds the bytes that the kernel did not take. The zero queue is empty
// and owns no memory.
type queue struct {
	head, tail *chunk
	size       int
}

// push appends a copy of p.
func (q *queue) push(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		t := q.tail
		if t == nil || t.n == len(t.b) {
			t = getChunk(len(p), q.tail != nil)
			if q.tail == nil {
				q.head = t
			} else {
				q.tail.next = t
			}
			q.tail = t
		}
		n := copy(t.b[t.n:], p)
		t.n += n
		p = p[n:]
	}
}

// front returns the first bytes, nil if there are none. They stay valid, while
// others push, until pop.
func (q *queue) front() []byte {
	if q.head == nil {
		return nil
	}
	return q.head.b[q.head.off:q.head.n]
}

// pop removes n bytes, no more than front returned.
func (q *queue) pop(n int) {
	q.size -= n
	h := q.head
	h.off += n
	if h.off < h.n {
		return
	}
	q.head = h.next
	if q.head == nil {
		q.tail = nil
	}
	putChunk(h)
}

// clear drops everything.
func (q *queue) clear() {
	for h := q.head; h != nil; {
		next := h.next
		putChunk(h)
		h = next
	}
	*q = queue{}
}

func getChunk(need int, more bool) *chunk {
	if need <= smallChunk && !more {
		return smallChunks.Get().(*chunk)
	}
	return largeChunks.Get().(*chunk)
}

func putChunk(c *chunk) {
	c.next, c.off, c.n = nil, 0, 0
	if len(c.b) == smallChunk {
		smallChunks.Put(c)
	} else {
		largeChunks.Put(c)
	}
}
