package disk

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/storetest"
)

// crash is a state in which a file system may be after a loss of power, and how many ops had been committed by then.
type crash struct {
	fs        *vfs.MemFS
	committed int
}

// crasher takes such states before some of the operations on files.
type crasher struct {
	mem     *vfs.MemFS
	rng     *rand.Rand
	every   int // one of so many
	reports atomic.Int64
	crashes []crash
	mu      chan struct{} // the rng and the crashes
}

func (c *crasher) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpRename,
		errorfs.OpRemove, errorfs.OpLink, errorfs.OpReuseForWrite, errorfs.OpFileClose:
	default:
		return nil
	}
	c.mu <- struct{}{}
	defer func() { <-c.mu }()
	if c.rng.IntN(c.every) == 0 {
		n := int(c.reports.Load())
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[c.rng.IntN(3)], RNG: c.rng}
		c.crashes = append(c.crashes, crash{c.mem.CrashClone(cfg), n})
	}
	return nil
}

func (c *crasher) String() string { return "crasher" }

// TestCrash: after a crash at any moment, what was committed is there; of the rest some ops are, whole and in order.
func TestCrash(t *testing.T) {
	points := 0
	for seed := range seeds() {
		c := &crasher{mem: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 1)), every: 20, mu: make(chan struct{}, 1)}
		r := rand.New(rand.NewPCG(seed, 2))
		src := storetest.NewSource(r.IntN)
		s, rec := openCrash(t, errorfs.Wrap(c.mem, c), &c.reports)
		var ops []*store.Op
		told := 0
		for range 120 {
			var some []*store.Op
			for range 1 + r.IntN(15) {
				some = append(some, src.Op())
			}
			if r.IntN(20) > 0 {
				some[len(some)-1].Wait = t // so that nothing waits for company
			}
			s.Submit(some...)
			ops = append(ops, some...)
			if r.IntN(3) > 0 {
				if err, ok := rec.Wait(some[len(some)-1]); err != nil || !ok {
					t.Fatal(err, ok)
				}
			}
			reports := rec.Reports()
			for _, rep := range reports[told:] {
				src.Model.Apply(rep.Op)
			}
			told = len(reports)
			if r.IntN(30) == 0 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				for _, rep := range rec.Reports()[told:] {
					src.Model.Apply(rep.Op)
				}
				told = 0
				s, rec = openCrash(t, errorfs.Wrap(c.mem, c), &c.reports)
				src.Reopened()
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := int(c.reports.Load()); n != len(ops) {
			t.Fatalf("seed %d: %d of %d ops were reported", seed, n, len(ops))
		}
		points += len(c.crashes)
		for i, crash := range c.crashes {
			if !checkCrash(t, crash, ops, src) {
				t.Fatalf("seed %d, crash %d of %d", seed, i, len(c.crashes))
			}
		}
	}
	t.Log(points, "crashes")
}

// seeds is how many runs there are: 8, or as many as SEALMQ_SOAK says.
func seeds() uint64 {
	n, err := strconv.ParseUint(os.Getenv("SEALMQ_SOAK"), 10, 16)
	switch {
	case err == nil:
		return max(n, 8)
	case testing.Short():
		return 2
	}
	return 8
}

func openCrash(t *testing.T, fs vfs.FS, reports *atomic.Int64) (*Store, *storetest.Recorder) {
	t.Helper()
	s, err := Open("store", Config{WriteBuffer: 1 << 20, Cache: 1 << 20}, Options{FS: fs, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	rec := storetest.NewRecorder()
	if reports != nil {
		rec.OnCommitted = func(ops []*store.Op, err error) {
			if err != nil {
				t.Error(err)
			}
			reports.Add(int64(len(ops)))
		}
	}
	if _, err := s.Load(rec); err != nil {
		t.Fatal(err)
	}
	return s, rec
}

// checkCrash opens what a crash has left, twice, and compares it with what the ops come to that it says it has.
func checkCrash(t *testing.T, c crash, ops []*store.Op, src *storetest.Source) bool {
	model := src.Model.Fresh()
	for i := range 2 {
		s, rec := openCrash(t, c.fs, nil)
		// The newest number is not written for ops that change nothing.
		n := max(int(s.last.seq), c.committed)
		if i == 0 {
			for _, op := range ops[:n] {
				model.Apply(op)
			}
		}
		diff := model.CheckLoaded(rec) + model.CheckQueues(s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if diff != "" {
			t.Errorf("after %d ops, opened %d times: %s", n, i+1, diff)
			return false
		}
	}
	return true
}
