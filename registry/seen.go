package registry

import (
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/store"
)

const (
	seenPace  = 10 * time.Minute // between two writes of what was seen of one device
	flushPace = time.Minute      // between looks for what is to be written
)

// sighting is the last connection of a device; under sightings.Mutex once others can see it.
type sighting struct {
	seen    Seen
	roots   string // names of the root certificates that the device has, keySize bytes each, in order
	written int64  // when it was written last, Unix milliseconds
	dirty   bool   // in sightings.dirty
	dead    bool   // the device is being purged: nothing is written any more
}

// sightings writes down what was seen of devices, not too often.
type sightings struct {
	sync.Mutex
	r      *Registry
	in     *interner
	dirty  []*entry // with something to write later
	timer  *time.Timer
	closed bool
}

func (s *sightings) init(r *Registry) { s.r, s.in = r, newInterner() }

// hold locks, so that nothing is written meanwhile.
func (s *sightings) hold() { s.Lock() }

// settle says whether a device that was to go is gone.
func (s *sightings) settle(e *entry, gone bool) {
	if e == nil || e.purged {
		return
	}
	s.Lock()
	defer s.Unlock()
	e.last.dead = gone
}

// Saw notes a connection of a device. Texts are cut to what can be printed. It neither waits for the disk nor fails; of
// what was noted in the last ten minutes a crash may take some.
func (r *Registry) Saw(id string, seen Seen) {
	e := r.index.get(id)
	if e == nil || e.purged {
		return
	}
	s := &r.seen
	s.Lock()
	defer s.Unlock()
	if e.last.dead || s.closed {
		return
	}
	now := r.o.Now()
	if seen.At.IsZero() || !validMilli(seen.At.UnixMilli()) {
		seen.At = now
	}
	seen.At = seen.At.Round(0).UTC().Truncate(time.Millisecond)
	for _, p := range []*string{&seen.Address, &seen.TLSVersion, &seen.Group, &seen.CipherSuite, &seen.Serial} {
		*p = clean(*p, maxSeen)
	}
	seen.Firmware = clean(seen.Firmware, maxFirmware)
	for _, p := range []*string{&seen.TLSVersion, &seen.Group, &seen.CipherSuite, &seen.Firmware} {
		*p = s.in.text([]byte(*p))
	}
	e.last.seen = seen
	if d := now.UnixMilli() - e.last.written; d >= seenPace.Milliseconds() || d < 0 {
		r.s.Submit(s.write(e, now.UnixMilli()))
		return
	}
	if !e.last.dirty {
		e.last.dirty = true
		s.dirty = append(s.dirty, e)
		s.arm()
	}
}

// write is an op for which nobody waits. Under the lock.
func (s *sightings) write(e *entry, now int64) *store.Op {
	e.last.written = now
	return &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: seenPrefix + e.id, Value: appendSeen(nil, &e.last.seen, e.last.roots)}}
}

// arm sets the timer if there is something for it to do. Under the lock.
func (s *sightings) arm() {
	switch {
	case len(s.dirty) == 0 || s.closed:
	case s.timer == nil:
		s.timer = time.AfterFunc(flushPace, func() {
			s.Lock()
			defer s.Unlock()
			s.timer = nil
			s.flush(false)
			s.arm()
		})
	}
}

// flush writes what is due, or everything. Under the lock.
func (s *sightings) flush(all bool) {
	now := s.r.o.Now().UnixMilli()
	var ops []*store.Op
	s.dirty = slices.DeleteFunc(s.dirty, func(e *entry) bool {
		if d := now - e.last.written; !all && !e.last.dead && d >= 0 && d < seenPace.Milliseconds() {
			return false
		}
		e.last.dirty = false
		if !e.last.dead {
			ops = append(ops, s.write(e, now))
		}
		return true
	})
	if len(ops) > 0 && !s.closed {
		s.r.s.Submit(ops...)
	}
}

// close writes everything. Nothing is submitted afterwards.
func (s *sightings) close() {
	s.Lock()
	defer s.Unlock()
	if s.closed {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.flush(true)
	s.closed = true
}

// of returns what was seen of a device.
func (s *sightings) of(e *entry) Seen {
	s.Lock()
	defer s.Unlock()
	return e.last.seen
}
