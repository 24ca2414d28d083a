package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// listener accepts TCP connections.
type listener struct {
	g       *group
	door    Door // may be nil
	ln      net.Listener
	log     *slog.Logger
	newLink func(*conn) link
	stop    func() // the driver
	reserve reserve
	done    chan struct{}
	once    sync.Once
	refused meter
}

// Listen opens a listener. certs may be nil if cfg.Plain; log may be nil.
func Listen(cfg Config, certs Certificates, log *slog.Logger) (Listener, error) {
	return ListenBehind(nil, cfg, certs, log)
}

// ListenBehind is Listen for connections that a door lets in; nil lets in all.
func ListenBehind(door Door, cfg Config, certs Certificates, log *slog.Logger) (Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	cfg = cfg.WithDefaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := newGroup(cfg, nil)
	if !cfg.Plain {
		if certs == nil {
			return nil, fmt.Errorf("listener %q: no certificates", cfg.Name)
		}
		if _, ok := certs.(verifier); !ok && cfg.ClientCertificates == Any {
			return nil, fmt.Errorf("listener %q: nothing to judge client certificates with", cfg.Name)
		}
		if err := cfg.Profile.check(); err != nil {
			return nil, fmt.Errorf("listener %q: %w", cfg.Name, err)
		}
		var more []string
		if cfg.WebSocket {
			more = []string{alpnHTTP}
		}
		g.tls, g.tickets = newProfile(certs, cfg.Profile, cfg.ClientCertificates, more)
	}
	// Keep-alive is set on the listening socket and inherited: no system call
	// per connection.
	lc := net.ListenConfig{KeepAlive: -1, Control: controlListener(cfg.TCPKeepAlive)}
	ln, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	l := &listener{g: g, door: door, ln: ln, log: log.With("listener", cfg.Name), done: make(chan struct{})}
	l.newLink, l.stop = newLinkFor(g)
	l.reserve.open()
	return l, nil
}

func (l *listener) Addr() net.Addr { return l.ln.Addr() }

func (l *listener) Close() error {
	err := error(nil)
	l.once.Do(func() {
		close(l.done)
		l.g.leaving.Store(true)
		err = l.ln.Close()
		l.reserve.close()
		l.stop()
	})
	return err
}

func (l *listener) ForgetSessions() {
	if l.g.tickets != nil {
		l.g.tickets.forget()
	}
}

func (l *listener) Wait(ctx context.Context) error { return l.g.wait(ctx) }

func (l *listener) Accept() (Conn, error) {
	pause := 5 * time.Millisecond
	for {
		nc, err := l.ln.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return nil, err
		default:
			// Without a free descriptor the connection would stay in the queue of
			// the kernel, and accept would spin on it.
			if l.reserve.spend(l.ln, err) {
				l.refuse("no file descriptor left")
			} else if n, ok := l.refused.tick(); ok {
				l.log.Error("accept connection", "err", err, "times", n)
			}
			select {
			case <-l.done:
				return nil, fmt.Errorf("accept connection: %w", net.ErrClosed)
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pass, ok := l.admit(nc)
		if !ok {
			continue
		}
		if !l.g.enter() {
			nc.Close()
			if pass != nil {
				pass.Leave()
			}
			l.refuse("max_connections reached")
			continue
		}
		c := newConn(l.g, nc, l.newLink)
		c.pass = pass
		return c, nil
	}
}

func (l *listener) refuse(why string) {
	if n, ok := l.refused.tick(); ok {
		l.log.Warn("connection refused", "cause", why, "times", n)
	}
}

// meter lets one event a second through and counts the rest.
type meter struct {
	mu   sync.Mutex
	next time.Time
	n    int
}

// tick counts an event. ok: report n events.
func (m *meter) tick() (n int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	now := time.Now()
	if now.Before(m.next) {
		return 0, false
	}
	n, m.n = m.n, 0
	m.next = now.Add(time.Second)
	return n, true
}
