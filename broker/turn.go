package broker

import "sync"

// turn is who may change which connection a session has. One holds it, the broker's own work waits in order, and of the
// connections that want it the last one alone: it would take the session over from those before at once. The zero value is
// free.
type turn struct {
	mu    sync.Mutex
	held  bool
	queue *turnQueue // nil: nobody waits
}

type turnQueue struct {
	work []chan struct{}
	conn chan bool // nil: none waits; true: it is its turn
}

// Lock waits for the turn, however long that takes.
func (t *turn) Lock() {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return
	}
	q, mine := t.waiting(), make(chan struct{})
	q.work = append(q.work, mine)
	t.mu.Unlock()
	<-mine
}

// await is Lock for a connection, and reports false when a later one waits instead.
func (t *turn) await() bool {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return true
	}
	q, mine := t.waiting(), make(chan bool, 1)
	if q.conn != nil {
		q.conn <- false
	}
	q.conn = mine
	t.mu.Unlock()
	return <-mine
}

// waiting is the queue; the caller holds mu.
func (t *turn) waiting() *turnQueue {
	if t.queue == nil {
		t.queue = &turnQueue{}
	}
	return t.queue
}

// Unlock passes the turn on.
func (t *turn) Unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queue
	switch {
	case q == nil:
		t.held = false
		return
	case len(q.work) > 0:
		close(q.work[0])
		q.work = q.work[1:]
	default:
		q.conn <- true
		q.conn = nil
	}
	if len(q.work) == 0 && q.conn == nil {
		t.queue = nil
	}
}
