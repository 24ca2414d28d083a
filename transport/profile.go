package transport

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"
)

// Protocols that clients may ask for by ALPN; a client that names others only
// is refused by crypto/tls with no_application_protocol.
const (
	ALPN       = "mqtt"
	alpnAmazon = "x-amzn-mqtt-ca"
	alpnHTTP   = "http/1.1" // browsers, and others that upgrade to WebSocket
)

// verifier is what Certificates may have beside its methods, and must have in
// mode Any. VerifyConnection runs on resumed handshakes too, unlike
// tls.Config.VerifyPeerCertificate.
type verifier interface {
	VerifyConnection(tls.ConnectionState) error
}

// TLSProfile returns the profile named default: TLS 1.2 and 1.3, authenticated
// encryption only, and groups that neither small devices nor attackers can
// make expensive. The choice is explicit, so that a new Go release changes
// nothing by itself. Clients may ask for the protocols given, too, by ALPN.
func TLSProfile(certs Certificates, mode ClientCertificates, protocols ...string) *tls.Config {
	t, _ := newProfile(certs, mode, protocols)
	return t
}

func newProfile(certs Certificates, mode ClientCertificates, protocols []string) (*tls.Config, *tickets) {
	t := &tls.Config{
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS13,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// Without P-384 and P-521: TLS 1.2 follows the client's order, and P-521
		// costs the server 37 times as much as P-256.
		CurvePreferences: []tls.CurveID{
			tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256,
		},
		NextProtos:                  append([]string{ALPN, alpnAmazon}, protocols...),
		GetCertificate:              certs.GetCertificate,
		DynamicRecordSizingDisabled: true,
	}
	switch mode {
	case Required:
		t.ClientAuth = tls.RequireAndVerifyClientCert
	case Optional:
		t.ClientAuth = tls.VerifyClientCertIfGiven
	case None:
		t.ClientAuth = tls.NoClientCert
	case Any:
		t.ClientAuth = tls.RequestClientCert
	}
	if v, ok := certs.(verifier); ok {
		t.VerifyConnection = v.VerifyConnection
	}
	keys := &tickets{cfg: t, now: time.Now}
	if mode == None || mode == Any {
		// In mode Any no CAs are named: clients would withhold what is not theirs.
		t.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			keys.turn()
			return challenge(certs, hello), nil
		}
		return t, keys
	}

	// Without a pool crypto/tls would trust the public CAs of the system.
	nobody := x509.NewCertPool()
	cas := func() *x509.CertPool {
		if pool := certs.ClientCAs(); pool != nil {
			return pool
		}
		return nobody
	}
	// The pool may be swapped at any time. Clones have no ticket keys of their
	// own: crypto/tls then takes those of t. A session is resumed only while its
	// chain leads to a CA of the pool.
	var current atomic.Pointer[tls.Config]
	t.ClientCAs = cas()
	base := t.Clone()
	current.Store(base)
	t.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		keys.turn()
		if c := challenge(certs, hello); c != nil {
			return c, nil
		}
		c := current.Load()
		if pool := cas(); pool != c.ClientCAs {
			c = base.Clone()
			c.ClientCAs = pool
			current.Store(c)
		}
		return c, nil
	}
	return t, keys
}
