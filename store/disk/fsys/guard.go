package fsys

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walCategory is what Pebble calls its log.
const walCategory = "pebble-wal"

// Guard keeps from Pebble, now that it is open, what the process does not survive: when a log that has failed is closed,
// or the next one cannot be made or its folder not synced, Pebble panics without the lock that a deferred call then gives
// back, and nothing can recover from that. Instead fail is told, and the goroutine never comes back; Pebble can then
// neither be written to nor closed. Failed writes and syncs of the log are told to both; what is applied after them may
// still panic, from which one can recover. fail may be called more than once, on any goroutine, and must not wait for
// Pebble. With nil errors reach Pebble again, unless there was one already: that is right when it is closed, and nobody
// writes.
func (f *FS) Guard(fail func(error)) {
	f.opening.Store(false)
	switch {
	case fail != nil:
		f.guard.Store(&fail)
	case !f.told.Load(): // otherwise somebody may still be on the way into the log that failed
		f.guard.Store(nil)
	}
}

type guard = atomic.Pointer[func(error)]

// GuardOpen is Guard for the time while Pebble opens: when that fails late, Pebble takes down what its goroutines are
// still using. Every failed change of files other than tables is told to fail, and does not come back.
func (f *FS) GuardOpen(fail func(error)) {
	f.Guard(fail)
	f.opening.Store(true)
}

// ended returns the error of a change, or keeps it from Pebble while that opens.
func (f *FS) ended(u urgency, err error) error {
	if err != nil && u == long && f.opening.Load() {
		f.stop(err)
	}
	return pace(u, err)
}

// tell reports that the log has failed.
func (f *FS) tell(err error) {
	if fail := f.guard.Load(); fail != nil {
		f.told.Store(true)
		(*fail)(err)
	}
}

// stop reports what Pebble does not survive, and does not return when there is a guard.
func (f *FS) stop(err error) {
	if fail := f.guard.Load(); fail != nil {
		f.told.Store(true)
		(*fail)(err)
		select {}
	}
}

// log is a file of Pebble's log.
type log struct {
	file
	failed atomic.Pointer[error]
}

func (l *log) note(err error) error {
	if err != nil {
		l.failed.CompareAndSwap(nil, &err)
		l.fs.tell(err)
	}
	return err
}

func (l *log) Write(p []byte) (int, error) {
	n, err := l.file.Write(p)
	return n, l.note(err)
}

func (l *log) WriteAt(p []byte, off int64) (int, error) {
	n, err := l.file.WriteAt(p, off)
	return n, l.note(err)
}

// ended stops whoever would sync a log that has failed. Pebble does so once more before it closes the log when something
// was written but not synced, and never comes to Close when that fails.
func (l *log) ended() error {
	if failed := l.failed.Load(); failed != nil {
		l.fs.stop(*failed)
		return *failed
	}
	return nil
}

func (l *log) Sync() error {
	if err := l.ended(); err != nil {
		return err
	}
	return l.note(l.file.Sync())
}

func (l *log) SyncData() error {
	if err := l.ended(); err != nil {
		return err
	}
	return l.note(l.file.SyncData())
}

func (l *log) SyncTo(n int64) (bool, error) {
	if err := l.ended(); err != nil {
		return false, err
	}
	full, err := l.file.SyncTo(n)
	return full, l.note(err)
}

func (l *log) Stat() (vfs.FileInfo, error) {
	fi, err := l.file.Stat()
	if err != nil {
		l.fs.stop(err)
	}
	return fi, err
}

// Close is the last that Pebble does with a log before it would panic. What could not be closed was synced before.
func (l *log) Close() error {
	err := l.file.Close()
	if failed := l.failed.Load(); failed != nil {
		l.fs.stop(*failed)
		return err
	}
	if l.fs.guard.Load() != nil {
		return nil
	}
	return err
}

// folder is the store's folder.
type folder struct {
	vfs.File
	fs *FS
}

// OpenDir opens a folder for syncing.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	d, err := f.base.OpenDir(name)
	if err != nil || name != f.opts.Dir {
		return d, err
	}
	return &folder{d, f}, nil
}

func (d *folder) Sync() error {
	err := d.File.Sync()
	if err != nil {
		d.fs.stop(err)
	}
	return err
}
