package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// Buckets of a histogram: values below subBuckets have one each, every octave above is cut into subBuckets equal parts,
// so a value is known to 1/subBuckets. Values from 2^maxExp on (73 minutes in nanoseconds) share the last bucket.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	maxExp     = 42
	buckets    = (maxExp - subBits + 1) * subBuckets
)

// Histogram counts non-negative values, here nanoseconds, in log-linear buckets: constant memory (19 kB), error at most
// 1.6 %. Any number of goroutines may record and read at a time. The zero value is ready.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Uint64
	max    atomic.Int64
}

// bucketOf is the bucket of v; values below zero count as zero.
func bucketOf(v int64) int {
	if v < subBuckets {
		return int(max(v, 0))
	}
	exp := bits.Len64(uint64(v)) - 1
	if exp >= maxExp {
		return buckets - 1
	}
	return (exp-subBits)<<subBits + int(v>>(exp-subBits))
}

// bucketLow is the smallest value of bucket b.
func bucketLow(b int) int64 {
	if b < subBuckets {
		return int64(b)
	}
	exp := b>>subBits - 1
	return int64(b&(subBuckets-1)|subBuckets) << exp
}

// bucketMid stands for all values of bucket b.
func bucketMid(b int) int64 {
	if b < subBuckets {
		return int64(b)
	}
	return bucketLow(b) + int64(1)<<(b>>subBits-1)/2
}

// Record counts v once.
func (h *Histogram) Record(v int64) {
	v = max(v, 0)
	h.add(bucketOf(v), 1, uint64(v), v)
}

func (h *Histogram) add(bucket int, n, sum uint64, top int64) {
	h.counts[bucket].Add(n)
	h.sum.Add(sum)
	for {
		old := h.max.Load()
		if top <= old || h.max.CompareAndSwap(old, top) {
			return
		}
	}
}

// AddTo adds what has been counted so far to s.
func (h *Histogram) AddTo(s *Snapshot) {
	for i := range h.counts {
		if n := h.counts[i].Load(); n != 0 {
			s.counts[i] += n
			s.total += n
		}
	}
	s.sum += h.sum.Load()
	s.max = max(s.max, h.max.Load())
}

// recorder gathers equal values before it touches the shared histogram: messages that arrive together were mostly sent
// together. For one goroutine.
type recorder struct {
	to     *Histogram
	bucket int
	n      uint64
	sum    uint64
	max    int64
}

func (r *recorder) add(v int64) {
	v = max(v, 0)
	b := bucketOf(v)
	if b != r.bucket {
		r.flush()
		r.bucket = b
	}
	r.n++
	r.sum += uint64(v)
	r.max = max(r.max, v)
}

func (r *recorder) flush() {
	if r.n != 0 {
		r.to.add(r.bucket, r.n, r.sum, r.max)
		r.n, r.sum, r.max = 0, 0, 0
	}
}

// Snapshot is the content of one or more histograms at one time.
type Snapshot struct {
	counts [buckets]uint64
	total  uint64
	sum    uint64
	max    int64
}

// Sub takes away what an earlier snapshot of the same histograms held. Max is known to its bucket only from then on.
func (s *Snapshot) Sub(earlier *Snapshot) {
	top := -1
	for i := range s.counts {
		s.counts[i] -= earlier.counts[i]
		if s.counts[i] != 0 {
			top = i
		}
	}
	s.total -= earlier.total
	s.sum -= earlier.sum
	switch {
	case top < 0:
		s.max = 0
	case bucketOf(s.max) != top:
		s.max = bucketMid(top)
	}
}

// Count is how many values there are.
func (s *Snapshot) Count() uint64 { return s.total }

// Max is the largest value, 0 when there is none.
func (s *Snapshot) Max() int64 { return s.max }

// Mean is the average, 0 when there is no value.
func (s *Snapshot) Mean() float64 {
	if s.total == 0 {
		return 0
	}
	return float64(s.sum) / float64(s.total)
}

// Quantile is the value that the share q, 0 to 1, of all values does not exceed; 0 when there is none.
func (s *Snapshot) Quantile(q float64) int64 {
	if s.total == 0 {
		return 0
	}
	want := uint64(math.Ceil(q * float64(s.total)))
	want = min(max(want, 1), s.total)
	var seen uint64
	for i, n := range s.counts {
		if seen += n; seen >= want {
			return min(bucketMid(i), s.max)
		}
	}
	return s.max
}
