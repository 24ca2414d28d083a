package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"
)

// What a client's alert, or its silence, is taken for, given the certificate
// that it saw.
func TestRejection(t *testing.T) {
	now := time.Now()
	local := netip.MustParseAddr("192.0.2.7")
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	type change = func(*x509.Certificate)
	make1 := func(cn, issuer string, pub any, changes ...change) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			DNSNames: []string{"broker.example", "192.0.2.7"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		}
		for _, f := range changes {
			f(c)
		}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, ecKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err = x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := func(changes ...change) *x509.Certificate {
		isCA := func(c *x509.Certificate) { c.IsCA, c.ExtKeyUsage, c.DNSNames, c.IPAddresses = true, nil, nil, nil }
		return make1("CA", "Root", &ecKey.PublicKey, append([]change{isCA}, changes...)...)
	}
	leaf := func(changes ...change) []*x509.Certificate {
		return []*x509.Certificate{make1("broker.example", "CA", &ecKey.PublicKey, changes...), ca()}
	}
	good := leaf()
	onlyIP := leaf(func(c *x509.Certificate) { c.DNSNames = []string{"broker.example"} })
	for _, tt := range []struct {
		name string
		r    rejection
		want Cause
		via  Via
	}{
		{"unknown CA", rejection{alert: 48, name: "broker.example", chain: good}, CauseRejectsCA, ViaAlert},
		{"unknown CA beside another name", rejection{alert: 48, name: "elsewhere", chain: good}, CauseRejectsCA, ViaAlert},
		{"bad certificate", rejection{alert: 42, name: "broker.example", tls13: true, chain: good}, CauseRejectsCert, ViaAlert},
		{"bad certificate, OpenSSL", rejection{alert: 42, name: "broker.example", tls13: true, openssl: true, chain: good}, CauseClock, ViaAlert},
		{"expired", rejection{alert: 45, name: "broker.example", chain: good}, CauseClock, ViaAlert},
		{"expired, and so it is", rejection{alert: 45, chain: leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })}, CauseBrokerExpired, ViaCheck},
		{"our clock", rejection{alert: 42, chain: leaf(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) })}, CauseBrokerExpired, ViaCheck},
		{"expired CA", rejection{alert: -1, chain: []*x509.Certificate{good[0], ca(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })}}, CauseBrokerExpired, ViaCheck},
		{"revoked", rejection{alert: 44, chain: good}, CauseBrokerRevoked, ViaAlert},
		{"other, Mbed TLS", rejection{alert: 46, name: "broker.example", chain: good}, CauseClock, ViaAlert},
		{"other, OpenSSL", rejection{alert: 46, name: "broker.example", tls13: true, openssl: true, chain: good}, CauseRejectsCert, ViaAlert},
		{"left", rejection{alert: -1, name: "broker.example", chain: good}, CauseSilentRejection, ViaSilence},
		{"left, another name", rejection{alert: -1, name: "elsewhere", chain: good}, CauseName, ViaCheck},
		{"name that is none", rejection{alert: 42, name: "a b\x00", chain: good}, CauseName, ViaCheck},
		{"the application's own check", rejection{alert: 80, name: "elsewhere", chain: good}, CauseName, ViaCheck},
		{"by address", rejection{alert: 42, tls13: true, local: local, chain: good}, CauseRejectsCert, ViaAlert},
		{"by another address", rejection{alert: 42, tls13: true, local: netip.MustParseAddr("192.0.2.8"), chain: good}, CauseIP, ViaCheck},
		{"by IPv6", rejection{alert: 42, tls13: true, local: netip.MustParseAddr("2001:db8::1"), chain: good}, CauseIP, ViaCheck},
		{"address as name", rejection{alert: 42, name: "192.0.2.8", local: local, chain: good}, CauseIP, ViaCheck},
		{"address unknown", rejection{alert: 42, tls13: true, chain: good}, CauseRejectsCert, ViaAlert},
		{"address, old client", rejection{alert: 42, name: "192.0.2.7", chain: onlyIP}, CauseIPAsName, ViaCheck},
		{"address, client of today", rejection{alert: 42, local: local, tls13: true, chain: onlyIP}, CauseRejectsCert, ViaAlert},
		{"no names", rejection{alert: 42, name: "broker.example", chain: leaf(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })}, CauseNoNames, ViaCheck},
		{"purpose", rejection{alert: 43, chain: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, CausePurpose, ViaCheck},
		{"any purpose", rejection{alert: 43, chain: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })}, CauseRejectsCert, ViaAlert},
		{"weak key", rejection{alert: 43, chain: []*x509.Certificate{make1("broker.example", "CA", &weakKey.PublicKey), ca()}}, CauseWeakKey, ViaCheck},
		{"name constraints", rejection{alert: 42, name: "broker.example", chain: []*x509.Certificate{good[0], ca(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example"} })}}, CauseNameConstraints, ViaCheck},
		{"issuer is no CA", rejection{alert: 48, chain: []*x509.Certificate{good[0], good[0]}}, CauseIssuerNotCA, ViaCheck},
		{"self-signed", rejection{alert: 48, chain: []*x509.Certificate{make1("broker.example", "broker.example", &ecKey.PublicKey)}}, CauseSelfSigned, ViaCheck},
		{"incomplete", rejection{alert: 48, chain: leaf(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example"} })[:1]}, CauseChainIncomplete, ViaCheck},
		{"below a root", rejection{alert: 48, chain: good[:1]}, CauseRejectsCA, ViaAlert},
		{"nothing known, 48", rejection{alert: 48}, CauseRejectsCA, ViaAlert},
		{"nothing known, 45", rejection{alert: 45}, CauseClockOrExpired, ViaAlert},
		{"nothing known, 44", rejection{alert: 44}, CauseBrokerRevoked, ViaAlert},
		{"nothing known, 42", rejection{alert: 42, name: "elsewhere"}, CauseRejectsCert, ViaAlert},
		{"nothing known, left", rejection{alert: -1}, CauseSilentRejection, ViaSilence},
	} {
		tt.r.now = now
		if c, via := tt.r.cause(); c != tt.want || via != tt.via {
			t.Errorf("%s: %s via %s, want %s via %s", tt.name, c, via, tt.want, tt.via)
		}
	}
}

// The fix names the name, unless it could do harm in a shell.
func TestExactHint(t *testing.T) {
	ca := newTestCA(t)
	for name, want := range map[string]string{
		"pump.example":        "add the host name to the certificate: sealmq init --host pump.example, then SIGHUP; or let the client use a name that it has",
		"$(reboot)":           hintOf(CauseName),
		"--passphrase-file=x": hintOf(CauseName),
	} {
		_, err := handshake(t, ca, Config{}, func(nc net.Conn) {
			cfg := ca.clientConfig()
			cfg.InsecureSkipVerify = true
			cfg.ServerName = name
			cfg.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no") }
			tls.Client(nc, cfg).Handshake()
		})
		var he *HandshakeError
		if !errors.As(err, &he) || he.Cause != CauseName {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, hint := he.Refused(); hint != want {
			t.Errorf("%s: %s", name, hint)
		}
	}
}

// A client that judges the certificate after the handshake, and leaves, is told
// from one that has shown none, such as a health check.
func TestLeftAfterHandshake(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca := newTestCA(t)
		for _, tt := range []struct {
			name string
			mode ClientCertificates
			sni  string
			want Cause // empty: nothing is said of it
		}{
			{"health check", None, "localhost", ""},
			{"silent", Required, "localhost", CauseLeft},
			{"silent, another name", Required, "elsewhere", CauseName},
		} {
			ln, err := Listen(Config{Address: "127.0.0.1:0", ClientCertificates: tt.mode}, ca, nil)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				cfg := ca.clientFor(version, &ca.client)
				cfg.InsecureSkipVerify, cfg.ServerName = true, tt.sni
				if c, err := tls.Dial("tcp", ln.Addr().String(), cfg); err == nil {
					c.NetConn().Close()
				}
			}()
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = c.Read(make([]byte, 1))
			var he *HandshakeError
			if errors.As(err, &he) != (tt.want != "") || he != nil && (he.Cause != tt.want || he.ServerName != tt.sni || len(he.Versions) == 0) {
				t.Errorf("%s: %v", tt.name, err)
			}
			c.Close(false)
			ln.Close()
			ln.Wait(t.Context())
		}
	})
}
