package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"
)

// Request is a certificate on its way through the steps that end in its
// signature. Nothing of a CSR but its key gets into the certificate: who the
// holder is, the caller says.
type Request struct {
	// CSR, when the holder made the key; nil when this package made it.
	CSR *x509.CertificateRequest
	// Public is the holder's key; that of the CSR when there is one.
	Public crypto.PublicKey
	// Kind is Device, Operator or Claim for a client, empty for a broker.
	Kind Kind
	// ID of a client; Group may be empty.
	ID, Group string
	// Hosts of a broker, the first of which becomes its common name.
	Hosts []string
	// Life of the certificate: 365 days for a client and 90 for a broker when
	// zero; at least an hour, and at most 5 years.
	Life time.Duration

	tenant string
	now    time.Time
	issuer *x509.Certificate
	spki   SPKI
	serial *big.Int
}

// Identity is the URI that a client's certificate carries, empty for a broker.
func (r *Request) Identity() string {
	if r.Kind == "" {
		return ""
	}
	return urn(r.tenant, r.Kind, r.ID).String()
}

// SPKI names the holder's key.
func (r *Request) SPKI() SPKI { return r.spki }

// Step is one step of the pipeline, with the name that a Refusal shows. A
// validator looks at the request alone; a modifier writes the certificate; an
// enforcer looks at the finished certificate before it is signed.
type Step struct {
	Name  string
	Code  Code // of errors that are no *Refusal; CodePolicy when empty
	Check func(r *Request, cert *x509.Certificate) error
}

// Policy are the caller's own steps, which run after the built-in ones of their
// kind and cannot take anything back: what a modifier writes is enforced.
type Policy struct {
	Validators []Step // the certificate is nil
	Modifiers  []Step
	Enforcers  []Step
}

func (a *Authority) validators() []Step {
	return []Step{
		{"check the CSR's signature", CodeSignature, checkCSRSignature},
		{"check the key", CodeKeyWeak, func(r *Request, _ *x509.Certificate) error { return CheckKey(r.Public) }},
		{"check who has the key", CodeKeyUsed, a.checkHolder},
		{"check the identity", CodeIdentity, checkIdentity},
		{"check the lifetime", CodeLifetime, checkLifetime},
	}
}

func (a *Authority) modifiers() []Step {
	return []Step{
		{"write subject and names", CodeIdentity, writeNames},
		{"write lifetime", CodeLifetime, writeLifetime},
		{"write usage", CodePolicy, writeUsage},
		{"write serial and key identifiers", CodePolicy, writeNumbers},
		{"write revocation list URL", CodePolicy, a.writeCRL},
	}
}

// enforcers hold whatever modifiers did.
func (a *Authority) enforcers() []Step {
	return []Step{
		{"enforce an end entity", CodePolicy, enforceLeaf},
		{"enforce the names", CodePolicy, enforceNames},
		{"enforce the lifetime", CodeLifetime, enforceLifetime},
		{"enforce the key", CodeKeyUsed, enforceKey},
	}
}

// certify runs all steps and signs.
func (a *Authority) certify(r *Request, iss issuer) (*x509.Certificate, error) {
	r.tenant, r.now, r.issuer = a.cfg.Tenant, a.cfg.Now(), iss.cert
	if err := CheckClock(r.now); err != nil {
		return nil, err
	}
	if r.CSR != nil {
		r.Public = r.CSR.PublicKey
	}
	cert := new(x509.Certificate)
	for _, steps := range []struct {
		list []Step
		cert *x509.Certificate
	}{
		{a.validators(), nil}, {a.cfg.Policy.Validators, nil},
		{a.modifiers(), cert}, {a.cfg.Policy.Modifiers, cert},
		{a.enforcers(), cert}, {a.cfg.Policy.Enforcers, cert},
	} {
		for _, s := range steps.list {
			code := s.Code
			if code == "" {
				code = CodePolicy
			}
			if err := refusedBy(s.Name, code, s.Check(r, steps.cert)); err != nil {
				return nil, fmt.Errorf("issue certificate: %w", err)
			}
		}
	}
	return signNumbered(cert, r.Public, iss.cert, iss.key)
}

