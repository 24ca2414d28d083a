package transport

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

// Profile names what of TLS a listener speaks. No profile has anything older
// than TLS 1.2, nor suites without forward secrecy or authenticated encryption.
type Profile uint8

const (
	// ProfileDefault is TLS 1.2 and 1.3, for everything that is connected today:
	// what Mozilla calls intermediate, without finite-field Diffie-Hellman.
	ProfileDefault Profile = iota
	// ProfileModern is TLS 1.3.
	ProfileModern
	// ProfileHigh is TLS 1.3 with groups of the NIST and their post-quantum
	// hybrids, without resumption.
	ProfileHigh
	// ProfileFIPS is what NIST SP 800-52 has: AES-GCM, groups of the NIST and
	// hybrids. It needs GODEBUG=fips140=on.
	ProfileFIPS
	// ProfileConstrained is default with small records and a small handshake: at
	// most 1,024 bytes a record, no post-quantum groups.
	ProfileConstrained
)

var profileNames = [...]string{"default", "modern", "high", "fips", "constrained"}

// constrainedRecord is the largest record of ProfileConstrained.
const constrainedRecord = 1024

func (p Profile) String() string { return nameOf(profileNames[:], int(p)) }

// MarshalText returns default, modern, high, fips or constrained.
func (p Profile) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads default, modern, high, fips or constrained.
func (p *Profile) UnmarshalText(b []byte) error {
	i, err := parseName(profileNames[:], string(b))
	*p = Profile(i)
	return err
}

// check says why the profile cannot be had in this process.
func (p Profile) check() error {
	if p == ProfileFIPS && !fips140.Enabled() {
		return errors.New("profile fips: start the broker with GODEBUG=fips140=on in its environment")
	}
	return nil
}

// apply sets versions, suites and groups of t. The choice is explicit, so that
// a new Go release changes nothing by itself.
func (p Profile) apply(t *tls.Config) {
	t.MinVersion, t.MaxVersion = tls.VersionTLS12, tls.VersionTLS13
	t.CipherSuites = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
	if p != ProfileFIPS {
		t.CipherSuites = append(t.CipherSuites,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)
	}
	// TLS 1.2 follows the client's order, and P-521 costs the server 37 times as
	// much as P-256, P-384 seven times: it is left to TLS 1.3 where it can be.
	switch p {
	case ProfileModern:
		t.MinVersion = tls.VersionTLS13
		t.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256}
	case ProfileHigh:
		t.MinVersion = tls.VersionTLS13
		t.SessionTicketsDisabled = true
		t.CurvePreferences = []tls.CurveID{tls.SecP384r1MLKEM1024, tls.SecP256r1MLKEM768, tls.CurveP384, tls.CurveP256}
	case ProfileFIPS:
		t.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.CurveP256, tls.CurveP384}
	case ProfileConstrained:
		t.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	default:
		t.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256}
	}
}

// verifier is what Certificates may have beside its methods, and must have in
// mode Any. VerifyConnection runs on resumed handshakes too, unlike
// tls.Config.VerifyPeerCertificate.
type verifier interface {
	VerifyConnection(tls.ConnectionState) error
}

// TLSProfile returns what a listener with ProfileDefault speaks. Clients may
// ask for the protocols given, too, by ALPN.
func TLSProfile(certs Certificates, mode ClientCertificates, protocols ...string) *tls.Config {
	t, _ := newProfile(certs, ProfileDefault, mode, protocols)
	return t
}

func newProfile(certs Certificates, profile Profile, mode ClientCertificates, protocols []string) (*tls.Config, *tickets) {
	t := &tls.Config{
		NextProtos:                  append([]string{ALPN, alpnAmazon}, protocols...),
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := certs.GetCertificate(hello)
			if s, ok := hello.Conn.(*sock); ok && s.tap != nil {
				s.tap.shown = c      // to judge it if the client does not like it
				(*conn)(s).giveWay() // the keys are agreed, a signature comes next
			}
			return c, err
		},
	}
	profile.apply(t)
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
