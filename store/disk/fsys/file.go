package fsys

import (
	"errors"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// urgency says what a write does that meets a full file system.
type urgency uint8

const (
	never   urgency = iota // not a file of the store: fails at once
	briefly                // a table: Pebble drops it, which frees space, and tries again later
	long                   // log, manifest and what points to them: Pebble ends when these fail
)

// brief is how long the write of a table waits, which paces Pebble, that tries again at once; and whoever finds no
// descriptor left.
const brief = time.Second

func (f *FS) urgencyOf(name string, c vfs.DiskWriteCategory) urgency {
	if f.PathDir(name) != f.opts.Dir {
		return never
	}
	switch c {
	case "pebble-memtable-flush", "pebble-compaction", "pebble-blob-file-rewrite":
		return briefly
	}
	return long
}

// file counts what is written to it, and waits when there is no space.
type file struct {
	vfs.File
	fs      *FS
	urgency urgency
}

func (x *file) Write(p []byte) (int, error) {
	x.fs.present()
	n, err := x.File.Write(p)
	x.fs.wrote(n)
	if err != nil && isFull(err) {
		err = x.fs.wait(x.urgency, err, func() error {
			m, err := x.File.Write(p[n:])
			x.fs.wrote(m)
			n += m
			return err
		})
	}
	return n, x.fs.ended(x.urgency, err)
}

func (x *file) WriteAt(p []byte, off int64) (int, error) {
	x.fs.present()
	n, err := x.File.WriteAt(p, off)
	x.fs.wrote(n)
	if err != nil && isFull(err) {
		err = x.fs.wait(x.urgency, err, func() error {
			m, err := x.File.WriteAt(p[n:], off+int64(n))
			x.fs.wrote(m)
			n += m
			return err
		})
	}
	return n, x.fs.ended(x.urgency, err)
}

// Preallocate is a wish, which a full file system does not grant; the write that needs the space will wait for it.
func (x *file) Preallocate(off, n int64) error {
	if err := x.File.Preallocate(off, n); err != nil && !isFull(err) {
		return err
	}
	return nil
}

// Sync, SyncData and SyncTo are never repeated: after a failed one nobody knows what is on the disk.
func (x *file) Sync() error { return x.synced(x.File.Sync()) }

func (x *file) SyncData() error { return x.synced(x.File.SyncData()) }

func (x *file) SyncTo(n int64) (bool, error) {
	full, err := x.File.SyncTo(n)
	return full, x.synced(err)
}

func (x *file) synced(err error) error {
	if err != nil && isFull(err) && x.urgency != never {
		x.fs.space.refused(x.urgency == long)
	}
	return x.fs.ended(x.urgency, err)
}

// pace holds back the error of a table for a moment: Pebble tries again at once, for as long as it takes.
func pace(u urgency, err error) error {
	if err != nil && u == briefly {
		time.Sleep(brief / 10)
	}
	return err
}

func (f *FS) wrote(n int) {
	if n > 0 {
		f.written.Add(uint64(n))
		f.space.wrote(int64(n))
	}
}

// persist does something that may need space, under the rules for a file of that name.
func (f *FS) persist(name string, c vfs.DiskWriteCategory, do func() error) error {
	f.present()
	err := do()
	if err != nil && isFull(err) {
		err = f.wait(f.urgencyOf(name, c), err, do)
	}
	for begin := time.Now(); isScarce(err) && f.urgencyOf(name, c) != never && time.Since(begin) < brief; err = do() {
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// wait repeats what failed with err for want of space until it succeeds, fails otherwise, or patience ends.
func (f *FS) wait(u urgency, err error, again func() error) error {
	patience := f.opts.Patience
	switch u {
	case never:
		return err
	case briefly:
		patience = min(patience, brief)
	}
	f.space.refused(u == long)
	begin := time.Now()
	for delay := time.Duration(0); ; delay = min(max(2*delay, time.Millisecond), 250*time.Millisecond) {
		if delay > 0 {
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-f.space.gaveUp:
			}
			t.Stop()
		}
		if err = again(); err == nil || !isFull(err) {
			return err
		}
		if f.given.Load() || time.Since(begin) >= patience {
			return err
		}
	}
}

// isScarce reports whether err says that there is no descriptor left, which may be true for a moment only.
func isScarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// isFull reports whether err says that the file system, or what this user may have of it, is full.
func isFull(err error) bool {
	for _, full := range errnosFull {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}
