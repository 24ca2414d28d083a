package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

var notAfter = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)

func holder(cn string, uris ...string) *x509.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, SerialNumber: big.NewInt(0x2a), NotAfter: notAfter}
	var err error
	if c.RawSubject, err = asn1.Marshal(c.Subject.ToRDNSequence()); err != nil {
		panic(err)
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

// Who a certificate makes its holder, and which ones name nobody.
func TestCertificates(t *testing.T) {
	for _, test := range []struct {
		name    string
		cert    *x509.Certificate
		want    string
		bound   bool
		refused bool
	}{
		{name: "device", cert: holder("x", "urn:mqtts:default:device:pump-17"), want: "pump-17", bound: true},
		{name: "operator", cert: holder("x", "urn:mqtts:default:operator:op"), want: "op"},
		{name: "id with colons", cert: holder("x", "urn:mqtts:default:device:a:b"), want: "a:b", bound: true},
		{name: "other URIs before", cert: holder("x", "https://example.org/", "urn:uuid:1", "urn:mqtts:t:device:d"), want: "d", bound: true},
		{name: "common name", cert: holder("cn-1"), want: "cn-1", bound: true},
		{name: "common name beside a foreign URI", cert: holder("cn-1", "urn:other:t:operator:op"), want: "cn-1", bound: true},
		{name: "no name", cert: holder(""), refused: true},
		{name: "empty id", cert: holder("cn-1", "urn:mqtts:t:device:"), refused: true},
		{name: "slash", cert: holder("a/b"), refused: true},
		{name: "plus", cert: holder("+"), refused: true},
		{name: "number sign", cert: holder("#"), refused: true},
		{name: "NUL", cert: holder("a\x00b"), refused: true},
		{name: "no certificate", refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Certificates{}.Authenticate(t.Context(), &Credentials{Peer: Peer{Cert: test.cert, Secure: true}})
			if test.refused {
				var no *Refusal
				if !errors.As(err, &no) || no.Code != mqtt.NotAuthorized {
					t.Fatalf("got %v, %v, want a refusal as not authorized", p, err)
				}
				return
			}
			if err != nil || p.Name != test.want || p.Bound != test.bound {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

// A password never counts without TLS, not even where anonymous clients are let in.
func TestPasswordInTheClear(t *testing.T) {
	c := &Credentials{Peer: Peer{Anonymous: true}, HasUsername: true, Username: "u", HasPassword: true}
	var no *Refusal
	if p, err := (Certificates{}).Authenticate(t.Context(), c); !errors.As(err, &no) || no.Code != mqtt.BadUserNameOrPassword {
		t.Errorf("got %v, %v", p, err)
	}
	c.HasPassword = false
	if p, err := (Certificates{}).Authenticate(t.Context(), c); err != nil || p.Method != "anonymous" || p.Name != "" {
		t.Errorf("without a password: %v, %v", p, err)
	}
}

// A device that was given an operator's name is not that operator: it may not resume its sessions.
func TestSame(t *testing.T) {
	identity := func(uri string) *Principal {
		p, err := Certificates{}.Authenticate(t.Context(), &Credentials{Peer: Peer{Cert: holder("x", uri)}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	device, operator := identity("urn:mqtts:t:device:operator"), identity("urn:mqtts:t:operator:operator")
	if device.Same(operator) || operator.Same(device) {
		t.Error("a device named operator is taken for the operator")
	}
	if !device.Same(identity("urn:mqtts:t:device:operator")) {
		t.Error("a renewed certificate makes another identity")
	}
	// Of another CA, on a listener that binds no client identifiers.
	foreign := &Principal{Name: "operator", Method: "certificate"}
	if foreign.Same(operator) || operator.Same(foreign) {
		t.Error("a certificate without a kind is taken for the operator's")
	}
	if (&Principal{Method: "anonymous"}).Same(device) {
		t.Error("an anonymous client is taken for a device")
	}
}

// admitting is Devices that admits everybody in one way.
type admitting Admission

func (a admitting) Admit(*Peer) (Admission, error) { return Admission(a), nil }

// The client identifier of a certificate of another CA: bound by the name, by another field, or not at all.
func TestBoundClientID(t *testing.T) {
	for _, test := range []struct {
		how   Admission
		id    string
		bound bool
		ok    bool
	}{
		{Admission{Name: "pump"}, "anything", true, true}, // the broker refuses it, by the principal
		{Admission{Name: "pump", Unbound: true}, "anything", false, true},
		{Admission{Name: "CN=pump,O=Plant", ClientID: "pump"}, "pump", false, true},
		{Admission{Name: "CN=pump,O=Plant", ClientID: "pump"}, "pump/1", false, true},
		{Admission{Name: "CN=pump,O=Plant", ClientID: "pump"}, "pump1", false, false},
		{Admission{Name: "CN=pump,O=Plant", ClientID: "pump"}, "", false, false},
	} {
		a := ByCertificate{Devices: admitting(test.how)}
		p, err := a.Authenticate(t.Context(), &Credentials{ClientID: test.id, Peer: Peer{Cert: holder("x"), Secure: true}})
		var no *Refusal
		switch {
		case !test.ok && (!errors.As(err, &no) || no.Code != mqtt.ClientIDNotValid):
			t.Errorf("%+v, %q: %v, %v", test.how, test.id, p, err)
		case test.ok && (err != nil || p.Name != test.how.Name || p.Bound != test.bound):
			t.Errorf("%+v, %q: %+v, %v", test.how, test.id, p, err)
		}
	}
}
