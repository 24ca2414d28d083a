package enroll

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// IDFrom says where in a factory certificate the id of the device is.
type IDFrom string

// The places of an id.
const (
	FromCN     IDFrom = "cn"           // the subject's common name
	FromSerial IDFrom = "serial"       // the subject's serialNumber, which IEEE 802.1AR has; without one, the certificate's, hex
	FromDNS    IDFrom = "san-dns"      // the first DNS name
	FromURI    IDFrom = "san-uri-last" // what is behind the last : or / of the first URI
)

// Limits of factory CAs.
const (
	MaxFactories      = 1000
	MaxSerials        = 10_000
	ChallengeLife     = time.Hour
	maxChallenges     = 100
	maxProof          = 64 << 10
	maxPrefix         = 32
	DefaultMaxPerHour = 1000
)

// Factory is a CA of a device maker, whose devices get in with the certificates that they were made with.
type Factory struct {
	Name string            `json:"name"` // as pki.CheckID accepts
	CA   *x509.Certificate `json:"-"`
	DER  []byte            `json:"ca"` // of CA; set by RegisterFactory

	IDFrom     IDFrom            `json:"id_from"` // FromCN if empty
	Prefix     string            `json:"prefix,omitempty"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	State      registry.State    `json:"state"` // of a device seen first: Pending if empty, or Active
	MaxPerHour int               `json:"max_per_hour"`
	Serials    []string          `json:"serials,omitempty"` // of certificates, hex; all if empty
	// OnlyEnroll: its certificates are good for getting one of ours, and nothing else.
	OnlyEnroll bool      `json:"only_enroll,omitempty"`
	Registered time.Time `json:"registered"`
}

func (f *Factory) fill() {
	if f.IDFrom == "" {
		f.IDFrom = FromCN
	}
	if f.State == "" {
		f.State = registry.Pending
	}
	if f.MaxPerHour == 0 {
		f.MaxPerHour = DefaultMaxPerHour
	}
}

// check returns what is wrong with a factory that is filled.
func (f *Factory) check() error {
	if err := pki.CheckID(f.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	switch f.IDFrom {
	case FromCN, FromSerial, FromDNS, FromURI:
	default:
		return fmt.Errorf("id from %.40q: cn, serial, san-dns or san-uri-last wanted", f.IDFrom)
	}
	switch {
	case f.State != registry.Pending && f.State != registry.Active:
		return fmt.Errorf("state %.40q: pending or active wanted", f.State)
	case f.MaxPerHour < 1 || f.MaxPerHour > MaxUses:
		return fmt.Errorf("%d devices an hour: 1 to %d wanted", f.MaxPerHour, MaxUses)
	case len(f.Prefix) > maxPrefix:
		return fmt.Errorf("prefix of %d bytes, at most %d wanted", len(f.Prefix), maxPrefix)
	case f.Prefix != "" && pki.CheckID(f.Prefix+"x") != nil:
		return fmt.Errorf("prefix %.80q: it has characters that an id may not have", f.Prefix)
	case len(f.Serials) > MaxSerials:
		return fmt.Errorf("%d serials, at most %d wanted", len(f.Serials), MaxSerials)
	}
	for i, serial := range f.Serials {
		text, err := cleanSerial(serial)
		if err != nil {
			return err
		}
		f.Serials[i] = text
	}
	if f.CA == nil || !f.CA.IsCA || !f.CA.BasicConstraintsValid || f.CA.KeyUsage != 0 && f.CA.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("the certificate is not that of a CA")
	}
	if err := pki.CheckKey(f.CA.PublicKey); err != nil {
		return fmt.Errorf("the CA's key: %w", err)
	}
	return checkTemplate("", f.Groups, f.Attributes)
}

// cleanSerial is a certificate's serial as auth.Identify and the registry write it.
func cleanSerial(s string) (string, error) {
	s = strings.ToLower(strings.TrimLeft(strings.ReplaceAll(strings.TrimSpace(s), ":", ""), "0"))
	if len(s)%2 == 1 {
		s = "0" + s
	}
	if b, err := hex.DecodeString(s); err != nil || len(b) == 0 || len(b) > 20 {
		return "", fmt.Errorf("serial %.80q: 1 to 20 bytes in hex wanted", s)
	}
	return s, nil
}

// factories are the CAs, in memory and in the store.
type factories struct {
	r    records
	mu   sync.RWMutex
	name map[string]*factory
	gone map[*factory]struct{} // were trusted in this process: listeners may take their certificates for a moment more
	pool *x509.CertPool
	code map[string]time.Time // challenges, and when they end
}

type factory struct {
	Factory
	removed bool
	alone   *x509.CertPool
	rate    *hourly
}

// challenge is the record of one.
type challenge struct {
	Until time.Time `json:"until"`
}

func loadFactories(r records, log *slog.Logger) (*factories, error) {
	fs := &factories{r: r, name: make(map[string]*factory), gone: make(map[*factory]struct{}), code: make(map[string]time.Time)}
	err := r.each(factoryPrefix, func(name string, value []byte) {
		f, err := decodeFactory(name, value)
		if err != nil {
			log.Error("factory CA left out", "factory", clip(name), "error", err)
			return
		}
		fs.name[name] = newFactory(f)
	})
	if err != nil {
		return nil, err
	}
	err = r.each(challengePrefix, func(code string, value []byte) {
		var c challenge
		if json.Unmarshal(value, &c) == nil {
			fs.code[code] = c.Until
		}
	})
	fs.rebuild()
	return fs, err
}

func decodeFactory(name string, value []byte) (Factory, error) {
	var f Factory
	if err := json.Unmarshal(value, &f); err != nil {
		return f, fmt.Errorf("decode factory CA: %w", err)
	}
	var err error
	if f.CA, err = x509.ParseCertificate(f.DER); err != nil {
		return f, fmt.Errorf("decode factory CA: %w", err)
	}
	if f.Name != name {
		return f, errors.New("decode factory CA: it has another name")
	}
	if err := f.check(); err != nil {
		return f, fmt.Errorf("decode factory CA: %w", err)
	}
	slices.Sort(f.Serials)
	return f, nil
}

func newFactory(f Factory) *factory {
	own := &factory{Factory: f, alone: x509.NewCertPool(), rate: new(hourly)}
	own.alone.AddCert(f.CA)
	return own
}

// rebuild makes the pool anew, under the lock.
func (fs *factories) rebuild() {
	fs.pool = x509.NewCertPool()
	for _, f := range fs.name {
		fs.pool.AddCert(f.CA)
	}
}

// drop ends the trust in a factory, under the lock.
func (fs *factories) drop(f *factory) {
	delete(fs.name, f.Name)
	removed := newFactory(f.Factory)
	removed.removed = true
	fs.gone[removed] = struct{}{}
	fs.rebuild()
}

// keep makes a factory trusted, under the lock.
func (fs *factories) keep(f *factory) {
	maps.DeleteFunc(fs.gone, func(g *factory, _ struct{}) bool {
		return bytes.Equal(g.CA.RawSubjectPublicKeyInfo, f.CA.RawSubjectPublicKeyInfo)
	})
	fs.name[f.Name] = f
}

// of finds the factory whose CA has issued a certificate, by name and signature, also one that was removed.
func (fs *factories) of(leaf *x509.Certificate) *factory {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	issued := func(f *factory) bool {
		return bytes.Equal(f.CA.RawSubject, leaf.RawIssuer) && leaf.CheckSignatureFrom(f.CA) == nil
	}
	for _, f := range fs.name {
		if issued(f) {
			return f
		}
	}
	for f := range fs.gone {
		if issued(f) {
			return f
		}
	}
	return nil
}

// sweep forgets challenges that have ended.
func (fs *factories) sweep(now time.Time) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for code, until := range fs.code {
		if !now.Before(until) {
			delete(fs.code, code)
			fs.r.start(challengePrefix+code, nil)
		}
	}
}

// Challenge makes the code that shows who has a CA's key: see RegisterFactory. It is good for an hour.
func (s *Service) Challenge(ctx context.Context) (code string, expires time.Time, err error) {
	if err := s.open(); err != nil {
		return "", time.Time{}, fmt.Errorf("make challenge: %w", err)
	}
	var b [20]byte
	rand.Read(b[:])
	code = base32.StdEncoding.EncodeToString(b[:])
	expires = s.now().Add(ChallengeLife)
	fs := s.factories
	fs.sweep(s.now())
	fs.mu.Lock()
	if len(fs.code) >= maxChallenges {
		fs.mu.Unlock()
		return "", time.Time{}, fmt.Errorf("make challenge: %d wait for their proofs", maxChallenges)
	}
	fs.code[code] = expires
	fs.mu.Unlock()
	if err := fs.r.put(challengePrefix+code, challenge{expires}); err != nil {
		fs.mu.Lock()
		delete(fs.code, code)
		fs.mu.Unlock()
		return "", time.Time{}, fmt.Errorf("make challenge: %w", err)
	}
	return code, expires, nil
}

// RegisterFactory trusts a CA. The proof is a certificate that the CA has issued, or a CSR made with its key, PEM or DER,
// whose common name is a code of Challenge; the code is used up. It fails with ErrFactory, or ErrProof. Of f, CA and the
// template are taken.
func (s *Service) RegisterFactory(ctx context.Context, f Factory, proof []byte) (Factory, error) {
	fail := func(err error) (Factory, error) {
		return Factory{}, fmt.Errorf("register factory CA %.80q: %w", f.Name, err)
	}
	if err := s.open(); err != nil {
		return fail(err)
	}
	now := s.now()
	f.fill()
	f.Serials = slices.Clone(f.Serials)
	if err := f.check(); err != nil {
		return fail(err)
	}
	slices.Sort(f.Serials)
	if now.Before(f.CA.NotBefore) || now.After(f.CA.NotAfter) {
		return fail(errors.New("the CA is not valid at present"))
	}
	code, err := proven(f.CA, proof)
	if err != nil {
		return fail(err)
	}
	f.DER, f.Registered = f.CA.Raw, now
	fs := s.factories
	fs.mu.Lock()
	until, ok := fs.code[code]
	err = fs.free(f)
	switch {
	case err != nil:
	case !ok || !now.Before(until):
		err = fmt.Errorf("%w: its common name is no code that was given within an hour", ErrProof)
	}
	if err != nil {
		fs.mu.Unlock()
		return fail(err)
	}
	delete(fs.code, code)
	made := newFactory(f)
	fs.keep(made)
	gone, done := fs.r.start(challengePrefix+code, nil), fs.r.start(factoryPrefix+f.Name, f)
	fs.mu.Unlock()
	err = <-done
	if err == nil {
		err = <-gone
	}
	fs.mu.Lock()
	if err != nil {
		fs.drop(made)
	} else {
		fs.rebuild()
	}
	fs.mu.Unlock()
	if err != nil {
		return fail(err)
	}
	s.o.Log.Info("factory CA registered", "who", registry.Actor(ctx), "factory", f.Name, "subject", clip(f.CA.Subject.String()))
	s.trustChanged()
	return f, nil
}

// free reports that no factory has the name or the key, under the lock.
func (fs *factories) free(f Factory) error {
	if fs.name[f.Name] != nil {
		return ErrFactory
	}
	if len(fs.name) >= MaxFactories {
		return fmt.Errorf("there are %d: remove some", MaxFactories)
	}
	for _, other := range fs.name {
		if bytes.Equal(other.CA.RawSubjectPublicKeyInfo, f.CA.RawSubjectPublicKeyInfo) {
			return fmt.Errorf("%w: %s has its key", ErrFactory, other.Name)
		}
	}
	return nil
}

// proven returns the common name that the CA's key has signed.
func proven(ca *x509.Certificate, proof []byte) (code string, err error) {
	if len(proof) > maxProof {
		return "", fmt.Errorf("%w: more than %d bytes", ErrProof, maxProof)
	}
	der, kind := proof, ""
	if block, _ := pem.Decode(proof); block != nil {
		der, kind = block.Bytes, block.Type
	}
	if cert, err := x509.ParseCertificate(der); err == nil && kind != "CERTIFICATE REQUEST" {
		if bytes.Equal(cert.Raw, ca.Raw) {
			return "", fmt.Errorf("%w: it is the CA itself", ErrProof)
		}
		if err := cert.CheckSignatureFrom(ca); err != nil {
			return "", fmt.Errorf("%w: %w", ErrProof, err)
		}
		return cert.Subject.CommonName, nil
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return "", fmt.Errorf("%w: neither a certificate nor a CSR", ErrProof)
	}
	if !bytes.Equal(csr.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo) {
		return "", fmt.Errorf("%w: the CSR is for another key", ErrProof)
	}
	if err := csr.CheckSignature(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrProof, err)
	}
	return csr.Subject.CommonName, nil
}

// Factories are all factory CAs, by name.
func (s *Service) Factories() []Factory {
	fs := s.factories
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	var all []Factory
	for _, name := range slices.Sorted(maps.Keys(fs.name)) {
		all = append(all, fs.name[name].Factory)
	}
	return all
}

// RemoveFactory ends the trust in a CA, whose certificates are refused until the process ends, also where a listener trusts
// it for another reason. Its devices stay in the registry. It fails with ErrNoFactory.
func (s *Service) RemoveFactory(ctx context.Context, name string) error {
	if err := s.open(); err != nil {
		return fmt.Errorf("remove factory CA %.80q: %w", name, err)
	}
	fs := s.factories
	fs.mu.Lock()
	f := fs.name[name]
	if f == nil {
		fs.mu.Unlock()
		return fmt.Errorf("remove factory CA %.80q: %w", name, ErrNoFactory)
	}
	fs.drop(f)
	done := fs.r.start(factoryPrefix+name, nil)
	fs.mu.Unlock()
	if err := <-done; err != nil {
		fs.mu.Lock()
		fs.keep(f)
		fs.rebuild()
		fs.mu.Unlock()
		return fmt.Errorf("remove factory CA %s: %w", name, err)
	}
	s.o.Log.Info("factory CA removed", "who", registry.Actor(ctx), "factory", name)
	s.trustChanged()
	return nil
}

func (s *Service) trustChanged() {
	if s.o.Changed != nil {
		s.o.Changed()
	}
}

// Pool are the factory CAs, for a listener to trust beside its own. Options.Changed tells when there is another.
func (s *Service) Pool() *x509.CertPool {
	s.factories.mu.RLock()
	defer s.factories.mu.RUnlock()
	return s.factories.pool
}

// FactoryOf returns the factory CA that has issued a certificate, also one that was removed since this process began; false
// if none has.
func (s *Service) FactoryOf(leaf *x509.Certificate) (Factory, bool) {
	if f := s.factories.of(leaf); f != nil {
		return f.Factory, true
	}
	return Factory{}, false
}
