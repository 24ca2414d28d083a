package broker

import (
	"time"

	"github.com/sealmq/sealmq/store"
)

// sweepInterval is how often retained messages whose expiry has passed are removed, while there are any that can expire.
// Nobody gets them meanwhile.
const sweepInterval = 5 * time.Minute

// sweepLater has the retained messages looked through after a while.
func (b *Broker) sweepLater() {
	if !b.sweeping.Swap(true) {
		time.AfterFunc(sweepInterval, func() { b.spawn(b.sweep) })
	}
}

// sweep removes the retained messages that have expired.
func (b *Broker) sweep() {
	b.sweeping.Store(false)
	w := b.worker()
	defer b.release(w)
	now, more := int64(b.now()), false
	b.retained.Match("#", func(name string, m *store.Message) bool {
		switch {
		case m.Expires == 0:
		case now > m.Expires:
			w.removeExpired(name, now)
		default:
			more = true
		}
		return true
	})
	if more {
		b.sweepLater()
	}
}

// removeExpired removes the retained message of a topic unless another one has taken its place.
func (w *worker) removeExpired(name string, now int64) {
	lock := &w.b.retain[stripeOf(w.b, name)]
	lock.Lock()
	defer lock.Unlock()
	m, _ := w.b.retained.Get(name)
	if m == nil || m.Expires == 0 || now <= m.Expires {
		return
	}
	w.b.retained.Delete(name)
	w.b.uses.retain(m, nil, nil, &w.b.cfg)
	w.alter(nil, &change{Op: store.Op{Kind: store.Publish, Retained: true, Message: &store.Message{Topic: name}}}, outItem{})
	w.submit()
}
