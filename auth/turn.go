package auth

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/sealmq/sealmq/mqtt"
)

// Turns bounds how many clients an authenticator works for at a time, and how many wait for that. Its methods may be called
// from many goroutines.
type Turns struct {
	slots   chan struct{}
	waiting atomic.Int32
	most    int32
}

// NewTurns lets atOnce clients in at a time, and as many as waiting wait.
func NewTurns(atOnce, waiting int) *Turns {
	return &Turns{slots: make(chan struct{}, atOnce), most: int32(waiting)}
}

// Take waits for a turn; whoever has got it calls Leave. When too many wait, or ctx has reached its deadline, the error is a
// *Refusal: the server is busy. It is also one when others have failed meanwhile so often that a Chain would refuse the client
// by now: a crowd of guesses must not slip in together. ctx is that of Authenticate.
func (t *Turns) Take(ctx context.Context) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	if err := again(ctx); err != nil {
		t.Leave()
		return err
	}
	return nil
}

// again asks the Chain, if there is one, whether a client that has waited may still try.
func again(ctx context.Context) error {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return a.wait()
	}
	return nil
}

// Leave ends a turn.
func (t *Turns) Leave() { <-t.slots }

// Waiting is how many wait for their turn.
func (t *Turns) Waiting() int { return int(t.waiting.Load()) }

func (t *Turns) enter(ctx context.Context) error {
	select {
	case t.slots <- struct{}{}:
		return nil
	default:
	}
	busy := &Refusal{Code: mqtt.ServerBusy, Text: "too many clients are being authenticated: try again later"}
	defer t.waiting.Add(-1)
	if t.waiting.Add(1) > t.most {
		return busy
	}
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return busy
		}
		return ctx.Err()
	}
}
