package disk

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store/disk/fsys"
)

// ordered makes the entries of the store's folder durable before a marker that names one of them. Pebble syncs both
// together, so that on a file system that does not keep the order of entries a crash might leave the marker without what
// it names. And it ends the store when the folder cannot be synced, to which Pebble's answer is a panic.
type ordered struct {
	*fsys.FS
	s *Store
}

// OpenDir implements vfs.FS.
func (o ordered) OpenDir(name string) (vfs.File, error) {
	f, err := o.FS.OpenDir(name)
	if err != nil || name != o.s.dir {
		return f, err
	}
	return folder{f, o.s}, nil
}

// folder is the store's.
type folder struct {
	vfs.File
	s *Store
}

// Sync implements vfs.File.
func (f folder) Sync() error {
	if err := f.File.Sync(); err != nil {
		logger{f.s}.Fatalf("sync folder of the store: %w", err)
	}
	return nil
}

// Create implements vfs.FS.
func (o ordered) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), "marker.") {
		if err := o.syncDir(o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return o.FS.Create(name, c)
}

func (o ordered) syncDir(dir string) error {
	d, err := o.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}
