package disk

import (
	"fmt"
	"time"

	"github.com/sealmq/sealmq/store"
)

// logger is what Pebble writes to. It is silent about its daily work.
type logger struct{ s *Store }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.s.o.Log.Warn("store: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot go on, from any of its goroutines or from ours, and Pebble does not expect it to
// return: after a failed write to the list of files it would go on as if the write could be repeated.
func (l logger) Fatalf(format string, args ...any) {
	l.s.fail(fmt.Errorf(format, args...))
	l.s.park()
}

// park keeps a goroutine for good that Pebble must not get back after a failure. Ending it is no way either: Pebble's
// deferred calls would unlock what is not locked at that point. Everything that waits for it gives up after failPatience.
func (s *Store) park() { select {} }

// fail ends the work of the store for good.
func (s *Store) fail(err error) {
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.fs.GiveUp()
	close(s.failing)
	if s.loaded.Load() {
		s.announce(err)
	}
}

// announce tells the program of the failure, once.
func (s *Store) announce(err error) {
	s.announced.Do(func() {
		s.o.Log.Error("store failed", "error", err)
		if s.o.Fatal != nil {
			go s.o.Fatal(fmt.Errorf("store failed: %w", err))
		}
	})
}

// failed returns why the store does not work any more, nil if it does.
func (s *Store) failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// contain calls f, which works on the files, on a goroutine of its own: Pebble may keep it. A panic becomes an error.
func (s *Store) contain(f func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
			done <- err
		}()
		err = f()
	}()
	if err, came := await(s, done); came && err != nil {
		return err
	}
	return s.failed()
}

// write calls f, which writes to Pebble's log. After a failed write of the log Pebble panics in whoever applies something.
func (s *Store) write(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write log: %v", p)
			s.fail(err)
		}
	}()
	return f()
}

// await waits for what may never come once the store has failed: then only for a little longer.
func await[T any](s *Store, c <-chan T) (v T, came bool) {
	select {
	case v = <-c:
		return v, true
	case <-s.failing:
	}
	patience := time.NewTimer(failPatience)
	defer patience.Stop()
	select {
	case v = <-c:
		return v, true
	case <-patience.C:
		return v, false
	}
}

// abandon closes what can be closed of a store that has failed, or was not opened. Pebble may be unable to.
func (s *Store) abandon() {
	s.fs.GiveUp()
	if s.failed() == nil {
		s.fs.Guard(nil)
	}
	if s.db != nil {
		_ = s.contain(s.db.Close)
	}
	_ = s.fs.Close()
}

// refusal is the error of ops that are refused for the time being, or for good.
type refusal struct{ cause error }

func (r *refusal) Error() string        { return store.ErrDegraded.Error() + ": " + r.cause.Error() }
func (r *refusal) Unwrap() error        { return r.cause }
func (r *refusal) Is(target error) bool { return target == store.ErrDegraded }

func refused(cause error) error { return &refusal{cause} }

// Ready implements store.Store.
func (s *Store) Ready() error {
	if err := s.failed(); err != nil {
		return refused(err)
	}
	if err := s.fs.Err(); err != nil {
		return refused(err)
	}
	if err := s.troubled(); err != nil {
		return refused(err)
	}
	return nil
}

// troubled returns what went wrong with the files a moment ago, and may go wrong again.
func (s *Store) troubled() error {
	if t := s.trouble.Load(); t != nil && time.Since(t.at) < troublePace {
		return t.err
	}
	return nil
}

// urgentRecord is the size up to which a record may use the reserve: a revocation has to be possible when space is low, of
// the device with the longest record too.
const urgentRecord = 32 << 10

// refusal returns why an op cannot be done at present. What frees space, or ends what has begun, may use the reserve.
func (s *Store) refusal(op *store.Op) error {
	var cause error
	switch op.Kind {
	case store.PutRecord:
		if err := op.CheckRecord(); err != nil {
			return err
		}
		if cause = s.fs.Full(); len(op.Record.Value) > urgentRecord {
			cause = s.fs.Err()
		}
	case store.EndSession, store.Acked, store.Recorded, store.Released, store.Unsubscribe, store.PutSession:
		cause = s.fs.Full()
	default:
		if cause = s.fs.Err(); cause == nil {
			cause = s.troubled()
		}
	}
	if cause == nil {
		return nil
	}
	if s.refuses == nil || s.refuses.cause != cause {
		s.refuses = &refusal{cause}
	}
	return s.refuses
}

// trouble is a failure of work on the files that Pebble repeats.
type trouble struct {
	err error
	at  time.Time
}

// troublePace is how long after such a failure changes are refused: Pebble tries again sooner when it matters.
const troublePace = 5 * time.Second

// triesMost is how often tables may fail to be written while the store is opened or closed, which then waits for them:
// Pebble would try for ever.
const triesMost = 5

// hurry makes such failures count while f runs.
func (s *Store) hurry(f func() error) error {
	s.tries.Store(0)
	s.hurried.Store(true)
	defer s.hurried.Store(false)
	return f()
}

// flushed is told of the end of the writing of a table.
func (s *Store) flushed(err error) {
	if err != nil && err.Error() == emptyFlush {
		err = nil
	}
	s.recovered(err)
	if err != nil && s.hurried.Load() && s.tries.Add(1) >= triesMost {
		s.fail(fmt.Errorf("write table: %w", err))
	}
}

// emptyFlush is what Pebble calls the outcome of a flush that had nothing to write: what was in memory is obsolete.
const emptyFlush = "pebble: empty table"

// background is told of work on the files that failed, and that Pebble repeats.
func (s *Store) background(err error) {
	if s.trouble.Swap(&trouble{err, time.Now()}) == nil {
		s.o.Log.Error("store cannot write its files, and tries again", "error", err)
	}
}

// recovered is told of work on the files that has ended.
func (s *Store) recovered(err error) {
	if err == nil && s.trouble.Swap(nil) != nil {
		s.o.Log.Info("store writes its files again")
	}
}

// space is told when the free space of the file system crosses a mark.
func (s *Store) space(err error) {
	if err != nil {
		s.o.Log.Error("store degraded", "error", err)
	} else {
		s.o.Log.Info("store recovered: there is space again")
	}
}
