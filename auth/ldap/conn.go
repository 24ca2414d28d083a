package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sealmq/sealmq/auth"
)

const (
	maxAnswers = 1 << 20         // bytes that a directory may send about one client
	maxIdle    = 5 * time.Minute // that a connection is kept
)

// conn is a connection to the directory, bound as whoever it was bound as last.
type conn struct {
	*goldap.Conn
	raw  *limited
	used time.Time
}

// limited is a connection that gives up after a number of bytes.
type limited struct {
	net.Conn
	left atomic.Int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("the directory has sent more than %d bytes", maxAnswers)
	}
	return n, err
}

// dial connects, with TLS unless the configuration does without.
func (a *Authenticator) dial(ctx context.Context) (*conn, error) {
	nc, err := a.dialer.DialContext(ctx, "tcp", a.server.addr)
	if err != nil {
		return nil, err
	}
	raw := &limited{Conn: nc}
	raw.left.Store(maxAnswers)
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	if a.server.tls {
		tc := tls.Client(raw, a.tls)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c := &conn{Conn: goldap.NewConn(tc, true), raw: raw}
		c.Start()
		return c, nil
	}
	c := &conn{Conn: goldap.NewConn(raw, false), raw: raw}
	c.Start()
	if a.cfg.Plaintext {
		return c, nil
	}
	// The library waits for ever for an answer to another request than its own, whatever the deadline.
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = c.StartTLS(a.tls)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("StartTLS: %w", err)
	}
	return c, nil
}

// borrow gives f a connection for one client. What was idle may have been closed by the directory: then a new one is tried.
// A connection that failed is not kept.
func (a *Authenticator) borrow(ctx context.Context, f func(*conn) error) error {
	for {
		c, fresh, err := a.take(ctx)
		if err != nil {
			return err
		}
		deadline, _ := ctx.Deadline()
		c.raw.SetDeadline(deadline)
		c.raw.left.Store(maxAnswers)
		stop := context.AfterFunc(ctx, func() { c.Close() })
		err = guarded(c, f)
		stop()
		if decided(err) {
			a.give(c)
			return err
		}
		c.Close()
		if fresh || ctx.Err() != nil {
			return err
		}
	}
}

// decided reports whether an outcome is what the directory has said, not what became of the connection to it.
func decided(err error) bool {
	var no *auth.Refusal
	var result *goldap.Error
	return err == nil || errors.Is(err, auth.ErrUndecided) || errors.As(err, &no) ||
		errors.As(err, &result) && result.ResultCode < goldap.ErrorNetwork
}

// guarded turns a panic over a malformed answer into an error.
func guarded(c *conn, f func(*conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.Close()
			err = errors.New("the directory's answer is malformed")
		}
	}()
	return f(c)
}

// take returns an idle connection, or a new one.
func (a *Authenticator) take(ctx context.Context) (c *conn, fresh bool, err error) {
	for {
		select {
		case c := <-a.idle:
			if !c.IsClosing() && time.Since(c.used) < maxIdle {
				return c, false, nil
			}
			c.Close()
		default:
			c, err := a.dial(ctx)
			return c, true, err
		}
	}
}

// give keeps a connection for the next client.
func (a *Authenticator) give(c *conn) {
	c.used = time.Now()
	c.raw.SetDeadline(time.Time{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		select {
		case a.idle <- c:
			return
		default:
		}
	}
	c.Close()
}
