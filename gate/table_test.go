package gate

import (
	"hash/maphash"
	"testing"

	"pgregory.net/rapid"
)

// item is an entry that matters until a time.
type item struct{ until, val int64 }

func (e *item) keep(now int64) int64 {
	if e.until == pinned {
		return pinned
	}
	return e.until - now
}

func at(seed maphash.Seed, i int) spot {
	k := key{uint64(i), ip4}
	return spot{k, hash(seed, k)}
}

// A table with room is a map, as far as entries matter.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tb table[item, *item]
		seed := maphash.MakeSeed()
		tb.open(seed, 1<<16)
		want, now := map[int]item{}, int64(0)
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(rt, "n") {
					i := rapid.IntRange(0, 5000).Draw(rt, "key")
					p := at(seed, i)
					s := tb.lock(p)
					e := tb.find(s, p)
					if e == nil {
						e = tb.make(s, p, now)
					}
					*e = item{now + int64(rapid.IntRange(1, 50).Draw(rt, "life")), int64(i)}
					want[i] = *e
					s.Unlock()
				}
			},
			"pin": func(rt *rapid.T) {
				for i, w := range want {
					p := at(seed, i)
					s := tb.lock(p)
					if e := tb.find(s, p); e != nil && w.until > now {
						e.until = pinned
						want[i] = *e
					}
					s.Unlock()
					return
				}
			},
			"time": func(rt *rapid.T) { now += int64(rapid.IntRange(1, 30).Draw(rt, "t")) },
			"": func(rt *rapid.T) {
				for i, w := range want {
					p := at(seed, i)
					s := tb.lock(p)
					e := tb.find(s, p)
					switch {
					case e == nil && w.until > now:
						rt.Fatalf("%d is lost", i)
					case e != nil && *e != w:
						rt.Fatalf("%d: %v, want %v", i, *e, w)
					}
					s.Unlock()
				}
			},
		})
	})
}

// A full table keeps what matters most, never loses what is pinned, and stays as large as it may be.
func TestTableWhenItIsFull(t *testing.T) {
	var tb table[item, *item]
	seed := maphash.MakeSeed()
	tb.open(seed, 3072)
	put := func(i int, until int64) bool {
		p := at(seed, i)
		s := tb.lock(p)
		defer s.Unlock()
		e := tb.make(s, p, 0)
		if e != nil {
			*e = item{until, int64(i)}
		}
		return e != nil
	}
	has := func(i int) bool {
		p := at(seed, i)
		s := tb.lock(p)
		defer s.Unlock()
		e := tb.find(s, p)
		return e != nil && e.val == int64(i)
	}
	for i := range 500 {
		put(i, pinned)
	}
	for i := 500; i < 1000; i++ {
		put(i, 1_000_000)
	}
	for i := 1000; i < 100_000; i++ {
		put(i, 5)
	}
	for i := range 1000 {
		if !has(i) {
			t.Fatalf("%d was pushed out by what mattered less", i)
		}
	}
	refused := 0
	for i := 100_000; i < 200_000; i++ {
		if !put(i, pinned) {
			refused++
		}
	}
	slots := 0
	for i := range tb.shards {
		slots += len(tb.shards[i].slots)
	}
	if slots > 4096 || refused < 100_000-slots {
		t.Fatalf("%d slots, %d refused", slots, refused)
	}
	for i := range 500 {
		if !has(i) {
			t.Fatalf("%d was pinned", i)
		}
	}
	n := 0
	tb.each(func(k key, e *item) bool { n++; return k.bits >= 500 })
	if n > slots || has(1) {
		t.Fatalf("%d in %d slots", n, slots)
	}
}

// Shards grow before they forget: as many find room as there shall be, but for a few.
func TestTableFills(t *testing.T) {
	var tb table[item, *item]
	seed := maphash.MakeSeed()
	const most = 3 << 14 // for which there is no slot too many
	tb.open(seed, most)
	lost := 0
	for i := range most {
		p := at(seed, i)
		s := tb.lock(p)
		if e := tb.make(s, p, 0); e == nil {
			lost++
		} else {
			e.until = pinned
		}
		s.Unlock()
	}
	if lost > most/100 {
		t.Fatalf("%d of %d found no room", lost, most)
	}
}
