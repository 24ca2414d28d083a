package topic

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawTreeName draws short names that crowd around the order's seams: "-" and "." lie before the slash, "0" after it.
func drawTreeName(t *rapid.T) string {
	return rapid.Custom(func(t *rapid.T) string {
		deep := rapid.SampledFrom([]int{0, 0, 0, 40}).Draw(t, "deep")
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a-", "a.b", "a0", "b", "", "$x", "%"}), 1, 4).Draw(t, "levels")
		return strings.Repeat("a/", deep) + strings.Join(levels, "/")
	}).Filter(func(s string) bool { return s != "" }).Draw(t, "name")
}

func drawTreeFilter(t *rapid.T) string {
	return rapid.Custom(func(t *rapid.T) string {
		levels := strings.Split(drawTreeName(t), "/")
		for i := range levels {
			if rapid.IntRange(0, 2).Draw(t, "wild") == 0 {
				levels[i] = "+"
			}
		}
		if rapid.Bool().Draw(t, "all") {
			levels = append(levels[:rapid.IntRange(0, len(levels)).Draw(t, "cut")], "#")
		}
		return strings.Join(levels, "/")
	}).Filter(func(s string) bool { return s != "" }).Draw(t, "filter")
}

// clauses: MQTT5 [MQTT-4.7.2-1] MQTT311 [MQTT-4.7.2-1]
// Against a plain map and Match: what is set is found by every filter that matches it, once, what is cleared by none, and
// when all is cleared nothing is left.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewTree[*int]()
		model := map[string]*int{}
		set := func(n string) {
			m := new(int)
			model[n] = m
			s.Set(n, m)
		}
		clear := func(n string) {
			_, want := model[n]
			delete(model, n)
			if s.Delete(n) != want {
				t.Fatalf("delete %q: %v", n, !want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set":   func(t *rapid.T) { set(drawTreeName(t)) },
			"clear": func(t *rapid.T) { clear(drawTreeName(t)) },
			"set many": func(t *rapid.T) {
				under, step := drawTreeName(t), rapid.SampledFrom([]int{1, 7, 199}).Draw(t, "step")
				for i := range 200 {
					set(under + "/" + strconv.Itoa(i*step%200))
				}
			},
			"clear many": func(t *rapid.T) {
				names := slices.Sorted(maps.Keys(model))
				from := rapid.IntRange(0, len(names)).Draw(t, "from")
				for _, n := range names[from:rapid.IntRange(from, len(names)).Draw(t, "to")] {
					clear(n)
				}
			},
			"": func(t *rapid.T) {
				checkTreeOrder(t, &s.order)
				f := drawTreeFilter(t)
				var got, want []string
				s.Match(f, func(n string, m *int) bool {
					if model[n] != m {
						t.Fatalf("%q finds %q, which was replaced or cleared", f, n)
					}
					got = append(got, n)
					return true
				})
				for n, m := range model {
					if Match(f, n) {
						want = append(want, n)
					}
					if v, ok := s.Get(n); !ok || v != m {
						t.Fatalf("get %q: %v", n, ok)
					}
				}
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%q finds %q, want %q", f, got, want)
				}
				if s.Len() != len(model) {
					t.Fatalf("length %d, want %d", s.Len(), len(model))
				}
			},
		})
		for n := range model {
			s.Delete(n)
		}
		if root := s.order.root.Load(); root.kids != nil || root.load() != nil || s.Len() != 0 {
			t.Fatal("something is left when all is cleared")
		}
	})
}

// checkTreeOrder checks what the order promises of its nodes and their sizes.
func checkTreeOrder[V any](t rapid.TB, o *treeOrder[V]) {
	depths := map[int]bool{}
	var check func(n *treeNode[V], depth int, from, to string)
	check = func(n *treeNode[V], depth int, from, to string) {
		if n.dead || n.size() > maxTreeNode {
			t.Fatalf("a node of %d, dead: %v", n.size(), n.dead)
		}
		if n.kids == nil {
			depths[depth] = true
			for _, it := range n.load() {
				if it.name < from || to != "" && it.name >= to {
					t.Fatalf("%q lies between %q and %q", it.name, from, to)
				}
				from = it.name + "\x00"
			}
			return
		}
		if len(n.kids) != len(n.seps)+1 || len(n.kids) < 2 || depth > 0 && len(n.kids) < minTreeNode {
			t.Fatalf("%d kids and %d separators at depth %d", len(n.kids), len(n.seps), depth)
		}
		for i, kid := range n.kids {
			end := to
			if i < len(n.seps) {
				end = n.seps[i]
			}
			check(kid, depth+1, from, end)
			from = end
		}
	}
	check(o.root.Load(), 0, "", "")
	if len(depths) > 1 {
		t.Fatalf("leaves at depths %v", depths)
	}
}

