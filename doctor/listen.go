package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// ListenOptions say where to wait for clients, and as which broker.
type ListenOptions struct {
	// Address is host:port, or :port. Required.
	Address string
	// Cert and Key are PEM files of the broker's certificate, chain included.
	// Required unless Plain.
	Cert, Key string
	// ClientCA is a PEM file of the CAs that client certificates must come from.
	// Default: none is asked for.
	ClientCA string
	// Plain leaves out TLS, WebSocket puts it between TLS and MQTT.
	Plain, WebSocket bool

	// OnReady is called once, with the address. Optional.
	OnReady func(net.Addr)
	// OnAttempt is called with each attempt that is over, one at a time. Required.
	OnAttempt func(Attempt)
}

// Attempt is what one client did.
type Attempt struct {
	Time  time.Time `json:"time"`
	Peer  string    `json:"peer"`
	OK    bool      `json:"ok"` // CONNECT came, and nothing was wrong up to there
	Steps []Step    `json:"steps"`
	// Failure is what a broker's log would have, if the client failed before MQTT.
	Failure *transport.Failure `json:"failure,omitempty"`
}

// maxAttempts bounds the clients at a time.
const maxAttempts = 64

// shownCert is one certificate and the CAs of clients, as transport wants them.
type shownCert struct {
	cert *tls.Certificate
	cas  *x509.CertPool
}

func (s *shownCert) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.cert, nil
}
func (s *shownCert) ClientCAs() *x509.CertPool { return s.cas }

