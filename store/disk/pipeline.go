package disk

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

// The pace of things.
const (
	batchBytes = 4 << 20                // a batch takes no further op beyond this
	batchOps   = 16 << 10               // nor beyond so many
	lazyOps    = 4 << 10                // so many ops for which nobody waits are not kept waiting
	lazyTime   = 100 * time.Millisecond // nor is any for longer
	lingerPace = 2 * time.Millisecond   // what would be due so soon after another may as well be taken with it
	freeRefs   = 4 << 10                // references of ended sessions taken away with one batch
	inFlight   = 3                      // batches being built, written and told
	clockPace  = 30 * time.Second       // the clock is written at least so often
	// failPatience is how long a failed store waits for its builder, which may hang.
	failPatience = 200 * time.Millisecond
)

// batch is one group of ops on its way.
type batch struct {
	b    *pebble.Batch
	ops  []*store.Op
	refs []ref // to be taken away
	runs []run // how ops are to be reported
	err  error // none was applied
	// phase says who reports the ops: the builder hands them over, but if it hangs in a failed store they are taken
	// from it.
	phase atomic.Uint32
}

// run is a number of consecutive ops with one outcome.
type run struct {
	n   int
	err error
}

// Phases of a batch.
const (
	building uint32 = iota
	writing
	handed
)

// queue holds what was submitted and not yet taken into a batch.
type queue struct {
	mu      sync.Mutex
	pending []*store.Op
	urgent  bool          // somebody waits for one of pending
	since   time.Duration // when the oldest of pending came, if none is urgent
	idle    bool          // the builder sleeps, or who reports in its place
	failed  bool          // nothing will be done: what comes is reported at once
	closing bool
	out     int // batches not yet reported

	held held

	freed [][]ref // of ended sessions, whose entries are gone

	messages, elided uint64

	wake  chan struct{}
	timer *time.Timer
	armed time.Duration // when the timer fires; 0: it does not
	now   func() time.Duration
}

func newQueue(now func() time.Duration) *queue {
	q := &queue{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour), now: now}
	q.timer.Stop()
	return q
}

// lazy reports whether nobody waits for op.
func lazy(op *store.Op) bool {
	return op.Wait == nil && (op.Kind == store.Acked || op.Kind == store.PutSession || op.Kind == store.PutRecord)
}

func (q *queue) submit(ops []*store.Op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Duration(0)
	for _, op := range ops {
		if op.Kind == store.Publish {
			q.messages++
			if op.Linger > 0 && !q.closing {
				if now == 0 {
					now = q.now()
				}
				q.held.add(op, now+op.Linger)
				continue
			}
		}
		if len(q.pending) == 0 {
			q.since, q.urgent = q.now(), false
		}
		if op.Lane != nil && op.Lane.Held != 0 {
			n := len(q.pending)
			q.pending = q.held.take(op.Lane, q.pending)
			q.urgent = q.urgent || len(q.pending) > n
		}
		q.pending = append(q.pending, op)
		q.urgent = q.urgent || !lazy(op)
	}
	if q.urgent || q.failed || len(q.pending) >= lazyOps {
		q.rouse()
	} else if len(q.pending) > 0 || q.held.len() > 0 {
		q.arm()
	}
}

// rouse wakes the builder. Under mu.
func (q *queue) rouse() {
	if q.idle {
		q.idle = false
		select {
		case q.wake <- struct{}{}:
		default: // a wake-up is on its way already
		}
	}
}

// arm sets the timer for what becomes due first. Under mu.
func (q *queue) arm() {
	at, ok := q.held.due()
	if len(q.pending) > 0 && (!ok || q.since+lazyTime < at) {
		at, ok = q.since+lazyTime, true
	}
	if ok && (q.armed == 0 || at < q.armed) {
		q.armed = max(at, 1)
		q.timer.Reset(at - q.now())
	}
}

