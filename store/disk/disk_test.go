package disk_test

import (
	"path/filepath"
	"testing"

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

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) (store.Store, func() store.Store) {
		dir := filepath.Join(t.TempDir(), "store")
		s := open(t, dir, disk.Options{})
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s, func() store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, disk.Options{})
			return s
		}
	})
}
