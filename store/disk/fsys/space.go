package fsys

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrLow is wrapped by the errors that tell of free space under the first mark, ErrFull by those of space under the
// second one, or of a write that was refused.
var (
	ErrLow  = errors.New("little space left on the file system")
	ErrFull = errors.New("no space left on the file system")
)

// Level is how much space there is.
type level uint8

const (
	roomy level = iota
	low
	full
)

// How old what is known of the free space may be.
const (
	maxAge   = 100 * time.Millisecond
	maxBytes = 16 << 20
)

// space knows how much is free.
type space struct {
	fs     *FS
	usage  func() (vfs.DiskUsage, error)
	now    func() time.Duration // since the start
	pace   time.Duration        // of the watch
	every  int64                // bytes written between two looks
	free   atomic.Int64         // as last seen; -1: unknown
	state  atomic.Pointer[state]
	looked atomic.Int64 // when, on now's clock
	since  atomic.Int64 // bytes written since
	gaveUp chan struct{}

	mu       sync.Mutex
	starved  bool // a write was refused, and space has not been seen since
	watching bool
	closed   bool
	again    time.Duration // when a ballast that could not be made is tried again
	wg       sync.WaitGroup
}

// state is immutable.
type state struct {
	level level
	err   error // nil when roomy
}

func (s *space) begin(f *FS) {
	start := time.Now()
	s.fs = f
	s.usage = func() (vfs.DiskUsage, error) { return f.base.GetDiskUsage(f.opts.Dir) }
	s.now = func() time.Duration { return time.Since(start) }
	s.pace = 250 * time.Millisecond
	s.every = min(max(f.opts.MinFree/16, 1<<20), maxBytes)
	s.gaveUp = make(chan struct{})
	s.free.Store(-1)
	s.looked.Store(int64(-maxAge))
	s.state.Store(&state{})
}

// start looks for the first time, and makes the ballast if there is space for it.
func (s *space) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fs.ballast.adopt()
	s.look()
	if s.mayMakeBallast() && s.fs.ballast.make() != nil {
		s.starved = true
		s.look()
	}
}

func (s *space) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}

// Err returns nil, or an error that wraps ErrLow when the free space is under MinFree (and until it is an eighth over
// it again). It costs nothing but, every 100 ms at most, one system call.
func (f *FS) Err() error {
	f.space.refresh()
	return f.space.state.Load().err
}

// Full returns nil, or an error that wraps ErrFull and ErrLow when the free space is under Reserve, or a write was
// refused for want of space.
func (f *FS) Full() error {
	f.space.refresh()
	if s := f.space.state.Load(); s.level == full {
		return s.err
	}
	return nil
}

// Free returns how many bytes the file system has left for this user, at most 100 ms ago; -1 when that is unknown.
func (f *FS) Free() int64 {
	f.space.refresh()
	return f.space.free.Load()
}

// Usage asks the file system of Dir how much space it has.
func (f *FS) Usage() (vfs.DiskUsage, error) { return f.space.usage() }

// refresh looks when what is known is too old and nobody else is looking.
func (s *space) refresh() {
	if s.now()-time.Duration(s.looked.Load()) < maxAge || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.look()
}

func (s *space) wrote(n int64) {
	if s.since.Add(n) < s.every || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.look()
}

// refused notes that a write failed for want of space, and gives the ballast up for an urgent one.
func (s *space) refused(urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starved = true
	if urgent {
		s.fs.ballast.release()
	}
	s.look()
}

// look asks for the free space and sets the state. Under mu.
func (s *space) look() {
	s.since.Store(0)
	u, err := s.usage()
	s.looked.Store(int64(s.now()))
	free := int64(-1)
	if err == nil {
		free = int64(min(u.AvailBytes, 1<<62))
	}
	s.free.Store(free)
	was := s.state.Load()
	now := was.level
	if free >= 0 {
		now = levelOf(free, was.level, s.fs.opts)
	} else if !s.starved {
		now = roomy
	}
	if s.starved {
		now = full
	}
	if now != was.level {
		s.state.Store(&state{now, s.describe(now, free)})
	}
	if now != roomy && !s.watching && !s.closed {
		s.watching = true
		s.wg.Go(s.watch)
	}
}

// levelOf returns the level of so many free bytes. A level is left when there is an eighth more than its mark.
func levelOf(free int64, was level, o Options) level {
	reserve, minFree := o.Reserve, o.MinFree
	if was == full {
		reserve += reserve / 8
	}
	if was >= low {
		minFree += minFree / 8
	}
	switch {
	case free < reserve:
		return full
	case free < minFree:
		return low
	}
	return roomy
}

func (s *space) describe(l level, free int64) error {
	o := s.fs.opts
	switch {
	case l == roomy:
		return nil
	case l == low:
		return &shortage{fmt.Sprintf("%v: %d bytes are free in %s, under the mark of %d", ErrLow, free, o.Dir, o.MinFree), ErrLow, nil}
	case free < 0:
		return &shortage{fmt.Sprintf("%v: a write in %s was refused", ErrFull, o.Dir), ErrFull, ErrLow}
	case s.starved:
		return &shortage{fmt.Sprintf("%v: a write in %s was refused, %d bytes are free", ErrFull, o.Dir, free), ErrFull, ErrLow}
	}
	return &shortage{fmt.Sprintf("%v: %d bytes are free in %s, under the mark of %d", ErrFull, free, o.Dir, o.Reserve), ErrFull, ErrLow}
}

// shortage is an error that wraps one or two others without repeating their text.
type shortage struct {
	text string
	a, b error
}

func (e *shortage) Error() string        { return e.text }
func (e *shortage) Is(target error) bool { return target == e.a || e.b != nil && target == e.b }

// Hint is one line of advice.
func (e *shortage) Hint() string {
	return "make space there; work goes on by itself when there is some"
}

// mayMakeBallast reports whether there seems to be space for it. After a refused write it is the test whether writing is
// possible: quotas are not seen in the free space.
func (s *space) mayMakeBallast() bool {
	if !s.starved {
		return !s.fs.ballast.held && s.state.Load().level == roomy
	}
	free, o := s.free.Load(), s.fs.opts
	if s.now() < s.again {
		return false
	}
	return free < 0 || free >= 2*o.Ballast && levelOf(free, full, o) != full
}

// watch looks until there is space again, tells every change, and makes the ballast anew.
func (s *space) watch() {
	told := roomy
	for {
		s.mu.Lock()
		if s.closed {
			s.watching = false
			s.mu.Unlock()
			return
		}
		s.look()
		if s.mayMakeBallast() {
			if s.starved = s.fs.ballast.make() != nil; s.starved {
				s.again = s.now() + 8*s.pace
			}
			s.look()
		}
		now := s.state.Load()
		if now.level == roomy && told == roomy {
			s.watching = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if now.level != told {
			told = now.level
			if s.fs.opts.OnChange != nil {
				s.fs.opts.OnChange(now.err)
			}
			continue
		}
		t := time.NewTimer(s.pace)
		select {
		case <-t.C:
		case <-s.gaveUp:
			t.Stop()
			s.mu.Lock()
			s.watching, s.closed = false, true
			s.mu.Unlock()
			return
		}
	}
}
