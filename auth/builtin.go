package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Certificates authenticates a peer by its client certificate: the principal is the last part of a SAN URI
// urn:mqtts:TENANT:KIND:ID, else the subject's common name. Devices are bound to their id as client identifier, an
// operator is not. A peer without a certificate is let in as anonymous where its listener allows it.
// A password is refused without TLS, since it would travel in the clear; otherwise user name and password are not looked at.
//
// A claim certificate is good for enrolment alone, and so is everybody on a listener for enrolment; a peer without a
// certificate enrols as its client identifier, and one with a certificate renews it.
type Certificates struct {
	// Devices says which holders of a certificate get in. nil: all of them, as themselves.
	Devices Devices
}

// Devices knows the identities behind certificates.
type Devices interface {
	// Admit says whether a peer with a certificate, whose chain was checked, gets in, and as whom. The peer is told the
	// error's text, with the code of a *Refusal or else as not authorized. It must not block for long.
	Admit(peer *Peer) (Admission, error)
}

// Admission is how the holder of a certificate gets in. The zero value is the one that the certificate names, with all its
// rights.
type Admission struct {
	Name, Kind string // of one whose certificate, of another CA, does not say it our way
	ClientID   string // the client identifier has to be this, or begin with it and a slash, instead of with the name
	Unbound    bool   // the client identifier may be any
	Enrolment  bool   // for enrolment and renewal alone
	Restricted bool   // as one in quarantine
}

// Authenticate implements Authenticator.
func (a Certificates) Authenticate(_ context.Context, c *Credentials) (*Principal, error) {
	switch {
	case c.HasPassword && !c.Peer.Secure:
		return nil, &Refusal{mqtt.BadUserNameOrPassword, "passwords are refused on a listener without TLS: use mqtts://"}
	case c.Peer.Cert != nil:
		return a.holder(c)
	case c.Peer.Enrolment:
		p := &Principal{Method: "enrolment"}
		return p, p.enrol(c.ClientID)
	case c.Peer.Anonymous:
		return &Principal{Method: "anonymous"}, nil
	}
	return nil, &Refusal{mqtt.NotAuthorized, "a client certificate is required: sealmq device add ID"}
}

// holder is the principal of a peer with a certificate.
func (a Certificates) holder(c *Credentials) (*Principal, error) {
	cert := c.Peer.Cert
	kind, _ := Identity(cert)
	if c.Peer.Expired && (kind == "claim" || !c.Peer.Enrolment) {
		return nil, &Refusal{mqtt.NotAuthorized, "the client certificate has ended"}
	}
	var id string
	var how Admission
	if a.Devices != nil {
		var err error
		if how, err = a.Devices.Admit(&c.Peer); err != nil {
			var no *Refusal
			if errors.As(err, &no) {
				return nil, no
			}
			return nil, &Refusal{mqtt.NotAuthorized, err.Error()}
		}
	}
	if how.Name != "" {
		kind, id = how.Kind, how.Name
	} else {
		var err error
		if kind, id, err = (Mapping{}).Name(cert); err != nil {
			return nil, &Refusal{mqtt.NotAuthorized, err.Error()}
		}
	}
	if how.ClientID != "" && c.ClientID != how.ClientID && !strings.HasPrefix(c.ClientID, how.ClientID+"/") {
		return nil, &Refusal{mqtt.ClientIDNotValid, "the client identifier has to be the one of the certificate: " + how.ClientID}
	}
	p := &Principal{
		Name: id, Method: "certificate", Kind: kind,
		Bound: kind != "operator" && kind != "claim" && how.ClientID == "" && !how.Unbound,
		Cert:  Identify(cert), Listener: c.Peer.Listener, Restricted: how.Restricted,
	}
	if !c.Peer.Expired {
		p.Until = cert.NotAfter
	}
	switch {
	case kind == "claim":
		return p, p.enrol(c.ClientID)
	case c.Peer.Enrolment, how.Enrolment:
		p.Transient, p.Restricted, p.Policy = true, true, Renewing()
		p.hurry()
	case p.Restricted:
		p.Policy = Quarantine(id)
	}
	return p, nil
}

// enrolTime is how long a connection for enrolment or renewal may last.
const enrolTime = 10 * time.Minute

// hurry bounds the time of a connection that is not there to stay.
func (p *Principal) hurry() {
	if end := time.Now().Add(enrolTime); p.Until.IsZero() || end.Before(p.Until) {
		p.Until = end
	}
}

// enrol makes p a principal that may do nothing but enrol.
func (p *Principal) enrol(clientID string) error {
	if clientID == "" || strings.ContainsAny(clientID, "/+#") {
		return &Refusal{mqtt.ClientIDNotValid, "enrolment needs a client identifier without / + #: the id of the device is a good one"}
	}
	p.Transient, p.Restricted, p.Policy = true, true, Enrolling(clientID)
	p.hurry()
	return nil
}

// Identity reads the kind ("device", "operator", "claim") and the id that a certificate gives its holder; kind is empty
// when the id comes from the common name.
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
