package auth

import (
	"context"
	"crypto/x509"
	"strings"

	"github.com/sealmq/sealmq/mqtt"
)

// Certificates authenticates a peer by its client certificate: the principal is the last part of a SAN URI
// urn:mqtts:TENANT:KIND:ID, else the subject's common name. Devices are bound to their id as client identifier, an
// operator is not. A peer without a certificate is let in as anonymous where its listener allows it.
// A password is refused without TLS, since it would travel in the clear; otherwise user name and password are not looked at.
type Certificates struct{}

// Authenticate implements Authenticator.
func (Certificates) Authenticate(_ context.Context, c *Credentials) (*Principal, error) {
	if c.HasPassword && !c.Peer.Secure {
		return nil, &Refusal{mqtt.BadUserNameOrPassword, "passwords are refused on a listener without TLS: use mqtts://"}
	}
	if c.Peer.Cert != nil {
		kind, id := Identity(c.Peer.Cert)
		if id == "" || strings.ContainsAny(id, "/+#\x00") {
			return nil, &Refusal{mqtt.NotAuthorized, "the client certificate names no usable identity: a SAN URI urn:mqtts:…:device:ID or a common name without / + #"}
		}
		return &Principal{Name: id, Method: "certificate", Bound: kind != "operator"}, nil
	}
	if !c.Peer.Anonymous {
		return nil, &Refusal{mqtt.NotAuthorized, "a client certificate is required: sealmq device add ID"}
	}
	return &Principal{Method: "anonymous"}, nil
}

// Identity reads the kind ("device", "operator") and the id that a certificate gives its holder; kind is empty when the
// id comes from the common name.
func Identity(cert *x509.Certificate) (kind, id string) {
	for _, u := range cert.URIs {
		if u.Scheme != "urn" {
			continue
		}
		part := strings.SplitN(u.Opaque, ":", 4)
		if len(part) == 4 && part[0] == "mqtts" {
			return part[2], part[3]
		}
	}
	return "", cert.Subject.CommonName
}
