package memory_test

import (
	"testing"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
	"github.com/sealmq/sealmq/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(testing.TB) store.Store { return memory.New() })
}
