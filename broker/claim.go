package broker

import (
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// claim returns the session of a client identifier with its claim lock held and no connection on it.
func (c *Conn) claim(id string, principal *auth.Principal) (*session, error) {
	b := c.b
	sh := b.shard(id)
	for {
		sh.mu.Lock()
		s := sh.m[id]
		if s == nil {
			r := newRights(principal)
			if limit := b.uses.begin(r.owner, c.lim, &b.cfg); limit != "" {
				sh.mu.Unlock()
				c.limited(limitedSessions, limit, "principal", principal.Name)
				return nil, &auth.Refusal{Code: mqtt.QuotaExceeded, Text: "more sessions than " + limit + " allows"}
			}
			s = &session{b: b, id: id, fresh: true}
			s.rights.Store(r)
			s.claim.Lock()
			sh.m[id] = s
			sh.mu.Unlock()
			b.known.Add(1)
			return s, nil
		}
		sh.mu.Unlock()
		if !s.claim.await() {
			return nil, &auth.Refusal{Code: mqtt.ServerBusy, Text: "a later connection uses this client identifier"}
		}
		s.mu.Lock()
		dead, old, leaving := s.dead, s.conn, s.leaving
		s.mu.Unlock()
		owner := s.rights.Load().Principal
		mine, passing := owner.Same(principal), owner.Transient
		switch {
		case dead:
			s.claim.Unlock()
			b.bury(s)
			continue
		case !mine && !passing:
			s.claim.Unlock()
			text := "this client identifier belongs to another identity"
			if principal.Transient {
				text = "this client identifier belongs to a session that is kept: another one is needed to enrol or renew"
			}
			return nil, &auth.Refusal{Code: mqtt.ClientIDNotValid, Text: text}
		case old == nil && leaving == nil:
			return s, nil
		case old == nil: // the store must learn of its end before it learns of this connection
			s.claim.Unlock()
			leaving.finish()
			continue
		}
		old.kick(mqtt.SessionTakenOver, "another connection uses this client identifier")
		w := b.worker()
		w.count(takenOver, 1)
		b.release(w)
		s.claim.Unlock()
	}
}

// bury removes an ended session from the table.
func (b *Broker) bury(s *session) {
	sh := b.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.m[s.id] == s {
		delete(sh.m, s.id)
		b.known.Add(-1)
		b.uses.end(s.rights.Load().owner)
	}
}
