package topic

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// exactFilter and wildFilter are the i-th of a large fleet's subscriptions.
// The wildcards have a million siblings under one parent.
func exactFilter(i int) string { return fmt.Sprintf("fleet/truck-%d/engine/temperature", i) }

func wildFilter(i int) string {
	switch i % 4 {
	case 0:
		return fmt.Sprintf("fleet/truck-%d/#", i)
	case 1:
		return fmt.Sprintf("fleet/truck-%d/+/temperature", i)
	case 2:
		return fmt.Sprintf("site/+/truck-%d", i)
	default:
		return fmt.Sprintf("fleet/truck-%d/engine/+", i-1)
	}
}

func mixedFilter(i int) string {
	if i%2 == 0 {
		return exactFilter(i)
	}
	return wildFilter(i / 2)
}

func fill(x *Index[string], n int, filter func(int) string) []Ref[string] {
	s := "s"
	refs := make([]Ref[string], n)
	for i := range refs {
		refs[i] = x.Insert(filter(i), &s)
	}
	return refs
}

// TestIndexMemory holds the bytes of heap for each filter with one
// subscription, and that unsubscribing gives them back.
func TestIndexMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it measures, and takes its time")
	}
	const n = 200_000
	for _, c := range []struct {
		kind   string
		filter func(int) string
		most   int
	}{{"exact", exactFilter, 400}, {"wildcard", wildFilter, 500}} {
		before := heap()
		x := NewIndex[string]()
		s := "s"
		filters := make([]string, n)
		refs := make([]Ref[string], n)
		kept := heap()
		for i := range filters {
			filters[i] = c.filter(i)
		}
		texts := heap() - kept
		for i := range refs {
			refs[i] = x.Insert(filters[i], &s)
		}
		filters = nil
		used := heap() - kept
		t.Logf("%s: %d bytes a filter, of which %d are its text", c.kind, used/n, texts/n)
		if used > c.most*n {
			t.Errorf("%s: %d bytes a filter", c.kind, used/n)
		}
		for i := range n {
			if i%10 != 0 {
				x.Remove(refs[i])
				refs[i] = Ref[string]{}
			}
		}
		if left := heap() - kept; left > used/5 {
			t.Errorf("%s: %d bytes for a tenth of the filters, %d for all", c.kind, left, used)
		}
		for _, r := range refs {
			x.Remove(r)
		}
		refs = nil
		empty(t, x)
		if left := heap() - before; left > 1<<20 {
			t.Errorf("%s: %d bytes left", c.kind, left)
		}
		x.Len()
	}
}

// TestFanMemory holds that many subscriptions of one topic take little and
// give it back.
func TestFanMemory(t *testing.T) {
	const n = 100_000
	x := NewIndex[string]()
	s := "s"
	refs := make([]Ref[string], n)
	before := heap()
	for i := range refs {
		refs[i] = x.Insert("news", &s)
	}
	used := heap() - before
	t.Logf("%.1f bytes a subscription", float64(used)/n)
	if used > 16*n {
		t.Errorf("%d bytes for %d subscriptions", used, n)
	}
	for i := range refs[1:] {
		x.Remove(refs[1+i])
		refs[1+i] = Ref[string]{}
	}
	if left := heap() - before; left > 16<<10 {
		t.Errorf("%d bytes left for one subscription", left)
	}
	x.Remove(refs[0])
}

// TestCacheBounds has more topics than the cache may hold, and some too large.
func TestCacheBounds(t *testing.T) {
	const entries, bytes = 1000, 200_000
	x := NewIndexCache[string](entries, bytes)
	s := "s"
	x.Insert("#", &s)
	hot := []byte("hot")
	for i := range 20_000 {
		x.Lookup(fmt.Appendf(nil, "t/%d", i))
		if i%7 == 0 {
			x.Lookup(fmt.Appendf(nil, "t/%d/%s", i, strings.Repeat("x", i%MaxLen)))
		}
		if i%5 == 0 {
			x.Lookup(hot)
		}
	}
	n, size := 0, 0
	for i := range x.cache.shards {
		s, b := &x.cache.shards[i], &x.cache.parts[i]
		have, counted := 0, 0
		if c := s.cells.Load(); c != nil {
			for k := range c.cell {
				if m := c.cell[k].p.Load(); m != nil && m != s.tomb {
					have++
					counted += m.bytes()
				}
			}
		}
		if have != b.entries || counted != b.bytes {
			t.Fatalf("shard %d counts %d entries and %d bytes, has %d and %d", i, b.entries, b.bytes, have, counted)
		}
		n, size = n+have, size+counted
	}
	if n > entries || size > bytes || n < entries/4 {
		t.Errorf("%d entries of %d, %d bytes of %d", n, entries, size, bytes)
	}
	if m := x.Lookup(hot); x.Lookup(hot) != m {
		t.Error("what is asked for often is not in the cache")
	}
}

// TestCacheHolds checks that a cached result outlives what does not concern it.
func TestCacheHolds(t *testing.T) {
	// Marks are shared by chance, seeds differ: a few results in a hundred may go, now and then several at once.
	lost, of := 0, 0
	for range 50 {
		n, all := cacheHolds(t)
		lost, of = lost+n, of+all
	}
	if lost > of/4 {
		t.Errorf("%d of %d results were dropped", lost, of)
	}
}

