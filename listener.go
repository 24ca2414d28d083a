package sealmq

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/certs"
	"github.com/sealmq/sealmq/gate"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

// listener accepts connections and hands them to the broker.
type listener struct {
	transport.Listener                 // nil until listen
	cfg                Listener        // guarded by Server.mu; the transport's part never changes
	accepting          bool            // guarded by Server.mu
	certs              *certs.Listener // nil when plain
	terms              atomic.Pointer[terms]
}

// terms are what a connection gets from its listener when it is accepted; Reload replaces them.
type terms struct {
	name           string
	connectTimeout time.Duration
	anonymous      bool
	enroll         bool
	limits         broker.Limits
}

func newListener(cfg Listener, c *certs.Listener) *listener {
	if cfg.Enroll {
		cfg.Config.ClientCertificates = transport.Any
	}
	l := &listener{cfg: cfg, certs: c}
	l.setTerms(cfg)
	return l
}

func (l *listener) setTerms(cfg Listener) {
	l.terms.Store(&terms{cfg.Name, cfg.ConnectTimeout, cfg.Anonymous, cfg.Enroll, cfg.Limits})
}

func (l *listener) listen(d *door, log *slog.Logger) (err error) {
	var c transport.Certificates
	if l.certs != nil {
		c = l.certs
	}
	l.Listener, err = transport.ListenBehind(d, l.cfg.Config, c, log)
	return err
}

func (l *listener) close() {
	if l.Listener != nil {
		l.Listener.Close()
	}
}

func (l *listener) wait(ctx context.Context) error {
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Wait(ctx)
}

// accept starts the accept loop of l once the server runs. The caller holds mu.
func (s *Server) accept(l *listener) {
	if !s.running || s.ended || l.accepting {
		return
	}
	l.accepting = true
	s.tasks.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				s.fail(l.terms.Load().name, err)
				return
			}
			s.tasks.Go(func() { s.serve(l, c) })
		}
	})
}

// serve takes one connection through handshake and CONNECT. Its driver may keep
// feeding the broker after it has returned.
func (s *Server) serve(l *listener, tc transport.Conn) {
	t := l.terms.Load()
	if err := tc.Handshake(s.stop); err != nil {
		s.refused(t.name, err)
		return
	}
	peer := l.peer(tc.Peer(), t)
	conn := s.broker.NewConn(tc, peer, t.limits)
	if err := tc.SetReadDeadline(time.Now().Add(t.connectTimeout)); err != nil {
		tc.Close(false)
		return
	}
	if err := conn.Open(tc); err != nil { // refused, logged and closed by the broker
		s.door.failed(peer.Addr, err)
		if e := refusal(&peer, err); e != nil {
			s.failures.Keep(e)
		}
		return
	}
	tc.Run(conn)
}

// userCanceled is the alert of a client that only looks, as sealmq doctor does.
const userCanceled = 90

// refused remembers a handshake that failed, and logs it unless its like was logged a moment ago. Port scans and health checks
// that send nothing are of interest to nobody, and neither are those who only look.
func (s *Server) refused(listener string, err error) {
	var he *transport.HandshakeError
	if !errors.As(err, &he) {
		s.log.Debug("connection ended before its handshake", "listener", listener, "error", err)
		return
	}
	s.door.failed(he.Addr, he)
	f, omitted, ok := s.failures.Note(he)
	if !ok {
		return
	}
	what, level := "tls handshake refused", slog.LevelWarn
	if he.Cause == transport.CauseNothingSent || he.Cause == transport.CauseClosed || he.Alert == userCanceled {
		level = slog.LevelDebug
	}
	if he.Upgrade {
		what = "websocket upgrade refused"
	}
	attrs := append([]any{"listener", listener}, f.Attrs()...)
	if omitted > 0 {
		attrs = append(attrs, "not_logged_before", omitted)
	}
	s.log.Log(s.stop, level, what, attrs...)
}

// refusal is the end of a connection before its CONNECT was accepted, as it is kept; nil if there is nothing to tell.
func refusal(p *auth.Peer, err error) *transport.HandshakeError {
	var e *transport.HandshakeError
	if errors.As(err, &e) {
		return e
	}
	e = &transport.HandshakeError{
		Cause: transport.CauseConnectRefused, Via: transport.ViaCheck, Listener: p.Listener, Addr: p.Addr,
		ServerName: p.SNI, Certificate: p.Cert, Alert: -1, Err: err,
	}
	var refused *mqtt.Error
	switch cause := causeOf(err); {
	case cause == gate.CauseTimeout:
		e.Cause, e.Via = transport.CauseNoConnect, transport.ViaSilence
	case !errors.As(err, &refused):
		return nil
	case cause != "":
		e.Cause = transport.Cause(cause)
	}
	if p.TLSVersion != 0 {
		e.Versions = []uint16{p.TLSVersion}
	}
	if p.ALPN != "" {
		e.ALPN = []string{p.ALPN}
	}
	return e
}

func (l *listener) peer(p transport.Peer, t *terms) auth.Peer {
	return auth.Peer{
		Addr: p.Addr, Listener: p.Listener, Transport: p.Transport, Secure: p.Secure, Anonymous: t.anonymous,
		SNI: p.SNI, ALPN: p.ALPN, TLSVersion: p.TLSVersion, CipherSuite: p.CipherSuite, Group: uint16(p.Group),
		Cert: p.Cert, Enrolment: t.enroll, Expired: p.Unverified && p.Cert != nil && l.certs.Expired(p.Cert),
	}
}
