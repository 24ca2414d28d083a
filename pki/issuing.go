package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

var (
	// ErrNoRootKey: the root's key is not in the folder.
	ErrNoRootKey = errors.New("the root's key is not here")
	// ErrWaiting: the issuing CAs wait for their root to sign them.
	ErrWaiting = errors.New("the certificate authority waits for the signature of its root")
)

// Root is a root CA that was made elsewhere.
type Root struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Keep stores the key in the CA folder. Without it, it is used once.
	Keep bool
}

// LoadRoot reads a root's certificate from a file and its key by OpenKey.
func LoadRoot(certFile, keyRef string, o KeyOptions) (Root, error) {
	cert, err := readCA(certFile)
	if err != nil {
		return Root{}, err
	}
	key, err := OpenKey(keyRef, o)
	if err != nil {
		return Root{}, err
	}
	return Root{Cert: cert, Key: key}, nil
}

// CreateUnder is Create below a root that exists already. It must allow one CA
// below it and be fit for small TLS stacks: the error says what is wrong with it.
func CreateUnder(dir string, root Root, cfg Config) (*Authority, error) {
	cfg = cfg.withDefaults()
	if err := checkRoot(root.Cert, cfg.Now()); err != nil {
		return nil, err
	}
	if !samePublic(root.Cert, root.Key) {
		return nil, errors.New("import root: the key does not belong to the certificate")
	}
	if err := install(dir, cfg, func(tmp string) error { return newCircle(tmp, &root, cfg) }); err != nil {
		return nil, err
	}
	return Open(dir, cfg)
}

// Prepare makes a CA folder whose root is elsewhere: the keys of the issuing
// CAs, and broker.csr and device.csr for the root to sign. Accept completes it.
func Prepare(dir string, cfg Config) error {
	cfg = cfg.withDefaults()
	return install(dir, cfg, func(tmp string) error {
		suffix, err := nameSuffix()
		if err != nil {
			return err
		}
		for _, name := range []string{brokerName, deviceName} {
			key, err := newKeyFile(tmp, name, cfg)
			if err != nil {
				return err
			}
			csr, err := newIssuingCSR(issuingTemplate(name, suffix, cfg.Now()), name, key)
			if err != nil {
				return err
			}
			if err := writeNew(filepath.Join(tmp, name+".csr"), csr, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// IssuingCSR is a request to renew the issuing CA name ("broker" or "device")
// of the folder dir with the key that it has, for a root that is elsewhere.
func IssuingCSR(dir, name string, cfg Config) ([]byte, error) {
	a, err := Open(dir, cfg)
	if err != nil {
		return nil, err
	}
	iss := a.broker
	if name != brokerName {
		iss = a.device
	}
	return newIssuingCSR(iss.cert, name, iss.key)
}

// newIssuingCSR asks for the extensions too, for tools that copy them.
func newIssuingCSR(t *x509.Certificate, name string, key crypto.Signer) ([]byte, error) {
	// digitalSignature is bit 0 of key usage, keyCertSign 5, cRLSign 6: RFC 5280 section 4.2.1.3.
	constraints, err := asn1.Marshal(struct {
		CA      bool
		PathLen int
	}{true, 0})
	if err != nil {
		return nil, err
	}
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7})
	if err != nil {
		return nil, err
	}
	last := 1 // serverAuth
	if purpose(name) == x509.ExtKeyUsageClientAuth {
		last = 2
	}
	extended, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, last}})
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: t.RawSubject,
		Subject:    t.Subject,
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: extended},
		},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR of the %s CA: %w", name, err)
	}
	return encodeCSR(der), nil
}

// SignIssuing signs the CSR of an issuing CA, on the machine that has the root.
// Of the CSR only key and subject are taken. name is "broker" or "device".
func SignIssuing(root Root, name string, csr *x509.CertificateRequest, cfg Config) (*x509.Certificate, error) {
	cfg = cfg.withDefaults()
	now := cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	if err := checkRoot(root.Cert, now); err != nil {
		return nil, err
	}
	if name != brokerName && name != deviceName {
		return nil, fmt.Errorf("sign issuing CA: name %q, broker or device wanted", name)
	}
	if err := refusedBy("check the CSR's signature", CodeSignature, csr.CheckSignature()); err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	if err := refusedBy("check the key", CodeKeyWeak, checkCAKey(csr.PublicKey)); err != nil {
		return nil, fmt.Errorf("sign issuing CA: %w", err)
	}
	if csr.Subject.CommonName == "" || bytes.Equal(csr.RawSubject, root.Cert.RawSubject) || len(csr.RawSubject) > 512 {
		return nil, fmt.Errorf("sign issuing CA: %w", refuse(CodeIdentity, fmt.Errorf("subject %q", cut(csr.Subject.String(), 200))))
	}
	t := issuingTemplate(name, "", now)
	t.Subject, t.RawSubject = csr.Subject, csr.RawSubject
	return signCA(t, csr.PublicKey, root.Cert, root.Key)
}