func checkCSRSignature(r *Request, _ *x509.Certificate) error {
	if r.CSR == nil {
		return nil
	}
	return r.CSR.CheckSignature()
}

// checkHolder refuses the CA's own keys, and a key that the configured lookup
// knows as another's.
func (a *Authority) checkHolder(r *Request, _ *x509.Certificate) error {
	var err error
	if r.spki, err = SPKIOf(r.Public); err != nil {
		return err
	}
	for _, own := range a.own() {
		if k, ok := own.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(r.Public) {
			return errors.New("it is a key of the CA")
		}
	}
	if a.cfg.Holder == nil || r.CSR == nil {
		return nil
	}
	holder, err := a.cfg.Holder(r.spki)
	if err != nil {
		return fmt.Errorf("look up the key: %w", err)
	}
	if holder != "" && holder != r.Identity() {
		return fmt.Errorf("%s has it already", holder)
	}
	return nil
}

func checkIdentity(r *Request, _ *x509.Certificate) error {
	switch r.Kind {
	case "":
		hosts, err := cleanHosts(r.Hosts)
		if err != nil {
			return err
		}
		if len(hosts) == 0 {
			return errors.New("no host name")
		}
		r.Hosts = hosts
		return nil
	case Device, Operator, Claim:
	default:
		return fmt.Errorf("kind %q", r.Kind)
	}
	if err := checkTenant(r.tenant); err != nil {
		return err
	}
	if err := CheckID(r.ID); err != nil {
		return err
	}
	if r.Group != "" {
		if err := CheckID(r.Group); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return nil
}

const minLife = time.Hour

func checkLifetime(r *Request, _ *x509.Certificate) error {
	if r.Life == 0 {
		if r.Life = deviceLife; r.Kind == "" {
			r.Life = brokerLife
		}
	}
	switch {
	case r.Life < minLife || r.Life > issuerLife:
		return fmt.Errorf("a life of %v, between %v and %v wanted", r.Life, minLife, issuerLife)
	case r.now.After(r.issuer.NotAfter):
		return fmt.Errorf("%s expired on %s", r.issuer.Subject.CommonName, r.issuer.NotAfter.Format(time.DateOnly))
	case r.issuer.NotAfter.Sub(r.now) < minLife:
		return fmt.Errorf("%s ends within %v", r.issuer.Subject.CommonName, minLife)
	}
	return nil
}

// writeNames repeats every address of a broker as a DNS name: Mbed TLS 2 and
// BearSSL do not look at addresses, other stacks at nothing else.
func writeNames(r *Request, c *x509.Certificate) error {
	if r.Kind != "" {
		c.Subject = pkix.Name{CommonName: r.ID, Organization: []string{r.tenant}}
		if r.Group != "" {
			c.Subject.OrganizationalUnit = []string{r.Group}
		}
		c.URIs = []*url.URL{urn(r.tenant, r.Kind, r.ID)}
		return nil
	}
	c.Subject = pkix.Name{CommonName: r.Hosts[0]}
	if len(r.Hosts[0]) > 64 {
		c.Subject.CommonName = "sealmq"
	}
	var asNames []string
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			if ip4 := ip.To4(); ip4 != nil {
				ip = ip4
			}
			c.IPAddresses = append(c.IPAddresses, ip)
			asNames = append(asNames, h)
			continue
		}
		c.DNSNames = append(c.DNSNames, h)
	}
	c.DNSNames = append(c.DNSNames, asNames...)
	return nil
}

// writeLifetime ends with the issuer at the latest: a chain is as short as its
// shortest part, so the certificate says so.
func writeLifetime(r *Request, c *x509.Certificate) error {
	c.NotBefore, c.NotAfter = r.now.Add(-Backdate), r.now.Add(r.Life)
	if c.NotAfter.After(r.issuer.NotAfter) {
		c.NotAfter = r.issuer.NotAfter
	}
	return nil
}

