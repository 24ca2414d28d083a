// Package identity issues, renews and ends the identities of devices and operators: the CA of pki and the registry as one,
// so that no certificate leaves that is not registered, and none that was ended gets in.
package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// Config says how long identities live. Zero fields have their defaults.
type Config struct {
	// Life is how long a certificate for a device is valid.
	Life time.Duration `toml:"certificate_life" default:"8760h" min:"1h" max:"87600h"`

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
	// Groups and Attributes of a device that is not there yet; of one that is there they are not touched.
	Groups     []string
	Attributes map[string]string
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

// ErrDisabled: the device is disabled, pending or quarantined and gets no certificate.
var ErrDisabled = errors.New("the device is not active")

// Service does it. Make one with New. Its methods may be called from many goroutines.
type Service struct {
	o Options
}

// New returns a Service. Run keeps it going.
func New(o Options) (*Service, error) { return &Service{o: o}, nil }

// Issue signs and registers a certificate. Its errors are a *pki.Refusal, one of the registry's, or ErrDisabled, wrapped.
func (s *Service) Issue(ctx context.Context, o Order) (*Issued, error) {
	return nil, errors.ErrUnsupported
}

// Admit says whether the holder of a certificate, whose chain and dates were checked, may connect: nil, a refusal, or
// restricted to enrolment and renewal. It neither blocks nor allocates for one that is registered and active.
func (s *Service) Admit(leaf *x509.Certificate) (restricted bool, err error) {
	return false, errors.ErrUnsupported
}

// Stands says the same of a principal that was admitted earlier, and whether it shall be restricted now.
func (s *Service) Stands(p *auth.Principal) (restricted bool, err error) {
	return false, errors.ErrUnsupported
}

// Saw notes a connection that was accepted, and ends the certificates before if this one has taken their place. It may be
// called on a loop.
func (s *Service) Saw(leaf *x509.Certificate, seen registry.Seen) {}

// CA is the certificate authority in force.
func (s *Service) CA() *pki.Authority { return s.o.Folder.CA() }

// CRL is the revocation list of the device CA in force, DER, and when it has to be replaced.
func (s *Service) CRL() (der []byte, next time.Time) { return nil, time.Time{} }

// Run does what is due at times until ctx ends: it renews revocation lists, ends certificates whose overlap is over, and
// warns of CAs that end.
func (s *Service) Run(ctx context.Context) {}
