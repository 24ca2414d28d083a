package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Config of a CA. The zero value is usable.
type Config struct {
	// Tenant is the organization written into identities; "default" when empty.
	Tenant string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Tenant == "" {
		c.Tenant = "default"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Authority issues certificates. It is safe for use by several goroutines.
type Authority struct {
	cfg    Config
	root   *x509.Certificate
	broker issuer
	device issuer
}

// issuer is a CA certificate with the key that signs in its name.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Bundle is what a holder of a certificate needs, each as PEM. The key exists
// nowhere else.
type Bundle struct {
	CA   []byte // the root
	Cert []byte // leaf, for a broker followed by the CA that issued it
	Key  []byte // PKCS#8
	Leaf *x509.Certificate
}

// Create makes a root and two issuing CAs in the folder dir, which must not
// exist yet (fs.ErrExist). It appears whole or not at all.
func Create(dir string, cfg Config) (*Authority, error) {
	cfg = cfg.withDefaults()
	now := cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist}
	}
	var tag [4]byte // tells the CAs of two installations apart wherever names are shown
	if _, err := rand.Read(tag[:]); err != nil {
		return nil, err
	}
	suffix := " " + hex.EncodeToString(tag[:])
	root, err := newIssuer(caTemplate("SealMQ root"+suffix, 1, rootLife, nil, now), nil)
	if err != nil {
		return nil, err
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	broker, err := newIssuer(caTemplate("SealMQ broker CA"+suffix, 0, issuerLife, server, now), &root)
	if err != nil {
		return nil, err
	}
	device, err := newIssuer(caTemplate("SealMQ device CA"+suffix, 0, issuerLife, client, now), &root)
	if err != nil {
		return nil, err
	}

	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".ca.*") // 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	for _, part := range []struct {
		name string
		iss  issuer
	}{{"root", root}, {"broker", broker}, {"device", device}} {
		key, err := encodeKey(part.iss.key)
		if err != nil {
			return nil, err
		}
		if err := writeNew(filepath.Join(tmp, part.name+".key"), key, 0o600); err != nil {
			return nil, err
		}
		if err := writeNew(filepath.Join(tmp, part.name+".pem"), encodeCertificates(part.iss.cert), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Lstat(dir); statErr == nil {
			return nil, &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist}
		}
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return &Authority{cfg: cfg, root: root.cert, broker: broker, device: device}, nil
}

func newIssuer(t *x509.Certificate, parent *issuer) (issuer, error) {
	key, err := newKey()
	if err != nil {
		return issuer{}, err
	}
	var (
		above  *x509.Certificate
		signer crypto.Signer = key
	)
	if parent != nil {
		above, signer = parent.cert, parent.key
	}
	cert, err := sign(t, key.Public(), above, signer)
	return issuer{cert, key}, err
}

// Open reads the CA of the folder dir; ErrNoCA when there is none. The root's
// key is not needed and may be kept elsewhere.
func Open(dir string, cfg Config) (*Authority, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, wrap("open "+dir, ErrNoCA, "the folder does not exist")
	}
	if err := CheckSecret(dir); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg.withDefaults()}
	var err error
	rootFile := filepath.Join(dir, "root.pem")
	if a.root, err = readCA(rootFile); errors.Is(err, fs.ErrNotExist) {
		return nil, &hinted{err: err, hint: "it is the same file as the ca.pem of every device: copy one to " + quote(rootFile)}
	}
	if err != nil {
		return nil, err
	}
	if err := a.root.CheckSignatureFrom(a.root); err != nil {
		return nil, fmt.Errorf("open %s: not signed by itself: %w", filepath.Join(dir, "root.pem"), err)
	}
	if key := filepath.Join(dir, "root.key"); exists(key) {
		if err := CheckSecret(key); err != nil {
			return nil, err
		}
	}
	if a.broker, err = a.openIssuer(dir, "broker"); err != nil {
		return nil, err
	}
	if a.device, err = a.openIssuer(dir, "device"); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) openIssuer(dir, name string) (issuer, error) {
	certFile, keyFile := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	cert, err := readCA(certFile)
	if err != nil {
		return issuer{}, err
	}
	if err := cert.CheckSignatureFrom(a.root); err != nil {
		return issuer{}, fmt.Errorf("open %s: not signed by the root beside it: %w", certFile, err)
	}
	b, err := readSecret(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return issuer{}, &hinted{
			err:  fmt.Errorf("%w: without the key of the %s CA it issues no certificates", err, name),
			hint: "restore it from a backup; if there is none, move " + quote(filepath.Dir(dir)) + " away and start with a new CA: all devices then need new files",
		}
	}
	if err != nil {
		return issuer{}, err
	}
	key, err := ParseKey(b)
	if err != nil {
		return issuer{}, fmt.Errorf("open %s: %w", keyFile, err)
	}
	if !samePublic(cert, key) {
		return issuer{}, fmt.Errorf("open %s: the key does not belong to %s", keyFile, filepath.Base(certFile))
	}
	return issuer{cert, key}, nil
}

func readCA(path string) (*x509.Certificate, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if len(certs) != 1 || !certs[0].IsCA {
		return nil, fmt.Errorf("open %s: one CA certificate expected", path)
	}
	return certs[0], nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Root is the certificate that clients trust.
func (a *Authority) Root() *x509.Certificate { return a.root }

// RootPEM is the content of a client's ca.pem.
func (a *Authority) RootPEM() []byte { return encodeCertificates(a.root) }

// ClientCAs is what a listener trusts for client certificates: the device CA
// alone, so that nothing else that hangs below the root can be a client.
func (a *Authority) ClientCAs() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.device.cert)
	return p
}

// Fingerprint is the SHA-256 of a certificate in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// IssueBroker issues a broker certificate for hosts (names and addresses),
// 90 days, with a key of its own.
func (a *Authority) IssueBroker(hosts []string) (*Bundle, error) {
	hosts, err := cleanHosts(hosts)
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, errors.New("issue broker certificate: no host name")
	}
	return a.issue(a.broker, func(now time.Time) *x509.Certificate { return brokerTemplate(hosts, now) }, a.broker.cert)
}

// IssueClient issues a certificate for a device or an operator, 365 days, with
// a key of its own. The group may be empty.
func (a *Authority) IssueClient(kind Kind, id, group string) (*Bundle, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if group != "" {
		if err := CheckID(group); err != nil {
			return nil, fmt.Errorf("group: %w", err)
		}
	}
	// The broker knows the issuing CA: sending it would cost the device room and the broker 3 kB a connection.
	return a.issue(a.device, func(now time.Time) *x509.Certificate {
		return clientTemplate(a.cfg.Tenant, kind, id, group, now)
	})
}

func (a *Authority) issue(iss issuer, template func(now time.Time) *x509.Certificate, chain ...*x509.Certificate) (*Bundle, error) {
	now := a.cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	if now.After(iss.cert.NotAfter) {
		return nil, fmt.Errorf("issue certificate: %s expired on %s", iss.cert.Subject.CommonName, iss.cert.NotAfter.Format(time.DateOnly))
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf, err := sign(template(now), key.Public(), iss.cert, iss.key)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &Bundle{
		CA:   a.RootPEM(),
		Cert: encodeCertificates(append([]*x509.Certificate{leaf}, chain...)...),
		Key:  keyPEM,
		Leaf: leaf,
	}, nil
}
