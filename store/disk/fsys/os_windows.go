package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// errnosFull say that there is no space.
var errnosFull = [...]error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}

// tryLock locks f or fails with ErrLocked. Locks are mandatory here: the byte that is locked lies behind the text, so
// that others can read who has it.
func tryLock(f *os.File) error {
	o := windows.Overlapped{OffsetHigh: 1}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &o)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}
