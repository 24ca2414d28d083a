package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	acmelib "github.com/mholt/acmez/v3/acme"
)

const (
	alpnProtocol  = acmez.ACMETLS1Protocol
	challengePath = "/.well-known/acme-challenge/"
	maxVisitors   = 64               // connections to tls_address at once
	visitTime     = 10 * time.Second // that a validator may take
)

// answers is what is told to validators at present. It starts what listens for them, while they are expected.
type answers struct {
	mu     sync.Mutex
	certs  map[string]*tls.Certificate // of tls-alpn-01, by the server name that the validator sends
	tokens map[string]string           // of http-01: key authorizations
	web    door                        // http_address
	tls    door                        // tls_address; not opened when that is empty
}

func newAnswers(cfg Config) *answers {
	a := &answers{certs: make(map[string]*tls.Certificate), tokens: make(map[string]string)}
	a.web.open = func() (io.Closer, error) { return serveHTTP(cfg.HTTPAddress, a) }
	if cfg.TLSAddress != "" {
		a.tls.open = func() (io.Closer, error) { return serveTLS(cfg.TLSAddress, a) }
	}
	return a
}

// config answers a validator of tls-alpn-01; nil when the client is none, or none is expected. RFC 8737 section 3 wants
// that the protocol is the only one offered. No client certificate is asked for: validators have none.
func (a *answers) config(hello *tls.ClientHelloInfo) *tls.Config {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != alpnProtocol {
		return nil
	}
	a.mu.Lock()
	cert := a.certs[normal(hello.ServerName)]
	a.mu.Unlock()
	if cert == nil {
		return nil
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{*cert},
		NextProtos:             []string{alpnProtocol},
		MinVersion:             tls.VersionTLS12, // RFC 8737 section 3
		SessionTicketsDisabled: true,
	}
}

// ServeHTTP answers validators of http-01, and nobody else.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, challengePath)
	a.mu.Lock()
	auth, known := a.tokens[token]
	a.mu.Unlock()
	if !ok || !known || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.WriteString(w, auth)
}

// alpnSolver implements acmez.Solver for tls-alpn-01.
type alpnSolver struct{ a *answers }

func (s alpnSolver) Present(_ context.Context, c acmelib.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return fmt.Errorf("make challenge certificate: %w", err)
	}
	s.a.mu.Lock()
	s.a.certs[alpnName(c.Identifier.Value)] = cert
	s.a.mu.Unlock()
	if err := s.a.tls.hold(c.Token); err != nil {
		return &listenError{TLSALPN01, "tls_address", err}
	}
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, c acmelib.Challenge) error {
	s.a.mu.Lock()
	delete(s.a.certs, alpnName(c.Identifier.Value))
	s.a.mu.Unlock()
	s.a.tls.release(c.Token)
	return nil
}

// alpnName is the server name that a validator sends: that of the reverse DNS record for an address (RFC 8738 section 6).
func alpnName(identifier string) string {
	ip, err := netip.ParseAddr(identifier)
	if err != nil {
		return normal(identifier)
	}
	var b strings.Builder
	raw := ip.Unmap().AsSlice()
	if len(raw) == 4 {
		for i := 3; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(raw[i])) + ".")
		}
		return b.String() + "in-addr.arpa"
	}
	for i := 15; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", raw[i]&15, raw[i]>>4)
	}
	return b.String() + "ip6.arpa"
}

// httpSolver implements acmez.Solver for http-01.
type httpSolver struct{ a *answers }

func (s httpSolver) Present(_ context.Context, c acmelib.Challenge) error {
	s.a.mu.Lock()
	s.a.tokens[c.Token] = c.KeyAuthorization
	s.a.mu.Unlock()
	if err := s.a.web.hold(c.Token); err != nil {
		return &listenError{HTTP01, "http_address", err}
	}
	return nil
}

func (s httpSolver) CleanUp(_ context.Context, c acmelib.Challenge) error {
	s.a.mu.Lock()
	delete(s.a.tokens, c.Token)
	s.a.mu.Unlock()
	s.a.web.release(c.Token)
	return nil
}

// ours passes on challenges for names that were asked for, with tokens as RFC 8555 section 8.3 wants them: what comes from
// a CA reaches neither programs nor paths otherwise.
type ours struct {
	acmez.Solver
	names map[string]bool
}

func (s ours) Present(ctx context.Context, c acmelib.Challenge) error {
	if !s.names[normal(c.Identifier.Value)] {
		return fmt.Errorf("the CA wants a challenge for %.100q, which was not asked for", c.Identifier.Value)
	}
	if strings.ContainsFunc(c.Token, notBase64URL) || len(c.Token) > 256 || c.Token == "" {
		return fmt.Errorf("the CA sent the token %.100q, which is not one", c.Token)
	}
	return s.Solver.Present(ctx, c)
}

func notBase64URL(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// door is what listens while somebody holds it open.
type door struct {
	open func() (io.Closer, error) // nil: there is nothing to listen on

	mu      sync.Mutex
	holders map[string]bool
	is      io.Closer
}

func (d *door) hold(who string) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		return nil
	}
	if d.is == nil {
		if d.is, err = d.open(); err != nil {
			d.is = nil
			return err
		}
		d.holders = make(map[string]bool)
	}
	d.holders[who] = true
	return nil
}

func (d *door) release(who string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.holders, who)
	if len(d.holders) == 0 && d.is != nil {
		_ = d.is.Close()
		d.is = nil
	}
}

// serving is a listener with the goroutines that serve it. Close waits for them.
type serving struct {
	stop func() error
	wg   sync.WaitGroup
}

func (s *serving) Close() error {
	err := s.stop()
	s.wg.Wait()
	return err
}

func serveHTTP(addr string, h http.Handler) (io.Closer, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: h, ReadTimeout: visitTime, WriteTimeout: visitTime, MaxHeaderBytes: 16 << 10}
	srv.SetKeepAlivesEnabled(false)
	s := &serving{stop: srv.Close}
	s.wg.Go(func() { _ = srv.Serve(ln) })
	return s, nil
}

func serveTLS(addr string, a *answers) (io.Closer, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	// Whoever is not answered has no certificate to see: the handshake fails.
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{alpnProtocol},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return a.config(h), nil }}
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{stop: func() error { cancel(); return ln.Close() }}
	slots := make(chan struct{}, maxVisitors)
	s.wg.Go(func() {
		for {
			slots <- struct{}{}
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // no descriptors left, for one
				<-slots
				time.Sleep(100 * time.Millisecond)
				continue
			}
			s.wg.Go(func() {
				defer func() { <-slots }()
				defer c.Close()
				ctx, cancel := context.WithTimeout(ctx, visitTime)
				defer cancel()
				_ = tls.Server(c, conf).HandshakeContext(ctx)
			})
		}
	})
	return s, nil
}
