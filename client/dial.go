package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Dialer makes the connections of a Config: its Dial method is Config.Dial.
type Dialer struct {
	Network string // tcp, tcp4, tcp6 or unix; default tcp
	Address string // host:port, or the path of a unix socket
	// TLS is nil for a connection in the clear. An empty ServerName means the
	// host of Address.
	TLS *tls.Config
	// Local is the address to connect from, empty for any.
	Local string
	// Upgrade puts a layer above TCP or TLS: websocket.NewClient of package
	// transport, for one. It blocks; the end of Dial's ctx interrupts conn, and
	// Dial closes it when Upgrade fails. Optional.
	Upgrade func(conn net.Conn) (net.Conn, error)
	// Through replaces the plain dial, for proxies. Optional.
	Through func(ctx context.Context, network, address string) (net.Conn, error)
}

// VerifyError is a server certificate that was not accepted. Nothing but the
// ClientHello had been sent.
type VerifyError struct{ Err error }

func (e *VerifyError) Error() string { return "certificate verify failed: " + e.Err.Error() }
func (e *VerifyError) Unwrap() error { return e.Err }

// HandshakeError is any other failure of the TLS handshake.
type HandshakeError struct{ Err error }

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }
func (e *HandshakeError) Unwrap() error { return e.Err }

// UpgradeError is a failure above TLS: the other side does not speak what
// Dialer.Upgrade wants, or refused it.
type UpgradeError struct{ Err error }

func (e *UpgradeError) Error() string { return e.Err.Error() }
func (e *UpgradeError) Unwrap() error { return e.Err }

// Dial connects, completes the TLS handshake and upgrades. Errors are a
// *VerifyError, a *HandshakeError, an *UpgradeError, or those of package net.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	network := d.Network
	if network == "" {
		network = "tcp"
	}
	conn, err := d.dial(ctx, network)
	if err != nil {
		return nil, err
	}
	if d.TLS == nil {
		return d.upgrade(ctx, conn)
	}
	cfg := d.TLS.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = d.Address
		if host, _, err := net.SplitHostPort(d.Address); err == nil {
			cfg.ServerName = host
		}
	}
	g := &gate{Conn: conn}
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		if verify != nil {
			if err := verify(s); err != nil {
				return &VerifyError{err}
			}
		}
		g.open()
		return nil
	}
	t := tls.Client(g, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, handshakeError(ctx, err)
	}
	return d.upgrade(ctx, t)
}

func (d *Dialer) upgrade(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if d.Upgrade == nil {
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	up, err := d.Upgrade(conn)
	if !stop() {
		conn.Close()
		return nil, &UpgradeError{context.Cause(ctx)}
	}
	if err != nil {
		conn.Close()
		return nil, &UpgradeError{err}
	}
	return up, nil
}

func (d *Dialer) dial(ctx context.Context, network string) (net.Conn, error) {
	if d.Through != nil {
		return d.Through(ctx, network, d.Address)
	}
	nd := &net.Dialer{}
	if d.Local != "" {
		a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(d.Local, "0"))
		if err != nil {
			return nil, fmt.Errorf("local address %q: %w", d.Local, err)
		}
		nd.LocalAddr = a
	}
	return nd.DialContext(ctx, network, d.Address)
}

// gate lets nothing out but ClientHellos until the server's certificate has
// been accepted: no alert, no certificate of ours. Record type 22 is a
// handshake message, and before that point only a ClientHello can be one.
type gate struct {
	net.Conn
	mu     sync.Mutex
	opened bool
	held   []byte
}

func (g *gate) open() {
	g.mu.Lock()
	g.opened = true
	g.mu.Unlock()
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	var held []byte
	switch {
	case g.opened:
		held, g.held = g.held, nil
	case len(p) > 0 && p[0] != 22:
		g.held = append(g.held, p...)
		g.mu.Unlock()
		return len(p), nil
	}
	g.mu.Unlock()
	if len(held) > 0 {
		if _, err := g.Conn.Write(held); err != nil {
			return 0, err
		}
	}
	return g.Conn.Write(p)
}

// CloseWrite half-closes the stream below TLS.
func (g *gate) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// handshakeError sorts a failed handshake: not accepted by us, or anything else.
func handshakeError(ctx context.Context, err error) error {
	var (
		own     *VerifyError
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		roots   x509.SystemRootsError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &verify):
		return &VerifyError{verify.Err}
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &roots):
		return &VerifyError{err}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &HandshakeError{err}
}
