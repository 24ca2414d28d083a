package testkit

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeaks fails the test when it ends with more goroutines than it had when NoLeaks was called. Call it first.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			t.Errorf("goroutines left behind: %v", err)
		}
	})
}
