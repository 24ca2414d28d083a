package fsys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// lockName is the name that Pebble gives its lock.
const lockName = "LOCK"

// ErrLocked is wrapped by the error of Lock when somebody else holds the lock.
var ErrLocked = errors.New("folder is in use")

// Lock locks a store's folder against every other process, and against this one. The file LOCK in it tells who holds the
// lock, and stays when it is released. When it is held already the error wraps ErrLocked, names the process and has a
// Hint.
func Lock(dir string) (io.Closer, error) { return lockFile(filepath.Join(dir, lockName)) }

// lockFile locks a file of that name. Locks belong to the open file: the end of the process releases them, however it
// comes.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock folder of the store: %w", err)
	}
	if err := tryLock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		return nil, refusal(filepath.Dir(name), readHolder(f))
	}
	if err := record(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

// holder is what the file says of the process that has the lock; its zero value: nothing that can be understood.
type holder struct {
	pid   int
	since time.Time
	host  string
}

// record writes who we are. A full file system is no reason to fail: only the name in another's error is lost.
func record(f *os.File) error {
	if err := f.Chmod(fileMode); err != nil {
		return err
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("%d\n%s\n%s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339), host)
	if err := f.Truncate(0); err != nil && !isFull(err) {
		return err
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil && !isFull(err) {
		return err
	}
	return nil
}

func readHolder(f io.ReaderAt) (h holder) {
	var b [512]byte
	n, _ := f.ReadAt(b[:], 0)
	lines := strings.Split(string(b[:n]), "\n")
	if len(lines) < 4 {
		return holder{}
	}
	pid, err := strconv.ParseUint(lines[0], 10, 31)
	if err != nil {
		return holder{}
	}
	h.pid = int(pid)
	h.since, _ = time.Parse(time.RFC3339, lines[1])
	h.host = printable(lines[2])
	return h
}

func refusal(dir string, h holder) error {
	here, _ := os.Hostname()
	who, hint := "another process", "end that process, or use another folder"
	switch {
	case h.pid == 0:
	case h.host != here:
		who = fmt.Sprintf("process %d on host %s", h.pid, h.host)
	case h.pid == os.Getpid():
		who, hint = fmt.Sprintf("this process (%d)", h.pid), "use another folder"
	default:
		who = fmt.Sprintf("process %d", h.pid)
		if c := command(h.pid); c != "" {
			who += " (" + c + ")"
		}
		hint = fmt.Sprintf("end process %d, or use another folder", h.pid)
	}
	if !h.since.IsZero() {
		who += " since " + h.since.Format(time.RFC3339)
	}
	return &hinted{fmt.Errorf("open %s: %w by %s", dir, ErrLocked, who), hint}
}

// command returns the name of what a process runs, "" where there is no /proc to ask.
func command(pid int) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	var b [64]byte
	n, _ := f.Read(b[:])
	return printable(strings.TrimSpace(string(b[:n])))
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
