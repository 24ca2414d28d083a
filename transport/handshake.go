package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
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
	CauseTimeout           Cause = "timeout"                    // the deadline passed
	CauseNothingSent       Cause = "nothing_sent"               // closed before a ClientHello: a port scan, a health check, or a client whose own key does not load
	CausePlainMQTT         Cause = "plaintext_on_tls"           // plain MQTT came to the TLS port
	CauseHTTP              Cause = "http_on_tls"                // HTTP came to the TLS port
	CauseNotTLS            Cause = "not_tls"                    // something else came
	CauseTLSOnPlain        Cause = "tls_on_plaintext"           // TLS came to the plain port
	CauseVersion           Cause = "tls_version"                // no common TLS version
	CauseCipher            Cause = "no_common_cipher"           // no common suite, group or signature algorithm
	CauseALPN              Cause = "alpn_mismatch"              // none of the protocols asked for is ours
	CauseRejectsCA         Cause = "client_rejects_broker_ca"   // the client trusts another CA
	CauseRejectsCert       Cause = "client_rejects_broker"      // most often the name; purpose, dates, strength: the client does not say which
	CauseClockOrExpired    Cause = "client_says_expired"        // our certificate has expired, or the client's clock is wrong
	CauseSilentRejection   Cause = "client_left_after_flight"   // closed without an alert after our certificate
	CauseNoClientCert      Cause = "client_certificate_absent"  // no certificate came
	CauseClientUnknownCA   Cause = "client_certificate_ca"      // its certificate comes from a CA unknown here
	CauseClientExpired     Cause = "client_certificate_expired" // its certificate has expired, or is not yet valid
	CauseClientCertificate Cause = "client_certificate"         // its certificate was refused
	CauseClientKey         Cause = "client_key_mismatch"        // its key does not belong to its certificate
	CauseTooLong           Cause = "handshake_too_long"         // over 32 KiB
	CauseClosed            Cause = "closed"                     // closed on this side
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

// hints say what to do, as the table of the handbook does.
var hints = map[Cause]string{
	CauseTimeout:           "check the network, or raise handshake_timeout for a slow device",
	CauseNothingSent:       "a port scan or a health check; otherwise check that the client can read its own key and certificate",
	CausePlainMQTT:         "connect with mqtts://, or to a listener without TLS",
	CauseHTTP:              "use an MQTT client here, and wss:// on a listener with websocket = true",
	CauseNotTLS:            "connect with mqtts://",
	CauseTLSOnPlain:        "connect to a TLS listener (8883), or without TLS",
	CauseVersion:           "update the client's TLS library: it needs TLS 1.2 or 1.3",
	CauseCipher:            "enable ECDHE with AES-GCM or ChaCha20-Poly1305, ECDSA, and P-256 or X25519 on the client",
	CauseALPN:              "let the client ask for the ALPN protocol mqtt (http/1.1 for WebSocket), or for none",
	CauseRejectsCA:         "install this broker's ca.pem on the client",
	CauseRejectsCert:       "add the host name to the certificate (sealmq init --host NAME, then SIGHUP), or install ca.pem on the client",
	CauseClockOrExpired:    "set the client's clock (SNTP before TLS), or renew the broker's certificate if it has expired",
	CauseSilentRejection:   "check the client's CA file and the host name it uses, or set max_record = 1024 for a small device",
	CauseNoClientCert:      "give the client a certificate of this broker's CA: sealmq device add ID",
	CauseClientUnknownCA:   "issue the certificate here (sealmq device add ID), or name its CA in client_ca",
	CauseClientExpired:     "issue a new one (sealmq device add ID --out FOLDER), or set the broker's clock if it is wrong",
	CauseClientCertificate: "issue the client a certificate for client authentication: sealmq device add ID",
	CauseClientKey:         "install the key and the certificate that were issued together",
	CauseTooLong:           "shorten the client's certificate chain to the leaf and its intermediate CAs",
	CauseClosed:            "connect again when the broker has started",
	CauseOther:             "look at the error, and at the client's own log",

	CauseMQTTOnWebSocket: "connect with wss:// or ws://, or to a listener without websocket",
	CauseNotHTTP:         "connect with wss:// or ws://",
	CauseRequest:         "check the client, or the proxy in front of the broker: the request is malformed or over 8 KiB",
	CauseNotUpgrade:      "use an MQTT client, or let the proxy forward the Upgrade header",
	CauseUpgradeVersion:  "update the client: it needs version 13 of WebSocket",
	CausePath:            "connect to /mqtt, or add the path to websocket_paths",
	CauseOrigin:          "add the page's origin to websocket_origins",
	CauseSubprotocol:     "let the client offer the sub-protocol mqtt",
}

// HandshakeError says why a connection never came to be. Its Cause is one of
// the above, or what VerifyConnection of the Certificates named.
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
	Hint       string   // what to do about it, if more is known than the cause
	Err        error
}

func (e *HandshakeError) Error() string {
	var b strings.Builder
	what := "tls handshake"
	if e.Upgrade {
		what = "websocket upgrade"
	}
	fmt.Fprintf(&b, "%s with %s: %s", what, e.Addr, e.Cause)
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

// Refused returns the cause and what to do about it.
func (e *HandshakeError) Refused() (cause, hint string) {
	return string(e.Cause), cmp.Or(e.Hint, hints[e.Cause])
}

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
	// What crypto/tls agreed to, not what the tap read: no certificate was asked for.
	if c.tls.ConnectionState().NegotiatedProtocol == alpnACME {
		c.Close(true)
		e := t.failure(c.remote(), errChallenged)
		e.Cause, e.Hint = CauseClosed, "nothing is to be done"
		return e
	}
	return nil
}

// failure is a HandshakeError of what the tap saw, but for the cause.
func (t *tap) failure(addr string, err error) *HandshakeError {
	e := &HandshakeError{Addr: addr, ServerName: t.hello.serverName, Alert: -1, Received: t.got, Err: err}
	if t.parsed {
		e.Versions, e.ALPN, e.Ciphers = t.hello.versions, t.hello.alpn, t.hello.ciphers
	}
	return e
}

// diagnose finds the cause from the error, the alert and the bytes seen.
func (c *conn) diagnose(err error) *HandshakeError {
	t := c.tap
	e := t.failure(c.remote(), err)
	var refused interface{ Refused() (cause, hint string) }
	if errors.As(err, &refused) {
		cause, hint := refused.Refused()
		e.Cause, e.Hint = Cause(cause), hint
		return e
	}
	if code, ok := t.alert(); ok {
		e.Alert = int(code)
	} else {
		e.Alert = remoteAlert(err)
	}
	e.Cause = c.cause4(e, err)
	if e.Alert >= 0 {
		// crypto/tls calls an alert in the clear a bad record.
		name := strings.TrimPrefix(tls.AlertError(e.Alert).Error(), "tls: ")
		e.Err = fmt.Errorf("client sent alert %d: %s", e.Alert, name)
	}
	return e
}

func (c *conn) cause4(e *HandshakeError, err error) Cause {
	t := c.tap
	var verify *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
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
		case 80:
			// What OpenSSL sends if the application's own check refuses the
			// certificate: mosquitto's tools, that of the name.
			if t.sent > 0 {
				return CauseRejectsCert
			}
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
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return CauseClientExpired
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
