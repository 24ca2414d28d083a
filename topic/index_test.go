package topic

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// subscribers returns what Lookup leads to, sorted.
func subscribers(m *Matches[string]) []string {
	out := []string{}
	for _, set := range m.Sets() {
		for s := range set.Each {
			out = append(out, set.Filter()+" "+*s)
		}
	}
	slices.Sort(out)
	return out
}

func TestIndex(t *testing.T) {
	x := NewIndex[string]()
	refs := map[string]Ref[string]{}
	for _, f := range []string{"a/b", "a/#", "a/+", "+/b", "#", "$SYS/#", "+/+/+", "a", "/", "+/+", "a/b/c/d/e", "a/b/c/+/e", "a/b/+/d/#"} {
		s := "s"
		refs[f] = x.Insert(f, &s)
	}
	for range 2 {
		for name, want := range map[string][]string{
			"a/b":           {"# s", "+/+ s", "+/b s", "a/# s", "a/+ s", "a/b s"},
			"a":             {"# s", "a s", "a/# s"},
			"/":             {"# s", "+/+ s", "/ s"},
			"$SYS/b":        {"$SYS/# s"},
			"$SYS":          {"$SYS/# s"},
			"$SYSTEM/b":     {},
			"b/b/b":         {"# s", "+/+/+ s"},
			"a/b/c/d/e":     {"# s", "a/# s", "a/b/+/d/# s", "a/b/c/+/e s", "a/b/c/d/e s"},
			"a/b/c/d":       {"# s", "a/# s", "a/b/+/d/# s"},
			"unknown/topic": {"# s", "+/+ s"},
		} {
			if got := subscribers(x.Lookup([]byte(name))); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	if f, s := x.Len(); f != 13 || s != 13 {
		t.Errorf("%d filters, %d subscriptions", f, s)
	}
	for f, r := range refs {
		if r.Filter() != f {
			t.Errorf("the Ref of %q says %q", f, r.Filter())
		}
		x.Remove(r)
	}
	x.Remove(Ref[string]{})
	if f, s := x.Len(); f != 0 || s != 0 {
		t.Errorf("%d filters, %d subscriptions left", f, s)
	}
	empty(t, x)
}

// empty checks that nothing is left of what was removed.
func empty[S any](t interface{ Errorf(string, ...any) }, x *Index[S]) {
	r := &x.wild.root
	if r.set.Load() != nil || r.multi.Load() != nil || r.plus.Load() != nil || r.literals.Load() != 0 {
		t.Errorf("the trie is not empty")
	}
	for i := range x.wild.edges.shards {
		if x.wild.edges.shards[i].cells.Load() != nil || x.exact.shards[i].cells.Load() != nil {
			t.Errorf("a table is not empty")
			return
		}
	}
}

// TestIndexModel compares the index, small caches and large, with a list of
// filters that are matched one by one.
func TestIndexModel(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x", "+", "+", "longer"})
	filter := rapid.Custom(func(t *rapid.T) string {
		f := strings.Join(rapid.SliceOfN(level, 0, 5).Draw(t, "levels"), "/")
		if f == "" || rapid.Bool().Draw(t, "multi") {
			f = strings.TrimPrefix(f+"/#", "/")
		}
		return f
	})
	all := names(3)
	for _, n := range names(5) {
		if len(n)%3 == 0 {
			all = append(all, n)
		}
	}
	name := rapid.SampledFrom(all)
	rapid.Check(t, func(t *rapid.T) {
		x := NewIndexCache[string](rapid.SampledFrom([]int{0, 1, 20, CacheEntries}).Draw(t, "cache"), CacheBytes)
		var refs []Ref[string]
		var texts []string // filter and subscriber, as subscribers has them
		kept := map[string]*Matches[string]{}
		next := 0
		check := func(name string) {
			want := []string{}
			for i, r := range refs {
				if naive(r.Filter(), name) {
					want = append(want, texts[i])
				}
			}
			slices.Sort(want)
			m := x.Lookup([]byte(name))
			if got := subscribers(m); m.Topic() != name || !slices.Equal(got, want) {
				t.Fatalf("%s: %q, want %q", name, got, want)
			}
			if k := kept[name]; k != nil && x.Current(k) && !slices.Equal(subscribers(k), want) {
				t.Fatalf("%s: %q is said to be current, want %q", name, subscribers(k), want)
			}
			kept[name] = m
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				f := filter.Draw(t, "filter")
				next++
				s := fmt.Sprint(next)
				refs = append(refs, x.Insert(f, &s))
				texts = append(texts, f+" "+s)
			},
			"again": func(t *rapid.T) {
				if len(refs) == 0 {
					t.Skip()
				}
				f := refs[rapid.IntRange(0, len(refs)-1).Draw(t, "which")].Filter()
				next++
				s := fmt.Sprint(next)
				refs = append(refs, x.Insert(f, &s))
				texts = append(texts, f+" "+s)
			},
			"remove": func(t *rapid.T) {
				if len(refs) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(refs)-1).Draw(t, "which")
				x.Remove(refs[i])
				refs, texts = slices.Delete(refs, i, i+1), slices.Delete(texts, i, i+1)
			},
			"lookup": func(t *rapid.T) {
				for range 5 {
					check(name.Draw(t, "name"))
				}
			},
			"": func(t *rapid.T) {
				for _, n := range []string{"a", "a/b", "$x/a", "a/b/longer", "b//a"} {
					check(n)
				}
				distinct := map[string]bool{}
				for _, r := range refs {
					distinct[r.Filter()] = true
				}
				if f, s := x.Len(); f != len(distinct) || s != len(refs) {
					t.Fatalf("%d filters, %d subscriptions, want %d and %d", f, s, len(distinct), len(refs))
				}
			},
		})
		for _, r := range refs {
			x.Remove(r)
		}
		empty(t, x)
	})
}

