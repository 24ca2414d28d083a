package control

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Local returns a Client that works on a fleet within this process, for commands while no broker runs. Questions to a
// broker (Health, Stats, Backup, Reload, Kick) are answered with 404. Close ends it, with what is under way; the fleet
// stays open.
func Local(f *Fleet) *Client { return within(Options{Fleet: f, Log: f.Log}) }

// within answers within this process.
func within(o Options) *Client {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	c := &Client{server: start(l, o, self)}
	c.http.Transport = &http.Transport{DialContext: l.dial, DisableCompression: true}
	return c
}

// pipeListener accepts connections of its own process.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
