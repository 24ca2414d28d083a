package disk_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/storetest"
)

// noLeaks checks that the test leaves no goroutine. A store that has failed may leave some.
func noLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func open(t testing.TB, dir string, o disk.Options) *disk.Store {
	t.Helper()
	if o.Fatal == nil {
		o.Fatal = func(err error) { t.Error(err) }
	}
	s, err := disk.Open(dir, disk.Config{MinFree: -1}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opener makes stores on a file system in memory.
func opener(t testing.TB) (store.Store, func() store.Store) {
	o, dir := disk.Options{FS: vfs.NewMem()}, "store"
	s := open(t, dir, o)
	closeStore := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(closeStore)
	return s, func() store.Store {
		closeStore()
		s = open(t, dir, o)
		return s
	}
}

func TestStore(t *testing.T) {
	noLeaks(t)
	storetest.Run(t, opener)
}

func TestStoreLingering(t *testing.T) {
	noLeaks(t)
	storetest.RunLingering(t, opener)
}
