package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

func (c *conn) Handshake(ctx context.Context) error {
	if !c.entered {
		until := time.Now().Add(c.g.cfg.HandshakeTimeout)
		if err := c.announce(ctx, until); err != nil {
			return err
		}
		if c.tls != nil {
			if err := c.shake(ctx, until); err != nil {
				return err
			}
		}
		if err := c.handshaken(); err != nil {
			return err
		}
		c.entered = true
	}
	if c.g.cfg.WebSocket && c.ws == nil {
		return c.upgrade(ctx)
	}
	return nil
}

// shake runs the TLS handshake.
func (c *conn) shake(ctx context.Context, until time.Time) error {
	if err := ctx.Err(); err != nil {
		c.Close(false)
		e := c.failure(err)
		e.Cause = CauseClosed
		return e
	}
	c.mu.Lock()
	if c.closing.Load() == open {
		c.nc.SetDeadline(until)
	}
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.Close(false) })
	err := c.tls.HandshakeContext(context.Background())
	c.tap.rest(c)
	stop()
	if err != nil {
		e := c.diagnose(err)
		c.Close(true)
		return e
	}
	t := c.tap
	c.was = t
	c.mu.Lock()
	c.cap = uint16(t.hello.recordCap(int(c.cap)))
	if t.hello.maxFragment > 0 || t.hello.recordLimit > 0 {
		c.large.Store(tookLarge) // it gets what it can take
	}
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
		e := c.failure(errChallenged)
		t.describe(e)
		e.Cause, e.Hint = CauseClosed, "nothing is to be done"
		return e
	}
	return nil
}

// failure is a HandshakeError without what the tap saw.
func (c *conn) failure(err error) *HandshakeError {
	return &HandshakeError{Listener: c.g.cfg.Name, Addr: c.remote(), Via: ViaCheck, Alert: -1, Err: err}
}

// describe notes what the tap saw.
func (t *tap) describe(e *HandshakeError) {
	e.Received = t.got
	if !t.parsed {
		return
	}
	h := &t.hello
	e.ServerName, e.Versions, e.ALPN, e.Ciphers, e.Groups = h.serverName, h.versions, h.alpn, h.ciphers, h.groups
	e.MaxFragment, e.RecordLimit = h.maxFragment, h.recordLimit
}

// diagnose finds the cause from the error, the alert and the bytes seen.
func (c *conn) diagnose(err error) *HandshakeError {
	t := c.tap
	e := c.failure(err)
	t.describe(e)
	e.Certificate = c.presented(err)
	var refused interface{ Refused() (cause, hint string) }
	if errors.As(err, &refused) {
		cause, hint := refused.Refused()
		e.Cause, e.Hint = Cause(cause), hint
		return e
	}
	code, inClear := t.alert()
	if e.Alert = int(code); !inClear {
		e.Alert = remoteAlert(err)
	}
	e.Cause, e.Via = c.causeOf(e, err, inClear)
	e.nameAlert()
	e.Hint = e.exactHint(c.localAddr())
	return e
}

// nameAlert replaces what crypto/tls says, which calls an alert in the clear a
// bad record.
func (e *HandshakeError) nameAlert() {
	if e.Alert >= 0 {
		name := strings.TrimPrefix(tls.AlertError(e.Alert).Error(), "tls: ")
		e.Err = fmt.Errorf("client sent alert %d: %s", e.Alert, name)
	}
}

// firstBytes takes the result of a Read until something has come. A client may
// judge the broker's certificate only when its handshake is over: Node.js does,
// and leaves without an alert. One that has shown no certificate and left may
// be a health check, and is left alone.
func (c *conn) firstBytes(n int, err error) error {
	if n > 0 || err == nil {
		c.was = nil
		return err
	}
	alert := remoteAlert(err)
	left := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	e := c.failure(err)
	e.Certificate = c.presented(err)
	if c.closing.Load() != open || alert < 0 && (!left || e.Certificate == nil) {
		return err
	}
	t := c.was
	c.was = nil
	t.describe(e)
	e.Alert = alert
	if alert < 0 {
		r := c.rejection(t, e, false)
		if e.Cause, e.Via = r.cause(); e.Cause == CauseSilentRejection {
			e.Cause = CauseLeft
		}
	} else {
		e.Cause = c.causeOfAlert(t, e, false)
	}
	e.nameAlert()
	e.Hint = e.exactHint(c.localAddr())
	return e
}

