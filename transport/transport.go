// Package transport carries bytes between MQTT clients and the broker: TLS
// over TCP, plain TCP, and WebSocket over both, with the connection driven as a
// state machine.
//
// A Listener accepts connections; the caller runs Handshake and reads the
// CONNECT packet on a goroutine of its own, blocking and with deadlines, then
// calls Run. From there on a driver feeds a Handler with plaintext whenever
// the socket is readable, and nothing blocks any more. Writes never block
// either: what the kernel does not take is queued, bounded, and sent when the
// peer reads again.
//
// Three drivers exist. The epoll driver (Linux) runs a few loops for all
// connections. The goroutine driver (every Unix) parks one goroutine per
// connection in Go's own poller. The stream driver serves any blocking
// net.Conn. Each starts goroutines that end with the connection or with
// Listener.Wait. The package knows nothing of MQTT.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"
)

// A Handler receives what arrives on a connection. Data, Flush and Closed are
// never called two at once; Writable may be called beside Data and Flush, from
// any goroutine.
type Handler interface {
	// Data takes plaintext, valid during the call only. An error ends reading;
	// the handler has called Close before it returns one.
	Data(p []byte) error
	// Flush marks the end of one readable event: all that had arrived has been
	// given to Data, or the event's budget is spent.
	Flush()
	// Writable tells that the backlog is empty again.
	Writable()
	// Closed is the last call. A nil error is the orderly end of the stream by
	// the peer; net.ErrClosed means that Close was called on this side.
	Closed(err error)
}

// A Conn is one client's connection.
type Conn interface {
	// Handshake runs the TLS handshake, and the upgrade on a WebSocket listener;
	// on a plain connection it does nothing. It blocks until done, until ctx ends,
	// or until Config.HandshakeTimeout, for the upgrade Config.ConnectTimeout. An
	// error is a *HandshakeError or ErrRefused, and the connection has then been
	// closed.
	Handshake(ctx context.Context) error

	// Read and SetReadDeadline block in the usual way and may be used between
	// Handshake and Run only.
	Read(p []byte) (int, error)
	SetReadDeadline(t time.Time) error

	// Write takes all of p without blocking: what the kernel does not take is
	// copied and sent later. One writer at a time. The error says that the
	// connection is gone; beyond Config.MaxBacklog it is ErrBacklog, and the
	// connection has been closed.
	Write(p []byte) error
	// Backlog tells the bytes that Write took and the kernel did not yet,
	// counted as they go over the wire.
	Backlog() int
	// Close ends the connection and never blocks. With linger, what was written
	// is sent, the sending side is shut, and what the peer still sends is
	// discarded for at most a second: closing with unread bytes would reset the
	// connection and lose the last words. Only the first call counts.
	Close(linger bool)

	// Pause stops the reading: after the readable event under way nothing more
	// arrives until Resume. The peer notices when the buffers of the kernel are
	// full. Both never block and may be called at any time.
	Pause()
	Resume()

	// Peer describes the other side, completely once Handshake has returned.
	Peer() Peer

	// Run feeds h until the connection ends; it may return before that. It calls
	// h.Data(nil) once first. h.Closed is called exactly once, even when the
	// connection was closed before Run.
	Run(h Handler)
}

// A Listener accepts connections of one kind.
type Listener interface {
	// Accept waits for the next connection. After Close it returns an error
	// wrapping net.ErrClosed; other trouble it survives by itself.
	Accept() (Conn, error)
	Addr() net.Addr
	// Close stops accepting. Connections stay.
	Close() error
	// ForgetSessions has every TLS session that was begun refused when it is to
	// be resumed: such clients make a full handshake. To be called when trust has
	// changed. Connections stay.
	ForgetSessions()
	// Wait returns once every connection that was accepted is gone, including
	// those that linger, and the listener's own goroutines have ended; or with
	// the error of ctx. Close must have been called.
	Wait(ctx context.Context) error
}

// Certificates supplies the server's identity and the CAs that client
// certificates must come from. Both methods are called for each handshake, so
// a reload takes effect with the next one.
//
// Two more methods are used if an implementation has them.
// VerifyConnection(tls.ConnectionState) error is asked at the end of each
// handshake, resumed ones included; its error may have the method Refused()
// (cause, hint string), which HandshakeError then repeats. In mode Any it alone
// decides about a certificate, and must be there.
// ChallengeConfig(*tls.ClientHelloInfo) *tls.Config is asked when a client
// offers the protocol acme-tls/1 and no other: unless it returns nil, the
// handshake is made with that, asks for no certificate, and is all there is.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	ClientCAs() *x509.CertPool
}

// Peer describes the other side of a connection.
type Peer struct {
	Addr      string // network address, host:port; with a load balancer, the one that it tells
	Listener  string // Config.Name
	Transport string // "tls", "tcp", "wss" or "ws"
	Secure    bool   // encrypted

	SNI         string // server name that the client asked for
	ALPN        string // protocol agreed
	TLSVersion  uint16
	CipherSuite uint16
	Group       tls.CurveID

	// Cert is the client's leaf certificate, nil if it has none. The client has
	// its key.
	Cert *x509.Certificate
	// Unverified is true in mode Any: neither chain nor dates of Cert were
	// checked by this package.
	Unverified bool
}
