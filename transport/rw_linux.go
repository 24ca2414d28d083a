//go:build !race

package transport

import (
	"syscall"
	"unsafe"
)

// sysRead and sysWrite are read(2) and write(2) on sockets that never block. The scheduler is not told: it would take
// the processor away from a loop that copies 64 KiB, and giving it back costs more than the copy. p must not be empty.

func sysRead(fd int, p []byte) (int, error) { return rw(syscall.SYS_READ, fd, p) }

func sysWrite(fd int, p []byte) (int, error) { return rw(syscall.SYS_WRITE, fd, p) }

func rw(trap uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
