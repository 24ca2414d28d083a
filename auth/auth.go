// Package auth decides who a peer is and what it may do. An Authenticator turns what a connection proves about itself
// into a Principal; the Principal answers every later question about permissions. The package starts no goroutine and
// opens no connection.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Peer is what is known of a connection before its CONNECT.
type Peer struct {
	Addr      string // the peer's address
	Listener  string // name of the listener that accepted it
	Transport string // "tls", "tcp", "ws", "wss"
	Secure    bool   // encrypted and authenticated by TLS
	Anonymous bool   // the listener allows clients that prove no identity
	SNI       string // server name asked for in the TLS handshake
	ALPN      string

	TLSVersion, CipherSuite, Group uint16 // IANA numbers; 0 without TLS

	// Cert is the client's certificate, whose chain was verified, nil if none was given. It is not kept after CONNECT.
	Cert *x509.Certificate
	// Enrolment: the listener is for enrolment and renewal alone. Expired: Cert has ended, not longer ago than the listener
	// forgives.
	Enrolment, Expired bool
}

// Credentials are what a CONNECT adds to its Peer. The slices and strings are valid during Authenticate only.
type Credentials struct {
	Peer        Peer
	Version     mqtt.Version
	ClientID    string // as sent; empty when the server is to assign one
	HasUsername bool
	HasPassword bool
	Username    string
	Password    []byte
}

// Principal is an authenticated identity. It is fixed when CONNECT is accepted and immutable afterwards.
type Principal struct {
	Name   string // device id, user name, "operator", or "" for an anonymous client
	Method string // "certificate", "anonymous", or the name of another authenticator

	// Kind is what the certificate says the holder is: "device", "operator", "claim"; empty if it does not say.
	Kind string

	// Groups are those that whoever authenticated it says it belongs to: of a device the registry's, of a user those of the
	// token or directory. They must not be changed.
	Groups []string

	// Claims are those of a token, as texts, by name, and those inside objects by the way to them: "realm.roles". They must not
	// be changed.
	Claims map[string][]string

	// Bound restricts client identifiers to Name and Name/…, so that one device cannot take over another's session.
	Bound bool

	// Transient: the session ends with its connection, and whoever else may use its client identifier takes it over.
	Transient bool

	// Until is when the identity ends, and with it the connection: with the certificate, or a token. Zero: never.
	Until time.Time

	// Cert names the certificate, and Listener where it was shown; zero without one.
	Cert     CertID
	Listener string

	// Restricted: the policy is narrower than the principal's own, since it is quarantined or has to enrol first.
	Restricted bool

	// Policy answers for permissions; nil allows everything.
	Policy Policy
}

// CertID names a certificate among those of all CAs: a serial is unique for one CA only.
type CertID struct {
	Serial string   // lower-case hex, an even number of digits
	Key    [32]byte // SHA-256 of the holder's subject public key info
}

// Identify names a certificate.
func Identify(c *x509.Certificate) CertID {
	b := c.SerialNumber.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return CertID{Serial: hex.EncodeToString(b), Key: sha256.Sum256(c.RawSubjectPublicKeyInfo)}
}

// Action is what a principal asks permission for.
type Action uint8

// The actions.
const (
	Publish Action = iota + 1
	Subscribe
	Receive
)

// String is the word for the action: publish, subscribe or receive.
func (a Action) String() string {
	switch a {
	case Publish:
		return "publish"
	case Subscribe:
		return "subscribe"
	case Receive:
		return "receive"
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// Policy is a compiled set of permissions of one principal. Its methods are called for every message, from many
// goroutines, and must not block, allocate, or keep the topic, whose bytes may change after the call.
type Policy interface {
	// May reports whether the action is allowed for a topic name (Publish, Receive) or filter (Subscribe, without its
	// $share/GROUP/).
	May(a Action, topic string, qos uint8, retain bool) bool
}

// Measured is a Policy that also looks at how large and how frequent publications are. It is asked instead of May for each
// publication of a client, and for its will at CONNECT and when that is due.
type Measured interface {
	Policy
	// MayPublish reports whether a payload of size bytes may be published. limited says of one that may not that there were
	// too many, so that it may be later.
	MayPublish(topic string, qos uint8, retain bool, size int) (ok, limited bool)
}

// Hearer is a Policy that knows when deliveries need no question of their own.
type Hearer interface {
	Policy
	// Hears reports that whatever comes by a subscription that is allowed may be received. It is asked when a client
	// connects, and when its policy may have changed.
	Hears() bool
}

// Explainer is a Policy that says why it has denied something, in words that the client may be told.
type Explainer interface {
	Policy
	// Why returns the reason, "" if the client is not to know. It is asked a few times a second at most for a client, and
	// may allocate. size is that of the payload, -1 where there is none.
	Why(a Action, topic string, qos uint8, retain bool, size int) string
}

// May reports whether p may do a with the topic name or filter.
func (p *Principal) May(a Action, topic string, qos uint8, retain bool) bool {
	return p.Policy == nil || p.Policy.May(a, topic, qos, retain)
}

// Same reports whether two principals are one identity, so that one may resume what the other left. A device that has the
// name of an operator is another one, and so is who has come to enrol under the name of a device. An unknown kind, of a
// certificate without a URI, is taken for any but an operator.
func (p *Principal) Same(q *Principal) bool {
	return p.Name == q.Name && p.Method == q.Method && p.Bound == q.Bound && p.Transient == q.Transient &&
		(p.Kind == q.Kind || p.Kind == "" && q.Kind != "operator" || q.Kind == "" && p.Kind != "operator")
}

// Authenticator turns credentials into a principal.
//
// An error means refusal: a *Refusal says the reason code and the words for the peer; any other error is answered with
// 0x88 (server unavailable) and must not be taken for a wrong credential.
type Authenticator interface {
	Authenticate(ctx context.Context, c *Credentials) (*Principal, error)
}

// Enhanced is an Authenticator that also speaks MQTT 5 enhanced authentication.
type Enhanced interface {
	Authenticator
	// Exchange begins an exchange with the named method. It returns nil when the method is not known
	// [MQTT-4.12.0-1].
	Exchange(method string, c *Credentials) Exchange
}

// Exchange is one run of an authentication method, used by one goroutine.
type Exchange interface {
	// Next takes the client's data and returns the server's. A nil principal with a nil error asks the client to
	// continue. A *Refusal ends the exchange.
	Next(ctx context.Context, data []byte) (reply []byte, p *Principal, err error)
}

// Refusal is a decision against a client, with the reason that it may be told.
type Refusal struct {
	Code mqtt.ReasonCode
	Text string
}

func (r *Refusal) Error() string { return r.Code.Error() + ": " + r.Text }