// presented is the client's certificate, nil if it showed none.
func (c *conn) presented(err error) *x509.Certificate {
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		return verify.UnverifiedCertificates[0]
	}
	if certs := c.tls.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

func (c *conn) causeOf(e *HandshakeError, err error, inClear bool) (Cause, Via) {
	t := c.tap
	var verify *tls.CertificateVerificationError
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case c.closing.Load() != open:
		return CauseClosed, ViaCheck
	case errors.Is(err, errHandshakeTooLong):
		return CauseTooLong, ViaCheck
	case e.Alert >= 0:
		return c.causeOfAlert(t, e, inClear), e.Via
	case len(t.first) > 0 && t.first[0] != 22:
		return foreign(t.first), ViaCheck
	case errors.Is(err, os.ErrDeadlineExceeded):
		return CauseTimeout, ViaSilence
	case t.got == 0:
		return CauseNothingSent, ViaSilence
	case has("unsupported versions"):
		if versions := e.Versions; len(versions) > 0 && versions[0] == tls.VersionTLS12 {
			return CauseTLS12Excluded, ViaCheck
		}
		return CauseVersion, ViaCheck
	case has("unsupported application protocols"):
		return CauseALPN, ViaCheck
	case has("didn't provide a certificate"):
		return CauseNoClientCert, ViaCheck
	case errors.As(err, &verify):
		return causeOfChain(verify.Err), ViaCheck
	case has("invalid signature by the client certificate"):
		return CauseClientKey, ViaCheck
	case has("client certificate"):
		return CauseClientCertificate, ViaCheck // one that cannot be read, or whose key is of no use
	case has("Extended Master Secret"):
		return CauseFIPS, ViaCheck
	case has("any of the certificate's signature algorithms"):
		return CauseKeyUnsupported, ViaCheck
	case has("no cipher suite supported"), has("signature algorithms"), has("no supported elliptic curves"), has("no key exchanges"), has("no ECDHE curve"):
		return CauseCipher, ViaCheck
	case t.sent > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)):
		r := c.rejection(t, e, false)
		return r.cause()
	}
	return CauseOther, ViaCheck
}

// causeOfAlert explains what the client sent.
func (c *conn) causeOfAlert(t *tap, e *HandshakeError, inClear bool) (cause Cause) {
	e.Via = ViaAlert
	switch e.Alert {
	case alertBadCertificate, alertUnsupported, alertRevoked, alertExpired, alertCertificateOther, alertUnknownCA:
	case alertInternal:
		// What OpenSSL sends if the application's own check refuses the
		// certificate: mosquitto's tools, that of the name.
		if t.sent == 0 {
			return CauseOther
		}
	case 40, 47, 71: // handshake_failure, illegal_parameter, insufficient_security
		return CauseCipher
	case 70: // protocol_version
		return CauseVersion
	default:
		return CauseOther
	}
	r := c.rejection(t, e, inClear)
	cause, e.Via = r.cause()
	return cause
}

// causeOfChain tells why the client's chain was refused.
func causeOfChain(err error) Cause {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return CauseClientUnknownCA
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CauseClientExpired
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return CauseClientPurpose
	}
	return CauseClientCertificate
}

func (c *conn) rejection(t *tap, e *HandshakeError, inClear bool) *rejection {
	r := &rejection{
		alert: e.Alert, name: e.ServerName, local: c.localAddr(),
		chain: chainOf(t.shown), now: time.Now(),
	}
	for _, v := range e.Versions {
		r.tls13 = r.tls13 || v == tls.VersionTLS13
	}
	r.openssl = inClear && r.tls13 // in TLS 1.2 all are in the clear
	return r
}

// localAddr is where the connection arrived; invalid if that is no IP address.
func (c *conn) localAddr() netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc == nil {
		return netip.Addr{}
	}
	a, ok := c.nc.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
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
	e := c.failure(errors.New("client speaks TLS to a plain listener"))
	e.Cause, e.Received = CauseTLSOnPlain, len(p)
	return e
}
