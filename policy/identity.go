package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/netip"

	"github.com/sealmq/sealmq/auth"
)

// Identity is what is known of a client when its CONNECT is accepted: all that a policy can speak of. It must not be
// changed after it was given to For.
type Identity struct {
	Name   string // of the principal; empty for an anonymous client
	Method string // "certificate", "password", "jwt", …, "anonymous"
	Kind   string // "device", "operator", "claim"; empty if the credentials do not say

	ClientID string
	Proven   bool // the authenticator has bound ClientID to Name

	Groups []string            // as the registry, token or directory says
	Claims map[string][]string // of a token, as strings
	Cert   Cert

	Listener, Transport string
	TLS                 uint16     // IANA number of the version, 0 without TLS
	Address             netip.Addr // the client's, without zone; invalid if unknown
}

// Cert is what a policy can say of a client certificate. It is empty for a client without one.
type Cert struct {
	Issuer, CN          string // common names of issuer and subject
	OU, O, URI, DNS     []string
	Serial, Fingerprint string // lower-case hex; the fingerprint is the SHA-256 of the certificate
}

// Identify puts together what authentication has found. claims are those of a token, nil without one.
func Identify(p *auth.Principal, peer *auth.Peer, clientID string, claims map[string][]string) Identity {
	id := Identity{
		Name: p.Name, Method: p.Method, Kind: p.Kind, ClientID: clientID, Proven: p.Bound, Groups: p.Groups, Claims: claims,
		Listener: peer.Listener, Transport: peer.Transport, TLS: peer.TLSVersion,
	}
	if peer.Cert != nil {
		id.Cert = certificate(peer.Cert)
	}
	if a, err := netip.ParseAddrPort(peer.Addr); err == nil {
		id.Address = a.Addr().Unmap().WithZone("")
	} else if a, err := netip.ParseAddr(peer.Addr); err == nil {
		id.Address = a.Unmap().WithZone("")
	}
	return id
}

func certificate(c *x509.Certificate) Cert {
	sum := sha256.Sum256(c.Raw)
	out := Cert{
		Issuer: c.Issuer.CommonName, CN: c.Subject.CommonName, OU: c.Subject.OrganizationalUnit, O: c.Subject.Organization,
		DNS: c.DNSNames, Serial: auth.Identify(c).Serial, Fingerprint: hex.EncodeToString(sum[:]),
	}
	for _, u := range c.URIs {
		out.URI = append(out.URI, u.String())
	}
	return out
}

// device is the name of a device: of what says it is one, or has a certificate that does not say what it is.
func (id *Identity) device() string {
	if id.Kind == "device" || id.Kind == "" && id.Method == "certificate" {
		return id.Name
	}
	return ""
}

// kind is what the client is: Kind, or device for what counts as one.
func (id *Identity) kind() string {
	if id.device() != "" {
		return "device"
	}
	return id.Kind
}

// user is the name of whoever is neither a device nor has come to enrol.
func (id *Identity) user() string {
	if id.Kind == "claim" || id.device() != "" {
		return ""
	}
	return id.Name
}
