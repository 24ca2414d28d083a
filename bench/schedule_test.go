package bench

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleSteady(t *testing.T) {
	s := Schedule{Rate: 1000}
	for k, want := range map[int64]time.Duration{0: 0, 1: time.Millisecond, 1000: time.Second, 3_600_000_000: 1000 * time.Hour} {
		if got := s.At(k); got != want {
			t.Errorf("event %d at %v, want %v", k, got, want)
		}
	}
	if n := s.Before(2 * time.Second); n != 2000 {
		t.Errorf("%d events before 2s, want 2000", n)
	}
}

// During a ramp of 10 s to 100/s half of what the full rate would give is due: 500.
func TestScheduleRamp(t *testing.T) {
	s := Schedule{Rate: 100, Ramp: 10 * time.Second}
	for d, want := range map[time.Duration]int64{0: 0, 5 * time.Second: 125, 10 * time.Second: 500, 11 * time.Second: 600} {
		if got := s.Before(d); got != want {
			t.Errorf("%d events before %v, want %d", got, d, want)
		}
	}
	if got := s.At(500); got != 10*time.Second {
		t.Errorf("event 500 at %v, want 10s", got)
	}
}

// At never goes back, and Before counts exactly the events that At puts before the time.
func TestScheduleAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{
			Rate: rapid.Float64Range(0.01, 5e6).Draw(t, "rate"),
			Ramp: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "ramp")),
		}
		k := rapid.Int64Range(0, 1e6).Draw(t, "k")
		if s.At(k) > s.At(k+1) {
			t.Fatalf("event %d is due after %d", k, k+1)
		}
		d := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "d"))
		n := s.Before(d)
		if n > 0 && s.At(n-1) >= d || s.At(n) < d {
			t.Fatalf("%d events before %v, but they are at %v, %v", n, d, s.At(n-1), s.At(n))
		}
	})
}

// A sleeper wakes no earlier than asked for, and soon after.
func TestSleeper(t *testing.T) {
	s, err := newSleeper()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for range 20 {
		began := time.Now()
		s.sleep(300 * time.Microsecond)
		if d := time.Since(began); d < 300*time.Microsecond {
			t.Fatalf("woke after %v", d)
		}
	}
	s.sleep(0)
	s.sleep(-1)
}
