package bench

import (
	"bytes"
	"errors"
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

// processWritten is how many bytes a process has had the disk write: pages of files that it dirtied.
func processWritten(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, fmt.Errorf("read writes of process %d: %w", pid, err)
	}
	_, rest, _ := bytes.Cut(b, []byte("\nwrite_bytes: "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.ParseInt(string(line), 10, 64)
}

// diskFlushes is how often the disk below a folder was asked to make its cache durable, by anybody.
func diskFlushes(folder string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return 0, fmt.Errorf("find disk of %s: %w", folder, err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0, fmt.Errorf("read flushes: %w", err)
	}
	// The 16th number, since Linux 5.5.
	f := bytes.Fields(b)
	if len(f) < 16 {
		return 0, errors.New("read flushes: this kernel does not count them")
	}
	return strconv.ParseInt(string(f[15]), 10, 64)
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
