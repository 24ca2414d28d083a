package sealmq

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// certificates is what one listener shows and trusts, replaced as a whole.
type certificates struct {
	current atomic.Pointer[material]
}

type material struct {
	server  *tls.Certificate
	clients *x509.CertPool // nil: none is asked for
	own     bool           // server comes from our own CA, which renews it
}

func (c *certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load().server, nil
}

func (c *certificates) ClientCAs() *x509.CertPool { return c.current.Load().clients }

// ownCA reports whether a listener needs anything of the data folder's CA.
func ownCA(l Listener) bool {
	return !l.Plain && (l.Certificate == "" || l.ClientCA == "" && l.ClientCertificates != transport.None)
}

// prepare loads what every listener of cfg needs, opening no socket and
// changing nothing that is in use.
func (s *Server) prepare(cfg Config) ([]*listener, error) {
	var (
		server *tls.Certificate
		own    *x509.CertPool
	)
	for _, l := range cfg.Listeners {
		if !ownCA(l) || server != nil {
			continue
		}
		if s.folder == nil {
			f, created, err := pki.InitFolder(cfg.Data, pki.Config{})
			if err != nil {
				return nil, err
			}
			if created {
				s.log.Info("certificate authority made", "folder", cfg.Data, "sha256", pki.Fingerprint(f.CA().Root()))
			}
			s.folder = f
		}
		var err error
		if server, err = s.ownServer(cfg); err != nil {
			return nil, err
		}
		if _, err := s.folder.Operator(); err != nil {
			return nil, err
		}
		own = s.folder.CA().ClientCAs()
	}
	var (
		out  []*listener
		errs []error
	)
	for _, l := range cfg.Listeners {
		m, err := load(l, server, own)
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", l.Name, err))
			continue
		}
		out = append(out, newListener(l, m))
	}
	return out, errors.Join(errs...)
}

func load(l Listener, server *tls.Certificate, own *x509.CertPool) (*material, error) {
	if l.Plain {
		return nil, nil
	}
	m := &material{server: server, clients: own, own: true}
	var err error
	if l.Certificate != "" {
		m.own = false
		if m.server, err = pki.LoadServer(l.Certificate, l.Key, time.Now()); err != nil {
			return nil, err
		}
	}
	switch {
	case l.ClientCertificates == transport.None:
		m.clients = nil
	case l.ClientCA != "":
		if m.clients, err = pki.LoadPool(l.ClientCA); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (s *Server) ownServer(cfg Config) (*tls.Certificate, error) {
	cert, issued, err := s.folder.Server(cfg.Hosts...)
	if issued && err == nil {
		s.log.Info("server certificate issued", "until", cert.Leaf.NotAfter.Format(time.DateOnly), "names", cert.Leaf.DNSNames)
	}
	return cert, err
}

// renewals looks after the certificates of our own CA until the server ends.
func (s *Server) renewals() {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-s.stop.Done():
			return
		case <-tick.C:
			s.renew()
		}
	}
}

func (s *Server) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folder == nil {
		return
	}
	if _, err := s.folder.Operator(); err != nil {
		s.log.Error("renew operator certificate", "error", err)
	}
	cert, err := s.ownServer(s.cfg)
	if err != nil {
		s.log.Error("renew server certificate", "error", err)
		return
	}
	for _, l := range s.listeners {
		if l.certs == nil {
			continue
		}
		if m := *l.certs.current.Load(); m.own {
			m.server = cert
			l.certs.current.Store(&m)
		}
	}
}
