package sealmq

import (
	"crypto/x509"
	"slices"

	"github.com/sealmq/sealmq/certs"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// specs say what the listeners of cfg show and trust, but those without TLS.
func (s *Server) specs(cfg Config) []certs.Spec {
	var out []certs.Spec
	for _, l := range cfg.Listeners {
		if l.Plain {
			continue
		}
		spec := certs.Spec{Name: l.Name, Enroll: l.Enroll, Stale: pki.Stale(l.CRLStale), CRLs: l.ClientCRL}
		if l.Certificate != "" {
			spec.Pairs = []certs.Pair{{Cert: l.Certificate, Key: l.Key}}
			for i, file := range l.MoreCertificates {
				spec.Pairs = append(spec.Pairs, certs.Pair{Cert: file, Key: l.MoreKeys[i]})
			}
		}
		if l.ACME {
			spec.Source = s.acme
		}
		if l.ClientCertificates != transport.None {
			spec.TrustOwn = l.ClientCA == "" || l.OwnClients
			if l.ClientCA != "" {
				spec.ClientCAs = []string{l.ClientCA}
			}
		}
		if spec.TrustOwn {
			spec.Factory = s.factories
		}
		if f := s.fleet.Load(); f != nil {
			spec.Grace = f.identity.Grace()
		}
		out = append(out, spec)
	}
	return out
}

// factories are the CAs of devices' makers.
func (s *Server) factories() []*x509.Certificate {
	fleet := s.fleet.Load()
	if fleet == nil {
		return nil
	}
	var out []*x509.Certificate
	for _, f := range fleet.enroll.Factories() {
		out = append(out, f.CA)
	}
	return out
}

// needsCA reports whether any listener needs our own CA.
func (s *Server) needsCA(cfg Config) bool {
	return slices.ContainsFunc(s.specs(cfg), func(spec certs.Spec) bool { return spec.NeedsCA() })
}

// openFolder opens or makes the CA of the data folder, and the operator's certificate.
func (s *Server) openFolder(cfg Config) (*pki.Folder, error) {
	f, created, err := pki.InitFolder(cfg.Data, s.pkiConfig(cfg))
	if err != nil {
		return nil, err
	}
	if created {
		s.log.Info("certificate authority made", "folder", cfg.Data, "sha256", pki.Fingerprint(f.CA().Root()))
	}
	_, err = f.Operator()
	return f, err
}

// prepare loads what every listener of cfg needs, opening no socket and changing nothing that is in use.
func (s *Server) prepare(cfg Config) ([]*listener, *certs.Set, error) {
	set, err := s.keeper.Plan(cfg.Hosts, s.specs(cfg))
	if err != nil {
		return nil, nil, err
	}
	var out []*listener
	for _, l := range cfg.Listeners {
		out = append(out, newListener(l, set.Listener(l.Name)))
	}
	return out, set, nil
}

// trustChanged ends what rests on trust that was: sessions of TLS at once, connections after a review.
func (s *Server) trustChanged(name string) {
	if live := s.live.Load(); live != nil { // not under mu: Reload holds it
		for _, l := range *live {
			if l.name == name {
				l.ForgetSessions()
			}
		}
	}
	s.reviews.want()
}

// Folder is the data folder with the server's own CA; nil if no listener uses it.
func (s *Server) Folder() *pki.Folder {
	if f := s.fleet.Load(); f != nil {
		return f.identity.Folder()
	}
	return nil
}
