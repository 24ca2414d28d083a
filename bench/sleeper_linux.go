package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper wakes at the microsecond: Go's own timers wait in whole milliseconds when nothing else runs. It is a timer
// descriptor parked in Go's poller. For one goroutine.
type sleeper struct {
	f   *os.File
	fd  int
	buf [8]byte
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &sleeper{f: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

func (s *sleeper) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(s.fd, 0, &spec, nil) != nil {
		time.Sleep(d)
		return
	}
	if _, err := s.f.Read(s.buf[:]); err != nil {
		time.Sleep(d)
	}
}

func (s *sleeper) close() { s.f.Close() }