// A step agrees with Match, goes forward, and passes over nothing that the filter matches.
func TestTreeStepModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, name, other := drawTreeFilter(t), drawTreeName(t), drawTreeName(t)
		verdict, to := treeStep(f, name)
		if found := verdict == treeFound; found != Match(f, name) {
			t.Fatalf("%q, %q: found %v", f, name, found)
		}
		if verdict == treeSeek && to.compare(name) <= 0 {
			t.Fatalf("%q goes back from %q to %q", f, name, to)
		}
		passed := other > name && (verdict == treeDone || verdict == treeSeek && to.compare(other) > 0)
		if passed && Match(f, other) {
			t.Fatalf("%q goes from %q to %q, past %q", f, name, to, other)
		}
	})
}

// A filter looks at few names beside those it matches, however many there are.
func TestTreeStepSkips(t *testing.T) {
	var names []string
	for i := range 100 {
		for j := range 100 {
			names = append(names, "fleet/"+strconv.Itoa(i)+"/"+strconv.Itoa(j)+"/state", "fleet/"+strconv.Itoa(i)+"-x/"+strconv.Itoa(j))
		}
	}
	slices.Sort(names)
	for filter, most := range map[string]int{
		"fleet/7/+/state": 103, "fleet/7/#": 103, "fleet/+/7/#": 600, "fleet/+": 400, "+/+/+/none": 20_400, "+/none/+": 5, "a/#": 2, "x/+": 2,
	} {
		looked := 0
		_, to := treeStep(filter, "")
		for i := 0; i < len(names); {
			if i += sort.Search(len(names)-i, func(j int) bool { return to.compare(names[i+j]) <= 0 }); i == len(names) {
				break
			}
			looked++
			verdict, next := treeStep(filter, names[i])
			if verdict == treeDone {
				break
			}
			if to = next; verdict != treeSeek {
				i++
			}
		}
		if looked > most {
			t.Errorf("%s looks at %d names, want %d at most", filter, looked, most)
		}
	}
}

// clauses: BAD [18]
// While a match waits in its caller, names are set, replaced, deleted and matched, by its caller and by others. It finds what
// was there before and stays, once.
func TestTreeMatchStops(t *testing.T) {
	const names = 20_000
	s := NewTree[int]()
	for i := range names {
		s.Set(treeName(i), i)
	}
	seen := make([]int, names)
	calls := 0
	s.Match("fleet/+/state", func(name string, v int) bool {
		if calls++; calls == 100 {
			s.Set("fleet/own/state", -1)
			done := make(chan struct{})
			go func() { // this would wait for the match if it held a lock
				defer close(done)
				for i := range names {
					switch i % 4 {
					case 0:
						s.Delete(treeName(i))
					case 1:
						s.Set(treeName(i), i)
					}
					s.Set(treeName(names+i), -1)
				}
				s.Match("fleet/#", func(string, int) bool { return true })
			}()
			<-done
		}
		if got, ok := s.Get(name); ok && got != v && v >= 0 {
			t.Fatalf("%s is %d, found %d", name, got, v)
		}
		if v >= 0 {
			seen[v]++
		}
		return true
	})
	for i, n := range seen {
		if n > 1 || n == 0 && i%4 != 0 {
			t.Fatalf("%s was found %d times", treeName(i), n)
		}
	}
}

