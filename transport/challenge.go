package transport

import (
	"crypto/tls"
	"errors"
)

// alpnACME is the protocol of a certificate authority that checks whom it
// certifies [RFC 8737].
const alpnACME = "acme-tls/1"

// errChallenged is how a connection ends that was made for the handshake alone.
var errChallenged = errors.New("certificate authority came to check: answered")

// challenger is what Certificates may have beside its methods.
type challenger interface {
	ChallengeConfig(*tls.ClientHelloInfo) *tls.Config
}

// challenge returns what to answer an authority with, nil if the client is
// none or nothing is asked of us. No session of it can be resumed, and no
// certificate is asked for, whatever the listener demands.
func challenge(certs Certificates, hello *tls.ClientHelloInfo) *tls.Config {
	ch, ok := certs.(challenger)
	if !ok || !isChallenge(hello.SupportedProtos) {
		return nil
	}
	c := ch.ChallengeConfig(hello)
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.NextProtos = []string{alpnACME}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.ClientAuth = tls.NoClientCert
	c.SessionTicketsDisabled = true
	c.GetConfigForClient, c.VerifyConnection, c.VerifyPeerCertificate = nil, nil, nil
	return c
}

func isChallenge(protocols []string) bool {
	return len(protocols) == 1 && protocols[0] == alpnACME
}
