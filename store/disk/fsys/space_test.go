package fsys

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// fakeFree is a file system with as many free bytes as the test says.
type fakeFree struct {
	vfs.FS
	free  atomic.Int64
	fail  atomic.Bool
	asked atomic.Int64
}

func newFake(free int64) *fakeFree {
	f := &fakeFree{FS: vfs.NewMem()}
	f.free.Store(free)
	return f
}

func (f *fakeFree) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.asked.Add(1)
	if f.fail.Load() {
		return vfs.DiskUsage{}, errors.New("statfs fails")
	}
	return vfs.DiskUsage{AvailBytes: uint64(f.free.Load()), TotalBytes: 1 << 40}, nil
}

func (f *fakeFree) Unwrap() vfs.FS { return f.FS }

// told collects what OnChange is told: "low", "full" or "ok".
type told struct {
	mu  sync.Mutex
	all []string
}

func (c *told) change(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.all = append(c.all, "ok")
	case errors.Is(err, ErrFull):
		c.all = append(c.all, "full")
	case errors.Is(err, ErrLow):
		c.all = append(c.all, "low")
	default:
		c.all = append(c.all, err.Error())
	}
}

func (c *told) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.all, " ")
}

func TestMarks(t *testing.T) {
	disk := newFake(1000)
	var c told
	f := Wrap(disk, Options{Dir: "d", MinFree: 800, Reserve: 80, OnChange: c.change})
	f.space.pace = time.Millisecond
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, step := range []struct {
		free      int64
		low, full bool
		told      string
	}{
		{800, false, false, ""},
		{799, true, false, "low"},
		{899, true, false, "low"}, // an eighth over the mark is not reached
		{900, false, false, "low ok"},
		{79, true, true, "low ok full"},
		{89, true, true, "low ok full"},
		{90, true, false, "low ok full low"},
		{1000, false, false, "low ok full low ok"},
		{0, true, true, "low ok full low ok full"},
		{1000, false, false, "low ok full low ok full ok"},
	} {
		disk.free.Store(step.free)
		until(t, "the new state", func() bool { return (f.Err() != nil) == step.low && (f.Full() != nil) == step.full })
		until(t, "the call of OnChange", func() bool { return c.String() == step.told })
		asked := disk.asked.Load()
		until(t, "another look", func() bool { f.Err(); return disk.asked.Load() > asked+1 })
		if got := c.String(); got != step.told {
			t.Errorf("%d bytes free: told %q, want %q", step.free, got, step.told)
		}
		if err := f.Err(); step.low && !errors.Is(err, ErrLow) || (err != nil) != step.low {
			t.Errorf("%d bytes free: %v", step.free, err)
		}
		if err := f.Full(); step.full && (!errors.Is(err, ErrFull) || !errors.Is(err, ErrLow)) || (err != nil) != step.full {
			t.Errorf("%d bytes free: full: %v", step.free, err)
		}
	}
}

