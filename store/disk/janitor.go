package disk

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sealmq/sealmq/store"
)

// janitor removes what ended sessions leave, and messages to which nothing refers any more. None of its work is needed
// for what the store answers; after a crash it begins again.
type janitor struct {
	s     *Store
	loose atomic.Uint64 // acknowledgements whose message may be without references

	mu   sync.Mutex
	todo []ended

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
}

// ended is a session to remove, with the references that it held.
type ended struct {
	id   store.SessionID
	refs []ref
}

const (
	purgeBytes = 1 << 20 // of a batch
	purgeFew   = 64      // so many keys are deleted one by one, more as a range
	sweepMost  = 1 << 20 // messages looked for in one pass over the queues
	sweepStep  = 1000    // keys between two pauses
	sweepPause = time.Millisecond
	sweepPace  = 10 * time.Minute
	sweepLoose = 100_000 // so many acknowledgements make another sweep worth its while before
)

func newJanitor(s *Store, todo []ended) *janitor {
	return &janitor{s: s, todo: todo, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

// add has sessions removed. It does not block.
func (j *janitor) add(todo []ended) {
	j.mu.Lock()
	j.todo = append(j.todo, todo...)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *janitor) stop() {
	close(j.quit)
	await(j.s, j.done)
}

func (j *janitor) stopping() bool {
	select {
	case <-j.quit:
		return true
	case <-j.s.failing:
		return true
	default:
		return false
	}
}

// pause waits, and reports false when the work is over.
func (j *janitor) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-j.quit:
	case <-j.s.failing:
	}
	return false
}

func (j *janitor) run() {
	defer close(j.done)
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	swept := time.Time{}
	for {
		if err := j.purge(); err != nil {
			j.s.o.Log.Error("store cannot remove an ended session", "error", err)
		}
		n := j.loose.Load()
		if swept.IsZero() || n >= sweepLoose || n > 0 && time.Since(swept) >= sweepPace {
			j.loose.Add(-n)
			if err := j.sweep(); err != nil {
				j.s.o.Log.Error("store cannot look for messages without receivers", "error", err)
			}
			swept = time.Now()
		}
		select {
		case <-j.wake:
		case <-t.C:
		case <-j.quit:
			return
		case <-j.s.failing:
			return
		}
	}
}

func (j *janitor) next() (ended, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.todo) == 0 {
		j.todo = nil
		return ended{}, false
	}
	e := j.todo[0]
	j.todo[0] = ended{}
	j.todo = j.todo[1:]
	return e, true
}

// again puts sessions back whose removal has failed; it is tried again with the next, or after a minute.
func (j *janitor) again(todo []ended) {
	j.mu.Lock()
	j.todo = append(todo, j.todo...)
	j.mu.Unlock()
}

// purge removes all ended sessions. Their references are given to the builder when the entries are gone: a message may
// only be deleted after, or together with, every entry that refers to it, and some of those go with the builder's batches.
// References lost in a crash are found by the next sweep.
func (j *janitor) purge() (err error) {
	b := j.s.db.NewBatch()
	var (
		taken []ended // out of todo, and not removed yet
		refs  [][]ref
	)
	write := func() error {
		if err := j.write(b); err != nil {
			return err
		}
		j.s.queue.free(refs)
		taken, refs = taken[:0], nil
		return nil
	}
	defer func() {
		if err != nil {
			j.again(taken)
		}
		if j.s.failed() == nil { // otherwise Pebble may still have it
			b.Close()
		}
	}()
	for !j.stopping() {
		e, ok := j.next()
		if !ok {
			return write()
		}
		taken = append(taken, e)
		for _, kind := range [...]byte{kindWill, kindFilter, kindReceived, kindRecorded, kindQueue} {
			if err := j.clear(b, kind, e.id); err != nil {
				return err
			}
		}
		check(b.Delete(appendKey(nil, kindPurge, uint64(e.id)), nil))
		if len(e.refs) > 0 {
			refs = append(refs, e.refs)
		}
		if b.Len() >= purgeBytes {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes what has gathered in b.
func (j *janitor) write(b *pebble.Batch) error {
	if b.Empty() {
		return nil
	}
	if err := j.s.write(func() error { return j.s.db.Apply(b, pebble.NoSync) }); err != nil {
		return err
	}
	b.Reset()
	return nil
}

// clear deletes all keys of one kind and session. Ranges are for many keys only: each costs every later reader a little.
func (j *janitor) clear(b *pebble.Batch, kind byte, id store.SessionID) error {
	lower, upper := appendKey(nil, kind, uint64(id)), appendEnd(nil, kind, id)
	it, err := j.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	var keys [][]byte
	for valid := it.First(); valid && len(keys) <= purgeFew; valid = it.Next() {
		keys = append(keys, slices.Clone(it.Key()))
	}
	if err := it.Close(); err != nil {
		return err
	}
	if len(keys) > purgeFew {
		check(b.DeleteRange(lower, upper, nil))
		return nil
	}
	for _, k := range keys {
		check(b.Delete(k, nil))
	}
	return nil
}

// sweep deletes messages of which no queue has an entry: what was counted in an earlier run, or not to its end.
func (j *janitor) sweep() error {
	newest := j.s.seq.Load()
	for from := uint64(0); from <= newest && !j.stopping(); {
		found, next, err := j.unreferenced(from, newest)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			marked, err := j.mark(found)
			if err != nil || marked == nil {
				return err
			}
			if err := j.deleteUnmarked(found, marked); err != nil {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		from = next
	}
	return nil
}

// unreferenced returns messages that this run does not count, and where to look for more; 0 if there are none.
func (j *janitor) unreferenced(from, newest uint64) (found []uint64, next uint64, err error) {
	it, err := j.s.db.NewIter(&pebble.IterOptions{LowerBound: appendKey(nil, kindMessage, from), UpperBound: []byte{kindMessage + 1}})
	if err != nil {
		return nil, 0, err
	}
	n := 0
	for valid := it.First(); valid; valid = it.Next() {
		id, _, ok := keySession(it.Key())
		number := uint64(id)
		if !ok || number > newest {
			break
		}
		if len(found) == sweepMost {
			next = number
			break
		}
		if !j.s.refs.has(number) {
			found = append(found, number)
		}
		if n++; n%sweepStep == 0 && !j.pause(sweepPause) {
			break
		}
	}
	return found, next, it.Close()
}

// mark goes through all queues and tells which of the messages are referred to. It returns nil when it has to stop.
func (j *janitor) mark(found []uint64) ([]bool, error) {
	marked := make([]bool, len(found))
	it, err := j.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindQueue}, UpperBound: []byte{kindQueue + 1}})
	if err != nil {
		return nil, err
	}
	n := 0
	for valid := it.First(); valid; valid = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			var e entry
			if e, err = decodeEntry(v, false); err == nil && e.number != 0 {
				if i, ok := slices.BinarySearch(found, e.number); ok {
					marked[i] = true
				}
			}
		}
		if err != nil {
			it.Close()
			return nil, err
		}
		if n++; n%sweepStep == 0 && !j.pause(sweepPause) {
			return nil, it.Close()
		}
	}
	return marked, it.Close()
}

func (j *janitor) deleteUnmarked(found []uint64, marked []bool) error {
	b := j.s.db.NewBatch()
	defer func() { b.Close() }()
	for i, number := range found {
		if !marked[i] {
			check(b.Delete(appendKey(nil, kindMessage, number), nil))
		}
		if b.Len() >= purgeBytes {
			if err := j.write(b); err != nil {
				return err
			}
		}
	}
	return j.write(b)
}
