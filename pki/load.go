package pki

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

func newTLS(chain []*x509.Certificate, key crypto.Signer) *tls.Certificate {
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, part := range chain {
		c.Certificate = append(c.Certificate, part.Raw)
	}
	return c
}

// LoadServer reads a broker certificate that another CA issued: the chain, leaf
// first, and its key. What some clients would refuse is refused here, with the reason.
func LoadServer(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return nil, err
	}
	chain, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", certFile, err)
	}
	keyPEM, err := readSecret(keyFile)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", keyFile, err)
	}
	if !samePublic(chain[0], key) {
		return nil, fmt.Errorf("open %s: the key does not belong to %s", keyFile, certFile)
	}
	if err := checkServer(chain, now); err != nil {
		return nil, fmt.Errorf("open %s: %w", certFile, err)
	}
	return newTLS(chain, key), nil
}

func checkServer(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		return errors.New("the certificate has no host name (subject alternative name)")
	}
	if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return errors.New("the certificate is not for servers (extended key usage serverAuth)")
	}
	for i, c := range chain {
		who := fmt.Sprintf("certificate %d (%s)", i+1, c.Subject)
		switch c.SignatureAlgorithm {
		case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
			if i == 0 || !selfSigned(c) { // nobody checks the signature of a root
				return fmt.Errorf("%s is signed with %v", who, c.SignatureAlgorithm)
			}
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
			return fmt.Errorf("%s has an RSA key of %d bits, at least 2048 wanted", who, k.N.BitLen())
		}
		if now.After(c.NotAfter) {
			return fmt.Errorf("%s expired on %s", who, c.NotAfter.Format(time.RFC3339))
		}
		if now.Before(c.NotBefore) {
			return fmt.Errorf("%s is not valid before %s", who, c.NotBefore.Format(time.RFC3339))
		}
		if i == 0 {
			continue
		}
		if !c.IsCA {
			return fmt.Errorf("%s is not a CA, but stands as one in the chain", who)
		}
		if err := chain[i-1].CheckSignatureFrom(c); err != nil {
			return fmt.Errorf("%s did not issue the one before it: order the file leaf first", who)
		}
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool { return string(c.RawIssuer) == string(c.RawSubject) }

// LoadPool reads the CA certificates that a listener trusts for its clients.
func LoadPool(file string) (*x509.CertPool, error) {
	b, err := readFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	pool := x509.NewCertPool()
	for i, c := range certs {
		if !c.IsCA && !selfSigned(c) {
			return nil, fmt.Errorf("open %s: certificate %d (%s) is not a CA", file, i+1, c.Subject)
		}
		pool.AddCert(c)
	}
	return pool, nil
}