// settle moves what is due to pending and reports whether there is something to do. Under mu.
func (q *queue) settle(now time.Duration) bool {
	if due, ok := q.held.due(); ok && (due <= now || q.closing) {
		until := now + lingerPace
		if q.closing {
			until = 1<<63 - 1
		}
		n := len(q.pending)
		q.pending = q.held.expire(until, q.pending)
		q.urgent = q.urgent || len(q.pending) > n
	}
	return len(q.freed) > 0 || len(q.pending) > 0 && (q.urgent || q.closing || len(q.pending) >= lazyOps || now-q.since >= lazyTime)
}

// free takes references away, when there is time.
func (q *queue) free(refs [][]ref) {
	if len(refs) == 0 {
		return
	}
	q.mu.Lock()
	q.freed = append(q.freed, refs...)
	q.rouse()
	q.mu.Unlock()
}

// cut moves the next ops into b. Under mu.
func (q *queue) cut(b *batch) {
	if len(q.freed) > 0 {
		refs := q.freed[0]
		n := min(len(refs), freeRefs)
		b.refs = refs[:n]
		if q.freed[0] = refs[n:]; n == len(refs) {
			q.freed[0] = nil
			q.freed = q.freed[1:]
		}
	}
	bytes, n := int64(0), 0
	for _, op := range q.pending {
		if n == batchOps || bytes >= batchBytes {
			break
		}
		n++
		bytes += 64 * int64(1+len(op.Placements)+len(op.Positions))
		if op.Message != nil {
			bytes += op.Message.Size()
		}
		if op.Record != nil {
			bytes += int64(len(op.Record.Key) + len(op.Record.Value))
		}
	}
	if n == len(q.pending) {
		b.ops, q.pending = q.pending, b.ops[:0]
	} else {
		b.ops = append(b.ops[:0], q.pending[:n]...)
		clear(q.pending[:n])
		q.pending = q.pending[n:]
	}
	q.urgent = q.urgent && len(q.pending) > 0
}

// gather waits for something to do and fills b.ops. It returns false when there will be nothing more.
func (s *Store) gather(b *batch) bool {
	q := s.queue
	for {
		now := q.now()
		q.mu.Lock()
		if s.failed() != nil {
			q.mu.Unlock()
			return false
		}
		if q.settle(now) {
			q.cut(b)
			q.out++
			q.mu.Unlock()
			return true
		}
		if q.closing && q.out == 0 {
			last := !s.ending // the clock is written once more
			s.ending = true
			if last {
				q.out++
				s.wrote = now - clockPace
			}
			q.mu.Unlock()
			return last
		}
		if now-s.wrote >= clockPace {
			q.out++
			q.mu.Unlock()
			return true
		}
		q.idle = true
		q.arm()
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-q.timer.C:
			q.mu.Lock()
			q.armed, q.idle = 0, false
			q.mu.Unlock()
		case <-s.minute.C:
			q.mu.Lock()
			q.idle = false
			q.mu.Unlock()
		case <-s.failing:
		}
		select { // a wake-up that crossed with another
		case <-q.wake:
		default:
		}
	}
}

// build is the builder: it applies ops and writes batches, while the one before is on its way to the disk.
func (s *Store) build() {
	defer close(s.built)
	for {
		var b *batch
		select {
		case b = <-s.free:
		case <-s.failing:
			return
		}
		if !s.gather(b) {
			return
		}
		s.current.Store(b)
		s.fill(b)
		b.phase.Store(writing)
		if b.err = s.failed(); b.err == nil && !b.b.Empty() {
			// The batch is in the log when this returns, and can be read.
			if b.err = s.write(func() error { return s.db.ApplyNoSyncWait(b.b, pebble.Sync) }); b.err != nil {
				s.fail(b.err) // what was applied is in memory, and only there
			}
			s.apply.visible()
		}
		if !b.phase.CompareAndSwap(writing, handed) {
			return
		}
		s.current.Store(nil)
		s.flight <- b
	}
}

