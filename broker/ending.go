package broker

import (
	"sync"

	"github.com/sealmq/sealmq/auth"
)

// endings knows the durable sessions whose end the store has not made durable yet, and who waits for that.
type endings struct {
	mu      sync.Mutex
	pending map[*session]struct{}  // durable ones that have ended
	waiting map[*session][]*ending // by session, ended or not
}

// ending is a call of Broker.End.
type ending struct {
	open int // sessions whose end is not durable, and one for the call itself; under endings.mu
	done func()
}

// begin notes that a durable session has ended. The caller holds its mu.
func (e *endings) begin(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending == nil {
		e.pending = make(map[*session]struct{})
	}
	e.pending[s] = struct{}{}
}

// watch has an ending wait for a session that was not dead a moment ago.
func (e *endings) watch(s *session, by *ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ends := e.pending[s]; s.dead && !ends {
		return
	}
	e.add(s, by)
}

// watchOlder has an ending wait for the sessions of principals that match and had ended before.
func (e *endings) watchOlder(match func(*auth.Principal) bool, by *ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.pending {
		if match(s.rights.Load().Principal) {
			e.add(s, by)
		}
	}
}

func (e *endings) add(s *session, by *ending) {
	if e.waiting == nil {
		e.waiting = make(map[*session][]*ending)
	}
	by.open++
	e.waiting[s] = append(e.waiting[s], by)
}

// over notes that no crash can bring a session back.
func (e *endings) over(s *session) {
	e.mu.Lock()
	delete(e.pending, s)
	list := e.waiting[s]
	delete(e.waiting, s)
	e.mu.Unlock()
	for _, by := range list {
		e.less(s.b, by)
	}
}

// less takes one from what an ending waits for.
func (e *endings) less(b *Broker, by *ending) {
	e.mu.Lock()
	by.open--
	last := by.open == 0
	e.mu.Unlock()
	if last && by.done != nil {
		b.spawn(by.done)
	}
}
