package transport

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yieldLoops is how many loops are looked at between two steps of a handshake.
const yieldLoops = 2

// yield lets loops that have something to do go first. A handshake calls it
// between its steps: Go looks for packets only on a processor that has nothing
// else to run, and the system may keep the thread that would find them waiting,
// while this one runs already.
func (p *poller) yield() {
	if !p.mu.TryLock() {
		return
	}
	due := false
	for range min(yieldLoops, len(p.loops)) {
		p.looked++
		if p.loops[p.looked%len(p.loops)].rouse() {
			due = true
		}
	}
	p.mu.Unlock()
	if due {
		runtime.Gosched()
	}
}

// rouse wakes the loop, past Go's poller, if it sleeps and there are events for
// it, which stay.
func (l *loop) rouse() (due bool) {
	if !l.asleep.Load() {
		return false
	}
	l.raw.Control(func(epfd uintptr) {
		var ev unix.EpollEvent
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epfd, uintptr(unsafe.Pointer(&ev)), 1, 0, 0, 0)
		due = errno == 0 && n > 0
	})
	if due {
		l.file.SetReadDeadline(past)
	}
	return due
}
