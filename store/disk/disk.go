// Package disk is a store in a folder, on Pebble. What it has reported as committed is synced to the disk.
//
//	s, err := disk.Open(dir, disk.Config{}, disk.Options{Log: log, Fatal: func(err error) { … }})
//	clock, err := s.Load(handler)
//	s.Submit(ops...)
//	err = s.Close()
//
// It starts three goroutines of its own besides Pebble's: the builder applies ops and writes batches, the reporter waits
// for the disk and tells the handler, the janitor removes what ended sessions leave. Close waits for all of them. DESIGN.md
// explains how it works. The program's root package opens it; others see store.Store.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk/fsys"
)

// Options are what a store needs of the program around it.
type Options struct {
	Log *slog.Logger // nil: none
	// Fatal is called once, on a goroutine of its own, when the store cannot go on: a write to its log or its list of
	// files, or the sync after it, has failed. What was committed is safe. The program should end; the next Open recovers.
	Fatal func(error)
	FS    vfs.FS // for tests; nil: the operating system's

	now func() time.Time // the wall clock; nil: time.Now
}

// Store is a store in a folder. It implements store.Store. The slice that it passes to Handler.Committed is used again
// after the call. Submit must not be called after Close has returned.
type Store struct {
	dir  string
	o    Options
	h    store.Handler
	fs   *fsys.FS
	db   *pebble.DB
	last applied // as the store was opened

	started time.Time     // when it was loaded; its clock was base then
	base    time.Duration //

	queue   *queue
	apply   applier
	wrote   time.Duration // when the clock was written last; the builder's
	ending  bool          // nothing comes after the batch at work; the builder's
	minute  *time.Ticker
	refuses *refusal // the newest; the builder's
	refs    references
	janitor *janitor

	view     sync.RWMutex // the map, and session.recorded; only the builder changes them
	sessions map[store.SessionID]*session

	free, flight    chan *batch
	current         atomic.Pointer[batch] // what the builder works at
	built, reported chan struct{}         // closed when the goroutine has ended
	running         bool

	commits atomic.Uint64
	seq     atomic.Uint64           // of the newest op that can be read
	trouble atomic.Pointer[trouble] // what Pebble tries again at present

	failure   atomic.Pointer[error]
	failing   chan struct{} // closed with failure set
	announced sync.Once
	loaded    atomic.Bool
	hurried   atomic.Bool  // somebody waits for tables to be written
	tries     atomic.Int32 // failures of that since
	closeOne  sync.Once
	closeErr  error
}

var _ store.Store = (*Store)(nil)

// formatVersion is the version of the keys and values, written into the store. Older ones are read, newer ones refused.
const formatVersion = 1

// pebbleVersion is the format of Pebble's files. It checks the chunks of the log and the footers of tables.
const pebbleVersion = pebble.FormatValueSeparation

// ErrNewer is wrapped by the error of Open for a store that was written by a newer program.
var ErrNewer = errors.New("the store was written by a newer version of the program")

// Open opens the store in dir, or makes one; the folder is created if need be. A store that is in use, that others can
// read, that is damaged or was written by a newer version of the program is refused.
func Open(dir string, cfg Config, o Options) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.now == nil {
		o.now = time.Now
	}
	s := &Store{dir: dir, o: o, sessions: make(map[store.SessionID]*session), failing: make(chan struct{})}
	s.refs.n = make(map[uint64]uint32)
	s.fs = fsys.Wrap(o.FS, fsys.Options{Dir: dir, MinFree: cfg.MinFree, OnChange: s.space})
	if err := s.fs.Start(); err != nil {
		return nil, err
	}
	if err := s.hurry(func() error { return s.open(cfg) }); err != nil {
		s.abandon()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

// open opens the files.
func (s *Store) open(cfg Config) error {
	desc, err := pebble.Peek(s.dir, s.fs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case desc.Exists && desc.FormatMajorVersion > pebbleVersion:
		return fmt.Errorf("%w: its files have format %d, this one knows %d", ErrNewer, desc.FormatMajorVersion, pebbleVersion)
	}
	if err := s.inspect(desc); err != nil {
		return err
	}
	fresh := err != nil || !desc.Exists
	s.fs.GuardOpen(s.fail)
	opened := make(chan *pebble.DB, 1)
	err = s.contain(func() error {
		db, err := pebble.Open(s.dir, s.options(cfg))
		if err == nil {
			opened <- db
		}
		return err
	})
	select {
	case s.db = <-opened:
	default:
	}
	if err != nil {
		return err
	}
	s.fs.Guard(s.fail)
	if fresh {
		return s.create()
	}
	return s.check()
}

// inspect looks for damage of which Pebble does not tell, or not in which file.
func (s *Store) inspect(desc *pebble.DBDesc) error {
	if desc == nil || !desc.Exists {
		return nil
	}
	if name := desc.ManifestFilename; name != "" {
		if err := s.fs.CheckManifest(name); err != nil {
			return err
		}
	}
	name := desc.OptionsFilename
	if name == "" {
		return nil
	}
	text, err := s.read(name)
	if err == nil {
		o := &pebble.Options{Comparer: pebble.DefaultComparer, Merger: pebble.DefaultMerger}
		err = o.CheckCompatibility(s.dir, string(text))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.fs.PathBase(name), err)
	}
	return nil
}

