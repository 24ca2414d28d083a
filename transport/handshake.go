package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Cause names why a handshake failed, as logs and statistics count it.
type Cause string

const (
	CauseTimeout           Cause = "timeout"                   // the deadline passed
	CauseNothingSent       Cause = "nothing_sent"              // closed before a ClientHello: a port scan, a health check, or a client whose own key does not load
	CausePlainMQTT         Cause = "plaintext_on_tls"          // plain MQTT came to the TLS port
	CauseHTTP              Cause = "http_on_tls"               // HTTP came to the TLS port
	CauseNotTLS            Cause = "not_tls"                   // something else came
	CauseTLSOnPlain        Cause = "tls_on_plaintext"          // TLS came to the plain port
	CauseVersion           Cause = "tls_version"               // no common TLS version
	CauseCipher            Cause = "no_common_cipher"          // no common suite, group or signature algorithm
	CauseALPN              Cause = "alpn_mismatch"             // none of the protocols asked for is ours
	CauseRejectsCA         Cause = "client_rejects_broker_ca"  // the client trusts another CA
	CauseRejectsCert       Cause = "client_rejects_broker"     // name, purpose, dates or strength: the client does not say which
	CauseClockOrExpired    Cause = "client_says_expired"       // our certificate has expired, or the client's clock is wrong
	CauseSilentRejection   Cause = "client_left_after_flight"  // closed without an alert after our certificate
	CauseNoClientCert      Cause = "client_certificate_absent" // no certificate came
	CauseClientUnknownCA   Cause = "client_certificate_ca"     // its certificate comes from a CA unknown here
	CauseClientCertificate Cause = "client_certificate"        // its certificate was refused
	CauseClientKey         Cause = "client_key_mismatch"       // its key does not belong to its certificate
	CauseTooLong           Cause = "handshake_too_long"        // over 32 KiB
	CauseClosed            Cause = "closed"                    // closed on this side
	CauseOther             Cause = "other"

	// Of the upgrade to WebSocket.
	CauseMQTTOnWebSocket Cause = "mqtt_on_websocket"     // MQTT came without WebSocket
	CauseNotHTTP         Cause = "websocket_not_http"    // something else came
	CauseRequest         Cause = "websocket_request"     // malformed or over 8 KiB
	CauseNotUpgrade      Cause = "websocket_not_upgrade" // HTTP: a browser's address bar, a health check
	CauseUpgradeVersion  Cause = "websocket_version"     // another version than 13
	CausePath            Cause = "websocket_path"        // not in Config.WebSocketPaths
	CauseOrigin          Cause = "websocket_origin"      // a web page not in Config.WebSocketOrigins
	CauseSubprotocol     Cause = "websocket_subprotocol" // mqtt was not offered
)

// HandshakeError says why a connection never came to be.
type HandshakeError struct {
	Cause      Cause
	Addr       string   // peer, host:port
	ServerName string   // asked for by the client, empty if it did not say
	Versions   []uint16 // TLS versions offered
	ALPN       []string // protocols offered
	Ciphers    []uint16 // TLS 1.2 and 1.3 suites offered
	Alert      int      // alert received from the client, -1 if none
	Received   int      // bytes that came
	Upgrade    bool     // TLS, if any, was over: WebSocket failed
	Err        error
}

