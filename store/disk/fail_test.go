package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/storetest"
)

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still not: " + what)
		}
	}
}

func publish(id store.SessionID, pos uint64, payload string) *store.Op {
	m := store.NewMessage("t", []byte(payload), nil)
	op := &store.Op{Kind: store.Publish, Message: m, Wait: 1}
	op.Place(&store.Placement{Session: id, Pos: pos, Bytes: pos * uint64(m.Size())})
	op.Prepare()
	return op
}

func put(id store.SessionID) *store.Op {
	return &store.Op{Kind: store.PutSession, Session: id, State: &store.Session{ID: id}, Wait: 1}
}

// TestFailure: when the log or the list of files cannot be written, what waits is reported with the error, Fatal is called
// once, Close returns, and the next Open has what was committed.
func TestFailure(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(op errorfs.Op) bool
	}{
		{"SyncOfLog", func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		{"WriteOfLog", func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite }},
		{"SyncOfManifest", func(op errorfs.Op) bool {
			return strings.Contains(op.Path, "MANIFEST") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		{"NewLog", func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
		}},
		{"SyncOfFolder", func(op errorfs.Op) bool {
			return op.Path == "store" && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			var on atomic.Bool
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if on.Load() && c.fail(op) {
					return errors.New("injected")
				}
				return nil
			}))
			var fatal atomic.Int32
			s, err := Open("store", Config{WriteBuffer: 1 << 20}, Options{FS: fs, Fatal: func(error) { fatal.Add(1) }})
			if err != nil {
				t.Fatal(err)
			}
			rec := storetest.NewRecorder()
			if _, err := s.Load(rec); err != nil {
				t.Fatal(err)
			}
			ops := []*store.Op{put(1), publish(1, 1, "first")}
			s.Submit(ops...)
			if err, ok := rec.Wait(ops...); err != nil || !ok {
				t.Fatal(err, ok)
			}
			on.Store(true)
			payload := strings.Repeat("x", 100_000)
			var last *store.Op
			for pos := uint64(2); pos < 1000 && s.Ready() == nil; pos++ {
				last = publish(1, pos, payload)
				s.Submit(last)
				if err, ok := rec.Wait(last); !ok {
					t.Fatal("not reported")
				} else if err != nil && !errors.Is(err, store.ErrDegraded) {
					t.Fatal(err)
				}
			}
			last = publish(1, 1000, "last")
			s.Submit(last)
			if err, _ := rec.Wait(last); !errors.Is(err, store.ErrDegraded) {
				t.Fatalf("after the failure: %v", err)
			}
			if err := s.Ready(); !errors.Is(err, store.ErrDegraded) {
				t.Fatalf("Ready: %v", err)
			}
			until(t, "Fatal was called", func() bool { return fatal.Load() > 0 })
			if err := s.Close(); err == nil {
				t.Error("Close says nothing")
			}
			if n := fatal.Load(); n != 1 {
				t.Errorf("Fatal was called %d times", n)
			}
			for _, f := range rec.Faults() {
				t.Error(f)
			}
			on.Store(false)
			s2, rec2 := openCrash(t, mem, nil)
			defer s2.Close()
			got, err := s2.Fetch(nil, 1, 0, 1<<60, 5000, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			have := map[uint64]bool{}
			for _, q := range got {
				have[q.Pos] = true
			}
			for _, rep := range rec.Reports() {
				if rep.Err == nil && len(rep.Op.Placements) == 1 && !have[rep.Op.Placements[0].Pos] {
					t.Fatalf("position %d was committed and is lost", rep.Op.Placements[0].Pos)
				}
			}
			if rec2.Sessions()[1] == nil {
				t.Fatal("the session is lost")
			}
		})
	}
}

// shortFS is a file system of which the test says how much is free.
type shortFS struct {
	vfs.FS
	free atomic.Uint64
}

func (f *shortFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	n := f.free.Load()
	return vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40, UsedBytes: 1<<40 - n}, nil
}

