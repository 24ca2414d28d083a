package topic

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// At and beyond the depth of the tree, against a plain map and Match: what is set is found by every filter that matches it, once, what is cleared by
// none, and when all is cleared nothing is left.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewTree[*int]()
		model := map[string]*int{}
		name := rapid.Custom(func(t *rapid.T) string {
			before := rapid.SampledFrom([]int{0, 0, maxTreeDepth - 3, maxTreeDepth, maxTreeDepth + 5}).Draw(t, "before")
			levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$x"}), 1, 5).Draw(t, "levels")
			return strings.Repeat("a/", before) + strings.Join(levels, "/")
		}).Filter(func(s string) bool { return s != "" })
		filter := rapid.Custom(func(t *rapid.T) string {
			levels := strings.Split(name.Draw(t, "like"), "/")
			for i := range levels {
				if rapid.IntRange(0, 9).Draw(t, "wild") == 0 {
					levels[i] = "+"
				}
			}
			if rapid.Bool().Draw(t, "all") {
				levels = append(levels[:rapid.IntRange(0, len(levels)).Draw(t, "cut")], "#")
			}
			return strings.Join(levels, "/")
		})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				n, m := name.Draw(t, "topic"), new(int)
				model[n] = m
				s.Set(n, m)
			},
			"clear": func(t *rapid.T) {
				n := name.Draw(t, "topic")
				delete(model, n)
				s.Delete(n)
			},
			"": func(t *rapid.T) {
				f := filter.Draw(t, "filter")
				var got, want []string
				s.Match(f, func(n string, m *int) bool {
					if model[n] != m {
						t.Fatalf("%q finds %q, which was replaced or cleared", f, n)
					}
					got = append(got, n)
					return true
				})
				for n := range model {
					if Match(f, n) {
						want = append(want, n)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%q finds %q, want %q", f, got, want)
				}
			},
		})
		for n := range model {
			s.Delete(n)
		}
		if !s.root.empty() || s.Len() != 0 {
			t.Fatal("something is left when all is cleared")
		}
	})
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
