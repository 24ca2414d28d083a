//go:build unix

package password

import (
	"io/fs"
	"os"
	"syscall"
)

// openToOthers reports whether group or world may read or write the file.
func openToOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }

// keepOwner gives f the owner of the file that it replaces, when a service's file is written by root.
func keepOwner(f *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