// TestDegraded: with little space left only what frees some is done, with less nothing, and it goes on by itself.
func TestDegraded(t *testing.T) {
	fs := &shortFS{FS: vfs.NewMem()}
	fs.free.Store(1 << 30)
	s, rec := openCrash(t, fs, nil)
	defer s.Close()
	try := func(op *store.Op) error {
		t.Helper()
		s.Submit(op)
		err, ok := rec.Wait(op)
		if !ok {
			t.Fatal("not reported")
		}
		return err
	}
	for _, op := range []*store.Op{put(1), put(2), publish(1, 1, "x"), publish(1, 2, "x")} {
		if err := try(op); err != nil {
			t.Fatal(err)
		}
	}
	acked := func(pos uint64) *store.Op {
		return &store.Op{Kind: store.Acked, Session: 1, Positions: []uint64{pos}}
	}
	fs.free.Store(100 << 20)
	until(t, "degraded", func() bool { return errors.Is(s.Ready(), store.ErrDegraded) })
	if err := try(publish(1, 3, "x")); !errors.Is(err, store.ErrDegraded) {
		t.Fatalf("a message: %v", err)
	}
	if err := try(acked(1)); err != nil {
		t.Fatalf("an acknowledgement: %v", err)
	}
	if err := try(&store.Op{Kind: store.EndSession, Session: 2, Wait: 1}); err != nil {
		t.Fatalf("the end of a session: %v", err)
	}
	record := func(size int) *store.Op {
		return &store.Op{Kind: store.PutRecord, Record: &store.Record{Key: "test", Value: make([]byte, size)}, Wait: 1}
	}
	if err := try(record(urgentRecord)); err != nil {
		t.Fatalf("a revocation: %v", err)
	}
	if err := try(record(urgentRecord + 1)); !errors.Is(err, store.ErrDegraded) {
		t.Fatalf("a long record: %v", err)
	}
	fs.free.Store(1 << 20)
	until(t, "full", func() bool { return errors.Is(try(acked(2)), store.ErrDegraded) })
	fs.free.Store(1 << 30)
	until(t, "recovered", func() bool { return s.Ready() == nil })
	if err := try(publish(1, 4, "x")); err != nil {
		t.Fatal(err)
	}
	got, err := s.Fetch(nil, 1, 3, 99, 9, 999)
	if err != nil || len(got) != 1 || got[0].Pos != 4 {
		t.Fatalf("%v, %v", got, err)
	}
	if free := s.Stats().FreeBytes; free != 1<<30 {
		t.Errorf("%d bytes are free", free)
	}
}

