package disk

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store/disk/fsys"
)

// guarded is the file system that Pebble sees. It makes good what Pebble does not do, or does with a panic:
//   - The entries of the store's folder are durable before a marker that names one of them. Pebble syncs both together,
//     so that a file system that does not keep their order might have the marker after a crash, but not what it names.
//   - When the folder cannot be synced, or a log cannot be written, synced, closed or made, the store fails, and whoever
//     would panic with the error never gets it. A failed sync is not repeated.
type guarded struct {
	*fsys.FS
	s *Store
}

func (f guarded) isLog(name string) bool {
	return strings.HasSuffix(name, ".log") && f.PathDir(name) == f.PathDir(f.PathJoin(f.s.dir, "x"))
}

// working reports whether Pebble is neither being opened nor closed, so that errors can be returned to nobody.
func (s *Store) working() bool { return s.loaded.Load() && !s.closing.Load() }

// Create implements vfs.FS.
func (f guarded) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), "marker.") {
		if err := f.syncDir(f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	x, err := f.FS.Create(name, c)
	return f.log(name, x, err)
}

// ReuseForWrite implements vfs.FS.
func (f guarded) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	x, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.log(newname, x, err)
}

// log wraps a file that is to be a log.
func (f guarded) log(name string, x vfs.File, err error) (vfs.File, error) {
	if !f.isLog(name) {
		return x, err
	}
	if err != nil {
		f.s.fatal(err)
		return nil, err
	}
	return &logFile{File: x, s: f.s}, nil
}

// fatal ends the store, and keeps the goroutine if Pebble works.
func (s *Store) fatal(err error) {
	if s.working() {
		s.fail(err)
		s.park()
	}
}

func (f guarded) syncDir(dir string) error {
	d, err := f.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}

// OpenDir implements vfs.FS.
func (f guarded) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil || name != f.s.dir {
		return d, err
	}
	return folder{d, f.s}, nil
}

// folder is the store's.
type folder struct {
	vfs.File
	s *Store
}

// Sync implements vfs.File.
func (f folder) Sync() error {
	err := f.File.Sync()
	if err != nil {
		f.s.fatal(err)
	}
	return err
}

// logFile is a log. The first error goes to the goroutine of Pebble that writes the log, which passes it on to who waits
// for the sync. Any later one would go to who changes to another log, and panics.
type logFile struct {
	vfs.File
	s      *Store
	failed bool // one goroutine at a time uses the file
}

func (f *logFile) done(err error) error {
	if err == nil && !f.failed {
		return nil
	}
	if f.failed {
		f.s.fatal(err)
		return err
	}
	f.failed = true
	if f.s.working() {
		f.s.fail(err)
	}
	return err
}

// Write implements vfs.File.
func (f *logFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.done(err)
}

// Sync implements vfs.File.
func (f *logFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *logFile) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *logFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

func (f *logFile) sync(sync func() error) error {
	if f.failed {
		return f.done(errFailed)
	}
	return f.done(sync())
}

// Close implements vfs.File.
func (f *logFile) Close() error {
	err := f.File.Close()
	if f.failed && err == nil {
		err = errFailed
	}
	if err != nil {
		f.s.fatal(err)
	}
	return err
}
