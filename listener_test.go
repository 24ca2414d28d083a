package sealmq

import (
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	var th throttle
	now := time.Unix(1000, 0)
	for i := range 3 * refusedPerSecond {
		if n, ok := th.allow(now); ok != (i < refusedPerSecond) || n != 0 {
			t.Fatalf("event %d: %d %v", i, n, ok)
		}
	}
	if n, ok := th.allow(now.Add(time.Second)); !ok || n != 2*refusedPerSecond {
		t.Errorf("in the next second: %d %v", n, ok)
	}
	if n, ok := th.allow(now.Add(time.Second)); !ok || n != 0 {
		t.Errorf("after that: %d %v", n, ok)
	}
}
