package transport

import (
	"context"
	"crypto/tls"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq/transport/websocket"
)

// group is what the connections of one listener share.
type group struct {
	cfg Config
	tls *tls.Config // nil: plain
	ws  websocket.Options

	tickets *tickets // nil: plain, or not made by Listen

	slots   slots       // of handshakes
	yield   func()      // lets the loops go first; nil: there are none
	leaving atomic.Bool // no more connections are accepted

	mu    sync.Mutex
	conns int           // open connections
	busy  int           // connections and goroutines
	idle  chan struct{} // closed when busy is 0; nil unless awaited
}

func newGroup(cfg Config, tc *tls.Config) *group {
	if cfg.Profile == ProfileConstrained {
		cfg.MaxRecord = min(cfg.MaxRecord, constrainedRecord)
	}
	ws := websocket.Options{Paths: cfg.WebSocketPaths, Origins: cfg.WebSocketOrigins}
	return &group{cfg: cfg, tls: tc, ws: ws, slots: slots{free: max(1, runtime.GOMAXPROCS(0)-1)}}
}

// enter counts a connection; false if it is one too many.
func (g *group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg.MaxConnections > 0 && g.conns >= g.cfg.MaxConnections {
		return false
	}
	g.conns++
	g.busy++
	return true
}

func (g *group) closed() {
	g.mu.Lock()
	g.conns--
	g.leave()
	g.mu.Unlock()
}

func (g *group) add() {
	g.mu.Lock()
	g.busy++
	g.mu.Unlock()
}

func (g *group) done() {
	g.mu.Lock()
	g.leave()
	g.mu.Unlock()
}

func (g *group) leave() {
	g.busy--
	if g.busy == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

func (g *group) wait(ctx context.Context) error {
	g.mu.Lock()
	if g.busy == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
