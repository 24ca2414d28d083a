package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector's settings for a broker. Go's default lets the heap double between collections: too often for a heap of
// a few megabytes under load, and too much for one that holds a hundred thousand idle connections. So the room between
// collections is a number of bytes, within bounds in percent; and after a burst the memory goes back to the system.
// docs/memory.md has the measurements.
const (
	gcRoom    = 32 << 20
	gcLeast   = 40  // percent
	gcMost    = 800 // percent
	quietTick = time.Second
	quietRate = 256 << 10 // bytes allocated in a tick, at most, when nothing goes on
	worthFree = 8 << 20   // bytes allocated since memory was last returned that make it worth doing again, at least
)

// tuneMemory adjusts the collector until ctx ends. GOGC in the environment switches it off.
func tuneMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	m := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	percent, quiet := 100, 0
	var before, freed uint64
	for tick := time.NewTicker(quietTick); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		metrics.Read(m)
		live, total := max(m[0].Value.Uint64(), 1<<20), m[1].Value.Uint64()
		if p := gcPercent(live); math.Abs(float64(p-percent)) > float64(percent)/10 {
			percent = p
			debug.SetGCPercent(p)
		}
		if quiet++; total-before > quietRate {
			quiet = 0
		}
		before = total
		if quiet >= 2 && total-freed > max(worthFree, live/4) {
			runtime.GC() // what a sync.Pool holds survives one collection
			debug.FreeOSMemory()
			metrics.Read(m)
			before, freed = m[1].Value.Uint64(), m[1].Value.Uint64()
		}
	}
}

// gcPercent is the setting that leaves gcRoom above a live heap of this many bytes.
func gcPercent(live uint64) int {
	return int(min(max(gcRoom*100/live, gcLeast), gcMost))
}