// fill applies the ops of b, and leaves those out that are elided.
func (s *Store) fill(b *batch) {
	now := s.clock()
	b.runs = b.runs[:0]
	kept := b.ops[:0]
	elided := uint64(0)
	for _, op := range b.ops {
		if !op.Take() {
			elided++
			continue
		}
		kept = append(kept, op)
		err := s.refusal(op)
		if err == nil {
			s.apply.apply(b.b, op)
		}
		if n := len(b.runs); n > 0 && b.runs[n-1].err == err {
			b.runs[n-1].n++
		} else {
			b.runs = append(b.runs, run{1, err})
		}
	}
	clear(b.ops[len(kept):])
	b.ops = kept
	if elided > 0 {
		s.queue.mu.Lock()
		s.queue.elided += elided
		s.queue.mu.Unlock()
	}
	for _, r := range b.refs {
		s.apply.release(b.b, r.number)
	}
	b.refs = nil
	if !b.b.Empty() || s.queue.now()-s.wrote >= clockPace {
		s.wrote = s.queue.now()
		s.apply.key = append(s.apply.key[:0], metaApplied...)
		s.apply.val = appendApplied(s.apply.val[:0], applied{s.apply.seq, now, s.o.now().UnixNano()})
		s.apply.set(b.b)
	}
}

// report tells the handler what has become of ops, in their order. When the store has failed it reports everything that
// is left, until the store is closed.
func (s *Store) report() {
	defer close(s.reported)
	for b := range s.batches {
		if b.err == nil && !b.b.Empty() {
			if err := b.b.SyncWait(); err != nil {
				s.fail(err)
				b.err = err
			} else {
				s.commits.Add(1)
			}
		}
		s.tell(b)
		if s.failed() == nil { // otherwise Pebble may still have it
			b.b.Reset()
		}
		clear(b.ops)
		b.ops = b.ops[:0]
		b.err = nil
		b.phase.Store(building)
		q := s.queue
		q.mu.Lock()
		if q.out--; q.closing {
			q.rouse()
		}
		q.mu.Unlock()
		s.free <- b
	}
}

// batches yields what the builder hands over and, once the store has failed, what it left behind. It ends when the
// builder has ended and, if the store has failed, the store is closed.
func (s *Store) batches(yield func(*batch) bool) {
	for {
		select {
		case b := <-s.flight:
			if !yield(b) {
				return
			}
			continue
		case <-s.built:
		case <-s.failing:
			await(s, s.built) // it may just be late; what it hands over meanwhile is in flight
		}
		break
	}
	s.rest(yield)
}

// rest yields what is left when the builder has ended, or hangs.
func (s *Store) rest(yield func(*batch) bool) {
	for {
		select {
		case b := <-s.flight:
			if !yield(b) {
				return
			}
			continue
		default:
		}
		break
	}
	err := s.failed()
	if err == nil {
		return
	}
	if b := s.current.Load(); b != nil && b.phase.CompareAndSwap(writing, handed) {
		s.tell(&batch{ops: slices.Clone(b.ops), err: err})
	}
	q := s.queue
	for {
		q.mu.Lock()
		q.failed = true
		ops := q.held.expire(1<<63-1, q.pending)
		q.pending = nil
		closing := q.closing
		q.idle = len(ops) == 0 && !closing
		q.mu.Unlock()
		if len(ops) > 0 {
			ops = slices.DeleteFunc(ops, func(op *store.Op) bool { return !op.Take() })
			s.tell(&batch{ops: ops, err: err})
			continue
		}
		if closing {
			return
		}
		select {
		case <-q.wake:
		case b := <-s.flight: // a builder that was late
			if !yield(b) {
				return
			}
		}
	}
}

func (s *Store) tell(b *batch) {
	if b.err != nil {
		if len(b.ops) > 0 {
			s.h.Committed(b.ops, refused(b.err))
		}
		return
	}
	ops := b.ops
	for _, r := range b.runs {
		s.h.Committed(ops[:r.n:r.n], r.err)
		ops = ops[r.n:]
	}
}
