package threats

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// identity is a client certificate with its key.
type identity = *tls.Certificate

// device makes a certificate as the broker's own CA would, after edit has changed
// it: whoever reads the data folder can do that, and some of them the CA itself
// would not make.
func (h *home) device(t *testing.T, id string, edit ...func(*x509.Certificate)) identity {
	t.Helper()
	return h.holder(t, "device", id, edit...)
}

// operator makes an operator's certificate.
func (h *home) operator(t *testing.T, name string) identity {
	t.Helper()
	return h.holder(t, "operator", name)
}

func (h *home) holder(t *testing.T, kind, name string, edit ...func(*x509.Certificate)) identity {
	t.Helper()
	ca, key := decode(t, h.read(t, "data/ca/device.pem")), decode(t, h.read(t, "data/ca/device.key"))
	parent, err := x509.ParseCertificate(ca)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "urn", Opaque: "mqtts:default:" + kind + ":" + name}},
	}
	for _, e := range edit {
		e(c)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, signer.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca}, PrivateKey: own}
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM in the folder of the CA")
	}
	return block.Bytes
}

// tls is how clients with this identity, or without any, connect.
func (h *home) tls(t *testing.T, who identity) *tls.Config {
	t.Helper()
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	cfg.RootCAs.AppendCertsFromPEM([]byte(h.read(t, "data/ca/root.pem")))
	if who != nil {
		// Whatever the broker asks for, and whether or not crypto/tls can read it.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return who, nil }
	}
	return cfg
}
