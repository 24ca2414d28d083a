//go:build unix

package fsys

import (
	"os"

	"golang.org/x/sys/unix"
)

// errnosFull say that there is no space.
var errnosFull = [...]error{unix.ENOSPC, unix.EDQUOT}

// tryLock locks f or fails with ErrLocked.
func tryLock(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return err
		}
	}
}