// Names that stay are always found, once, in order, by Get too, while others around them come and go; a writer alone knows its own.
func TestTreeStress(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 4000
	}
	const stay = 500
	s := NewTree[int]()
	for i := range stay {
		s.Set(treeName(i*10), i)
	}
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	for owner := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(owner), 3))
			mine := map[string]int{}
			for i := range rounds {
				name := treeName(r.IntN(stay)*10 + owner + 1)
				v, had := mine[name]
				if got, ok := s.Get(name); ok != had || had && got != v {
					t.Errorf("%s: %d, %v, want %d, %v", name, got, ok, v, had)
					return
				}
				if r.IntN(1+i*4/rounds) > 0 { // at first more are set, in the end more deleted
					if s.Delete(name) != had {
						t.Errorf("delete %s: %v", name, !had)
						return
					}
					delete(mine, name)
				} else {
					s.Set(name, i)
					mine[name] = i
				}
				s.Set("shared", owner)
				if r.IntN(2) == 0 {
					s.Delete("shared")
				}
			}
			for name := range mine {
				s.Delete(name)
			}
		})
	}
	for _, filter := range []string{"#", "fleet/+/state"} {
		readers.Go(func() {
			for !stop.Load() {
				found, last := 0, ""
				s.Match(filter, func(name string, _ int) bool {
					if name <= last {
						t.Errorf("%s after %s", name, last)
					}
					last = name
					if strings.HasSuffix(name, "0/state") {
						found++
					}
					return true
				})
				if found != stay {
					t.Errorf("%d names, want %d", found, stay)
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	s.Delete("shared")
	if s.Len() != stay {
		t.Errorf("%d names are left, want %d", s.Len(), stay)
	}
	checkTreeOrder(t, &s.order)
}

func treeName(i int) string { return "fleet/" + strconv.Itoa(i) + "/state" }

// The bytes of heap for each name beyond name and value, and that deleting gives them back.
func TestTreeMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it measures, and takes its time")
	}
	const n = 200_000
	names := make([]string, n)
	for i := range names {
		names[i] = treeName(i)
	}
	before := heap()
	s := NewTree[*int]()
	for _, name := range names {
		s.Set(name, nil)
	}
	used := heap() - before
	t.Logf("%d bytes a name", used/n)
	if used > 200*n {
		t.Errorf("%d bytes a name", used/n)
	}
	for i, name := range names {
		if i%10 != 0 {
			s.Delete(name)
		}
	}
	if left := heap() - before; left > used/5 {
		t.Errorf("%d bytes for a tenth of the names, %d for all", left, used)
	}
	runtime.KeepAlive(names)
	runtime.KeepAlive(s)
}

// clauses: BAD [18]
// A value whose name is nothing but slashes costs about what it is long.
func TestTreeSlashes(t *testing.T) {
	const names = 20
	s := NewTree[*int]()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range names {
		s.Set(strconv.Itoa(i)+strings.Repeat("/", 65_530), nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / names; each > 200_000 {
		t.Errorf("%d bytes for each", each)
	}
	n := 0
	s.Match("+/#", func(string, *int) bool { n++; return n < 5 })
	if n != 5 {
		t.Errorf("%d names, want to stop after 5", n)
	}
	runtime.KeepAlive(s)
}

// BenchmarkTree has a million names; bytes/name is what the tree takes beyond name and value.
func BenchmarkTree(b *testing.B) {
	const n = 1_000_000
	names := make([]string, n)
	for i := range names {
		names[i] = treeName(i)
	}
	rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	before := heap()
	s := NewTree[*int]()
	start := time.Now()
	for _, name := range names {
		s.Set(name, nil)
	}
	fill := time.Since(start)
	each := float64(heap()-before) / n
	b.Run("Fill", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(fill)/n, "ns/name")
		b.ReportMetric(each, "bytes/name")
	})
	i := 0
	next := func() string { i++; return names[i%n] }
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Get(next())
		}
	})
	b.Run("Replace", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Set(next(), nil)
		}
	})
	b.Run("DeleteSet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			name := next()
			s.Delete(name)
			s.Set(name, nil)
		}
	})
	for _, filter := range []string{"fleet/77/#", "+/77/+", "fleet/+/none", "#"} {
		b.Run("Match/"+filter, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Match(filter, func(string, *int) bool { return true })
			}
		})
	}
	// How long a writer takes at worst, alone and while another matches everything without a pause.
	for _, matches := range []int{0, 1} {
		b.Run("Beside/"+strconv.Itoa(matches), func(b *testing.B) {
			var stop atomic.Bool
			var walks sync.WaitGroup
			for range matches {
				walks.Go(func() {
					for !stop.Load() {
						s.Match("#", func(string, *int) bool { return !stop.Load() })
					}
				})
			}
			var took []time.Duration
			for b.Loop() {
				name := next()
				s.Delete(name)
				start := time.Now()
				s.Set(name, nil)
				took = append(took, time.Since(start))
			}
			stop.Store(true)
			walks.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "ns-p50")
			b.ReportMetric(float64(took[len(took)*99/100]), "ns-p99")
			b.ReportMetric(float64(took[len(took)*9999/10_000]), "ns-p99.99")
			b.ReportMetric(float64(took[len(took)-1]), "ns-max")
		})
	}
}
