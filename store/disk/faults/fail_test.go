package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// soak reports whether every fault point is to be met.
func soak() bool { return os.Getenv("SEALMQ_SOAK") != "" }

// failing makes operations of some kinds fail, from the one with number at on: that one only, or all of them.
type failing struct {
	kinds []errorfs.OpKind
	at    int64
	all   bool
	while *atomic.Bool // nil: always
	n     atomic.Int64
	hits  atomic.Int64
	first atomic.Pointer[string] // the file of what failed first
}

func (f *failing) String() string { return "failing" }

func (f *failing) MaybeError(op errorfs.Op) error {
	if !slices.Contains(f.kinds, op.Kind) || f.while != nil && !f.while.Load() {
		return nil
	}
	n := f.n.Add(1) - 1
	if f.at < 0 || n != f.at && !(f.all && n > f.at) {
		return nil
	}
	f.hits.Add(1)
	f.first.CompareAndSwap(nil, &op.Path)
	return fmt.Errorf("%s: %w", op.Path, syscall.EIO)
}

// faulty is a file system whose operations fail. Unlike errorfs.FS it includes the files that are used again.
type faulty struct {
	*errorfs.FS
	inj errorfs.Injector
}

func newFaulty(base vfs.FS, inj errorfs.Injector) faulty { return faulty{errorfs.Wrap(base, inj), inj} }

func (f faulty) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	x, err := f.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(x, errorfs.InjectorFunc(func(op errorfs.Op) error {
		op.Path = newname
		return f.inj.MaybeError(op)
	})), nil
}

// groups of operations that fail.
func groups() map[string][]errorfs.OpKind {
	return map[string][]errorfs.OpKind{
		"write":  {errorfs.OpFileWrite, errorfs.OpFileWriteAt},
		"sync":   {errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo},
		"create": {errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpMkdirAll, errorfs.OpLock},
		"rename": {errorfs.OpRename, errorfs.OpLink},
		"remove": {errorfs.OpRemove, errorfs.OpRemoveAll},
		"read": {errorfs.OpOpen, errorfs.OpOpenDir, errorfs.OpFileRead, errorfs.OpFileReadAt, errorfs.OpStat, errorfs.OpFileStat,
			errorfs.OpList},
	}
}

// failScript is long enough for logs that are used again, tables and compactions.
func failScript() []step {
	if soak() {
		return script(1, 300, 400<<10)
	}
	return script(1, 160, 150<<10)
}

// TestOneFails lets an operation of each kind fail once, while the store serves. Nothing that was committed is lost,
// neither for who starts the program again nor when the power goes too.
func TestOneFails(t *testing.T) {
	everyKind(t, false, 4, func(name string, kinds []errorfs.OpKind, at int64, out *outcome) {
		failAt(t, name, out, &failing{kinds: kinds, at: at, while: &out.serving})
	})
}

// TestAllFail lets operations fail also while the store is opened and closed, once or with all that come after them.
func TestAllFail(t *testing.T) {
	everyKind(t, true, 2, func(name string, kinds []errorfs.OpKind, at int64, _ *outcome) {
		failAt(t, name, new(outcome), &failing{kinds: kinds, at: at})
		failAt(t, name, new(outcome), &failing{kinds: kinds, at: at, all: true})
	})
}

// everyKind calls meet for each fault point of each kind, or so many samples.
func everyKind(t *testing.T, always bool, samples int64, meet func(name string, kinds []errorfs.OpKind, at int64, out *outcome)) {
	for name, kinds := range groups() {
		t.Run(name, func(t *testing.T) {
			out := new(outcome)
			count := &failing{kinds: kinds, at: -1}
			if !always {
				count.while = &out.serving
			}
			out.submit(newFaulty(vfs.NewMem(), count), failScript(), nil)
			if out.openErr != nil || out.closeErr != nil || out.failed() > 0 {
				t.Fatal(out.openErr, out.closeErr, out.failed())
			}
			// Work in the background is not the same each time: a few more points than were counted may be met.
			points := count.n.Load() + 5
			stride := int64(1)
			if testing.Short() {
				samples = 1
			}
			if !soak() {
				stride = (points + samples - 1) / samples
			}
			t.Logf("%d fault points, one in %d is met", points, stride)
			var wg sync.WaitGroup
			defer wg.Wait()
			slots := make(chan struct{}, 6) // who has failed waits a little before it gives up
			for at := rand.Int64N(stride); at < points; at += stride {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					meet(name, kinds, at, new(outcome))
				})
			}
		})
	}
}

func failAt(t *testing.T, name string, out *outcome, f *failing) {
	mem := vfs.NewCrashableMem()
	out.submit(newFaulty(mem, f), failScript(), nil)
	where := fmt.Sprintf("%s %d fails (all later ones: %v)", name, f.at, f.all)
	if p := f.first.Load(); p != nil {
		where += ", of " + *p
	}
	half := vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(f.at), 1))}
	for _, after := range []struct {
		what string
		fs   vfs.FS
	}{
		{"without power", mem.CrashClone(vfs.CrashCloneCfg{})}, {"with half of what was not synced", mem.CrashClone(half)}, {"started again", mem},
	} {
		if err := out.verify(after.fs); err != nil {
			t.Errorf("%s, %s: %v\n  open %v, close %v, fatal %v", where, after.what, err, out.openErr, out.closeErr, out.fatal)
		}
	}
	if f.hits.Load() == 0 && (out.openErr != nil || out.closeErr != nil || len(out.fatal) != 0 || out.failed() > 0) {
		t.Errorf("%s: nothing failed, but %v %v %v", where, out.openErr, out.closeErr, out.fatal)
	}
}
