package enroll

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store/disk"
)

// When a device has its answer, a crash finds its use of the claim counted, and the key of one that waits known.
func TestCrash(t *testing.T) {
	b := newBench(t, Config{})
	fs := vfs.NewCrashableMem()
	open := func(fs vfs.FS) *disk.Store {
		s, err := disk.Open("store", disk.Config{MinFree: -1}, disk.Options{FS: fs, Fatal: func(err error) { t.Error(err) }})
		b.must(err)
		_, err = s.Load(answering{})
		b.must(err)
		return s
	}
	st := open(fs)
	b.opt.Store = st // the registry stays in memory
	b.reopen()
	defer func() {
		b.Close()
		st.Close()
	}()
	token, claim := b.token(Claim{Uses: 100, Approve: true})
	plain, second := b.token(Claim{Uses: 100})
	for n := 1; n <= 6; n++ {
		b.wants(b.enrol(client{id: fmt.Sprint("a", n)}, newKey(t), token), "pending", "")
		b.wants(b.enrol(client{id: fmt.Sprint("b", n)}, newKey(t), plain), "accepted", "")
		after := open(fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(n), 1))}))
		reg, err := registry.Open(after, registry.Options{})
		b.must(err)
		opt := b.opt
		opt.Store, opt.Registry = after, reg
		s, err := New(opt)
		b.must(err)
		if c, _ := s.Claim(claim.ID); c.Used != n {
			t.Errorf("%d devices wait, the claim was used %d times", n, c.Used)
		}
		if c, _ := s.Claim(second.ID); c.Used != n {
			t.Errorf("%d devices are enrolled, the claim was used %d times", n, c.Used)
		}
		if p := s.pending.get(fmt.Sprint("a", n), b.clock.now()); p == nil {
			t.Errorf("device %d does not wait", n)
		}
		s.Close()
		reg.Close()
		b.must(after.Close())
	}
}
