package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processCPU is the processor time that a process has used, all its threads together, to the nanosecond.
func processCPU(pid int) (time.Duration, error) {
	var ts unix.Timespec
	// The kernel's number of another process's CPU clock (clock_getcpuclockid): ^pid<<3 | CPUCLOCK_SCHED.
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err == unix.EINVAL {
		return 0, fmt.Errorf("read CPU time of process %d: there is no such process", pid)
	} else if err != nil {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// processRSS is the resident memory of a process in bytes.
func processRSS(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	_, rest, ok := bytes.Cut(b, []byte("VmRSS:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	f := bytes.Fields(line)
	if !ok || len(f) == 0 {
		return 0, fmt.Errorf("read memory of process %d: it has ended", pid)
	}
	kb, err := strconv.ParseInt(string(f[0]), 10, 64)
	return kb << 10, err
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// maxDescriptors is how many files and sockets this process may have open.
func maxDescriptors() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil || l.Cur > 1<<30 {
		return 1 << 30
	}
	return int(l.Cur)
}
