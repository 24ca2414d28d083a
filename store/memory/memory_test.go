package memory_test

import (
	"testing"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
	"github.com/sealmq/sealmq/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) (store.Store, func() store.Store) {
		s := memory.New()
		return s, func() store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
