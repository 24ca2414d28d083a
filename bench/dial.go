package bench

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/transport/websocket"
)

// Dialer opens connections over TCP, and TLS over it; its Dial is a DialFunc. It must not be modified once in use.
type Dialer struct {
	Network string // tcp or unix; default tcp
	Address string // host:port, or the path of a unix socket
	// TLS is nil for connections in the clear. ServerName must be set unless nothing is verified.
	TLS *tls.Config
	// WebSocket is the path of the WebSocket that MQTT goes through, such as /mqtt; empty: none.
	WebSocket string
	// Local are addresses of this machine to connect from in turn: one address has about 28,000 ports for one broker.
	Local []net.Addr
	// Timeout is for TCP, TLS and WebSocket together; default 30 s.
	Timeout time.Duration

	state atomic.Pointer[tls.ConnectionState]
}

// HandshakeError is a TLS handshake that failed.
type HandshakeError struct{ Err error }

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }
func (e *HandshakeError) Unwrap() error { return e.Err }

// Dial opens connection i.
func (d *Dialer) Dial(ctx context.Context, i int, under func(net.Conn) net.Conn) (net.Conn, error) {
	return d.dial(ctx, i, under, d.TLS)
}

func (d *Dialer) dial(ctx context.Context, i int, under func(net.Conn) net.Conn, cfg *tls.Config) (net.Conn, error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	deadline := time.Now().Add(timeout)
	nd := net.Dialer{Deadline: deadline, KeepAlive: -1}
	if len(d.Local) > 0 {
		nd.LocalAddr = d.Local[i%len(d.Local)]
	}
	network := d.Network
	if network == "" {
		network = "tcp"
	}
	c, err := nd.DialContext(ctx, network, d.Address)
	if err != nil {
		return nil, err
	}
	raw := under(c)
	if cfg == nil && d.WebSocket == "" {
		return raw, nil
	}
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	top, err := d.layers(raw, cfg)
	if stop() {
		c.SetDeadline(time.Time{})
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return top, nil
}

// layers puts TLS and WebSocket upon a connection.
func (d *Dialer) layers(c net.Conn, cfg *tls.Config) (net.Conn, error) {
	if cfg != nil {
		t := tls.Client(c, cfg)
		if err := t.Handshake(); err != nil {
			return nil, &HandshakeError{Err: err}
		}
		if d.state.Load() == nil {
			s := t.ConnectionState()
			d.state.CompareAndSwap(nil, &s)
		}
		c = t
	}
	if d.WebSocket == "" {
		return c, nil
	}
	w, err := websocket.NewClient(c, d.Address, d.WebSocket, websocket.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return &upgraded{Conn: w, below: c}, nil
}

// upgraded is a WebSocket that remembers the TLS connection below it.
type upgraded struct {
	net.Conn
	below net.Conn
}

// didResume tells whether TLS came back with a ticket.
func didResume(c net.Conn) bool {
	if u, ok := c.(*upgraded); ok {
		c = u.below
	}
	t, ok := c.(*tls.Conn)
	return ok && t.ConnectionState().DidResume
}

// Negotiated is what TLS settled on with the first connection, nil without one.
func (d *Dialer) Negotiated() *TLSInfo {
	s := d.state.Load()
	if s == nil {
		return nil
	}
	return &TLSInfo{
		Version: tls.VersionName(s.Version),
		Suite:   tls.CipherSuiteName(s.CipherSuite),
		Group:   s.CurveID.String(),
	}
}

// WithTickets is a DialFunc that keeps for each of n connections the TLS session ticket of its own, as n devices would,
// and comes back with it. Tickets of one connection are not used by two at a time.
func (d *Dialer) WithTickets(n int) DialFunc {
	if d.TLS == nil {
		return d.Dial
	}
	configs := make([]*tls.Config, n)
	for i := range configs {
		configs[i] = d.TLS.Clone()
		configs[i].ClientSessionCache = &ticket{}
	}
	return func(ctx context.Context, i int, under func(net.Conn) net.Conn) (net.Conn, error) {
		return d.dial(ctx, i, under, configs[i%n])
	}
}

// ticket is a cache of one TLS session.
type ticket struct {
	session atomic.Pointer[tls.ClientSessionState]
}

func (t *ticket) Get(string) (*tls.ClientSessionState, bool) {
	s := t.session.Load()
	return s, s != nil
}

func (t *ticket) Put(_ string, s *tls.ClientSessionState) { t.session.Store(s) }
