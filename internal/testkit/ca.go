package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

// CA is a throw-away certificate authority for one test.
type CA struct {
	t    testing.TB
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// NewCA makes a self-signed authority with a P-256 key, valid for a day on both sides of the present.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{t: t, next: 2}
	ca.key = ca.newKey()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away CA"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca.Cert = ca.sign(tmpl, tmpl, &ca.key.PublicKey)
	return ca
}

// Pool holds the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// Server issues a certificate for the host names and addresses.
func (ca *CA) Server(hosts ...string) tls.Certificate {
	return ca.issue(func(c *x509.Certificate) {
		c.Subject.CommonName = hosts[0]
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			}
			c.DNSNames = append(c.DNSNames, h)
		}
	})
}

// Client issues a certificate with the common name and SAN URIs.
func (ca *CA) Client(cn string, uris ...string) tls.Certificate {
	return ca.issue(func(c *x509.Certificate) {
		c.Subject.CommonName = cn
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				ca.t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	})
}

// Issue issues a leaf certificate after edit has changed its template.
func (ca *CA) Issue(edit func(*x509.Certificate)) tls.Certificate { return ca.issue(edit) }

func (ca *CA) issue(edit func(*x509.Certificate)) tls.Certificate {
	ca.t.Helper()
	key := ca.newKey()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(ca.next),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	ca.next++
	edit(tmpl)
	leaf := ca.sign(tmpl, ca.Cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func (ca *CA) newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	return k
}

func (ca *CA) sign(tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return c
}
