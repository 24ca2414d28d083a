package gate

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestLevels(t *testing.T) {
	l := Calm
	for _, c := range []struct {
		used int64
		want Level
	}{
		{0, Calm}, {799, Calm}, {800, ShedUnknown}, {760, ShedUnknown}, {749, Calm}, {880, ShedNew}, {835, ShedNew}, {829, ShedUnknown},
		{745, Calm}, {999, ShedQoS0}, {921, ShedQoS0}, {919, ShedRetained}, {879, ShedNew}, {2000, ShedQoS0}, {100, Calm}, {-5, Calm},
	} {
		if l = l.Next(c.used, 1000); l != c.want {
			t.Fatalf("at %d: %v, want %v", c.used, l, c.want)
		}
	}
	if l := ShedQoS0.Next(1<<40, 0); l != Calm {
		t.Fatalf("without a limit: %v", l)
	}
	words := map[string]bool{}
	for l := Calm; l <= ShedQoS0+1; l++ {
		if words[l.String()] {
			t.Errorf("%q twice", l)
		}
		words[l.String()] = true
	}
}

// A level begins at its mark whatever was before, and between the readings that begin and end it memory falls by 5 %.
func TestLevelsHaveHysteresis(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.Int64Range(1, math.MaxInt64).Draw(rt, "limit")
		l := Level(rapid.IntRange(0, 4).Draw(rt, "level"))
		a := rapid.Float64Range(0, 1.2).Draw(rt, "share")
		used := int64(min(a*float64(limit), math.MaxInt64/2))
		next := l.Next(used, limit)
		share := float64(used) / float64(limit) * 100
		for m := ShedUnknown; m <= ShedQoS0; m++ {
			mark := float64(marks[m])
			switch on := next >= m; {
			case share >= mark+0.001 && !on:
				rt.Fatalf("%v at %v", next, share)
			case share < mark-0.001 && on && l < m:
				rt.Fatalf("%v has begun at %v", next, share)
			case share >= mark-easing+0.001 && l >= m && !on:
				rt.Fatalf("%v has ended at %v", m, share)
			case share < mark-easing-0.001 && on:
				rt.Fatalf("%v has not ended at %v", m, share)
			}
		}
		if again := next.Next(used, limit); again != next {
			rt.Fatalf("the same reading: %v, then %v", next, again)
		}
	})
}

func TestMemoryLimit(t *testing.T) {
	for _, c := range [][3]int64{{0, math.MaxInt64, 0}, {0, 500, 500}, {400, 500, 400}, {600, 500, 500}, {600, math.MaxInt64, 600}, {0, 0, 0}, {-1, -1, 0}} {
		if got := MemoryLimit(c[0], c[1]); got != c[2] {
			t.Errorf("of %d and %d: %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