// cacheHolds returns how many results were dropped for filters that do not concern them, and how many there were.
func cacheHolds(t *testing.T) (lost, of int) {
	x := NewIndex[string]()
	s := "s"
	for _, f := range []string{"fleet/+/engine", "+/status/online", "a/b/c/d/#", "fleet/truck-1/#"} {
		x.Insert(f, &s)
	}
	names := [][]byte{[]byte("fleet/truck-1/engine"), []byte("fleet/truck-2/engine"), []byte("a/b/c/d/e"), []byte("a/b/x"), []byte("dev-1/status/offline"), []byte("other")}
	var first []*Matches[string]
	for _, n := range names {
		first = append(first, x.Lookup(n))
	}
	var refs []Ref[string]
	for i := range 50 {
		refs = append(refs,
			x.Insert(fmt.Sprintf("fleet/car-%d/#", i), &s),
			x.Insert(fmt.Sprintf("fleet/car-%d/+", i), &s),
			x.Insert(fmt.Sprintf("fleet/car-%d", i), &s),
			x.Insert(fmt.Sprintf("+/cmd/%d", i), &s),
			x.Insert(fmt.Sprintf("a/b/c/e%d/+", i), &s),
			x.Insert("fleet/+/engine", &s),
		)
		for _, n := range names {
			x.Lookup(n)
		}
	}
	for _, r := range refs {
		x.Remove(r)
	}
	for i, n := range names {
		if x.Lookup(n) != first[i] {
			lost++
		}
	}
	for _, f := range []string{"a/b/+", "#", "dev-1/status/offline"} {
		x.Insert(f, &s)
	}
	for i, want := range []int{3, 2, 2, 2, 2, 1} {
		if m := x.Lookup(names[i]); len(m.Sets()) != want {
			t.Errorf("%s: %d matches, want %d", names[i], len(m.Sets()), want)
		}
	}
	return lost, len(names)
}

func TestLookupAllocatesNothing(t *testing.T) {
	x := NewIndex[string]()
	fill(x, 1000, mixedFilter)
	name := []byte("fleet/truck-100/engine/temperature")
	n := 0
	f := func(*string) bool { n++; return true }
	if a := testing.AllocsPerRun(100, func() {
		for _, set := range x.Lookup(name).Sets() {
			set.Each(f)
		}
	}); a != 0 || n == 0 {
		t.Errorf("%v allocations, %d subscriptions", a, n)
	}
	x = NewIndexCache[string](0, 0)
	fill(x, 1000, mixedFilter)
	// Three, and now and then a walk: the race detector empties pools at random.
	if a := testing.AllocsPerRun(100, func() { x.Lookup(name) }); a > 8 {
		t.Errorf("%v allocations without the cache", a)
	}
}

// BenchmarkLookup is with a million filters, half of them with wildcards.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		for _, c := range []struct {
			kind    string
			entries int
			topics  int
		}{{"cached-1", CacheEntries, 1}, {"cached-10k", CacheEntries, 10_000}, {"uncached", 0, 1_000_000}, {"missed", CacheEntries, 1_000_000}} {
			b.Run(fmt.Sprintf("%d/%s", n, c.kind), func(b *testing.B) {
				x := NewIndexCache[string](c.entries, CacheBytes)
				fill(x, n, mixedFilter)
				r := rand.New(rand.NewPCG(1, 2))
				names := make([][]byte, c.topics)
				for i := range names {
					names[i] = []byte(exactFilter(r.IntN(n)))
				}
				for _, n := range names {
					x.Lookup(n)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					x.Lookup(names[i])
					if i++; i == len(names) {
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkLookupChurn is a cached lookup while wildcard filters come and go
// before each: what it costs to see that none of them concerns it.
func BenchmarkLookupChurn(b *testing.B) {
	x := NewIndex[string]()
	fill(x, 100_000, mixedFilter)
	name := []byte("fleet/truck-100/engine/temperature")
	for b.Loop() {
		x.wild.gen.Add(1)
		x.Lookup(name)
	}
}

// BenchmarkSubscribe is one subscription and its end, with n others there.
func BenchmarkSubscribe(b *testing.B) {
	for _, c := range []struct {
		kind   string
		filter func(int) string
	}{{"exact", exactFilter}, {"wildcard", wildFilter}} {
		for _, n := range []int{1000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", c.kind, n), func(b *testing.B) {
				x := NewIndex[string]()
				fill(x, n, c.filter)
				s := "s"
				filters := make([]string, 1<<16)
				for i := range filters {
					filters[i] = c.filter(n + i)
				}
				refs := make([]Ref[string], len(filters))
				var in, out time.Duration
				b.ResetTimer()
				for done := 0; done < b.N; done += len(filters) {
					start := time.Now()
					for i, f := range filters {
						refs[i] = x.Insert(f, &s)
					}
					mid := time.Now()
					for _, r := range refs {
						x.Remove(r)
					}
					in, out = in+mid.Sub(start), out+time.Since(mid)
				}
				rounds := float64((b.N + len(filters) - 1) / len(filters) * len(filters))
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(in)/rounds, "ns/subscribe")
				b.ReportMetric(float64(out)/rounds, "ns/unsubscribe")
			})
		}
	}
}

// BenchmarkJoin is one subscription of a topic that has n, and its end.
func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := NewIndex[string]()
			fill(x, n, func(int) string { return "news/#" })
			s := "s"
			b.ReportAllocs()
			for b.Loop() {
				x.Remove(x.Insert("news/#", &s))
			}
		})
	}
}

// BenchmarkEach is for one subscription of 100,000.
func BenchmarkEach(b *testing.B) {
	x := NewIndex[string]()
	fill(x, 100_000, func(int) string { return "news" })
	m := x.Lookup([]byte("news"))
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	for n < b.N {
		for range m.Sets()[0].Each {
			n++
		}
	}
}
