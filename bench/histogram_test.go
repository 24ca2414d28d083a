package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func snapshot(h *Histogram) *Snapshot {
	s := &Snapshot{}
	h.AddTo(s)
	return s
}

func TestHistogramEmpty(t *testing.T) {
	s := snapshot(&Histogram{})
	if s.Count() != 0 || s.Max() != 0 || s.Mean() != 0 || s.Quantile(0.99) != 0 {
		t.Errorf("empty: %d %d %v %d", s.Count(), s.Max(), s.Mean(), s.Quantile(0.99))
	}
}

// Every value lies in its bucket, buckets follow each other without gap, and none is wider than 1/subBuckets.
func TestBuckets(t *testing.T) {
	for b := 1; b < buckets; b++ {
		low := bucketLow(b)
		if bucketOf(low) != b || bucketOf(low-1) != b-1 {
			t.Fatalf("bucket %d begins at %d, which is in %d after %d", b, low, bucketOf(low), bucketOf(low-1))
		}
		if bucketOf(bucketMid(b)) != b {
			t.Fatalf("the middle of bucket %d is in %d", b, bucketOf(bucketMid(b)))
		}
	}
	for _, v := range []int64{-5, 0} {
		if bucketOf(v) != 0 {
			t.Errorf("%d is in bucket %d", v, bucketOf(v))
		}
	}
	if bucketOf(math.MaxInt64) != buckets-1 {
		t.Error("the largest value has no bucket")
	}
}

// Quantiles are those of the sorted values, to the width of a bucket.
func TestQuantileAgainstSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 1, 500).Draw(t, "values")
		h := &Histogram{}
		for _, v := range values {
			h.Record(v)
		}
		s := snapshot(h)
		slices.Sort(values)
		if s.Count() != uint64(len(values)) || s.Max() != values[len(values)-1] {
			t.Fatalf("count %d max %d of %v", s.Count(), s.Max(), values)
		}
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 1} {
			i := max(int(math.Ceil(q*float64(len(values)))), 1) - 1
			got, want := s.Quantile(q), values[i]
			if math.Abs(float64(got-want)) > float64(want)/subBuckets+1 {
				t.Fatalf("quantile %v: %d, sorted: %d", q, got, want)
			}
		}
	})
}

func TestSnapshotSub(t *testing.T) {
	h := &Histogram{}
	for range 100 {
		h.Record(1_000_000)
	}
	before := snapshot(h)
	for range 10 {
		h.Record(5_000)
	}
	s := snapshot(h)
	s.Sub(before)
	if s.Count() != 10 || s.Mean() != 5000 {
		t.Errorf("%d values, mean %v", s.Count(), s.Mean())
	}
	for _, v := range []int64{s.Quantile(0.5), s.Quantile(1), s.Max()} {
		if v < 4900 || v > 5100 {
			t.Errorf("%d, want 5000", v)
		}
	}
}

// A recorder changes nothing but the number of touches.
func TestRecorder(t *testing.T) {
	direct, gathered := &Histogram{}, &Histogram{}
	r := recorder{to: gathered}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		v := rng.Int64N(1000) * rng.Int64N(3)
		direct.Record(v)
		r.add(v)
	}
	r.flush()
	if *snapshot(direct) != *snapshot(gathered) {
		t.Error("a recorder counts differently")
	}
}

func TestHistogramConcurrent(t *testing.T) {
	h := &Histogram{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				h.Record(int64(i * g))
			}
		})
	}
	wg.Wait()
	if s := snapshot(h); s.Count() != 40_000 || s.Max() != 3*9999 {
		t.Errorf("%d values, max %d", s.Count(), s.Max())
	}
}

func BenchmarkRecorder(b *testing.B) {
	r := recorder{to: &Histogram{}}
	b.ReportAllocs()
	for i := range b.N {
		r.add(int64(i >> 4 * 100))
	}
}
