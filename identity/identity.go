// Package identity issues, renews and ends the identities of devices and operators: the CA of pki and the registry as one,
// so that no certificate leaves that is not registered, and none that was ended gets in.
//
//	s, err := identity.New(identity.Options{Folder: folder, Registry: devices, Log: log})
//	go s.Run(ctx)
//	issued, err := s.Issue(ctx, identity.Order{ID: "pump-17", CSR: csr, Via: "operator alice"})
//
// It keeps the revocation lists of the device CAs, and leads the replacement of one root by another. Run does what is due
// at times, on the goroutine that calls it; the package starts none.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Config says how long identities live. Zero fields have their defaults.
type Config struct {
	// Life is how long a certificate for a device is valid.
	Life time.Duration `toml:"certificate_life" default:"8760h" min:"1h" max:"43800h"`

	// Overlap is how long the certificate before stays valid beside the one that renewed it, if the new one is not used
	// earlier.
	Overlap time.Duration `toml:"renewal_overlap" default:"168h" min:"0s" max:"8760h" none:"-1"`

	// Grace is how long after its end a certificate is still good for renewal, on a listener with enroll = true.
	Grace time.Duration `toml:"renewal_grace" default:"720h" min:"0s" max:"8760h" none:"-1"`

	// Strict refuses certificates of our CA that the registry does not know.
	Strict bool `toml:"strict"`

	// CRL is the URL of the device CA's revocation list, written into certificates.
	CRL string `toml:"crl_url"`
}

// Longest values of a Config.
const (
	maxLife = 5 * 365 * 24 * time.Hour // that of the device CA
	maxSpan = 365 * 24 * time.Hour
)

// effective has defaults in place of zeros, and zero in place of what is negative.
func (c Config) effective() Config {
	for _, d := range []struct {
		val  *time.Duration
		base time.Duration
	}{{&c.Life, 365 * 24 * time.Hour}, {&c.Overlap, 7 * 24 * time.Hour}, {&c.Grace, 30 * 24 * time.Hour}} {
		if *d.val == 0 {
			*d.val = d.base
		}
		*d.val = max(*d.val, 0)
	}
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c Config) Validate() error {
	c = c.effective()
	var errs []error
	for _, d := range []struct {
		key          string
		val, min, to time.Duration
	}{{"certificate_life", c.Life, time.Hour, maxLife}, {"renewal_overlap", c.Overlap, 0, maxSpan}, {"renewal_grace", c.Grace, 0, maxSpan}} {
		if d.val < d.min || d.val > d.to {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", d.key, d.val, d.min, d.to))
		}
	}
	return errors.Join(errs...)
}

// Options are the parts of a Service.
type Options struct {
	Config   Config
	Folder   *pki.Folder
	PKI      pki.Config         // with which the folder is opened again after the CA has changed
	Registry *registry.Registry // required
	Log      *slog.Logger       // nil: discarded
	Now      func() time.Time   // nil: time.Now

	// Changed is called after the CA, and with it what is shown and trusted, has changed. It may be nil and must not block.
	Changed func()
}

// Order asks for a certificate.
type Order struct {
	ID   string
	Kind pki.Kind // pki.Device if empty
	// CSR is a PKCS#10 request, PEM or DER, of which the key is taken. Required: keys are made by their holders.
	CSR []byte
	// Groups, Attributes and State (active if empty) of a device that is not there yet; of one that is there they are not
	// touched.
	Groups     []string
	Attributes map[string]string
	State      registry.State
	// Life; the configured one if zero, which is also the longest.
	Life time.Duration
	// Which devices may be meant: the zero value takes both.
	Must Must
	// Via says who orders, for the log: "operator alice", "claim 3f2a…", "renewal by 192.0.2.7:4711".
	Via string
}

// Must says whether the device of an Order has to exist.
type Must uint8

// The values of Must.
const (
	Either  Must = iota
	BeNew        // ErrExists otherwise
	BeKnown      // ErrUnknown otherwise
)

// Issued is what came of an Order.
type Issued struct {
	Device  string
	New     bool // the device was not there before
	Leaf    *x509.Certificate
	Cert    []byte    // PEM, the chain that the device sends
	CA      []byte    // PEM, what it trusts
	RenewAt time.Time // when two thirds of the certificate's life are over
}

// ErrDisabled: the device is disabled or pending and gets no certificate. One that is quarantined may renew its own.
var ErrDisabled = errors.New("the device is not active")

// Service does it. Make one with New. Its methods may be called from many goroutines.
type Service struct {
	o       Options
	life    time.Duration
	overlap time.Duration
	grace   time.Duration

	folder atomic.Pointer[pki.Folder]
	// swap is held for reading while something is signed and registered, and for writing while the CA is replaced: what an
	// old CA signs is registered before the new one is in force.
	swap     sync.RWMutex
	changing sync.Mutex               // one change of the CA at a time
	takeover atomic.Pointer[takeover] // nil while there is one root

	held     orders
	replaced chan replacement // certificates that others have taken the place of
	lists    lists
	troubles troubles
	swept    time.Time // when Run looked for overlaps; Run's own
	warned   time.Time // when Run last warned of CAs; Run's own
	// operatorFile is the certificate in DATA/operator that was registered last; Run's own.
	operatorFile stamp
}

// New returns a Service. Run keeps it going.
func New(o Options) (*Service, error) {
	if o.Folder == nil || o.Registry == nil {
		return nil, errors.New("make identity service: it needs a CA and a registry")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	s := &Service{o: o, replaced: make(chan replacement, maxReplaced)}
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("make identity service: %w", err)
	}
	c := o.Config.effective()
	s.life, s.overlap, s.grace = c.Life, c.Overlap, c.Grace
	s.held.init()
	s.install(o.Folder.With(s.pki()))
	s.lists.init(s)
	return s, nil
}

// pki is the configuration with which the CA folder is opened, and issues.
func (s *Service) pki() pki.Config {
	cfg := s.o.PKI
	cfg.Holder, cfg.Now = s.holder, s.o.Now
	if s.o.Config.CRL != "" {
		cfg.CRL = s.o.Config.CRL
	}
	return cfg
}

// install puts a folder in force.
func (s *Service) install(f *pki.Folder) {
	s.swap.Lock()
	defer s.swap.Unlock()
	s.folder.Store(f)
	present := f.CA().DeviceCAs()
	s.o.Registry.SetIssuers(present...)
	s.o.Registry.Retire(slices.DeleteFunc(f.RetiredDeviceCAs(), func(c *x509.Certificate) bool {
		return slices.ContainsFunc(present, func(p *x509.Certificate) bool { return registry.KeyID(p) == registry.KeyID(c) })
	})...)
	s.takeover.Store(takeoverOf(f.CA()))
}

// Folder is the data folder with the CA in force.
func (s *Service) Folder() *pki.Folder { return s.folder.Load() }

// CA is the certificate authority in force.
func (s *Service) CA() *pki.Authority { return s.Folder().CA() }

// caDir is the folder of the CA.
func (s *Service) caDir() string { return filepath.Join(s.Folder().Path(), "ca") }

// Grace is how long after its end a certificate is good for renewal.
func (s *Service) Grace() time.Duration { return s.grace }
