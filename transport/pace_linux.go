package transport

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of pace, in processors that the whole process keeps busy.
const (
	paceWindow = 50 * time.Millisecond
	spreadOver = 0.7
	gatherAt   = 0.5
	// calmWindows is how many windows at gatherAt or below it takes to gather.
	calmWindows = 20
)

// pace decides whether the connections of a poller share one loop or spread
// over all. Loops that both sleep most of the time wake each other's threads:
// one that serves both sets of connections gets more of them at once and spends
// a fifth less on a message that comes alone.
type pace struct {
	spread atomic.Bool

	mu   sync.Mutex
	at   time.Time     // of the last sample
	cpu  time.Duration // of the process, then
	calm int           // windows in a row
}

// look takes a sample if it is due and nobody else does.
func (p *pace) look() {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	now := time.Now()
	gone := now.Sub(p.at)
	if gone < paceWindow {
		return
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return
	}
	cpu := time.Duration(ts.Nano())
	busy := float64(cpu-p.cpu) / float64(gone)
	p.at, p.cpu = now, cpu
	p.decide(busy)
}

// decide takes the processors kept busy in one window.
func (p *pace) decide(busy float64) {
	switch {
	case busy > spreadOver:
		p.calm = 0
		p.spread.Store(true)
	case busy > gatherAt:
		p.calm = 0
	default:
		if p.calm++; p.calm >= calmWindows {
			p.spread.Store(false)
		}
	}
}
