package bench

import (
	"math"
	"time"
)

// Schedule says when each of a stream of events is due, whatever has become of the ones before: an open loop. The rate
// rises in a straight line from nothing to Rate during Ramp and stays there.
type Schedule struct {
	Rate float64 // events a second, above 0
	Ramp time.Duration
}

// At is when event k, counted from 0, is due, counted from the start.
func (s Schedule) At(k int64) time.Duration {
	ramp := s.Ramp.Seconds()
	risen := s.Rate * ramp / 2 // events during the ramp
	if n := float64(k); n >= risen {
		return time.Duration((ramp/2 + n/s.Rate) * 1e9)
	}
	return time.Duration(math.Sqrt(2*float64(k)*ramp/s.Rate) * 1e9)
}

// Before is how many events are due before d.
func (s Schedule) Before(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	t, ramp := d.Seconds(), s.Ramp.Seconds()
	n := s.Rate * (t - ramp/2)
	if t < ramp {
		n = s.Rate * t * t / (2 * ramp)
	}
	// The two formulas are each other's inverse but for rounding.
	k := max(int64(n), 0)
	for k > 0 && s.At(k-1) >= d {
		k--
	}
	for s.At(k) < d {
		k++
	}
	return k
}