// Accept takes the certificates that a root elsewhere made from the CSRs of
// the folder dir. At first it needs the root and both CAs, later any of the two.
// A certificate that small TLS stacks would not accept is refused, and nothing changed.
func Accept(dir string, certs []*x509.Certificate, cfg Config) (*Authority, error) {
	cfg = cfg.withDefaults()
	now := cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	if err := CheckSecret(dir); err != nil {
		return nil, err
	}
	cur, err := currentDir(dir)
	if err != nil {
		return nil, err
	}
	certs = slices.Clone(certs)
	first := !exists(filepath.Join(cur, rootName+".pem"))
	var root *x509.Certificate
	if first {
		if root = takeRoot(&certs); root == nil {
			return nil, errors.New("accept certificates: the root is not among them")
		}
	} else {
		if root, err = readCA(filepath.Join(cur, rootName+".pem")); err != nil {
			return nil, err
		}
		certs = slices.DeleteFunc(certs, root.Equal)
	}
	if err := checkRoot(root, now); err != nil {
		return nil, err
	}
	found := map[string]*x509.Certificate{}
	for _, name := range []string{brokerName, deviceName} {
		key, err := openIssuerKey(cur, name, cfg)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return samePublic(c, key) })
		if i < 0 {
			if first {
				return nil, fmt.Errorf("accept certificates: none has the key of %s.csr", name)
			}
			continue
		}
		if err := checkIssuing(certs[i], root, name, now); err != nil {
			return nil, fmt.Errorf("accept certificate of the %s CA: %w", name, err)
		}
		found[name] = certs[i]
		certs = slices.Delete(certs, i, i+1)
	}
	if len(certs) > 0 || len(found) == 0 {
		return nil, fmt.Errorf("accept certificates: %d belong to no key of %s, %d do", len(certs), cur, len(found))
	}
	for name, c := range found {
		if !first {
			if err := sameSubject(filepath.Join(cur, name+".pem"), c); err != nil {
				return nil, err
			}
		}
	}
	for name, c := range found {
		if err := writeAtomic(filepath.Join(cur, name+".pem"), encodeCertificates(c), 0o644); err != nil {
			return nil, err
		}
	}
	if first { // last: with it the folder is complete
		if err := writeNew(filepath.Join(cur, rootName+".pem"), encodeCertificates(root), 0o644); err != nil {
			return nil, err
		}
	}
	for name := range found {
		if err := os.Remove(filepath.Join(cur, name+".csr")); err != nil && !missing(err) {
			return nil, err
		}
	}
	return Open(dir, cfg)
}

// sameSubject refuses another subject for a renewed CA: certificates name their issuer by it.
func sameSubject(file string, c *x509.Certificate) error {
	old, err := readCA(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(old.RawSubject, c.RawSubject) || !bytes.Equal(old.SubjectKeyId, c.SubjectKeyId) {
		return fmt.Errorf("accept %s: subject or key identifier differ from those it has: what it issued would lose its issuer", file)
	}
	return nil
}

func takeRoot(certs *[]*x509.Certificate) *x509.Certificate {
	for i, c := range *certs {
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			*certs = slices.Delete(*certs, i, i+1)
			return c
		}
	}
	return nil
}

// checkRoot says whether a root can be ours.
func checkRoot(c *x509.Certificate, now time.Time) error {
	bad := func(why string) error { return fmt.Errorf("root %s: %s", c.Subject, why) }
	if err := c.CheckSignatureFrom(c); err != nil {
		return bad("it is not signed by itself: " + err.Error())
	}
	if c.MaxPathLen == 0 && c.MaxPathLenZero {
		return bad("it allows no CA below it (path length 0)")
	}
	if len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) &&
		!(slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)) {
		return bad("its extended key usage leaves out servers or clients")
	}
	if err := checkCA(c, now); err != nil {
		return bad(err.Error())
	}
	return nil
}

// checkIssuing says whether an issuing CA is what we asked the root for.
func checkIssuing(c, root *x509.Certificate, name string, now time.Time) error {
	if err := c.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("the root did not sign it: %w", err)
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) && !slices.Contains(c.ExtKeyUsage, purpose(name)) {
		return errors.New("its extended key usage leaves out its purpose")
	}
	if bytes.Equal(c.RawSubject, root.RawSubject) {
		return errors.New("it has the subject of the root")
	}
	if c.NotAfter.After(root.NotAfter) {
		return errors.New("it outlives the root")
	}
	return checkCA(c, now)
}

