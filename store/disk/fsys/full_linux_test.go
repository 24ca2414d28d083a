package fsys

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Skipf("a small file system can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// filler takes up all space but so many bytes.
func filler(t *testing.T, disk string, leave int64) (remove func()) {
	t.Helper()
	u, err := vfs.Default.GetDiskUsage(disk)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(disk, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(u.AvailBytes)-leave); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

// TestMarksOnASmallDisk: the marks are met long before Pebble meets the end.
func TestMarksOnASmallDisk(t *testing.T) {
	disk := smallDisk(t, 64<<20)
	dir := filepath.Join(disk, "store")
	var c told
	f := start(t, vfs.Default, Options{Dir: dir, MinFree: 16 << 20, Ballast: 1 << 20, Patience: -1, OnChange: c.change})
	db, err := pebble.Open(dir, &pebble.Options{FS: f, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	random := rand.NewChaCha8([32]byte{})
	n, value := 0, make([]byte, 100<<10)
	for ; f.Err() == nil; n++ {
		random.Read(value)
		if err := db.Set(fmt.Appendf(nil, "%08d", n), value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if free := f.Free(); free < 12<<20 || f.Full() != nil {
		t.Errorf("%d bytes are free at the mark, after %d writes; %v", free, n, f.Full())
	}
	until(t, "the call", func() bool { return c.String() == "low" })
	if err := db.DeleteRange([]byte("0"), []byte("9"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(t.Context(), []byte("0"), []byte("9"), false); err != nil {
		t.Fatal(err)
	}
	until(t, "the recovery", func() bool { return f.Err() == nil && c.String() == "low ok" })
}

// TestFullDisk: when somebody else fills the disk in one moment, commits wait and go on when there is space again, and
// nothing that was committed is lost.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, 64<<20)
	dir := filepath.Join(disk, "store")
	var c told
	f := start(t, vfs.Default, Options{Dir: dir, MinFree: 8 << 20, Ballast: 1 << 20, OnChange: c.change})
	f.space.pace = 10 * time.Millisecond
	db, err := pebble.Open(dir, &pebble.Options{FS: f, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	remove := filler(t, disk, 0)
	value := make([]byte, 64<<10)
	committed, stop, done := make(chan int, 1000), make(chan bool), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := db.Set(fmt.Appendf(nil, "%08d", i), value, pebble.Sync); err != nil {
				done <- err
				return
			}
			select {
			case committed <- i:
			case <-stop:
				committed <- i
				done <- nil
				return
			}
		}
	}()
	until(t, "the state", func() bool { return f.Full() != nil })
	// The ballast lets some commits through.
	until(t, "the end of commits", func() bool {
		n := len(committed)
		time.Sleep(300 * time.Millisecond)
		return n == len(committed)
	})
	n := len(committed)
	if n == 0 {
		t.Error("the ballast helped nobody")
	}
	if _, err := os.Stat(filepath.Join(dir, ballastName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ballast was not given up: %v", err)
	}
	remove()
	until(t, "more commits", func() bool { return len(committed) > n+50 })
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "the recovery", func() bool { return f.Err() == nil })
	until(t, "a new ballast", func() bool {
		_, err := os.Stat(filepath.Join(dir, ballastName))
		return err == nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = pebble.Open(dir, &pebble.Options{FS: f, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range len(committed) {
		k := fmt.Appendf(nil, "%08d", <-committed)
		v, closer, err := db.Get(k)
		if err != nil || len(v) != len(value) {
			t.Fatalf("%s: %d bytes, %v", k, len(v), err)
		}
		closer.Close()
	}
}
