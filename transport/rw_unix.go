//go:build unix && (!linux || race)

// The standard library also tells the race detector what a socket orders.
package transport

import "syscall"

func sysRead(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

func sysWrite(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