func TestErrorNamesBytesAndMark(t *testing.T) {
	for free, want := range map[int64]string{
		777: "little space left on the file system: 777 bytes are free in d, under the mark of 800",
		77:  "no space left on the file system: 77 bytes are free in d, under the mark of 200",
	} {
		f := start(t, newFake(free), Options{Dir: "d", MinFree: 800})
		if err := f.Err(); err == nil || err.Error() != want || hintOf(err) == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestLooksAreRare: asking for the state is no system call each time, and neither is writing.
func TestLooksAreRare(t *testing.T) {
	disk := newFake(1 << 40)
	f := Wrap(disk, Options{Dir: "d", MinFree: 32 << 20}) // a sixteenth is 2 MiB
	var clock atomic.Int64
	f.space.now = func() time.Duration { return time.Duration(clock.Load()) }
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Create("d/x", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	begin := disk.asked.Load()
	asked := func() int64 { return disk.asked.Load() - begin }
	for range 1000 {
		f.Err()
		f.Full()
	}
	if asked() != 0 {
		t.Errorf("asked %d times within 100 ms", asked())
	}
	clock.Add(int64(maxAge))
	f.Err()
	f.Err()
	if asked() != 1 {
		t.Errorf("asked %d times after 100 ms, want once", asked())
	}
	for range 8 {
		x.Write(make([]byte, 1<<20))
	}
	if asked() != 5 {
		t.Errorf("asked %d times after four times the bytes, want 4 more", asked())
	}
	if f.Written() != 8<<20 {
		t.Errorf("%d bytes counted, want %d", f.Written(), 8<<20)
	}
	if n := testing.AllocsPerRun(100, func() { f.Err() }); n != 0 {
		t.Errorf("asking for the state allocates %v times", n)
	}
}

// TestUnknownFree: where the free space can't be told there is no mark, and what was known ends nothing.
func TestUnknownFree(t *testing.T) {
	disk := newFake(10)
	var c told
	f := Wrap(disk, Options{Dir: "d", MinFree: 800, OnChange: c.change})
	f.space.pace = time.Millisecond
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	until(t, "the first state", func() bool { return c.String() == "full" })
	disk.fail.Store(true)
	until(t, "the recovery", func() bool { return c.String() == "full ok" && f.Err() == nil && f.Free() == -1 })
}

// quota is a file system that takes so many bytes and reports free space all the time.
type quota struct {
	left atomic.Int64
	hits atomic.Int64
}

func (q *quota) String() string { return "quota" }

func (q *quota) MaybeError(op errorfs.Op) error {
	if op.Kind != errorfs.OpFileWrite {
		return nil
	}
	if q.left.Add(-1) < 0 {
		q.hits.Add(1)
		return errnosFull[0]
	}
	return nil
}

// TestFullWithoutWarning: a write that is refused, though there seems to be space, gives the ballast up, waits and goes
// on; and the state recovers when a ballast can be written again.
func TestFullWithoutWarning(t *testing.T) {
	var q quota
	q.left.Store(1 << 40)
	var c told
	f := Wrap(errorfs.Wrap(newFake(1<<40), &q), Options{Dir: "d", MinFree: 800, Ballast: 1000, OnChange: c.change})
	f.space.pace = time.Millisecond
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := f.Stat("d/" + ballastName); err != nil || fi.Size() != 1000 {
		t.Fatal("no ballast", err)
	}
	wal, err := f.Create("d/000001.log", "pebble-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer wal.Close()
	q.left.Store(0)
	done := make(chan error)
	go func() {
		_, err := wal.Write([]byte("message"))
		done <- err
	}()
	until(t, "the state", func() bool { return f.Full() != nil && c.String() == "full" })
	until(t, "the third attempt", func() bool { return q.hits.Load() > 2 })
	if err := f.Err(); !strings.Contains(err.Error(), "a write in d was refused") {
		t.Error(err)
	}
	q.left.Store(1 << 40)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "the recovery", func() bool { return c.String() == "full ok" && f.Err() == nil })
	if fi, err := f.Stat("d/" + ballastName); err != nil || fi.Size() != 1000 {
		t.Error("no new ballast", err)
	}
	if fi, err := wal.Stat(); err != nil || fi.Size() != int64(len("message")) {
		t.Error("the file has", fi.Size(), "bytes", err)
	}
}

// TestPatience: who waits for how long.
func TestPatience(t *testing.T) {
	var q quota
	q.left.Store(1 << 40)
	f := Wrap(errorfs.Wrap(newFake(1<<40), &q), Options{Dir: "d", MinFree: 800, Patience: time.Hour})
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.MkdirAll("backup", 0)
	create := func(name string, c vfs.DiskWriteCategory) vfs.File {
		x, err := f.Create(name, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	}
	wal, table, foreign := create("d/1.log", "pebble-wal"), create("d/1.sst", "pebble-compaction"), create("backup/1.log", "unspecified")
	q.left.Store(0)
	if _, err := foreign.Write([]byte{1}); !errors.Is(err, errnosFull[0]) || q.hits.Load() != 1 || f.Err() != nil {
		t.Errorf("a file of another folder: %v after %d attempts, %v", err, q.hits.Load(), f.Err())
	}
	if _, err := table.Write([]byte{1}); !errors.Is(err, errnosFull[0]) {
		t.Errorf("a table: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := wal.Write([]byte{1})
		done <- err
	}()
	hits := q.hits.Load()
	until(t, "the second attempt for the log", func() bool { return q.hits.Load() > hits+1 })
	select {
	case err := <-done:
		t.Errorf("the log did not wait: %v", err)
	default:
	}
	f.GiveUp()
	if err := <-done; !errors.Is(err, errnosFull[0]) {
		t.Errorf("the log: %v", err)
	}
	if _, err := wal.Write([]byte{1}); !errors.Is(err, errnosFull[0]) {
		t.Errorf("the log, later: %v", err)
	}
}

// TestSyncIsNotRepeated: nobody may believe a second sync after the first has failed.
func TestSyncIsNotRepeated(t *testing.T) {
	var syncs atomic.Int64
	var on atomic.Bool
	failing := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !on.Load() {
			return nil
		}
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			syncs.Add(1)
			return errnosFull[0]
		}
		return nil
	})
	f := start(t, errorfs.Wrap(newFake(1<<40), failing), Options{Dir: "d"})
	for i, sync := range []func(vfs.File) error{
		vfs.File.Sync, vfs.File.SyncData, func(x vfs.File) error { _, err := x.SyncTo(1); return err },
	} {
		on.Store(false)
		x, err := f.Create(fmt.Sprintf("d/%d.log", i), "pebble-wal")
		if err != nil {
			t.Fatal(err)
		}
		on.Store(true)
		for range 2 {
			if err := sync(x); !errors.Is(err, errnosFull[0]) || syncs.Load() != int64(i+1) {
				t.Errorf("%v after %d syncs, want the error after %d", err, syncs.Load(), i+1)
			}
		}
		x.Close()
	}
	if f.Full() == nil {
		t.Error("the state does not show it")
	}
}

func TestBallastOfAnotherSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	size := func() int64 {
		fi, err := vfs.Default.Stat(filepath.Join(dir, ballastName))
		if err != nil {
			return -1
		}
		return fi.Size()
	}
	for _, ballast := range []int64{1000, 1000, 100_000, 70_000, -1, 1} {
		f := Wrap(vfs.Default, Options{Dir: dir, MinFree: 1, Ballast: ballast})
		if err := f.Start(); err != nil {
			t.Fatal(err)
		}
		if size() != ballast {
			t.Errorf("the ballast has %d bytes, want %d", size(), ballast)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
