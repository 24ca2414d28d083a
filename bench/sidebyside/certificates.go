package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/sealmq/sealmq/bench"
)

// clientName is the common name of the client certificate.
const clientName = "bench"

// environment is what all brokers get: a folder with certificates and for their data, and three ports.
type environment struct {
	dir       string
	tlsPort   int // TLS, no client certificates
	mtlsPort  int // TLS with client certificates
	plainPort int // no TLS
	roots     *x509.CertPool
	client    tls.Certificate
}

// newEnvironment makes a CA for this run alone: P-256 keys, a server certificate for localhost, one for all clients.
// The folder is made in parent, by default the system's for temporary files.
func newEnvironment(parent string) (*environment, error) {
	dir, err := os.MkdirTemp(parent, "sidebyside-")
	if err != nil {
		return nil, err
	}
	e := &environment{dir: dir, roots: x509.NewCertPool()}
	if err := e.fill(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return e, nil
}

func (e *environment) fill() error {
	if err := e.freePorts(); err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "side by side"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := os.WriteFile(e.file("open.policy"), []byte("policy everybody { allow publish, subscribe # }\n"), 0o600); err != nil {
		return err
	}
	caKey, _, err := e.issue("ca", ca, nil, nil)
	if err != nil {
		return err
	}
	e.roots.AddCert(ca)
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, _, err := e.issue("server", server, ca, caKey); err != nil {
		return err
	}
	client := &x509.Certificate{
		Subject:  pkix.Name{CommonName: clientName},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	key, der, err := e.issue("client", client, ca, caKey)
	e.client = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return err
}

// issue signs c, by itself without an issuer, writes NAME.pem and NAME.key, and leaves in c what was signed.
func (e *environment) issue(name string, c, issuer *x509.Certificate, by crypto.Signer) (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if issuer == nil {
		issuer, by = c, key
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	now := time.Now()
	c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(7*24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), by)
	if err != nil {
		return nil, nil, fmt.Errorf("issue %s certificate: %w", name, err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	*c = *signed
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(e.file(name+".pem"), cert, 0o600); err != nil {
		return nil, nil, err
	}
	return key, der, os.WriteFile(e.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}

// data is the folder for what a broker keeps on disk.
func (e *environment) data(broker string) string { return filepath.Join(e.dir, broker+"-data") }

func (e *environment) file(name string) string { return filepath.Join(e.dir, name) }

// dialer is the generator's side of a workload.
func (e *environment) dialer(w workload) *bench.Dialer {
	cfg := &tls.Config{
		RootCAs: e.roots, ServerName: "localhost", DynamicRecordSizingDisabled: true,
		MinVersion: tls.VersionTLS13,
	}
	if w.version != 0 {
		cfg.MinVersion, cfg.MaxVersion = w.version, w.version
	}
	if w.group != 0 {
		cfg.CurvePreferences = []tls.CurveID{w.group}
	}
	port := e.tlsPort
	if w.mtls {
		port = e.mtlsPort
		cfg.Certificates = []tls.Certificate{e.client}
	}
	if w.plain {
		return &bench.Dialer{Address: fmt.Sprintf("127.0.0.1:%d", e.plainPort)}
	}
	return &bench.Dialer{Address: fmt.Sprintf("127.0.0.1:%d", port), TLS: cfg}
}

// freePorts finds ports that nobody listens on.
func (e *environment) freePorts() error {
	for _, p := range []*int{&e.tlsPort, &e.mtlsPort, &e.plainPort} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		*p = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}
