// Package fsys is the file system under the store on disk, a vfs.FS for Pebble. Files are 0600 and folders 0700 whatever
// the umask; bytes written are counted; the free space is watched, so that the store can refuse work long before there is
// none; when there is none, writes that Pebble could not survive wait for it; and from failures to which Pebble's answer
// would be the end of the process it is spared.
//
//	fs := fsys.Wrap(vfs.Default, fsys.Options{Dir: dir, MinFree: 256 << 20, OnChange: …})
//	err := fs.Start()                           // folder, modes, lock, ballast
//	fs.GuardOpen(fail)                          // what must be done when files cannot be written
//	db, err := pebble.Open(dir, &pebble.Options{FS: fs, …})
//	fs.Guard(fail)                              // and from now on the log
//	…
//	fs.GiveUp()                                 // optional: whoever waits for space, fails
//	err = db.Close()
//	err = fs.Close()
//
// Pebble's own lock on the folder is the one that Start took. It has to be taken before pebble.Open, which leaks a
// goroutine when it finds the folder locked.
//
// While space is short one goroutine looks at it, and calls OnChange. Only the store uses this package.
package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of an FS. They must not be changed once used.
type Options struct {
	// Dir is the store's folder. The space watched is that of its file system, and only files directly in it wait for
	// space; others (a backup's) meet a full disk as an error.
	Dir string
	// MinFree is the first mark: with fewer free bytes, Err is not nil. Default 256 MiB; negative: no marks.
	MinFree int64
	// Reserve is the second mark: with fewer free bytes, Full is not nil either. Default a quarter of MinFree.
	Reserve int64
	// Ballast is the size in bytes of a file that is given up when the file system is really full, so that what is under
	// way can be finished. Default 4 MiB, none when the base is not the operating system's; negative: none.
	Ballast int64
	// Patience is how long a write to a full file system waits before it fails. Default 10 minutes; negative: not at all.
	Patience time.Duration
	// OnChange is told every change: to an error that wraps ErrLow (under MinFree), to one that also wraps ErrFull
	// (under Reserve, or a write was refused), and nil when there is space again. Calls come from a goroutine of their
	// own and do not overlap.
	OnChange func(error)
}

// Defaults of Options.
const (
	DefaultMinFree  = 256 << 20
	DefaultBallast  = 4 << 20
	DefaultPatience = 10 * time.Minute
)

// Modes of what is created.
const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

type base = vfs.FS

// FS is a vfs.FS.
type FS struct {
	base
	opts   Options
	native bool // the base is the operating system's, with nothing between
	osBase bool // it is at the bottom

	written atomic.Uint64
	space   space
	ballast ballast
	given   atomic.Bool
	guard   guard
	opening atomic.Bool
	told    atomic.Bool // the guard
	closed  atomic.Bool
	lock    io.Closer // from Start to Close
	locked  atomic.Bool
}

var _ vfs.FS = (*FS)(nil)

// Wrap returns a file system that does its work through base. It does nothing yet.
func Wrap(base vfs.FS, o Options) *FS {
	f := &FS{base: base, native: base == vfs.Default, osBase: vfs.Root(base) == vfs.Default}
	switch {
	case o.MinFree == 0:
		o.MinFree = DefaultMinFree
	case o.MinFree < 0:
		o.MinFree, o.Reserve = 0, 0
	}
	if o.Reserve == 0 {
		o.Reserve = o.MinFree / 4
	}
	o.Reserve = min(max(o.Reserve, 0), o.MinFree)
	if o.Ballast == 0 && f.osBase {
		o.Ballast = DefaultBallast
	}
	o.Ballast = max(o.Ballast, 0)
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	o.Dir = filepath.Clean(o.Dir)
	f.opts = o
	f.ballast = ballast{fs: f, name: base.PathJoin(o.Dir, ballastName), size: o.Ballast}
	f.space.begin(f)
	return f
}

// Start makes the folder if it does not exist, refuses it when others can read what is in it, and locks it. Errors of the
// modes and of the lock have a Hint.
func (f *FS) Start() error {
	missing := f.missing(f.opts.Dir)
	err := f.MkdirAll(f.opts.Dir, dirMode)
	for _, dir := range missing {
		if err == nil {
			err = f.syncDir(f.PathDir(dir)) // Pebble would only sync the folder above its own
		}
	}
	if err != nil {
		return fmt.Errorf("create folder of the store: %w", err)
	}
	if f.osBase {
		if err := CheckModes(f.opts.Dir); err != nil {
			return err
		}
	}
	lock, err := f.Lock(f.PathJoin(f.opts.Dir, lockName))
	if err != nil {
		return err
	}
	f.lock = lock
	f.locked.Store(true)
	f.space.start()
	return nil
}

// Close ends the watch over the free space and releases the lock. Pebble must have been closed before; what is left of one
// that can't be closed is stopped when it changes a file, since the folder may have another owner then.
func (f *FS) Close() error {
	f.closed.Store(true)
	f.GiveUp()
	f.space.close()
	if !f.locked.Swap(false) {
		return nil
	}
	return f.lock.Close()
}

