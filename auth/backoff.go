package auth

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// BackoffConfig says how guessing is slowed down. Zero fields have their defaults.
type BackoffConfig struct {
	// Free is how many failures of one user from one address cost nothing. Of a user from all addresses together, and of an
	// address with all users, ten times as many. Each further one doubles the time until the next attempt counts, from one
	// second on. The same wrong password again is no further failure.
	Free int `toml:"free_failures" default:"5" min:"1" max:"1000"`

	// Longest is the longest time until the next attempt counts.
	Longest time.Duration `toml:"longest_wait" default:"5m" min:"1s" max:"24h"`
}

func (c BackoffConfig) effective() BackoffConfig {
	if c.Free == 0 {
		c.Free = 5
	}
	if c.Longest == 0 {
		c.Longest = 5 * time.Minute
	}
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c BackoffConfig) Validate() error {
	c = c.effective()
	var errs []error
	if c.Free < 1 || c.Free > 1000 {
		errs = append(errs, fmt.Errorf("free_failures: %d is not between 1 and 1000", c.Free))
	}
	if c.Longest < time.Second || c.Longest > 24*time.Hour {
		errs = append(errs, fmt.Errorf("longest_wait: %v is not between 1s and 24h", c.Longest))
	}
	return errors.Join(errs...)
}

const (
	shared  = 10             // how many times as many failures are free where many may share a name or an address
	trusted = 24 * time.Hour // for how long who has got in is not held up by the failures of others
	crowd   = 1 << 16        // entries of a Backoff
)

// Backoff slows down guessing: of one user, from one address, and above all of one user from one address. Who has got in
// lately from an address is not held up by what others do with the same name or from the same address. It is in memory,
// bounded, and may be used by many goroutines.
type Backoff struct {
	free    int
	longest time.Duration
	now     func() time.Time
	seed    maphash.Seed

	mu      sync.Mutex
	entries map[uint64]entry
}

// entry is what is known of a user, an address, or of both together.
type entry struct {
	failures int
	guess    uint64 // the last wrong proof
	last     time.Time
	until    time.Time // attempts before it do not count
	good     time.Time // when it got in, of both together
}

// NewBackoff makes a Backoff; now is nil for time.Now.
func NewBackoff(c BackoffConfig, now func() time.Time) *Backoff {
	c = c.effective()
	if now == nil {
		now = time.Now
	}
	return &Backoff{free: c.Free, longest: c.Longest, now: now, seed: maphash.MakeSeed(), entries: map[uint64]entry{}}
}

// key is where an entry is: seeded, so that nobody can choose names that meet there.
func (b *Backoff) key(kind byte, user, addr string) uint64 {
	return maphash.Comparable(b.seed, struct {
		kind       byte
		user, addr string
	}{kind, user, addr})
}

// keys are those of both, of the user and of the address, with the failures that are free there.
func (b *Backoff) keys(user, addr string) (keys [3]uint64, free [3]int) {
	addr = place(addr)
	keys = [3]uint64{b.key('b', user, addr), b.key('u', user, ""), b.key('a', "", addr)}
	return keys, [3]int{b.free, shared * b.free, shared * b.free}
}

// place is the part of a peer's address that one holder has: an IPv4 address, or the /64 of an IPv6 address.
func place(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return addr
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// Wait is how long it takes until an attempt counts; zero or less if it does. user may be empty when it is not known.
func (b *Backoff) Wait(user, addr string) time.Duration {
	keys, _ := b.keys(user, addr)
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := b.entries[keys[2]].until.Sub(now)
	if user == "" {
		return wait
	}
	both := b.entries[keys[0]]
	if !both.good.IsZero() && now.Sub(both.good) < trusted {
		return both.until.Sub(now)
	}
	return max(wait, both.until.Sub(now), b.entries[keys[1]].until.Sub(now))
}

// Failed counts an attempt that failed, and returns how long the next has to wait if it is longer than before. proof, if
// any, is what was wrong: a device that repeats one wrong password does not guess.
func (b *Backoff) Failed(user, addr string, proof []byte) time.Duration {
	keys, free := b.keys(user, addr)
	now := b.now()
	var guess uint64
	if len(proof) > 0 {
		guess = maphash.Bytes(b.seed, proof)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var wait time.Duration
	for i, k := range keys {
		if user == "" && i < 2 {
			continue
		}
		e, known := b.entries[k]
		if known && now.Sub(e.last) > 2*b.longest+time.Hour {
			e.failures = 0
		}
		if i == 0 && guess != 0 && e.guess == guess && e.failures > 0 {
			return 0
		}
		e.failures++
		e.last, e.guess = now, guess
		if over := e.failures - free[i]; over > 0 {
			d := b.longest
			if over < 32 {
				d = min(d, time.Second<<(over-1))
			}
			e.until = now.Add(d)
			wait = max(wait, d)
		}
		b.put(k, e, known, now)
	}
	return wait
}

// Succeeded forgets the failures of the user from this address, and trusts both together for a day.
func (b *Backoff) Succeeded(user, addr string) {
	if user == "" {
		return
	}
	keys, _ := b.keys(user, addr)
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.entries[keys[0]]
	b.put(keys[0], entry{last: now, good: now}, known, now)
}

// put stores an entry. In a full table it takes the place of the one that is missed least, of a few.
func (b *Backoff) put(k uint64, e entry, known bool, now time.Time) {
	if !known && len(b.entries) >= crowd {
		var victim uint64
		least, seen := time.Duration(0), 0
		for k, e := range b.entries { // a random few
			if left := max(e.until.Sub(now), 0) + e.last.Sub(now)/16; seen == 0 || left < least {
				victim, least = k, left
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(b.entries, victim)
	}
	b.entries[k] = e
}
