package policy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
)

// rules is a policy of n rules for devices, none of which is the one that decides.
func rules(n int) string {
	var b strings.Builder
	b.WriteString("group devices { kind = device }\npolicy devices {\n  allow publish, subscribe dt/${device}/#\n")
	for i := range n - 1 {
		fmt.Fprintf(&b, "  allow publish dt/other%d/+/x/${device}\n", i)
	}
	return b.String() + "}\n"
}

// users is a policy of n rules, each for a user of its own.
func users(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "group g%d { user = user%d }\npolicy g%d { allow publish dt/${user}/# }\n", i, i, i)
	}
	return b.String()
}

func BenchmarkCached(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			perms := compile(b, rules(n)).For(device("pump-17"))
			b.ReportAllocs()
			for b.Loop() {
				if !perms.May(auth.Publish, "dt/pump-17/temperature", 1, false) {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkTurns asks for four topics in turn, all in the cache.
func BenchmarkTurns(b *testing.B) {
	perms := compile(b, rules(10_000)).For(device("pump-17"))
	topics := [...]string{"dt/pump-17/temperature", "dt/pump-17/pressure", "dt/pump-17/flow", "dt/pump-17/state"}
	for i := 0; b.Loop(); i++ {
		perms.May(auth.Publish, topics[i%4], 1, false)
	}
}

func BenchmarkUncached(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			perms := compile(b, rules(n)).For(device("pump-17"))
			topics := make([]string, 2000)
			for i := range topics {
				topics[i] = fmt.Sprint("dt/pump-17/temperature/", i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !perms.May(auth.Publish, topics[i%len(topics)], 1, false) {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkFor is the compilation at CONNECT, for one of as many users as there are rules.
func BenchmarkFor(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := compile(b, users(n))
			id := user("user0")
			b.ReportAllocs()
			for b.Loop() {
				p.For(id)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	text := []byte(rules(10_000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		f, err := Parse("p", text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrincipal reports the memory of one of 100,000 clients that publish to four topics.
func BenchmarkPrincipal(b *testing.B) {
	const n = 100_000
	p := compile(b, rules(10_000))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		all := make([]*Permissions, n)
		for i := range all {
			all[i] = p.For(device("pump-17"))
			for k := range 4 {
				all[i].May(auth.Publish, [...]string{"dt/pump-17/a", "dt/pump-17/b", "dt/pump-17/c", "dt/pump-17/d"}[k], 1, false)
			}
		}
		b.ReportMetric(float64(heap()-before)/n, "B/client")
		runtime.KeepAlive(all)
	}
}

// TestNoAllocation asserts that a decision costs none: a cached one, one that a rate or a time must be asked for, and one
// that finds no place in the cache.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	text := rules(10_000) + "policy everybody { allow publish rate rate<=1000000/s\n allow publish time time=00:00-24:00 }"
	perms := compile(t, text).For(device("pump-17"))
	for _, topic := range []string{"dt/pump-17/temperature", "nothing", "rate", "time"} {
		if n := testing.AllocsPerRun(100, func() { perms.May(auth.Publish, topic, 1, false) }); n > 0 {
			t.Errorf("publish %s: %v allocations", topic, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { perms.May(auth.Subscribe, "dt/pump-17/+", 1, false) }); n > 0 {
		t.Errorf("subscribe: %v allocations", n)
	}
	topics := make([]string, 2000)
	for i := range topics {
		topics[i] = fmt.Sprint("dt/pump-17/", i)
		perms.May(auth.Publish, topics[i], 1, false)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() { // rounded down: one in eight is kept
		perms.May(auth.Publish, topics[i%len(topics)], 1, false)
		i++
	}); n > 0 {
		t.Errorf("uncached: %v allocations", n)
	}
}

// TestCost bounds a cached decision with 10,000 rules. The bound is far above what a quiet machine needs.
func TestCost(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("slow by intention")
	}
	perms := compile(t, rules(10_000)).For(device("pump-17"))
	best := time.Hour
	for range 50 { // the best of short runs is not the machine's other work
		start := time.Now()
		for range 1000 {
			perms.May(auth.Publish, "dt/pump-17/temperature", 1, false)
		}
		best = min(best, time.Since(start)/1000)
	}
	if best > 200*time.Nanosecond {
		t.Errorf("a cached decision takes %v", best)
	}
}
