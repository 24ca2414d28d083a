package topic

import (
	"testing"

	"pgregory.net/rapid"
)

// TestTable compares a shard with a map, with hashes that often collide.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable[uint64](1)
		model := map[uint64]*uint64{}
		key := rapid.Uint64Range(0, 40)
		hash := func(k uint64) uint64 { return k / 3 * 0x8000_0000_0000_0005 }
		find := func(k uint64) *uint64 {
			return table.shard(hash(k)).find(hash(k), func(p *uint64) bool { return *p == k })
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := key.Draw(t, "k")
				if s := table.shard(hash(k)); model[k] == nil {
					model[k] = &k
					s.put(hash(k), &k)
				} else {
					p := k
					s.swap(hash(k), model[k], &p)
					model[k] = &p
				}
			},
			"remove": func(t *rapid.T) {
				k := key.Draw(t, "k")
				if p := model[k]; p != nil && (!table.shard(hash(k)).remove(hash(k), p) || table.shard(hash(k)).remove(hash(k), p)) {
					t.Fatalf("%d is not removed once", k)
				}
				delete(model, k)
			},
			"": func(t *rapid.T) {
				live := 0
				for i := range table.shards {
					s := &table.shards[i]
					live += s.live
					if c := s.cells.Load(); c != nil && (s.used < s.live || s.used*4 > len(c.cell)*3 || s.live*8 < len(c.cell)/2) {
						t.Fatalf("%d live and %d used of %d cells", s.live, s.used, len(c.cell))
					}
				}
				if live != len(model) {
					t.Fatalf("%d live, want %d", live, len(model))
				}
				for k := range uint64(41) {
					if find(k) != model[k] {
						t.Fatalf("find %d: %v, want %v", k, find(k), model[k])
					}
				}
			},
		})
	})
}
