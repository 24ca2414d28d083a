package broker

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/sealmq/sealmq/auth"
)

// maxDebts bounds how many debts are remembered.
const maxDebts = 1 << 16

// debts remember how far ahead of the clock those have published who are held to a rate, so that nobody begins anew by
// another connection. Who is named owes with all its connections, others with their client identifier.
type debts struct {
	mu sync.Mutex
	of map[uint64]debt // see debtor
}

// debt is the two moments of a meter.
type debt struct{ paid, paidBytes time.Duration }

func (d *debt) over(now time.Duration) bool { return d.paid <= now && d.paidBytes <= now }

// debtor is who owes what a client publishes too fast.
func (b *Broker) debtor(id string, p *auth.Principal) uint64 {
	if p.Method != anonymous {
		return ownerOf(p)
	}
	return maphash.String(b.seed, id)
}

// owed is what was kept for a client.
func (d *debts) owed(key uint64) debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[key]
}

// keep notes a debt, unless more is owed. When there is no room another goes: one of those that are over, if there is one
// among a few.
func (d *debts) keep(key uint64, owes debt, now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = make(map[uint64]debt)
	}
	before, known := d.of[key]
	if !known && len(d.of) >= maxDebts {
		d.makeRoom(now)
	}
	d.of[key] = debt{max(before.paid, owes.paid), max(before.paidBytes, owes.paidBytes)}
}

func (d *debts) makeRoom(now time.Duration) {
	n, any := 0, uint64(0)
	for k, owes := range d.of { // in no order
		if n++; owes.over(now) {
			delete(d.of, k)
		} else {
			any = k
		}
		if n == 8 {
			break
		}
	}
	if len(d.of) >= maxDebts {
		delete(d.of, any)
	}
}
