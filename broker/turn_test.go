package broker

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Of the connections that want a session the last one waits, the others are sent away; the broker's own work is never.
func TestTurn(t *testing.T) {
	var turn turn
	waits := func(n int) { // until somebody is in the queue
		for {
			turn.mu.Lock()
			q := turn.queue
			ok := q != nil && len(q.work) == n && q.conn != nil
			turn.mu.Unlock()
			if ok {
				return
			}
		}
	}
	turn.Lock()
	first := make(chan bool)
	go func() { first <- turn.await() }()
	waits(0)
	work := make(chan struct{})
	go func() { turn.Lock(); close(work) }()
	waits(1)
	second := make(chan bool)
	go func() { second <- turn.await() }()
	if <-first {
		t.Error("a connection got the turn though a later one waits")
	}
	turn.Unlock()
	<-work
	select {
	case <-second:
		t.Error("two hold it")
	default:
	}
	turn.Unlock()
	if !<-second {
		t.Error("the last connection was sent away")
	}
	turn.Unlock()
	if turn.held || turn.queue != nil {
		t.Errorf("it is not free: %+v", &turn)
	}
}

// A crowd never has two of it in, and somebody is.
func TestTurnOfMany(t *testing.T) {
	var (
		turn  turn
		in    atomic.Int32
		got   atomic.Int32
		crowd sync.WaitGroup
	)
	for i := range 200 {
		crowd.Go(func() {
			if i%4 == 0 {
				turn.Lock()
			} else if !turn.await() {
				return
			}
			if in.Add(1) != 1 {
				t.Error("two hold it")
			}
			got.Add(1)
			in.Add(-1)
			turn.Unlock()
		})
	}
	crowd.Wait()
	if got.Load() < 51 || turn.held || turn.queue != nil {
		t.Errorf("%d have had it; in the end %+v", got.Load(), &turn)
	}
}
