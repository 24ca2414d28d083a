package broker

import "github.com/sealmq/sealmq/auth"

// Principal returns who a connected client is, with its policy of this moment, and false if no client with this identifier
// is connected. It must not be changed.
func (b *Broker) Principal(clientID string) (*auth.Principal, bool) {
	sh := b.shard(clientID)
	sh.mu.Lock()
	s := sh.m[clientID]
	sh.mu.Unlock()
	if s == nil || s.current() == nil {
		return nil, false
	}
	return s.rights.Load().Principal, true
}