func writeUsage(r *Request, c *x509.Certificate) error {
	c.BasicConstraintsValid = true
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{r.usage()}
	return nil
}

func (r *Request) usage() x509.ExtKeyUsage {
	if r.Kind == "" {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

func writeNumbers(r *Request, c *x509.Certificate) (err error) {
	if r.serial, err = newSerial(); err != nil {
		return err
	}
	c.SerialNumber = new(big.Int).Set(r.serial)
	c.SubjectKeyId, err = keyID(r.Public)
	return err
}

// writeCRL tells clients' certificates where their revocation list is. Brokers'
// have none: a device could not reach it before it trusts the broker.
func (a *Authority) writeCRL(r *Request, c *x509.Certificate) error {
	if a.cfg.CRL != "" && r.Kind != "" {
		c.CRLDistributionPoints = []string{a.cfg.CRL}
	}
	return nil
}

func enforceLeaf(r *Request, c *x509.Certificate) error {
	switch {
	case !c.BasicConstraintsValid || c.IsCA || c.MaxPathLen > 0 || c.MaxPathLenZero:
		return errors.New("it would be a CA")
	case c.KeyUsage != x509.KeyUsageDigitalSignature:
		return errors.New("key usage is not digitalSignature alone")
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{r.usage()}) || len(c.UnknownExtKeyUsage) > 0:
		return errors.New("extended key usage is not that of its purpose alone")
	case len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0:
		return errors.New("it has name constraints")
	}
	for _, e := range c.ExtraExtensions {
		if len(e.Id) >= 2 && e.Id[0] == 2 && e.Id[1] == 5 { // id-ce and what else X.500 defines
			return fmt.Errorf("extension %s is not a modifier's to write", e.Id)
		}
		if e.Critical {
			return fmt.Errorf("extension %s is critical", e.Id)
		}
	}
	return nil
}

// enforceNames compares with the names that policy gives, written once more.
func enforceNames(r *Request, c *x509.Certificate) error {
	want := new(x509.Certificate)
	if err := writeNames(r, want); err != nil {
		return err
	}
	same := c.Subject.CommonName == want.Subject.CommonName &&
		slices.Equal(c.Subject.Organization, want.Subject.Organization) &&
		slices.Equal(c.Subject.OrganizationalUnit, want.Subject.OrganizationalUnit) &&
		len(c.RawSubject)+len(c.Subject.ExtraNames)+len(c.EmailAddresses) == 0 &&
		slices.Equal(c.DNSNames, want.DNSNames) &&
		slices.EqualFunc(c.IPAddresses, want.IPAddresses, func(a, b net.IP) bool { return a.Equal(b) }) &&
		slices.EqualFunc(c.URIs, want.URIs, func(a, b *url.URL) bool { return a.String() == b.String() })
	if !same {
		return errors.New("subject or names are not those of the holder")
	}
	return nil
}

func enforceLifetime(r *Request, c *x509.Certificate) error {
	switch {
	case c.NotAfter.After(r.issuer.NotAfter):
		return errors.New("it would outlive its issuer")
	case c.NotAfter.After(r.now.Add(issuerLife)):
		return fmt.Errorf("it would live longer than %v", issuerLife)
	case !c.NotAfter.After(r.now) || c.NotBefore.After(r.now) || c.NotBefore.Before(r.now.Add(-2*Backdate)):
		return errors.New("it would not be valid, or begin more than two days ago")
	}
	return nil
}

func enforceKey(r *Request, c *x509.Certificate) error {
	id, err := keyID(r.Public)
	if err != nil {
		return err
	}
	if !bytes.Equal(id, c.SubjectKeyId) || c.SerialNumber == nil || c.SerialNumber.Cmp(r.serial) != 0 {
		return errors.New("serial or key identifier is not ours")
	}
	return nil
}
