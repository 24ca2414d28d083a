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
	"slices"
	"time"
)

// Config of a CA. The zero value is usable. It must not be modified once passed in.
type Config struct {
	// Tenant is the organization written into identities; "default" when empty.
	// An id without ":".
	Tenant string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Keys say how private keys are reached.
	Keys KeyOptions
	// Seal encrypts the keys that are made, with the passphrase of Keys.
	Seal bool
	// KeyRefs name where the keys of a new CA are, by "root", "broker" and
	// "device": exec: or pkcs11:, see OpenKey. Those not named are made.
	KeyRefs map[string]string
	// Holder returns who has a key already, as the identity
	// urn:mqtts:TENANT:KIND:ID, or "" when nobody has. A CSR with the key of
	// another is refused; one with the key of the same holder is a renewal. It
	// must be safe for several goroutines. Nobody has any key when nil.
	Holder func(SPKI) (string, error)
	// CRL is the URL of the device CA's revocation list that clients'
	// certificates carry; none when empty.
	CRL string
	// Policy are further steps for every certificate.
	Policy Policy
}

func (c Config) withDefaults() Config {
	if c.Tenant == "" {
		c.Tenant = "default"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Keys = c.Keys.withDefaults()
	return c
}

// Authority issues certificates. It is safe for use by several goroutines and
// does not change, but for keys that come later: what changes the folder is seen
// by the next Open.
type Authority struct {
	cfg    Config
	state  State
	root   *x509.Certificate
	broker issuer
	device issuer
	// above is what a broker sends behind its certificate.
	above *x509.Certificate
	// While a root takes another's place: the other root, its issuing CAs, and
	// the newer root as signed by the older one, where there is such.
	other *circle
	cross *x509.Certificate
	// otherKey is that of the other device CA, which signs its revocation lists;
	// nil when it is gone.
	otherKey crypto.Signer
}

// issuer is a CA certificate with the key that signs in its name.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// circle is a root with its issuing CAs.
type circle struct{ root, broker, device *x509.Certificate }

// Names of the CAs of a folder, as its files have them.
const (
	rootName   = "root"
	brokerName = "broker"
	deviceName = "device"
)

// Bundle is what a holder of a certificate needs, each as PEM. The key exists
// nowhere else.
type Bundle struct {
	CA   []byte // the root; two while one takes the other's place
	Cert []byte // leaf, for a broker followed by the CA that issued it
	Key  []byte // PKCS#8; nil when the holder made the key
	Leaf *x509.Certificate
}

// Create makes a root and two issuing CAs in the folder dir, which must not
// exist yet (fs.ErrExist). It appears whole or not at all.
func Create(dir string, cfg Config) (*Authority, error) {
	cfg = cfg.withDefaults()
	if err := install(dir, cfg, func(tmp string) error { return newCircle(tmp, nil, cfg) }); err != nil {
		return nil, err
	}
	return Open(dir, cfg)
}

// install lets build fill a folder that becomes dir, whole or not at all.
func install(dir string, cfg Config, build func(tmp string) error) error {
	if err := CheckClock(cfg.Now()); err != nil {
		return err
	}
	if err := checkTenant(cfg.Tenant); err != nil {
		return err
	}
	if exists(dir) {
		return &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".ca.*") // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := build(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if exists(dir) {
			return &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist}
		}
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// newCircle makes the files of a root and two issuing CAs in dir. A root that
// is given is taken, and its key written when it is to be kept.
func newCircle(dir string, given *Root, cfg Config) error {
	now := cfg.Now()
	suffix, err := nameSuffix()
	if err != nil {
		return err
	}
	var root issuer
	if given != nil {
		root = issuer{given.Cert, given.Key}
		if given.Keep {
			if err := writeKey(filepath.Join(dir, rootName+".key"), given.Key, cfg); err != nil {
				return err
			}
		}
	} else {
		if root.key, err = newKeyFile(dir, rootName, cfg); err != nil {
			return err
		}
		if root.cert, err = signCA(caTemplate("SealMQ root"+suffix, 1, rootLife, nil, now), root.key.Public(), nil, root.key); err != nil {
			return err
		}
	}
	if err := writeNew(filepath.Join(dir, rootName+".pem"), encodeCertificates(root.cert), 0o644); err != nil {
		return err
	}
	for _, name := range []string{brokerName, deviceName} {
		key, err := newKeyFile(dir, name, cfg)
		if err != nil {
			return err
		}
		cert, err := signCA(issuingTemplate(name, suffix, now), key.Public(), root.cert, root.key)
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(dir, name+".pem"), encodeCertificates(cert), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// nameSuffix tells the CAs of two installations apart wherever names are shown.
func nameSuffix() (string, error) {
	var tag [4]byte
	if _, err := rand.Read(tag[:]); err != nil {
		return "", err
	}
	return " " + hex.EncodeToString(tag[:]), nil
}

func issuingTemplate(name, suffix string, now time.Time) *x509.Certificate {
	return caTemplate("SealMQ "+name+" CA"+suffix, 0, issuerLife, []x509.ExtKeyUsage{purpose(name)}, now)
}

// purpose is what the certificates of an issuing CA are for.
func purpose(name string) x509.ExtKeyUsage {
	if name == brokerName {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

// Open reads the CA of the folder dir; ErrNoCA when there is none, ErrWaiting
// when its root has not signed it yet. The root's key is not needed and may be
// kept elsewhere.
func Open(dir string, cfg Config) (*Authority, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, wrap("open "+dir, ErrNoCA, "the folder does not exist")
	}
	if err := CheckSecret(dir); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg.withDefaults()}
	if err := checkTenant(a.cfg.Tenant); err != nil {
		return nil, err
	}
	var err error
	if a.state, _, err = readState(dir); err != nil {
		return nil, err
	}
	cur, old := dir, ""
	switch a.state {
	case Announced:
		old = filepath.Join(dir, nextName)
	case Switched:
		cur, old = filepath.Join(dir, nextName), dir
	case retiring:
		cur, a.state = filepath.Join(dir, nextName), Steady
	}
	if err := a.openCircle(cur); err != nil {
		return nil, err
	}
	if old != "" {
		err = a.openOther(old, filepath.Join(dir, nextName))
	}
	return a, err
}

// openCircle reads the CAs that issue, with their keys.
func (a *Authority) openCircle(dir string) error {
	c, err := readCircle(dir)
	if err != nil {
		return err
	}
	if key := filepath.Join(dir, rootName+".key"); exists(key) {
		if err := CheckSecret(key); err != nil {
			return err
		}
	}
	a.root, a.above = c.root, c.broker
	if a.broker, err = openIssuer(dir, brokerName, c.broker, a.cfg); err != nil {
		return err
	}
	a.device, err = openIssuer(dir, deviceName, c.device, a.cfg)
	return err
}

// readCircle reads the certificates of a folder and checks that they belong together.
func readCircle(dir string) (*circle, error) {
	rootFile := filepath.Join(dir, rootName+".pem")
	root, err := readCA(rootFile)
	if missing(err) {
		if exists(filepath.Join(dir, brokerName+".csr")) {
			return nil, waiting(dir)
		}
		return nil, &hinted{err: err, hint: "it is the same file as the ca.pem of every device: copy one to " + quote(rootFile)}
	}
	if err != nil {
		return nil, err
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("open %s: not signed by itself: %w", rootFile, err)
	}
	c := &circle{root: root}
	for name, to := range map[string]**x509.Certificate{brokerName: &c.broker, deviceName: &c.device} {
		file := filepath.Join(dir, name+".pem")
		if *to, err = readCA(file); err != nil {
			return nil, err
		}
		if err := (*to).CheckSignatureFrom(root); err != nil {
			return nil, fmt.Errorf("open %s: not signed by the root beside it: %w", file, err)
		}
	}
	return c, nil
}

func openIssuerKey(dir, name string, cfg Config) (crypto.Signer, error) {
	path := filepath.Join(dir, name+".key")
	key, err := openKeyFile(path, cfg.Keys.withDefaults())
	if missing(err) && !exists(path) {
		return nil, &hinted{
			err:  absent{fmt.Errorf("%w: without the key of the %s CA it issues no certificates", err, name)},
			hint: "bring it back, or restore it from a backup; if there is none, move " + quote(filepath.Dir(dir)) + " away and start with a new CA: all devices then need new files",
		}
	}
	return key, err
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

// Root is the certificate that clients trust; while a root takes another's
// place, the one whose issuing CAs issue.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Roots are all that a client shall trust, the older first.
func (a *Authority) Roots() []*x509.Certificate {
	switch {
	case a.other == nil:
		return []*x509.Certificate{a.root}
	case a.state == Announced:
		return []*x509.Certificate{a.root, a.other.root}
	}
	return []*x509.Certificate{a.other.root, a.root}
}

// RootPEM is the content of a client's ca.pem: all Roots.
func (a *Authority) RootPEM() []byte { return encodeCertificates(a.Roots()...) }

// ClientCAs is what a listener trusts for client certificates: the device CA
// alone, so that nothing else that hangs below the root can be a client. While a
// root takes another's place, the device CAs of both.
func (a *Authority) ClientCAs() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range a.DeviceCAs() {
		p.AddCert(c)
	}
	return p
}

// DeviceCAs are the certificates of ClientCAs; the one that issues is first.
func (a *Authority) DeviceCAs() []*x509.Certificate {
	out := []*x509.Certificate{a.device.cert}
	if a.other != nil {
		out = append(out, a.other.device)
	}
	return out
}

// BrokerCAs are the CAs that issue the broker's certificate; the present one is first.
func (a *Authority) BrokerCAs() []*x509.Certificate {
	out := []*x509.Certificate{a.broker.cert}
	if a.other != nil {
		out = append(out, a.other.broker)
	}
	return out
}

// own are all CA certificates of the folder.
func (a *Authority) own() []*x509.Certificate {
	return slices.Concat(a.Roots(), a.DeviceCAs(), a.BrokerCAs())
}

// Fingerprint is the SHA-256 of a certificate in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// IssueBroker issues a broker certificate for hosts (names and addresses),
// 90 days, with a key of its own.
func (a *Authority) IssueBroker(hosts []string) (*Bundle, error) {
	return a.issue(&Request{Hosts: hosts})
}

// IssueClient issues a certificate for a device or an operator, 365 days, with
// a key of its own. The group may be empty.
func (a *Authority) IssueClient(kind Kind, id, group string) (*Bundle, error) {
	return a.issue(&Request{Kind: kind, ID: id, Group: group})
}

// Sign issues a certificate for the key of a CSR, or for a key made here when
// the request has none. Everything else in the CSR is ignored. What policy
// refuses is a *Refusal.
func (a *Authority) Sign(r Request) (*Bundle, error) {
	if r.CSR == nil && r.Public != nil {
		return nil, errors.New("issue certificate: a key without a CSR that proves its possession")
	}
	return a.issue(&r)
}

func (a *Authority) issue(r *Request) (*Bundle, error) {
	b := &Bundle{CA: a.RootPEM()}
	if r.CSR == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		r.Public = key.Public()
		if b.Key, err = encodeKey(key); err != nil {
			return nil, err
		}
	}
	// The broker knows the device CA: sending it would cost the device room and the broker 3 kB a connection.
	iss, chain := a.device, []*x509.Certificate(nil)
	if r.Kind == "" {
		iss, chain = a.broker, []*x509.Certificate{a.above}
	}
	var err error
	if b.Leaf, err = a.certify(r, iss); err != nil {
		return nil, err
	}
	b.Cert = encodeCertificates(append([]*x509.Certificate{b.Leaf}, chain...)...)
	return b, nil
}
