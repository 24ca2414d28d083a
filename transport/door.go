package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// ErrRefused is what Handshake returns, as it is, for a connection that the
// Door has refused after it was accepted. The door tells of it itself.
var ErrRefused = errors.New("refused by the front door")

// A Door judges connections by their address, before anything is read from
// them. Its methods and those of its passes may be called from any goroutine
// and must not block.
type Door interface {
	// Enter judges a connection that was accepted from addr, which is invalid
	// if it has no IP address. nil: it is closed at once.
	Enter(addr netip.Addr) Pass
}

// A Pass follows a connection that was let in.
type Pass interface {
	// Proxied tells whether the connection begins with a header that says where
	// it comes from. It is asked once, then From is called.
	Proxied() bool
	// From reads that header and not a byte more, and judges the address in it.
	// It returns an invalid one if the sender of the header speaks for itself;
	// with ErrRefused the connection is closed, with another error the header is
	// none. It may block in r, which has a deadline.
	From(r io.Reader) (netip.AddrPort, error)
	// Handshaken is told when the TLS handshake, if there is one, is over. False:
	// the connection is closed.
	Handshaken() bool
	// Connected is told when the connection begins to run.
	Connected()
	// Leave is told once, when the connection has been closed.
	Leave()
}

// admit asks the door. False: nc was refused and is closed. With a reset, so
// that the kernel keeps nothing of it for a peer that does not close its side.
func (l *listener) admit(nc net.Conn) (Pass, bool) {
	if l.door == nil {
		return nil, true
	}
	var addr netip.Addr
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		addr = a.AddrPort().Addr()
	}
	p := l.door.Enter(addr)
	if p == nil {
		if tc, ok := nc.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		nc.Close()
	}
	return p, p != nil
}

// announce reads the header of a load balancer, if the connection must have
// one. The deadline is that of the handshake, which follows.
func (c *conn) announce(ctx context.Context, until time.Time) error {
	if c.pass == nil || !c.pass.Proxied() {
		return nil
	}
	c.readUntil(until)
	stop := context.AfterFunc(ctx, func() { c.Close(false) })
	from, err := c.pass.From(c.nc)
	stop()
	if err == ErrRefused {
		return c.turnAway()
	}
	if err != nil {
		e := c.failure(err)
		switch {
		case c.closing.Load() != open:
			e.Cause = CauseClosed
		case err == io.EOF:
			e.Cause, e.Via = CauseNothingSent, ViaSilence // a health check
		default:
			e.Cause = CauseProxy
		}
		c.Close(false)
		return e
	}
	c.readUntil(noDeadline)
	if from.IsValid() {
		c.mu.Lock()
		c.from = &from
		c.mu.Unlock()
	}
	return nil
}

// handshaken tells the door that CONNECT is awaited.
func (c *conn) handshaken() error {
	if c.pass == nil || c.pass.Handshaken() {
		return nil
	}
	return c.turnAway()
}

func (c *conn) turnAway() error {
	c.Close(false)
	return ErrRefused
}
