package tlsmatrix

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/sealmq/sealmq/transport"
)

// patience ends a wait that is for ever.
const patience = time.Minute

// shown are a listener's certificate, the CA of its clients, and what it thinks
// of those.
type shown struct {
	cert    *tls.Certificate
	clients *x509.CertPool
	verdict error
}

func (s *shown) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert, nil }
func (s *shown) ClientCAs() *x509.CertPool                                     { return s.clients }
func (s *shown) VerifyConnection(tls.ConnectionState) error                    { return s.verdict }

// revoked is a verdict as the broker's policy gives it.
type revoked struct{}

func (revoked) Error() string { return "serial 17 is revoked" }
func (revoked) Refused() (cause, hint string) {
	return string(transport.CauseClientRevoked), "issue a new one"
}

// door is a listener that lets one client in after another, and answers the
// first that each says with "ok".
type door struct {
	port int
	ln   transport.Listener
	seen chan outcome
}

// outcome is one connection as the broker saw it.
type outcome struct {
	peer string
	err  error // nil: let in
}

func open(t *testing.T, cfg transport.Config, s *shown) *door {
	t.Helper()
	cfg.Name, cfg.Address = "door", "127.0.0.1:0"
	ln, err := transport.Listen(cfg, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{ln: ln, port: ln.Addr().(*net.TCPAddr).Port, seen: make(chan outcome, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			err = c.Handshake(context.Background())
			if err == nil {
				c.SetReadDeadline(time.Now().Add(patience))
				_, err = c.Read(make([]byte, 100))
			}
			if err == nil {
				c.Write([]byte("ok"))
			}
			c.Close(true)
			select {
			case d.seen <- outcome{c.Peer().Addr, err}:
			default: // a client that comes again and again
			}
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ln.Wait(ctx)
	})
	return d
}

// outcome is what became of the client that has come and gone; ok is false if
// none came. A last connection, which sends nothing, tells where the others end.
func (d *door) outcome(t *testing.T) (o outcome, ok bool) {
	t.Helper()
	last, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)))
	if err != nil {
		t.Fatal(err)
	}
	me := last.LocalAddr().String()
	last.Close()
	for {
		select {
		case next := <-d.seen:
			if next.peer == me {
				return o, ok
			}
			if !ok {
				o, ok = next, true
			}
		case <-time.After(patience):
			t.Fatal("a connection was not seen")
		}
	}
}

// failure is the reason in o: explained, or plain, or neither if the client was
// let in.
func (o outcome) failure() (he *transport.HandshakeError, plain error) {
	if errors.As(o.err, &he) {
		return he, nil
	}
	return nil, o.err
}
