package topic

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSet compares a set with a list of what is in it.
func TestSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := &Set[int]{filter: "a"}
		in := map[Ref[int]]*int{}
		var refs []Ref[int]
		next := 0
		add := func() {
			next++
			p := new(int)
			*p = next
			r, ok := set.add(p)
			if !ok || in[r] != nil {
				t.Fatalf("added %d to %v, %v", next, r, ok)
			}
			in[r] = p
			refs = append(refs, r)
		}
		remove := func(i int) {
			r := refs[i]
			refs = slices.Delete(refs, i, i+1)
			delete(in, r)
			if died := set.remove(r); died != (len(refs) == 0) {
				t.Fatalf("%d left, died %v", len(refs), died)
			}
		}
		add()
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 90).Draw(t, "n") {
					add()
				}
			},
			"remove": func(t *rapid.T) {
				for range rapid.IntRange(1, 90).Draw(t, "n") {
					if len(refs) > 1 {
						remove(rapid.IntRange(0, len(refs)-1).Draw(t, "which"))
					}
				}
			},
			"": func(t *rapid.T) {
				seen := map[*int]bool{}
				for p := range set.Each {
					if seen[p] {
						t.Fatalf("%d twice", *p)
					}
					seen[p] = true
				}
				for _, p := range in {
					if !seen[p] {
						t.Fatalf("%d not seen", *p)
					}
				}
				if len(seen) != len(in) || set.Len() != len(in) {
					t.Fatalf("%d seen, %d counted, want %d", len(seen), set.Len(), len(in))
				}
				slots := 0
				for c := set.chunks.Load(); c != nil; c = c.next.Load() {
					if c.used == 0 {
						t.Fatal("an empty chunk stays")
					}
					slots += len(c.slots)
				}
				if slots > 64*len(in)+64 {
					t.Fatalf("%d slots for %d", slots, len(in))
				}
			},
		})
		for len(refs) > 0 {
			remove(0)
		}
		if _, ok := set.add(new(int)); ok || set.chunks.Load() != nil || set.free != nil {
			t.Fatal("a dead set lives")
		}
	})
}
