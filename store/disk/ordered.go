package disk

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store/disk/fsys"
)

// ordered makes the entries of a folder durable before a marker that names one of them. Pebble syncs both together, so
// that a file system that does not keep their order might have the marker after a crash, but not what it names.
type ordered struct{ *fsys.FS }

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
