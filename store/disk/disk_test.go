package disk_test

import (
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// opener makes stores on a file system in memory, or in folders of their own.
func opener(memory bool) storetest.Open {
	return func(t testing.TB) (store.Store, func() store.Store) {
		var o disk.Options
		dir := filepath.Join(t.TempDir(), "store")
		if memory {
			o.FS, dir = vfs.NewMem(), "store"
		}
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
}

func TestStore(t *testing.T)          { storetest.Run(t, opener(true)) }
func TestStoreLingering(t *testing.T) { storetest.RunLingering(t, opener(true)) }
