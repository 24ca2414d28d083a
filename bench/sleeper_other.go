//go:build !linux

package bench

import "time"

// sleeper is time.Sleep where there is nothing more exact.
type sleeper struct{}

func newSleeper() (*sleeper, error)      { return &sleeper{}, nil }
func (s *sleeper) sleep(d time.Duration) { time.Sleep(d) }
func (s *sleeper) close()                {}
