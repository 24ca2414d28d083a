package topic

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestIndexStress has writers and readers over the same few paths. A writer
// alone knows what its own subscriptions are: it must find them all, and none
// that it has removed, whatever the others and the cache do meanwhile.
func TestIndexStress(t *testing.T) {
	// Few paths make writers meet in one set, long ones in one edge.
	t.Run("wide", func(t *testing.T) { stress(t, []string{"a", "b", "c", "+", "d"}, 5) })
	t.Run("narrow", func(t *testing.T) { stress(t, []string{"a", "+"}, 1) })
	t.Run("long", func(t *testing.T) { stress(t, []string{"a", "a", "a", "a", "+", "b"}, 12) })
}

func stress(t *testing.T, levels []string, depth int) {
	rounds := 5000
	if testing.Short() {
		rounds = 1000
	}
	type sub struct {
		owner int
		gone  atomic.Bool
	}
	x := NewIndexCache[sub](200, 1<<20)
	path := func(r *rand.Rand, alphabet []string) string {
		var p []string
		for range 1 + r.IntN(depth) {
			p = append(p, alphabet[r.IntN(len(alphabet))])
		}
		return strings.Join(p, "/")
	}
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	for owner := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(owner), 7))
			refs := map[*sub]Ref[sub]{}
			for range rounds {
				f := path(r, levels)
				if r.IntN(4) == 0 {
					f += "/#"
				}
				s := &sub{owner: owner}
				refs[s] = x.Insert(f, s)
				if len(refs) > depth {
					for s, ref := range refs {
						x.Remove(ref)
						s.gone.Store(true)
						delete(refs, s)
						if r.IntN(3) == 0 {
							break
						}
					}
				}
				name := path(r, []string{"a", "b", "c", "d"})
				if r.IntN(2) == 0 {
					name = strings.NewReplacer("+", "b", "#", "c").Replace(f)
				}
				want := map[*sub]bool{}
				for s, ref := range refs {
					if naive(ref.Filter(), name) {
						want[s] = true
					}
				}
				for _, set := range x.Lookup([]byte(name)).Sets() {
					for s := range set.Each {
						if s.owner != owner {
							continue
						}
						if !want[s] {
							t.Errorf("%s leads to a subscription of %s, gone: %v", name, set.Filter(), s.gone.Load())
							return
						}
						delete(want, s)
					}
				}
				for s := range want {
					t.Errorf("%s does not lead to %s", name, refs[s].Filter())
					return
				}
			}
			for s, ref := range refs {
				x.Remove(ref)
				s.gone.Store(true)
			}
		})
	}
	for i := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 8))
			var kept *Matches[sub]
			for !stop.Load() {
				name := path(r, []string{"a", "b", "c", "d"})
				m := x.Lookup([]byte(name))
				if kept == nil || !x.Current(kept) {
					kept = m
				}
				for _, set := range append(m.Sets()[:len(m.Sets()):len(m.Sets())], kept.Sets()...) {
					for range set.Each {
					}
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if f, s := x.Len(); f != 0 || s != 0 {
		t.Errorf("%d filters, %d subscriptions left", f, s)
	}
	empty(t, x)
}

// TestSetStress checks what Each promises: those that stay are seen, once,
// while others come and go around them.
func TestSetStress(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	x := NewIndex[int]()
	const stay = 500
	var others []Ref[int]
	for i := range 4 * stay {
		if i%4 == 0 {
			x.Insert("a", &[]int{i / 4}[0])
		} else {
			others = append(others, x.Insert("a", &[]int{-1}[0]))
		}
	}
	var stop atomic.Bool
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			mine := others[i*len(others)/2 : (i+1)*len(others)/2]
			for !stop.Load() {
				for k := range mine {
					x.Remove(mine[k])
				}
				for k := range mine {
					mine[k] = x.Insert("a", &[]int{-1}[0])
				}
			}
		})
	}
	for range rounds {
		var seen [stay]int
		for _, set := range x.Lookup([]byte("a")).Sets() {
			for p := range set.Each {
				if *p >= 0 {
					seen[*p]++
				}
			}
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("subscription %d was seen %d times", i, n)
			}
		}
	}
	stop.Store(true)
	writers.Wait()
}

// TestIndexSplitStress splits a long edge while another goroutine compares a
// name with it: what that one puts into the cache must not outlive the split.
func TestIndexSplitStress(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 1000
	}
	x := NewIndex[string]()
	s := "s"
	long := strings.Repeat("a/", 120)
	name := []byte(long[:220] + "x")
	var stop atomic.Bool
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop.Store(true)
	reader.Go(func() {
		for !stop.Load() {
			x.Lookup(name)
		}
	})
	for range rounds {
		refs := []Ref[string]{x.Insert(long+"#", &s), x.Insert(long[:220]+"+", &s)}
		for range 20 {
			if n := len(x.Lookup(name).Sets()); n != 1 {
				t.Fatalf("%d matches", n)
			}
		}
		for _, r := range refs {
			x.Remove(r)
		}
	}
}
