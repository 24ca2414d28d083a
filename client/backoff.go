package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff spaces reconnections: the wait doubles from Min to Max, and each is
// spread over its upper half by chance, so that a fleet does not come back as one.
type Backoff struct {
	Min time.Duration // default 500 ms
	Max time.Duration // default 30 s

	next time.Duration
}

// Next is how long to wait before the next try.
func (b *Backoff) Next() time.Duration {
	lo, hi := b.Min, b.Max
	if lo <= 0 {
		lo = 500 * time.Millisecond
	}
	if hi <= 0 {
		hi = 30 * time.Second
	}
	d := min(max(b.next, lo), hi)
	b.next = min(2*d, hi)
	return d/2 + rand.N(d/2+1)
}

// Reset starts over from Min: call it when a connection has proved good.
func (b *Backoff) Reset() { b.next = 0 }

// Wait sleeps for Next, or until ctx ends, whose error it returns.
func (b *Backoff) Wait(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
