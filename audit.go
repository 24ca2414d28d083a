package sealmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// snapshot is what is audited of a fleet without its broker.
func (f *fleet) snapshot() audit.Snapshot {
	s := audit.Snapshot{Now: time.Now()}
	s.Devices = func(yield func(registry.Device) bool) {
		for _, q := range []registry.Query{{}, {ID: "operator/*"}} {
			goOn := true
			_ = f.registry.Each(q, func(d registry.Device) bool { // the patterns are good
				goOn = yield(d)
				return goOn
			})
			if !goOn {
				return
			}
		}
	}
	folder := f.identity.Folder()
	for _, l := range folder.CA().Lives() {
		s.CAs = append(s.CAs, audit.CA{Name: l.Name, Cert: l.Cert, Accepted: true})
	}
	known := func(c *x509.Certificate) bool {
		return slices.ContainsFunc(s.CAs, func(o audit.CA) bool { return o.Cert.Equal(c) })
	}
	for name, more := range map[string][]*x509.Certificate{
		"root": folder.CA().Roots(), "broker": folder.CA().BrokerCAs(), "device": folder.CA().DeviceCAs(),
	} {
		for _, c := range more {
			if !known(c) {
				s.CAs = append(s.CAs, audit.CA{Name: name, Cert: c, Accepted: true})
			}
		}
	}
	for _, c := range folder.RetiredDeviceCAs() {
		if !known(c) {
			s.CAs = append(s.CAs, audit.CA{Name: "device", Cert: c, Revoked: true})
		}
	}
	for _, c := range f.enroll.Factories() {
		s.ForeignCAs = append(s.ForeignCAs, audit.CA{Name: c.Name, Cert: c.CA, Accepted: true, Listener: "factory"})
	}
	if _, next := f.identity.CRL(); !next.IsZero() {
		s.CRLs = append(s.CRLs, audit.CRL{CRLStatus: pki.CRLStatus{Issuer: "device", Next: next, Stale: !s.Now.Before(next)}})
	}
	return s
}

// report judges the fleet of a data folder that no server runs on.
func (f *fleet) report(context.Context) (json.RawMessage, error) {
	return json.Marshal(audit.Examine(f.snapshot()))
}

// report judges the fleet together with what the running broker knows.
func (s *Server) report(context.Context) (json.RawMessage, error) {
	snap := s.fleet.Load().snapshot()
	b := &audit.Broker{}
	s.sightings.Fill(b)
	cfg := s.Config()
	for _, l := range cfg.Listeners {
		a := audit.Listener{Name: l.Name, Address: l.Address, Plain: l.Plain, Anonymous: l.Anonymous}
		if !l.Plain {
			a.MinTLS = tls.VersionTLS12
		}
		b.Listeners = append(b.Listeners, a)
	}
	for _, sh := range s.keeper.Shown() {
		for _, c := range sh.Foreign {
			snap.ForeignCAs = append(snap.ForeignCAs, audit.CA{Name: c.Subject.CommonName, Cert: c, Accepted: true, Listener: sh.Listener})
		}
		deny := slices.ContainsFunc(cfg.Listeners, func(l Listener) bool { return l.Name == sh.Listener && l.CRLStale == string(pki.StaleDeny) })
		for _, l := range sh.Lists {
			snap.CRLs = append(snap.CRLs, audit.CRL{CRLStatus: l, Listener: sh.Listener, Deny: deny})
		}
	}
	for _, c := range s.shown() {
		b.ServerCertificates = append(b.ServerCertificates, audit.ServerCertificate{
			Names: c.Names, Listeners: c.Listeners, Source: c.Source, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Trouble: c.Trouble,
		})
	}
	for _, f := range s.permissions.live.Policy().Lint() {
		b.Policy = append(b.Policy, audit.PolicyFinding{File: f.File, Line: f.Pos.Line, Text: f.Text, Fix: f.Advice, Broad: f.Broad})
	}
	_ = b.Log.Level.UnmarshalText([]byte(cfg.Log.Level)) // checked by Validate
	snap.Broker = b
	return json.Marshal(audit.Examine(snap))
}

// shown are the server certificates in force, each once.
func (s *Server) shown() []control.ServerCertificate {
	var out []control.ServerCertificate
	add := func(source, file, listener string, leaf *x509.Certificate, trouble string) {
		serial := auth.Identify(leaf).Serial
		i := slices.IndexFunc(out, func(c control.ServerCertificate) bool { return c.Serial == serial && c.File == file })
		if i < 0 {
			names := slices.Clone(leaf.DNSNames)
			for _, ip := range leaf.IPAddresses {
				if !slices.Contains(names, ip.String()) {
					names = append(names, ip.String())
				}
			}
			i = len(out)
			out = append(out, control.ServerCertificate{
				Names: names, Source: source, File: file, Issuer: leaf.Issuer.CommonName, Serial: serial,
				NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Trouble: trouble,
			})
		}
		if !slices.Contains(out[i].Listeners, listener) {
			out[i].Listeners = append(out[i].Listeners, listener)
		}
	}
	cfg := s.Config()
	for _, sh := range s.keeper.Shown() {
		trouble := ""
		if sh.Trouble != nil {
			trouble = sh.Trouble.Error()
		}
		for _, p := range sh.Pairs {
			add("file", p.File, sh.Listener, p.Leaf, trouble)
		}
		if s.acme != nil && slices.ContainsFunc(cfg.Listeners, func(l Listener) bool { return l.Name == sh.Listener && l.ACME }) {
			for _, name := range s.acme.Names() {
				if c, ok := s.acme.Get(&tls.ClientHelloInfo{ServerName: name}); ok {
					add("acme", "", sh.Listener, c.Leaf, "")
				}
			}
		}
		if sh.Own != nil {
			add("ca", "", sh.Listener, sh.Own, trouble)
		}
	}
	return out
}

// renewShown renews the server certificates of our own CA and of ACME that have one of the names, or all.
func (s *Server) renewShown(ctx context.Context, names []string) (n int, err error) {
	wanted := func(c control.ServerCertificate) bool {
		return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(c.Names, n) })
	}
	for _, c := range s.shown() {
		if !wanted(c) {
			continue
		}
		switch c.Source {
		case "acme":
			for _, name := range c.Names {
				if err := s.acme.Renew(ctx, name); err != nil {
					return n, fmt.Errorf("renew the certificate of %s: %w", name, err)
				}
			}
		case "ca":
			if err := s.Folder().RenewServer(s.Config().Hosts...); err != nil {
				return n, err
			}
			_ = s.keeper.Reload() // what is wrong with others is in Trouble
		default:
			continue
		}
		n++
	}
	return n, nil
}