// Listen takes clients as a broker would, up to CONNECT, tells what each of
// them did, and refuses it with "server unavailable". It returns when ctx ends
// and every client is gone.
func Listen(ctx context.Context, o ListenOptions) error {
	cfg := transport.Config{Name: "doctor", Address: o.Address, Plain: o.Plain, WebSocket: o.WebSocket,
		WebSocketPaths: []string{"*"}, WebSocketOrigins: []string{"*"}, ClientCertificates: transport.None, MaxConnections: maxAttempts}
	var certs transport.Certificates
	if !o.Plain {
		s := &shownCert{}
		var err error
		if s.cert, err = pki.LoadServer(o.Cert, o.Key, time.Now()); err != nil {
			return err
		}
		if o.ClientCA != "" {
			if s.cas, err = pki.LoadPool(o.ClientCA); err != nil {
				return err
			}
			cfg.ClientCertificates = transport.Required
		}
		certs = s
	}
	l, err := transport.Listen(cfg.WithDefaults(), certs, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if o.OnReady != nil {
		o.OnReady(l.Addr())
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for {
		conn, err := l.Accept()
		if err != nil {
			l.Close()
			wg.Wait()
			l.Wait(context.Background())
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		wg.Go(func() {
			a, worth := attend(ctx, conn)
			if worth {
				mu.Lock()
				defer mu.Unlock()
				o.OnAttempt(a)
			}
		})
	}
}

// attend takes one client. Not worth telling is one that said nothing at all.
func attend(ctx context.Context, conn transport.Conn) (a Attempt, worth bool) {
	a = Attempt{Time: time.Now(), Peer: conn.Peer().Addr, OK: true}
	step := func(s Step) {
		if x, ok := transport.Explain(s.Cause); ok {
			s.Doc = x.Code
		}
		a.OK = a.OK && s.Status != Failed
		a.Steps = append(a.Steps, s)
	}
	var e *transport.HandshakeError
	if err := conn.Handshake(ctx); errors.As(err, &e) {
		f := e.Record(a.Time)
		a.Failure = &f
		step(judgeFailure(&f))
		return a, f.Cause != transport.CauseNothingSent && ctx.Err() == nil
	} else if err != nil {
		step(fail(StepTLS, transport.CauseOther, "", show(err.Error()), hint(transport.CauseOther)))
		return a, true
	}
	stop := context.AfterFunc(ctx, func() { conn.Close(false) })
	defer stop()
	defer conn.Close(true)
	p := conn.Peer()
	if p.Secure {
		for _, s := range judgePeer(p) {
			step(s)
		}
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	s := hear(conn)
	step(s)
	return a, s.Reason != "nothing" || p.Secure
}

// judgeFailure is what a broker's log says, as a step.
func judgeFailure(f *transport.Failure) Step {
	name, text := StepTLS, f.What
	switch {
	case f.Upgrade:
		name = StepWebSocket
	case f.Certificate != nil:
		name = StepClientCert
	}
	if text == "" || f.Cause == transport.CauseOther {
		text = show(f.Error)
	} else if f.Error != "" {
		text += " (" + show(f.Error) + ")"
	}
	if f.ServerName != "" {
		text += fmt.Sprintf("; it asked for %s", show(f.ServerName))
	}
	if len(f.Versions) > 0 {
		text += "; it offers " + list(f.Versions)
	}
	s := fail(name, f.Cause, "", text, f.Fix)
	s.Alert = max(0, f.Alert)
	return s
}

// judgePeer tells what a handshake agreed to.
func judgePeer(p transport.Peer) []Step {
	text := fmt.Sprintf("%s, %s", tls.VersionName(p.TLSVersion), tls.CipherSuiteName(p.CipherSuite))
	if p.Group != 0 {
		text += " with " + groupName(p.Group)
	}
	if p.SNI != "" {
		text += fmt.Sprintf("; it asked for %q", show(p.SNI))
	} else {
		text += "; it asked for no name, as clients do that have an address"
	}
	out := []Step{pass(StepTLS, "%s", text)}
	if p.ALPN != "" {
		out = append(out, pass(StepALPN, "%s", show(p.ALPN)))
	}
	if p.Cert != nil {
		out = append(out, pass(StepClientCert, "%s, issued by %s, valid to %s", nameOf(p.Cert), issuerOf(p.Cert), stamp(p.Cert.NotAfter)))
	}
	return out
}

// hear waits for CONNECT and refuses it.
func hear(conn transport.Conn) Step {
	no := func(c transport.Cause, reason, text, fix string) Step { return fail(StepConnect, c, reason, text, fix) }
	var buf []byte
	for {
		h, err := mqtt.ParseHeader(buf)
		switch {
		case err == nil && h.Type != mqtt.CONNECT:
			return no(CauseNoMQTT, "", fmt.Sprintf("it begins with %v in place of CONNECT", h.Type), "let the client speak MQTT")
		case err == nil && h.Length > maxPacket:
			return no(transport.CauseTooLong, "", fmt.Sprintf("a CONNECT of %d bytes", h.Length), "make the will of the client shorter")
		case err == nil && len(buf) >= h.Size+h.Length:
			var p mqtt.Connect
			if err := p.Parse(0, h.Flags, buf[h.Size:h.Size+h.Length]); err != nil {
				return no(CauseNoMQTT, "malformed", "a CONNECT that cannot be read: "+show(err.Error()), "update the client's MQTT library")
			}
			ack := mqtt.Connack{Code: mqtt.ServerUnavailable}
			conn.Write(ack.Append(nil, p.Version))
			return told(&p)
		case err != nil && !errors.Is(err, mqtt.ErrIncomplete):
			if k := recognise(buf); k != kindOther && k != kindSilent {
				return no(CauseNoMQTT, "", fmt.Sprintf("it speaks %v, not MQTT", k), "let the client speak MQTT")
			}
			return no(CauseNoMQTT, "", "it does not speak MQTT: "+show(err.Error()), "let the client speak MQTT")
		}
		part := make([]byte, 4<<10)
		n, err := conn.Read(part)
		buf = append(buf, part[:n]...)
		var e *transport.HandshakeError
		switch {
		case n > 0:
		case errors.As(err, &e):
			f := e.Record(time.Now())
			return judgeFailure(&f)
		case err != nil && isTimeout(err):
			return no(transport.CauseTimeout, "connect", "no CONNECT comes", "look at the client: it has connected, and then says nothing")
		case err != nil:
			reason := "part"
			if len(buf) == 0 {
				reason = "nothing"
			}
			return no(CauseHungUp, reason, "it hangs up without CONNECT", "look into the client's log: it may dislike the certificate after all")
		}
	}
}

// told is a CONNECT in words; its secrets are not among them.
func told(p *mqtt.Connect) Step {
	text := fmt.Sprintf("MQTT %v, client id %q, keep alive %d s", p.Version, show(string(p.ClientID)), p.KeepAlive)
	if p.HasUsername {
		text += fmt.Sprintf(", user name %q", show(string(p.Username)))
	}
	if p.HasPassword {
		text += ", a password"
	}
	if p.CleanStart {
		text += ", a clean session"
	}
	if p.HasWill {
		text += fmt.Sprintf(", a will to %q", show(string(p.Will.Topic)))
	}
	return pass(StepConnect, "%s", text)
}
