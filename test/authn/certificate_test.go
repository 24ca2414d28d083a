package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// foreignCA is a CA that the broker has from a file.
type foreignCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newForeignCA(t *testing.T) *foreignCA {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Plant CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &foreignCA{cert, key}
}

func (ca *foreignCA) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
}

// issue makes the certificate of a client.
func (ca *foreignCA) issue(t *testing.T, subject pkix.Name, dns ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject, DNSNames: dns, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Listeners read the names in certificates of other CAs as they are told to, and refuse what can be read in two ways.
func TestForeignCertificates(t *testing.T) {
	t.Parallel()
	ca := newForeignCA(t)
	b := prepare(t, `
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_ca = "plant-ca.pem"
own_clients = true
identity = "${ou}.${cn}"
[[listener]]
name = "subject"
address = "127.0.0.1:0"
client_ca = "plant-ca.pem"
identity = "subject"
bind_client_id = "cn"
[[listener]]
name = "dns"
address = "127.0.0.1:0"
client_ca = "plant-ca.pem"
identity = "dns"
bind_client_id = "none"
`)
	b.write(t, "plant-ca.pem", ca.pem())
	b.start(t)
	pump := ca.issue(t, pkix.Name{Organization: []string{"Plant"}, OrganizationalUnit: []string{"north"}, CommonName: "pump-17"}, "Pump-17.example.org")
	on := func(listener, id string, cert tls.Certificate) client.Config {
		return client.Config{ClientID: id, CleanStart: true, Dial: b.dial(t, listener, cert)}
	}
	is := func(name string) {
		t.Helper()
		b.awaitLog(t, 0, `"msg":"authenticated"`, `"by":"certificate"`, `"principal":"`+name+`"`)
	}
	b.connect(t, on("tls", "north.pump-17", pump))
	is("north.pump-17")
	b.connect(t, on("tls", "north.pump-17/logger", pump))
	b.refused(t, on("tls", "pump-17", pump), mqtt.ClientIDNotValid, "")
	b.connect(t, on("subject", "pump-17", pump))
	is("CN=pump-17,OU=north,O=Plant")
	b.refused(t, on("subject", "pump-18", pump), mqtt.ClientIDNotValid, "pump-17")
	b.refused(t, on("subject", "", pump), mqtt.ClientIDNotValid, "pump-17")
	b.connect(t, on("dns", "whatever", pump))
	is("pump-17.example.org")
	b.refused(t, on("dns", "pump-17", pump), mqtt.ClientIDNotValid, "") // the one of the listener subject has it

	b.refused(t, on("tls", "a.b.c", ca.issue(t, pkix.Name{OrganizationalUnit: []string{"a.b"}, CommonName: "c"})), mqtt.NotAuthorized, "has the text that ends it")
	b.refused(t, on("tls", "x", ca.issue(t, pkix.Name{CommonName: "x"})), mqtt.NotAuthorized, "0 attributes OU")
	b.refused(t, on("tls", "x", ca.issue(t, pkix.Name{OrganizationalUnit: []string{"north", "south"}, CommonName: "x"})), mqtt.NotAuthorized, "2 attributes OU")
	b.refused(t, on("tls", "x", ca.issue(t, pkix.Name{OrganizationalUnit: []string{"north"}, CommonName: "a\x00b"})), mqtt.NotAuthorized, "cannot be seen")
	b.refused(t, on("dns", "x", ca.issue(t, pkix.Name{CommonName: "x"}, "a.example.org", "b.example.org")), mqtt.NotAuthorized, "2 DNS names")
}

// The certificate is asked for by TLS, and the password decides who it is.
func TestPasswordBesideCertificate(t *testing.T) {
	t.Parallel()
	ca := newForeignCA(t)
	b := prepare(t, `
[auth.password]
file = "passwords"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_ca = "plant-ca.pem"
own_clients = true
auth = ["password"]
`)
	b.write(t, "plant-ca.pem", ca.pem())
	b.users(t, password.Argon2id, "alice", "wonderland-1")
	b.start(t)
	gate := ca.issue(t, pkix.Name{CommonName: "panel-1"})
	both := user("alice", "wonderland-1")
	if _, err := b.try(t, both); err == nil {
		t.Error("got in without a certificate")
	}
	both.Dial = b.dial(t, "tls", gate)
	b.connect(t, both)
	b.awaitLog(t, 0, `"msg":"authenticated"`, `"by":"password"`, `"principal":"alice"`)
	b.refused(t, client.Config{ClientID: "panel-1", CleanStart: true, Dial: both.Dial}, mqtt.NotAuthorized, "by: password")
}