// present stops a goroutine that Pebble has left behind.
func (f *FS) present() {
	if f.closed.Load() {
		select {}
	}
}

// GiveUp makes every write that waits for space, and every later one that would, fail at once.
func (f *FS) GiveUp() {
	if !f.given.Swap(true) {
		close(f.space.gaveUp)
	}
}

// Written returns how many bytes were written to files.
func (f *FS) Written() uint64 { return f.written.Load() }

// Unwrap returns the base.
func (f *FS) Unwrap() vfs.FS { return f.base }

// Create creates a file, in the place of one that exists.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.persist(name, c, func() error {
		file, err = f.create(name, c)
		return err
	})
	return f.wrap(name, c, file, err)
}

func (f *FS) create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.native {
		file, err := f.base.Create(name, c)
		return f.private(name, file, err)
	}
	// The file must not be open to others for a moment either: a crash in it would leave a store that is refused.
	if err := createPrivate(name); err != nil {
		return nil, err
	}
	return f.base.OpenReadWrite(name, c)
}

// OpenReadWrite opens a file for reading and writing, and creates it if need be.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (file vfs.File, err error) {
	err = f.persist(name, c, func() error {
		if f.native {
			if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
				if err := createPrivate(name); err != nil {
					return err
				}
			}
		}
		file, err = f.base.OpenReadWrite(name, c, o...)
		file, err = f.private(name, file, err)
		return err
	})
	return f.wrap(name, c, file, err)
}

// ReuseForWrite renames a file and opens it for writing.
func (f *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.persist(newname, c, func() error {
		if err := f.chmod(oldname, fileMode); err != nil {
			return err
		}
		file, err = f.base.ReuseForWrite(oldname, newname, c)
		return err
	})
	return f.wrap(newname, c, file, err)
}

// Link makes newname another name of a file.
func (f *FS) Link(oldname, newname string) error {
	return f.persist(newname, vfs.WriteCategoryUnspecified, func() error {
		if err := f.chmod(oldname, fileMode); err != nil {
			return err
		}
		return f.base.Link(oldname, newname)
	})
}

// Rename renames a file.
func (f *FS) Rename(oldname, newname string) error {
	err := f.persist(newname, vfs.WriteCategoryUnspecified, func() error { return f.base.Rename(oldname, newname) })
	return f.ended(f.urgencyOf(newname, vfs.WriteCategoryUnspecified), err)
}

// Remove removes a file or an empty folder.
func (f *FS) Remove(name string) error {
	err := f.persist(name, vfs.WriteCategoryUnspecified, func() error { return f.base.Remove(name) })
	if sums, ok := f.sumName(name); ok && err == nil {
		_ = f.base.Remove(sums) // it does no harm where it is
	}
	return err
}

// MkdirAll makes a folder and those above it that are missing, all of them 0700.
func (f *FS) MkdirAll(dir string, _ os.FileMode) error {
	f.present()
	missing := f.missing(dir)
	if err := f.base.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, dir := range missing {
		if err := f.chmod(dir, dirMode); err != nil {
			return err
		}
	}
	return nil
}

// missing returns dir and those above it that do not exist, the outermost first.
func (f *FS) missing(dir string) []string {
	var missing []string
	for ; f.PathDir(dir) != dir; dir = f.PathDir(dir) {
		if _, err := f.base.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, dir)
	}
	slices.Reverse(missing)
	return missing
}

func (f *FS) syncDir(dir string) error {
	d, err := f.base.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}

// Lock locks a file as the package's Lock does, or as the base does when that is not the operating system's. The lock
// that Start took is granted again.
func (f *FS) Lock(name string) (io.Closer, error) {
	if f.locked.Load() && name == f.PathJoin(f.opts.Dir, lockName) {
		return nothing{}, nil
	}
	if !f.osBase {
		return f.base.Lock(name)
	}
	return lockFile(name)
}

type nothing struct{}

func (nothing) Close() error { return nil }

// private gives a file that the base may have created its mode.
func (f *FS) private(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if err := f.chmod(name, fileMode); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f *FS) chmod(name string, mode fs.FileMode) error {
	if !f.osBase {
		return nil
	}
	return os.Chmod(name, mode)
}

// wrap gives Pebble a file that counts and waits.
func (f *FS) wrap(name string, c vfs.DiskWriteCategory, x vfs.File, err error) (vfs.File, error) {
	if err != nil {
		if c == walCategory {
			f.stop(err)
		}
		return nil, f.ended(f.urgencyOf(name, c), err)
	}
	w := file{x, f, f.urgencyOf(name, c)}
	if c == walCategory {
		return &log{file: w}, nil
	}
	if sums, ok := f.sumName(name); ok && c == manifestCategory {
		return &manifest{file: w, name: sums}, nil
	}
	return &w, nil
}