// TestClock: the store's clock goes on where it was, plus the time that has passed as far as that can be believed.
func TestClock(t *testing.T) {
	fs := vfs.NewMem()
	wall := time.Unix(1_000_000_000, 0)
	load := func(least, most time.Duration) {
		t.Helper()
		s, err := Open("store", Config{}, Options{FS: fs, now: func() time.Time { return wall }})
		if err != nil {
			t.Fatal(err)
		}
		clock, err := s.Load(storetest.NewRecorder())
		if err != nil {
			t.Fatal(err)
		}
		if clock < least || clock > most {
			t.Errorf("the clock is at %v, not between %v and %v", clock, least, most)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const slack = 10 * time.Minute
	load(0, slack)
	wall = wall.Add(5 * time.Hour)
	load(5*time.Hour, 5*time.Hour+slack)
	wall = wall.Add(-100 * time.Hour)
	load(5*time.Hour, 5*time.Hour+slack)
	wall = wall.Add(29 * 24 * time.Hour)
	load(29*24*time.Hour+5*time.Hour, 29*24*time.Hour+5*time.Hour+slack)
	wall = wall.Add(31 * 24 * time.Hour)
	load(29*24*time.Hour+5*time.Hour, 29*24*time.Hour+5*time.Hour+slack)
}

// TestNewer: a store of a later version is refused in clear words, as is one without a version.
func TestNewer(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := openCrash(t, fs, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	set := func(key string, v []byte) {
		db, err := pebble.Open("store", &pebble.Options{FS: fs, Logger: logger{s}, FormatMajorVersion: pebbleVersion})
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			err = db.Delete([]byte(key), pebble.Sync)
		} else {
			err = db.Set([]byte(key), v, pebble.Sync)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(target error) {
		t.Helper()
		if s, err := Open("store", Config{}, Options{FS: fs}); !errors.Is(err, target) {
			t.Errorf("%v", err)
			if err == nil {
				s.Close()
			}
		}
	}
	set(metaFormat, []byte{layout, formatVersion + 1})
	refused(ErrNewer)
	set(metaFormat, []byte{layout + 1, formatVersion})
	refused(errDamaged)
	set(metaFormat, nil)
	refused(errDamaged)
	set(metaFormat, []byte{layout, formatVersion})
	set(metaApplied, []byte("?"))
	refused(errDamaged)
}

// TestDamagedValues: a value that does not decode is an error that names it, when the store is loaded or the queue read.
func TestDamagedValues(t *testing.T) {
	for _, c := range []struct {
		key  []byte
		name string
		late bool // it is found by Fetch
	}{
		{appendKey(nil, kindSession, 1), "read session of session 1", false},
		{appendKey(nil, kindWill, 1), "read will of session 1", false},
		{append(appendKey(nil, kindFilter, 1), "a/b"...), "read subscription of session 1", false},
		{append(appendKey(nil, kindReceived, 1), 1), "read received packet identifier of session 1", false},
		{appendPos(nil, kindQueue, 1, 1), "read queue entry of session 1", false},
		{appendPos(nil, kindQueue, 1, 2), "read queue of session 1 at 2", true},
		{append(appendPos(nil, kindRecorded, 1, 2), 1), "read mark of delivery of session 1", false},
		{[]byte{kindRetained, 'x'}, `read retained message of "x"`, false},
		{[]byte{kindSession, 'x'}, "read session", false},
		{[]byte{kindPurge, 'x'}, "read ended session", false},
	} {
		fs := vfs.NewMem()
		s, rec := openCrash(t, fs, nil)
		st := put(1)
		st.State.Will = &store.Will{Topic: []byte("w")}
		ops := []*store.Op{st, publish(1, 1, "a"), publish(1, 2, "b"), publish(1, 3, "c")}
		s.Submit(ops...)
		if err, ok := rec.Wait(ops...); err != nil || !ok {
			t.Fatal(err, ok)
		}
		if err := s.db.Set(c.key, []byte("damaged"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := Open("store", Config{}, Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Load(storetest.NewRecorder())
		if c.late {
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Fetch(nil, 1, 0, 99, 99, 1<<40)
		}
		if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%q: %v", c.key, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBackup: a copy made while messages arrive is a store, with all that was committed before.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "store"), Config{MinFree: -1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := storetest.NewRecorder()
	if _, err := s.Load(rec); err != nil {
		t.Fatal(err)
	}
	s.Submit(put(1))
	for pos := range uint64(100) {
		s.Submit(publish(1, pos+1, "x"))
	}
	until(t, "committed", func() bool { return len(rec.Reports()) == 101 })
	s.Submit(publish(1, 101, "x"))
	to := filepath.Join(dir, "backup")
	if err := s.Backup(to); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(to); !errors.Is(err, os.ErrExist) {
		t.Errorf("into a folder that exists: %v", err)
	}
	s.Submit(publish(1, 200, "after"))
	if _, err := Open(filepath.Join(dir, "store"), Config{}, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(to, Config{MinFree: -1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(storetest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Fetch(nil, 1, 0, 1<<60, 500, 1<<40)
	if n := len(got); err != nil || n < 100 || n > 101 {
		t.Errorf("%d messages, %v", n, err)
	}
	fi, err := os.Stat(to)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", fi.Mode(), err)
	}
}

// TestSweep: a message to which nothing refers any more is deleted, in this run or the next.
func TestSweep(t *testing.T) {
	fs := vfs.NewMem()
	messages := func(s *Store) (n int) {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindMessage}, UpperBound: []byte{kindMessage + 1}})
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s, rec := openCrash(t, fs, nil)
	var ops []*store.Op
	for id := range store.SessionID(4) {
		ops = append(ops, put(id+1))
	}
	for pos := range uint64(200) {
		m := store.NewMessage("t", nil, nil)
		op := &store.Op{Kind: store.Publish, Message: m, Wait: 1}
		for id := range store.SessionID(4) {
			op.Place(&store.Placement{Session: id + 1, Pos: pos + 1, Bytes: 1})
		}
		op.Prepare()
		ops = append(ops, op)
	}
	for pos := range uint64(50) {
		ops = append(ops, &store.Op{Kind: store.Acked, Session: 1, Positions: []uint64{pos + 1}, Wait: 1},
			&store.Op{Kind: store.Acked, Session: 2, Positions: []uint64{pos + 1}, Wait: 1})
	}
	ops = append(ops, &store.Op{Kind: store.EndSession, Session: 3, Wait: 1}, &store.Op{Kind: store.EndSession, Session: 4, Wait: 1})
	s.Submit(ops...)
	if err, ok := rec.Wait(ops...); err != nil || !ok {
		t.Fatal(err, ok)
	}
	until(t, "released", func() bool { return messages(s) == 150 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, rec = openCrash(t, fs, nil)
	op := &store.Op{Kind: store.Acked, Session: 1, Wait: 1}
	for pos := range uint64(200) {
		op.Positions = append(op.Positions, pos+1)
	}
	end := &store.Op{Kind: store.EndSession, Session: 2, Wait: 1}
	s.Submit(op, end)
	if err, ok := rec.Wait(op, end); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = openCrash(t, fs, nil)
	defer s.Close()
	until(t, "swept", func() bool { return messages(s) == 0 })
}
