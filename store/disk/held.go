package disk

import (
	"time"

	"github.com/sealmq/sealmq/store"
)

// held are ops that linger, in the order of submission, which is also that in which they become due. Those of one lane are
// a chain: Lane.Held is the number of the newest that is held.
type held struct {
	ops  []heldOp
	base uint64 // number of ops[0]; the first op is number 1
}

type heldOp struct {
	op   *store.Op     // nil: taken before it was due
	due  time.Duration // never earlier than the one before
	prev uint64        // number of the lane's op before this one; 0: none
}

func (h *held) len() int { return len(h.ops) }

// add holds op until due at the latest.
func (h *held) add(op *store.Op, due time.Duration) {
	if h.base == 0 {
		h.base = 1
	}
	x := heldOp{op: op, due: due}
	if op.Lane != nil {
		x.prev = op.Lane.Held
		op.Lane.Held = h.base + uint64(len(h.ops))
	}
	for i := len(h.ops) - 1; i >= 0 && h.ops[i].due > due; i-- {
		h.ops[i].due = due
	}
	h.ops = append(h.ops, x)
}

// due returns when the first op is due.
func (h *held) due() (time.Duration, bool) {
	h.skip()
	if len(h.ops) == 0 {
		return 0, false
	}
	return h.ops[0].due, true
}

// skip forgets ops at the front that were taken.
func (h *held) skip() {
	for len(h.ops) > 0 && h.ops[0].op == nil {
		h.pop()
	}
}

func (h *held) pop() {
	h.ops[0] = heldOp{}
	h.ops = h.ops[1:]
	h.base++
}

// take appends the ops of a lane to dst, in order.
func (h *held) take(l *store.Lane, dst []*store.Op) []*store.Op {
	n := len(dst)
	for at := l.Held; at >= h.base && at != 0; {
		x := &h.ops[at-h.base]
		if x.op == nil {
			break
		}
		dst = append(dst, x.op)
		at, x.op = x.prev, nil
	}
	l.Held = 0
	for i, j := n, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}

// expire appends the ops that are due to dst.
func (h *held) expire(now time.Duration, dst []*store.Op) []*store.Op {
	for len(h.ops) > 0 && h.ops[0].due <= now {
		if op := h.ops[0].op; op != nil {
			dst = append(dst, op)
		}
		h.pop()
	}
	return dst
}
