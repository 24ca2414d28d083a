package memory

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
	"pgregory.net/rapid"
)

// At and beyond the depth of the tree, against a plain map and topic.Match: what is set is found by every filter that matches it, once, what is cleared by
// none, and when all is cleared nothing is left.
func TestRetainedModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		model := map[string]*store.Message{}
		name := rapid.Custom(func(t *rapid.T) string {
			before := rapid.SampledFrom([]int{0, 0, maxDepth - 3, maxDepth, maxDepth + 5}).Draw(t, "before")
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
				m := &store.Message{Topic: name.Draw(t, "topic")}
				model[m.Topic] = m
				s.SetRetained(m)
			},
			"clear": func(t *rapid.T) {
				n := name.Draw(t, "topic")
				delete(model, n)
				s.ClearRetained(n)
			},
			"": func(t *rapid.T) {
				f := filter.Draw(t, "filter")
				var got, want []string
				s.Retained(f, func(m *store.Message) bool {
					if model[m.Topic] != m {
						t.Fatalf("%q finds %q, which was replaced or cleared", f, m.Topic)
					}
					got = append(got, m.Topic)
					return true
				})
				for n := range model {
					if topic.Match(f, n) {
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
			s.ClearRetained(n)
		}
		if !s.root.empty() || s.RetainedCount() != 0 {
			t.Fatal("something is left when all is cleared")
		}
	})
}

// clauses: BAD [18]
// A retained message whose topic is nothing but slashes costs about what it is long.
func TestRetainedSlashes(t *testing.T) {
	const messages = 20
	s := New()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range messages {
		s.SetRetained(&store.Message{Topic: strconv.Itoa(i) + strings.Repeat("/", 65_530)})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / messages; each > 200_000 {
		t.Errorf("%d bytes for each", each)
	}
	n := 0
	s.Retained("+/#", func(*store.Message) bool { n++; return n < 5 })
	if n != 5 {
		t.Errorf("%d messages, want to stop after 5", n)
	}
	runtime.KeepAlive(s)
}
