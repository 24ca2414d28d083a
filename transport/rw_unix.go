//go:build unix && (!linux || race)

package transport

import "syscall"

// Beside other systems this is for the race detector, which the standard library tells what a socket orders.

func sysRead(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

func sysWrite(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
