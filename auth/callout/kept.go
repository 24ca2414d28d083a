package callout

import (
	"sync"
	"time"
)

// decision is what the service has said.
type decision struct {
	result string
	groups []string
	until  time.Time // when the identity ends; zero: never
	kept   time.Time // until when the decision is
}

const maxKept = 10000 // decisions

// kept are decisions by the keyed hash of their request.
type kept struct {
	mu      sync.Mutex
	entries map[[32]byte]decision
}

func (k *kept) get(key [32]byte, now time.Time) (decision, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.entries[key]
	if ok && !d.kept.After(now) {
		delete(k.entries, key)
		ok = false
	}
	return d, ok
}

// keep stores a decision for the time that the configuration says, and no longer than the identity lasts.
func (a *Authenticator) keep(key [32]byte, d decision) {
	life, now := a.cfg.KeepDenied, a.now()
	if d.result == "allow" {
		life = a.cfg.KeepAllowed
	}
	if life <= 0 {
		return
	}
	d.kept = now.Add(life)
	if !d.until.IsZero() && d.until.Before(d.kept) {
		d.kept = d.until
	}
	a.kept.put(key, d, now)
}

// put makes room among a random few, first where a decision is over, else where it ends soonest.
func (k *kept) put(key [32]byte, d decision, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.entries) >= maxKept {
		var victim [32]byte
		var soonest time.Time
		seen := 0
		for key, d := range k.entries {
			if !d.kept.After(now) {
				delete(k.entries, key)
			}
			if seen == 0 || d.kept.Before(soonest) {
				victim, soonest = key, d.kept
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(k.entries, victim)
	}
	k.entries[key] = d
}
