package disk

import "sync"

// references counts the queue entries that refer to each message that was stored in this run. Only the builder changes
// them.
type references struct {
	mu sync.Mutex
	n  map[uint64]uint32 // by the message's number
}

func (r *references) add(number uint64, n int) {
	r.mu.Lock()
	r.n[number] = uint32(n)
	r.mu.Unlock()
}

// release takes one away, and reports whether it was the last.
func (r *references) release(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.n[number]
	if n > 1 {
		r.n[number] = n - 1
		return false
	}
	delete(r.n, number)
	return n == 1
}

func (r *references) has(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.n[number]
	return ok
}