// TestIndexDeep has names and filters as deep as they come: neither stack nor
// memory nor time may depend on the depth more than linearly.
func TestIndexDeep(t *testing.T) {
	x := NewIndex[string]()
	s := "s"
	deep := strings.Repeat("/", MaxLen)
	plus := strings.Repeat("+/", MaxLen/2)
	before := heap()
	var refs []Ref[string]
	for _, f := range []string{deep, "#", "/#", deep[:MaxLen-1] + "#", plus + "+", plus + "#", plus[:60000] + "a/#", plus[:30000] + "#", "+/+/a", "a" + deep[:60000] + "#", "a" + deep[:60000] + "+"} {
		refs = append(refs, x.Insert(f, &s))
	}
	if used := heap() - before; used > 20*MaxLen {
		t.Errorf("%d bytes for 11 filters", used)
	}
	for range 2 {
		m := x.Lookup([]byte(deep))
		if len(m.Sets()) != 6 {
			t.Errorf("%d matches", len(m.Sets()))
		}
		if m := x.Lookup([]byte("a" + deep[:60000] + "b")); len(m.Sets()) != 5 {
			t.Errorf("%d matches", len(m.Sets()))
		}
	}
	for _, r := range refs {
		x.Remove(r)
	}
	empty(t, x)
}

// TestIndexManyPaths has filters whose every prefix matches in two ways: the
// search may visit each of their nodes, but no path of them twice.
func TestIndexManyPaths(t *testing.T) {
	x := NewIndex[string]()
	s := "s"
	const depth = 10
	for i := range 1 << depth {
		var f []string
		for b := range depth {
			f = append(f, []string{"a", "+"}[i>>b&1])
		}
		x.Insert(strings.Join(f, "/")+"/x", &s)
		x.Insert(strings.Join(f, "/"), &s)
	}
	for range 2 {
		if m := x.Lookup([]byte("a" + strings.Repeat("/a", depth-1))); len(m.Sets()) != 1<<depth {
			t.Errorf("%d matches", len(m.Sets()))
		}
		if m := x.Lookup([]byte("a" + strings.Repeat("/a", depth-1) + "/y")); len(m.Sets()) != 0 {
			t.Errorf("%d matches", len(m.Sets()))
		}
	}
	x.Insert(strings.Repeat("a/", depth)+"+", &s)
	if m := x.Lookup([]byte("a" + strings.Repeat("/a", depth-1) + "/y")); len(m.Sets()) != 1 {
		t.Errorf("%d matches after a filter appeared", len(m.Sets()))
	}
}

func FuzzIndex(f *testing.F) {
	f.Add("a/b\na/+\n#\na/b/c/#\na/b/c/d", "a/b/c")
	f.Add("+/+/+\n+/+\n//\n/+/#", "//")
	f.Add("$SYS/#\n+/#\n$SYS/+", "$SYS/a")
	f.Fuzz(func(t *testing.T, filters, name string) {
		if ValidName(name) != nil || len(filters) > 4096 {
			return
		}
		x := NewIndex[string]()
		var refs []Ref[string]
		seen := map[string]bool{}
		for _, f := range strings.Split(filters, "\n") {
			if ValidFilter(f) == nil {
				x.Lookup([]byte(name))
				refs = append(refs, x.Insert(f, &f))
				seen[f] = true
			}
		}
		want := 0
		for f := range seen {
			if naive(f, name) {
				want++
			}
		}
		if m := x.Lookup([]byte(name)); len(m.Sets()) != want {
			t.Errorf("%d matches, want %d", len(m.Sets()), want)
		}
		for _, r := range refs {
			x.Remove(r)
		}
		empty(t, x)
	})
}

// heap returns the bytes of the heap that are in use.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
