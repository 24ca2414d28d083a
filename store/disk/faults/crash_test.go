package faults

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestPowerLoss takes the power away at every sync of every file, before and just after it: what was not synced is
// forgotten, or half of it. What was committed until then is there.
func TestPowerLoss(t *testing.T) {
	type moment struct {
		fs        vfs.FS
		committed int
	}
	var (
		mu      sync.Mutex
		moments []moment
		n       int
		rng     = rand.New(rand.NewPCG(7, 7))
		mem     = vfs.NewCrashableMem()
		out     outcome
	)
	stride := 9
	if soak() {
		stride = 1
	}
	take := errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove:
		default:
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n%stride == 0 {
			committed := int(out.committed.Load())
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(2), RNG: rng}
			moments = append(moments, moment{mem.CrashClone(cfg), committed})
		}
		return nil
	})
	out.submit(newFaulty(mem, take), failScript(), nil)
	if out.openErr != nil || out.closeErr != nil || out.failed() > 0 || out.stuck != nil {
		t.Fatal(out.openErr, out.closeErr, out.failed(), out.stuck)
	}
	t.Logf("%d of %d moments", len(moments), n)
	for i, m := range moments {
		s, err := open(m.fs, nil)
		if err != nil {
			t.Errorf("moment %d, %d ops committed: open: %v", i, m.committed, err)
			continue
		}
		got, err := s.h.all(s)
		if err != nil {
			t.Errorf("moment %d: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("moment %d: %v", i, err)
		}
		if lost := out.after(got, m.committed); lost != "" {
			t.Errorf("moment %d, %d ops committed:\n%s", i, m.committed, lost)
		}
	}
}

// after returns "" if a store holds what it does after the first n ops or some more, else the difference.
func (o *outcome) after(got string, n int) string {
	m := newModel()
	for _, op := range o.ops[:n] {
		m.apply(op)
	}
	first := m.String()
	for want, i := first, n; want != got; i++ {
		if i == len(o.ops) {
			return difference(first, got)
		}
		m.apply(o.ops[i])
		want = m.String()
	}
	return ""
}
