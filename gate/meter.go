package gate

import (
	"sync/atomic"
	"time"
)

// meter lets one event in ten seconds through and counts the rest.
type meter struct {
	next atomic.Int64
	n    atomic.Uint64
}

// tick counts an event. ok: report n events.
func (m *meter) tick(now int64) (n uint64, ok bool) {
	m.n.Add(1)
	next := m.next.Load()
	if now < next || !m.next.CompareAndSwap(next, now+int64(10*time.Second)) {
		return 0, false
	}
	return m.n.Swap(0), true
}