func (e *HandshakeError) Error() string {
	var b strings.Builder
	what := "tls handshake"
	if e.Upgrade {
		what = "websocket upgrade"
	}
	fmt.Fprintf(&b, "%s with %s: %s", what, e.Addr, e.Cause)
	if e.Alert >= 0 {
		fmt.Fprintf(&b, " (alert %d)", e.Alert)
	}
	if e.ServerName != "" {
		fmt.Fprintf(&b, " (server name %q)", e.ServerName)
	}
	if len(e.Versions) > 0 {
		names := make([]string, len(e.Versions))
		for i, v := range e.Versions {
			names[i] = tls.VersionName(v)
		}
		fmt.Fprintf(&b, " (offers %s)", strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *HandshakeError) Unwrap() error { return e.Err }

func (c *conn) Handshake(ctx context.Context) error {
	if c.tls != nil && !c.shaken {
		if err := c.shake(ctx); err != nil {
			return err
		}
	}
	if c.g.cfg.WebSocket && c.ws == nil {
		return c.upgrade(ctx)
	}
	return nil
}

// shake runs the TLS handshake.
func (c *conn) shake(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		c.Close(false)
		return &HandshakeError{Cause: CauseClosed, Addr: c.remote(), Alert: -1, Err: err}
	}
	c.mu.Lock()
	if c.closing.Load() == open {
		c.nc.SetDeadline(time.Now().Add(c.g.cfg.HandshakeTimeout))
	}
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.Close(false) })
	c.g.slots.acquire(false)
	err := c.tls.HandshakeContext(context.Background())
	c.g.slots.release()
	stop()
	if err != nil {
		e := c.diagnose(err)
		c.Close(true)
		return e
	}
	t := c.tap
	c.mu.Lock()
	c.cap = uint16(t.hello.recordCap(int(c.cap)))
	// What the tap still holds belongs to tls.
	if len(t.buf) == 0 {
		c.tap = nil
	}
	c.shaken = true
	if c.closing.Load() == open {
		c.nc.SetDeadline(noDeadline)
	}
	c.mu.Unlock()
	return nil
}

// diagnose finds the cause from the error, the alert and the bytes seen.
func (c *conn) diagnose(err error) *HandshakeError {
	t := c.tap
	e := &HandshakeError{
		Addr: c.remote(), ServerName: t.hello.serverName,
		Alert: -1, Received: t.got, Err: err,
	}
	if t.parsed {
		e.Versions, e.ALPN, e.Ciphers = t.hello.versions, t.hello.alpn, t.hello.ciphers
	}
	if code, ok := t.alert(); ok {
		e.Alert = int(code)
	} else {
		e.Alert = remoteAlert(err)
	}
	e.Cause = c.cause4(e, err)
	return e
}

func (c *conn) cause4(e *HandshakeError, err error) Cause {
	t := c.tap
	var verify *tls.CertificateVerificationError
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case c.closing.Load() != open:
		return CauseClosed
	case errors.Is(err, errHandshakeTooLong):
		return CauseTooLong
	case e.Alert >= 0:
		switch e.Alert {
		case 48:
			return CauseRejectsCA
		case 45:
			return CauseClockOrExpired
		case 42, 43, 44, 46:
			return CauseRejectsCert
		case 40, 47, 71:
			return CauseCipher
		case 70:
			return CauseVersion
		}
		return CauseOther
	case len(t.first) > 0 && t.first[0] != 22:
		return foreign(t.first)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return CauseTimeout
	case t.got == 0:
		return CauseNothingSent
	case has("unsupported versions"):
		return CauseVersion
	case has("unsupported application protocols"):
		return CauseALPN
	case has("didn't provide a certificate"):
		return CauseNoClientCert
	case errors.As(err, &verify):
		if has("unknown authority") {
			return CauseClientUnknownCA
		}
		return CauseClientCertificate
	case has("invalid signature by the client certificate"):
		return CauseClientKey
	case has("no cipher suite supported"), has("signature algorithms"), has("no supported elliptic curves"), has("no key exchanges"), has("no ECDHE curve"):
		return CauseCipher
	case t.sent > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)):
		return CauseSilentRejection
	}
	return CauseOther
}

// foreign names what is not TLS by its first bytes.
func foreign(b []byte) Cause {
	if b[0] == 0x10 {
		return CausePlainMQTT
	}
	for _, m := range []string{"GET ", "HEAD", "POST", "PUT ", "OPTI", "CONN", "PRI "} {
		if strings.HasPrefix(string(b), m) {
			return CauseHTTP
		}
	}
	return CauseNotTLS
}

// remoteAlert finds the alert that the client sent: crypto/tls tells its text
// only. -1 if there is none.
func remoteAlert(err error) int {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return -1
	}
	text := op.Err.Error()
	for n := range 256 {
		if tls.AlertError(n).Error() == text {
			return n
		}
	}
	return -1
}

// checkPlain recognises a TLS client on the plain port by the first bytes it
// sends.
func (c *conn) checkPlain(p []byte) error {
	if len(p) < 2 || p[0] != 22 || p[1] != 3 {
		return nil
	}
	return &HandshakeError{
		Cause: CauseTLSOnPlain, Addr: c.remote(), Alert: -1, Received: len(p),
		Err: errors.New("client speaks TLS to a plain listener"),
	}
}
