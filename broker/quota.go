package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/store"
)

// uses counts sessions and retained messages, in all and for each principal that has any.
type uses struct {
	sessions, retained, bytes atomic.Int64
	shards                    [useShards]useShard
}

const useShards = 64

type useShard struct {
	mu sync.Mutex
	m  map[uint64]use // by owner

	pots map[uint64]*pot // by owner; see hold.go
}

// use is what one principal has.
type use struct{ sessions, retained, bytes int64 }

// ownerOf is the number under which a principal's things are counted. It is in stored messages, so it must stay as it is.
func ownerOf(p *auth.Principal) uint64 {
	var text []byte
	for _, s := range [...]string{p.Method, p.Kind, p.Name} {
		text = append(binary.AppendUvarint(text, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(text)
	return max(binary.BigEndian.Uint64(sum[:]), 1) // 0: not known
}

// add changes what a principal has, unless that would grow beyond most in one of its parts, where 0 is no bound: then it
// returns the name of the limit. Owner 0 is nobody, who has no bounds.
func (u *uses) add(owner uint64, by, most use) (limit string) {
	if owner == 0 {
		return ""
	}
	sh := &u.shards[owner%useShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	have := sh.m[owner]
	sum := use{have.sessions + by.sessions, have.retained + by.retained, have.bytes + by.bytes}
	switch {
	case beyond(sum.sessions, by.sessions, most.sessions):
		return "max_sessions_per_principal"
	case beyond(sum.retained, by.retained, most.retained):
		return "max_retained_per_principal"
	case beyond(sum.bytes, by.bytes, most.bytes):
		return "max_retained_bytes_per_principal"
	case sum == (use{}):
		delete(sh.m, owner)
		return ""
	}
	if sh.m == nil {
		sh.m = make(map[uint64]use)
	}
	sh.m[owner] = sum
	return ""
}

// beyond reports whether a sum that has grown is above its bound.
func beyond(sum, by, most int64) bool { return most > 0 && by > 0 && sum > most }

// grow is add for a part of the totals.
func grow(total *atomic.Int64, by, most int64) bool {
	if beyond(total.Add(by), by, most) {
		total.Add(-by)
		return false
	}
	return true
}

// begin counts a session, or returns the limit that is reached.
func (u *uses) begin(owner uint64, lim *Limits, cfg *Config) (limit string) {
	if !grow(&u.sessions, 1, int64(cfg.MaxSessions)) {
		return "max_sessions"
	}
	if limit = u.add(owner, use{sessions: 1}, use{sessions: int64(lim.MaxSessionsPerPrincipal)}); limit != "" {
		u.sessions.Add(-1)
	}
	return limit
}

// restore counts a session or a retained message of the store, whatever the limits.
func (u *uses) restore(owner uint64, by use) {
	u.sessions.Add(by.sessions)
	u.retained.Add(by.retained)
	u.bytes.Add(by.bytes)
	u.add(owner, by, use{})
}

// end is the opposite of begin.
func (u *uses) end(owner uint64) { u.restore(owner, use{sessions: -1}) }

// hand counts a session for another owner.
func (u *uses) hand(from, to uint64) {
	u.add(from, use{sessions: -1}, use{})
	u.add(to, use{sessions: 1}, use{})
}

// retain counts m, nil for none, as the retained message of a topic in place of old, nil for none, or returns the limit that
// is reached. Without lim there is none. The caller holds the topic's stripe.
func (u *uses) retain(old, m *store.Message, lim *Limits, cfg *Config) (limit string) {
	less, lessOwner := retainedUse(old)
	more, owner := retainedUse(m)
	var total, most use
	if lim != nil {
		total = use{retained: int64(cfg.MaxRetained), bytes: cfg.MaxRetainedBytes}
		most = use{retained: int64(lim.MaxRetainedPerPrincipal), bytes: lim.MaxRetainedBytesPerPrincipal}
	}
	by := use{retained: more.retained - less.retained, bytes: more.bytes - less.bytes}
	if !grow(&u.retained, by.retained, total.retained) {
		return "max_retained_messages"
	}
	if !grow(&u.bytes, by.bytes, total.bytes) {
		u.retained.Add(-by.retained)
		return "max_retained_bytes"
	}
	if owner == lessOwner {
		more, lessOwner = by, 0
	}
	if limit = u.add(owner, more, most); limit != "" {
		u.retained.Add(-by.retained)
		u.bytes.Add(-by.bytes)
		return limit
	}
	u.add(lessOwner, use{retained: -less.retained, bytes: -less.bytes}, use{})
	return ""
}

// retainedUse is what a retained message counts for, and for whom.
func retainedUse(m *store.Message) (n use, owner uint64) {
	if m == nil {
		return use{}, 0
	}
	if m.From != nil {
		owner = m.From.Owner
	}
	return use{retained: 1, bytes: m.Size()}, owner
}