// read returns the content of a file, which is not large.
func (s *Store) read(name string) ([]byte, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

func (s *Store) options(cfg Config) *pebble.Options {
	o := &pebble.Options{
		FS:                          ordered{s.fs},
		CacheSize:                   cfg.Cache,
		MemTableSize:                uint64(cfg.WriteBuffer),
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       24,
		MaxOpenFiles:                256,
		FormatMajorVersion:          pebbleVersion,
		Logger:                      logger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.background,
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.o.Log.Error("stored data is damaged", "file", i.Path, "error", i.Details)
			},
			FlushEnd:      func(i pebble.FlushInfo) { s.flushed(i.Err) },
			CompactionEnd: func(i pebble.CompactionInfo) { s.recovered(i.Err) },
		},
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:      10 * time.Second,
	}
	return o
}

// create writes the version of a store that was just made.
func (s *Store) create() error {
	b := s.db.NewBatch()
	defer b.Close()
	check(b.Set([]byte(metaFormat), []byte{layout, formatVersion}, nil))
	s.last = applied{wall: s.o.now().UnixNano()}
	check(b.Set([]byte(metaApplied), appendApplied(nil, s.last), nil))
	return s.contain(func() error { return s.commit(b) })
}

// check reads the version.
func (s *Store) check() error {
	v, err := s.get([]byte(metaFormat))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		// Made, but for the first batch.
		it, err := s.db.NewIter(nil)
		if err != nil {
			return err
		}
		empty := !it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if !empty {
			return fmt.Errorf("read version: %w: it is missing", errDamaged)
		}
		return s.create()
	case err != nil:
		return fmt.Errorf("read version: %w", err)
	}
	d := newDecoder(v)
	version := d.uint(1<<64 - 1)
	if err := d.end(); err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if version > formatVersion {
		return fmt.Errorf("%w: it has version %d, this one knows %d", ErrNewer, version, formatVersion)
	}
	v, err = s.get([]byte(metaApplied))
	if err == nil {
		s.last, err = decodeApplied(v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", kindName(kindMeta), err)
	}
	return nil
}

// get returns a copy of a value.
func (s *Store) get(key []byte) ([]byte, error) {
	v, c, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	v = append([]byte(nil), v...)
	return v, c.Close()
}

// commit writes a batch and waits for the disk.
func (s *Store) commit(b *pebble.Batch) error {
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	return b.SyncWait()
}

// clock is the store's clock.
func (s *Store) clock() time.Duration { return s.base + time.Since(s.started) }

// Submit implements store.Store.
func (s *Store) Submit(ops ...*store.Op) { s.queue.submit(ops) }

// Stats implements store.Store.
func (s *Store) Stats() store.Stats {
	st := store.Stats{
		Commits:      s.commits.Load(),
		BytesWritten: s.fs.Written(),
		FreeBytes:    s.fs.Free(),
	}
	if s.failed() == nil { // after a failure Pebble may not answer
		st.DiskBytes = int64(s.db.Metrics().DiskSpaceUsage())
	}
	if q := s.queue; q != nil {
		q.mu.Lock()
		st.Messages, st.Elided = q.messages, q.elided
		q.mu.Unlock()
	}
	s.view.RLock()
	st.Sessions = len(s.sessions)
	s.view.RUnlock()
	return st
}

// Backup writes a copy of the store as it is at this moment into dir, which must not exist. The copy is a store that Open
// opens; files are shared with the store where the file system can do that.
func (s *Store) Backup(dir string) error {
	if err := s.failed(); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	if err := s.contain(func() error { return s.db.Checkpoint(dir, pebble.WithFlushedWAL()) }); err != nil {
		return fmt.Errorf("back up store to %s: %w", dir, err)
	}
	return nil
}

// Close implements store.Store. It may be called more than once.
func (s *Store) Close() error {
	s.closeOne.Do(func() {
		if s.running {
			s.drain()
		}
		s.closeErr = s.release()
	})
	return s.closeErr
}

// drain ends the goroutines when everything is reported.
func (s *Store) drain() {
	q := s.queue
	q.mu.Lock()
	q.closing = true
	q.rouse()
	q.mu.Unlock()
	_ = s.hurry(func() error { // both may have to wait for tables
		s.janitor.stop()
		<-s.reported
		return nil
	})
	s.minute.Stop()
	q.timer.Stop()
}

// release closes the files.
func (s *Store) release() error {
	err := s.failed()
	if err != nil {
		s.abandon()
		return fmt.Errorf("close store: %w", err)
	}
	s.fs.Guard(nil)
	if err = s.contain(s.db.Close); err != nil {
		err = fmt.Errorf("close store: %w", err)
	}
	if err2 := s.fs.Close(); err == nil {
		err = err2
	}
	return err
}