// checkCA is what holds for every CA. Name constraints are refused, because
// Mbed TLS 2, BearSSL and wolfSSL refuse chains that have them.
func checkCA(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is not a CA")
	case c.KeyUsage&x509.KeyUsageCertSign == 0 || c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return errors.New("its key usage leaves out certificates or revocation lists (keyCertSign, cRLSign)")
	case now.Before(c.NotBefore):
		return fmt.Errorf("it is not valid before %s", c.NotBefore.Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("it expired on %s", c.NotAfter.Format(time.DateOnly))
	case len(c.SubjectKeyId) == 0:
		return errors.New("it has no subject key identifier")
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has the critical extension %v", c.UnhandledCriticalExtensions[0])
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 30}) {
			return errors.New("it has name constraints, which small TLS stacks refuse")
		}
	}
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return fmt.Errorf("it is signed with %v, which small TLS stacks refuse", c.SignatureAlgorithm)
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > 4096 {
		return fmt.Errorf("its RSA key has %d bits, small TLS stacks take at most 4096", k.N.BitLen())
	}
	return checkCAKey(c.PublicKey)
}

// RenewIssuing renews the issuing CAs of which less than a third of their life
// remains, or all of them: with the keys and names that they have, so that what
// they issued stays valid. It returns the names of those renewed. The root's key
// must be in the folder (ErrNoRootKey) when one is due; see IssuingCSR otherwise.
func RenewIssuing(dir string, all bool, cfg Config) ([]string, error) {
	a, err := Open(dir, cfg)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	if err := CheckClock(now); err != nil {
		return nil, err
	}
	due := map[string]issuer{}
	for name, iss := range map[string]issuer{brokerName: a.broker, deviceName: a.device} {
		// A CA that ends with its root gains nothing by renewal.
		if all || NeedsRenewal(iss.cert, now) && iss.cert.NotAfter.Before(a.root.NotAfter) {
			due[name] = iss
		}
	}
	if len(due) == 0 {
		return nil, nil
	}
	cur, err := currentDir(dir)
	if err != nil {
		return nil, err
	}
	root, err := openRootKey(cur, a.root, a.cfg)
	if err != nil {
		return nil, err
	}
	if now.After(root.cert.NotAfter) {
		return nil, fmt.Errorf("renew issuing CAs: the root expired on %s", root.cert.NotAfter.Format(time.DateOnly))
	}
	fresh := map[string]*x509.Certificate{}
	for name, iss := range due {
		t := issuingTemplate(name, "", now)
		t.Subject, t.RawSubject, t.SubjectKeyId = iss.cert.Subject, iss.cert.RawSubject, iss.cert.SubjectKeyId
		if fresh[name], err = signCA(t, iss.cert.PublicKey, root.cert, root.key); err != nil {
			return nil, err
		}
	}
	var done []string
	for name, c := range fresh {
		if err := writeAtomic(filepath.Join(cur, name+".pem"), encodeCertificates(c), 0o644); err != nil {
			return done, err
		}
		done = append(done, name)
	}
	slices.Sort(done)
	return done, nil
}

// openRootKey is the root with its key, ErrNoRootKey when that is elsewhere.
func openRootKey(dir string, cert *x509.Certificate, cfg Config) (issuer, error) {
	path := filepath.Join(dir, rootName+".key")
	key, err := openKeyFile(path, cfg.Keys.withDefaults())
	if errors.Is(err, fs.ErrNotExist) && !exists(path) {
		return issuer{}, &hinted{
			err:  wrap("open "+path, ErrNoRootKey, "it signs the issuing CAs"),
			hint: "bring it back for as long as this takes: cp ROOT.KEY " + quote(path) + " && chmod 600 " + quote(path),
		}
	}
	if err != nil {
		return issuer{}, err
	}
	if !samePublic(cert, key) {
		return issuer{}, fmt.Errorf("open %s: the key does not belong to root.pem", path)
	}
	return issuer{cert, key}, nil
}

func waiting(dir string) error {
	return &hinted{
		err: wrap("open "+dir, ErrWaiting, "it made broker.csr and device.csr"),
		hint: "let the root sign " + quote(filepath.Join(dir, "broker.csr")) + " and " + quote(filepath.Join(dir, "device.csr")) +
			", then accept what it answers",
	}
}

// Life tells how long a CA of the folder lives.
type Life struct {
	Name string // root, broker, device
	Cert *x509.Certificate
	// Due tells that less than a third of its life remains.
	Due bool
}

// Lives are the present CAs, the root first. A root that is due needs a
// rollover; an issuing CA, RenewIssuing.
func (a *Authority) Lives() []Life {
	now := a.cfg.Now()
	var out []Life
	for _, l := range []Life{{Name: rootName, Cert: a.root}, {Name: brokerName, Cert: a.broker.cert}, {Name: deviceName, Cert: a.device.cert}} {
		l.Due = NeedsRenewal(l.Cert, now)
		out = append(out, l)
	}
	return out
}
