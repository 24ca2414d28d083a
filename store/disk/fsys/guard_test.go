package fsys

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// guardEnv names the failure that the test program meets instead of running tests.
const guardEnv = "FSYS_TEST_GUARD"

// logFailures are failures of the log and of its folder, by name.
func logFailures() map[string]func(errorfs.Op) bool {
	ofLog := func(kinds ...errorfs.OpKind) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool {
			for _, k := range kinds {
				if op.Kind == k && strings.HasSuffix(op.Path, ".log") {
					return true
				}
			}
			return false
		}
	}
	isWrite, isSync := ofLog(errorfs.OpFileWrite), ofLog(errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo)
	writes := 0
	var mu sync.Mutex
	return map[string]func(errorfs.Op) bool{
		// Something was written, but not synced, when a write fails; nor can it be synced when the log is closed.
		"unsynced": func(op errorfs.Op) bool {
			mu.Lock()
			defer mu.Unlock()
			if isWrite(op) {
				writes++
				return writes == 3
			}
			return writes >= 3 && isSync(op)
		},
		"write":  ofLog(errorfs.OpFileWrite),
		"sync":   ofLog(errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo),
		"create": ofLog(errorfs.OpCreate, errorfs.OpReuseForWrite),
		"stat":   ofLog(errorfs.OpFileStat),
		"folder": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync && op.Path == "d" },
	}
}

// TestGuard: the failures that Pebble answers with its end are told, and do not end the process.
func TestGuard(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range logFailures() {
		c := exec.Command(exe)
		c.Env = append(os.Environ(), guardEnv+"="+name)
		if out, err := c.CombinedOutput(); err != nil || string(out) != "told\n" {
			t.Errorf("%s: %v\n%.2000s", name, err, out)
		}
	}
}

// meet writes to a store whose log begins to fail in one way. The goroutines that were stopped never end.
func meet(name string) {
	var on atomic.Bool
	fails := logFailures()[name]
	failing := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && fails(op) {
			return syscall.EIO
		}
		return nil
	})
	f := Wrap(recycling{errorfs.Wrap(vfs.NewMem(), failing), failing}, Options{Dir: "d"})
	if err := f.Start(); err != nil {
		fmt.Println(err)
		return
	}
	db, err := pebble.Open("d", &pebble.Options{FS: f, MemTableSize: 64 << 10, Logger: silent{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	told := make(chan error, 1)
	f.Guard(func(err error) {
		select {
		case told <- err:
		default:
		}
	})
	go func() {
		defer func() { recover() }()
		for i := 0; ; i++ {
			b := db.NewBatch()
			b.Set(fmt.Append(nil, i), make([]byte, 1000), nil)
			if name == "unsynced" && on.Load() {
				db.Apply(b, pebble.NoSync)
			} else if err := db.ApplyNoSyncWait(b, pebble.Sync); err == nil {
				b.SyncWait()
			}
			if i == 500 { // logs were recycled
				on.Store(true)
			}
		}
	}()
	select {
	case err := <-told:
		if !errors.Is(err, syscall.EIO) {
			fmt.Println("told", err)
			return
		}
		time.Sleep(100 * time.Millisecond) // in which the writer goes on, into the next log
		fmt.Println("told")
	case <-time.After(time.Minute):
		fmt.Println("nothing was told")
	}
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

// recycling lets files fail that were used again, too.
type recycling struct {
	*errorfs.FS
	failing errorfs.Injector
}

func (r recycling) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(f, errorfs.InjectorFunc(func(op errorfs.Op) error {
		op.Path = newname
		return r.failing.MaybeError(op)
	})), nil
}
