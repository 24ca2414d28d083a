package auth

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// No more turns than allowed at a time; who waits ends with its context, and too many are refused.
func TestTurns(t *testing.T) {
	turns := NewTurns(1, 2)
	take := func(ctx context.Context) error { return turns.Take(ctx) }
	if err := take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() {
			if err := take(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: %v", err)
			}
		})
	}
	for turns.Waiting() < 2 {
		time.Sleep(time.Millisecond)
	}
	var no *Refusal
	if err := take(t.Context()); !errors.As(err, &no) || no.Code != mqtt.ServerBusy {
		t.Errorf("a full queue: %v", err)
	}
	cancel()
	done.Wait()
	if n := turns.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if err := take(late); !errors.As(err, &no) || no.Code != mqtt.ServerBusy {
		t.Errorf("late: %v", err)
	}
	turns.Leave()
	if err := take(t.Context()); err != nil {
		t.Error(err)
	}
}
