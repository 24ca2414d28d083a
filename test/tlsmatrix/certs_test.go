package tlsmatrix

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// files are an issued certificate as clients read it: PEM, and for BearSSL DER
// and the bare scalar.
type files struct{ cert, key, der, scalar string }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func p256() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func rsaKey(bits int) crypto.Signer { return must(rsa.GenerateKey(rand.Reader, bits)) }

func edKey() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

// template is a certificate that is valid for an hour, and changed by change.
func template(cn string, change ...func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, f := range change {
		f(t)
	}
	return t
}

func isCA(t *x509.Certificate)      { t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign }
func forServer(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
func forClient(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
func expired(t *x509.Certificate)   { t.NotBefore, t.NotAfter = t.NotBefore.Add(-time.Hour), t.NotBefore }

func named(names ...string) func(*x509.Certificate) {
	return func(t *x509.Certificate) {
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else {
				t.DNSNames = append(t.DNSNames, n)
			}
		}
	}
}

// by issues t for key; a nil issuer is the key itself.
func by(issuer *issued, key crypto.Signer, t *x509.Certificate) *issued {
	parent, signer := t, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der := must(x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer))
	return &issued{must(x509.ParseCertificate(der)), key}
}

// show is what a listener presents: the leaf, then what is above it.
func (i *issued) show(above ...*issued) *tls.Certificate {
	c := &tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key}
	for _, a := range above {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

func (i *issued) write(t *testing.T, dir, name string) files {
	t.Helper()
	f := files{filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"), filepath.Join(dir, name+".der"), filepath.Join(dir, name+".raw")}
	put := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
	put(f.der, i.cert.Raw)
	if k, ok := i.key.(*ecdsa.PrivateKey); ok {
		put(f.key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(k))}))
		put(f.scalar, must(k.Bytes()))
	}
	return f
}

// scalarOf reads a P-256 key in whichever form it has.
func scalarOf(t *testing.T, der []byte) []byte {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		key, err = x509.ParseECPrivateKey(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return must(key.(*ecdsa.PrivateKey).Bytes())
}
