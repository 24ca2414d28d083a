package broker

import (
	"sync/atomic"
)

// Config.OutboundMemory bounds what waits for all clients. So that nobody can use it up for everybody, a session may
// always hold heldFree bytes, and the sessions of one identity together have one part in heldParts of it for what they
// hold beyond that. Clients without an identity are many, and share only the whole.
const (
	heldBits  = 16
	heldFree  = 1 << heldBits
	heldParts = 4
)

// pot is what the sessions of one principal hold beyond heldFree, counted in whole heldFree.
type pot struct {
	owner    uint64
	held     atomic.Int64 // bytes
	sessions int          // that hold some of it; under the shard's mu
}

// hold counts bytes that wait in the session, or wait no longer. The caller holds mu.
func (s *session) hold(w *worker, by int64) {
	w.queued += by
	s.held += by
	if s.held>>heldBits != s.charged {
		s.charge()
	}
}

// charge counts what the session holds for its principal. A session stays with the pot that it began with until it holds
// nothing there.
func (s *session) charge() {
	n := s.held >> heldBits
	if s.pot == nil {
		s.pot = s.b.uses.join(s.rights.Load().owner)
	}
	s.pot.held.Add((n - s.charged) * heldFree)
	if s.charged = n; n == 0 {
		s.b.uses.leave(s.pot)
		s.pot = nil
	}
}

// mayHold reports whether a message of some size may wait in the session. The caller holds mu.
func (s *session) mayHold(size int64) bool { return s.held+size <= heldFree || s.mayShare() }

// mayShare is mayHold beyond heldFree.
func (s *session) mayShare() bool {
	b := s.b
	r := s.rights.Load()
	switch {
	case b.outbound.Load() > b.cfg.OutboundMemory:
	case r.Method == anonymous || s.principalHolds(r) < b.cfg.OutboundMemory/heldParts:
		return true
	}
	if omitted, ok := b.hush.allow(b.now(), "outbound_memory", r.Name); ok {
		b.spawn(func() { b.warnLimit("outbound_memory", omitted, []any{"client", s.id, "principal", r.Name}) }) // not under mu
	}
	return false
}

// principalHolds is what all sessions of the principal hold.
func (s *session) principalHolds(r *rights) int64 {
	if s.pot != nil {
		return s.pot.held.Load()
	}
	return s.b.uses.held(r.owner)
}

// join returns the pot of a principal for one more session.
func (u *uses) join(owner uint64) *pot {
	sh := &u.shards[owner%useShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.pots[owner]
	if p == nil {
		if sh.pots == nil {
			sh.pots = make(map[uint64]*pot)
		}
		p = &pot{owner: owner}
		sh.pots[owner] = p
	}
	p.sessions++
	return p
}

// leave is the opposite of join.
func (u *uses) leave(p *pot) {
	sh := &u.shards[p.owner%useShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p.sessions--; p.sessions == 0 {
		delete(sh.pots, p.owner)
	}
}

// held is what the sessions of a principal hold in its pot.
func (u *uses) held(owner uint64) int64 {
	sh := &u.shards[owner%useShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p := sh.pots[owner]; p != nil {
		return p.held.Load()
	}
	return 0
}
