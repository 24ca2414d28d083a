// Package acme keeps server certificates from an ACME CA (RFC 8555) current: Let's Encrypt, or any other.
//
//	m, err := acme.New(cfg, acme.Options{Store: store, Log: log})
//	m.Start(ctx)
//	cert, ok := m.Get(hello)          // in tls.Config.GetCertificate
//	conf := m.ChallengeConfig(hello)  // in tls.Config.GetConfigForClient
//	m.Close()
//
// The account and the certificates with their keys are records of the store. Start reads them; what is missing, or due, is
// got in the background, and failures are tried again: a CA that cannot be reached disturbs nothing. Get and
// ChallengeConfig neither block nor use the network.
//
// Certificates are made and stored by certmagic, orders are done by acmez; when, and what becomes of failures, is decided
// here (DESIGN.md). There is a goroutine for each name and one that cleans up; Close waits for them. The package may be
// used by whoever has TLS listeners.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sealmq/sealmq/pki"
)

const (
	atOnce     = 4                // attempts
	attemptMax = 15 * time.Minute // for one
	never      = 10 * 365 * 24 * time.Hour
	cleanEvery = 24 * time.Hour
	expiredFor = 30 * 24 * time.Hour // until an expired certificate is deleted
)

// ErrUnknown: the name is not among those of the configuration.
var ErrUnknown = errors.New("no certificate is kept for that name")

// ErrClosed: the manager is not running.
var ErrClosed = errors.New("certificates are not kept at present")

// Options are what a Manager needs of the program around it.
type Options struct {
	Store Store            // required
	Log   *slog.Logger     // nil: none
	Now   func() time.Time // the wall clock; nil: time.Now
}

// Manager keeps the certificates. Make one with New. Its methods may be called from many goroutines.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	storage *storage
	answers *answers
	issuer  *issuer
	sites   map[string]*site
	slots   chan struct{} // of attempts

	addresses []*site // those of the sites whose names are addresses

	mu      sync.Mutex
	running context.Context // nil before Start
	cancel  context.CancelFunc
	cache   *certmagic.Cache
	wg      sync.WaitGroup

	magic *certmagic.Config // set by open
}

// site is one name with its certificate.
type site struct {
	name    string
	served  atomic.Pointer[tls.Certificate]
	trouble atomic.Pointer[trouble]
	forced  chan chan error
	plan    plan // of the goroutine that tends it
}

// trouble is a failure that lasts.
type trouble struct {
	cause
	since, next time.Time
}

// New checks the configuration and reads the files that it names. It uses neither network nor store.
func New(cfg Config, o Options) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Manager{cfg: cfg.withDefaults(), log: o.Log, now: o.Now, sites: make(map[string]*site), slots: make(chan struct{}, atOnce)}
	m.storage = newStorage(o.Store, o.Now)
	m.answers = newAnswers(m.cfg)
	var err error
	if m.issuer, err = newIssuer(m.cfg, m.storage, m.answers, slog.New(quiet{o.Log.Handler()})); err != nil {
		return nil, err
	}
	for _, n := range m.cfg.Names {
		s := &site{name: n, forced: make(chan chan error)}
		m.sites[n] = s
		if net.ParseIP(n) != nil {
			m.addresses = append(m.addresses, s)
		}
	}
	return m, nil
}

// Start puts the certificates of the store in force, and begins to keep them until ctx ends or Close is called. It is
// called once, and for one manager of a store at a time.
func (m *Manager) Start(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running, m.cancel = context.WithCancel(ctx)
	m.open()
	if m.cfg.Directory == LetsEncryptStaging {
		m.log.Warn("acme: the staging CA of Let's Encrypt is used, whose certificates no client trusts", "hint", "remove staging when all is well")
	}
	for _, s := range m.sites {
		m.recall(m.running, s)
		m.wg.Go(func() { m.tend(m.running, s) })
	}
	m.wg.Go(func() { m.clean(m.running) })
}

// open sets certmagic up.
func (m *Manager) open() {
	log := zapTo(m.log)
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		// The cache is not used to serve, and stays empty: it would go on to show what was renewed.
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil },
		RenewCheckInterval: never, OCSPCheckInterval: never, Logger: log,
	})
	conf := certmagic.Config{Storage: m.storage, Issuers: []certmagic.Issuer{m.issuer}, DisableStorageCheck: true, DisableARI: true, Logger: log}
	conf.OCSP.DisableStapling = true // it cannot be interrupted
	m.magic = certmagic.New(m.cache, conf)
}

// Close ends what Start began, and waits for it. Certificates are served on.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.wg.Wait()
	if m.cache != nil {
		m.cache.Stop()
		m.cache = nil
	}
	m.issuer.http.CloseIdleConnections()
}

// Names returns the names of the configuration, in lower case, sorted.
func (m *Manager) Names() []string { return slices.Sorted(slices.Values(m.cfg.Names)) }

// Get returns the certificate for the name that a client asks for. One that asks for none has connected to an address: it
// gets the certificate for that, or for the only address there is, since behind a router ours is another. Get returns false
// for other names, and while there is no certificate that is valid: another one is needed then.
func (m *Manager) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, bool) {
	s := m.site(hello)
	if s == nil {
		return nil, false
	}
	c := s.served.Load()
	if c == nil || m.now().After(c.Leaf.NotAfter) {
		return nil, false
	}
	return c, true
}

// site finds what a client asks for, nil if that is not ours.
func (m *Manager) site(hello *tls.ClientHelloInfo) *site {
	name := hello.ServerName
	if name == "" {
		if len(m.addresses) > 0 && hello.Conn != nil {
			if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
				if s := m.sites[a.AddrPort().Addr().Unmap().String()]; s != nil {
					return s
				}
			}
		}
		if len(m.addresses) == 1 {
			return m.addresses[0]
		}
		return nil
	}
	if s := m.sites[name]; s != nil {
		return s
	}
	name = normal(name)
	if s := m.sites[name]; s != nil {
		return s
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		return m.sites["*."+rest]
	}
	return nil
}

// ChallengeConfig answers the CA in a handshake that offers acme-tls/1 alone; the connection is of no use after it. It
// returns nil for every other handshake, and while no validator is expected.
func (m *Manager) ChallengeConfig(hello *tls.ClientHelloInfo) *tls.Config {
	return m.answers.config(hello)
}

// Renew replaces the certificate for a name now, and returns when the new one is in force. The error may have a Hint.
func (m *Manager) Renew(ctx context.Context, name string) error {
	s := m.sites[normal(name)]
	if s == nil {
		return fmt.Errorf("renew %.100q: %w", name, ErrUnknown)
	}
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if running == nil {
		return fmt.Errorf("renew %s: %w", name, ErrClosed)
	}
	done := make(chan error, 1)
	select {
	case s.forced <- done:
	case <-running.Done():
		return fmt.Errorf("renew %s: %w", name, ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("renew %s: %w", name, ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("renew %s: %w", name, ctx.Err())
	}
}

// Trouble says what fails at present, a sentence for each name: why, since when, when it is tried next, and what to do.
func (m *Manager) Trouble() []string {
	var all []string
	for _, n := range m.Names() {
		if t := m.sites[n].trouble.Load(); t != nil {
			all = append(all, fmt.Sprintf("%s: %s; since %s, next attempt %s; %s", n, t.what,
				t.since.UTC().Format(time.RFC3339), t.next.UTC().Format(time.RFC3339), t.fix))
		}
	}
	return all
}

// recall puts the certificate of the store in force, if there is one. What cannot be used is deleted: a new one is got.
func (m *Manager) recall(ctx context.Context, s *site) {
	err := m.load(ctx, s)
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil:
	case errors.Is(err, errRead):
		m.log.Error("acme: stored certificate not read", "name", s.name, "error", clip(err))
	default:
		m.log.Warn("acme: stored certificate is not usable; getting another", "name", s.name, "error", clip(err))
		dir := certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), s.name)
		if err := m.storage.Delete(ctx, dir); err != nil {
			m.log.Error("acme: stored certificate not deleted", "name", s.name, "error", clip(err))
		}
	}
}

// load reads the certificate of a name, and puts it in force.
func (m *Manager) load(ctx context.Context, s *site) error {
	c, err := m.magic.CacheManagedCertificate(ctx, s.name)
	if err != nil {
		return err
	}
	m.cache.Remove([]string{c.Hash()})
	if c.Leaf == nil {
		return errors.New("there is no certificate in it")
	}
	if err := c.Leaf.VerifyHostname(strings.Replace(s.name, "*.", "any.", 1)); err != nil {
		return err
	}
	old := s.served.Load()
	if old != nil && old.Leaf.Equal(c.Leaf) { // with its staple
		return nil
	}
	s.served.Store(&c.Certificate)
	s.plan.have(c.Leaf, m.now())
	return nil
}

// tend keeps one certificate.
func (m *Manager) tend(ctx context.Context, s *site) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var done chan error
		select {
		case <-ctx.Done():
			return
		case done = <-s.forced:
		case <-timer.C:
		}
		var err error
		switch now := m.now(); {
		case done != nil || s.plan.due(now, m.cfg.RenewBefore):
			err = m.attempt(ctx, s, done != nil)
		case s.plan.asks(now, m.cfg.RenewBefore):
			m.ask(ctx, s)
		case s.plan.staples(now):
			m.staple(ctx, s)
		}
		if done != nil {
			done <- err
		}
		timer.Reset(s.plan.wait(m.now(), m.cfg.RenewBefore))
	}
}

// attempt gets a certificate, the first or another.
func (m *Manager) attempt(ctx context.Context, s *site, forced bool) error {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return ErrClosed
	}
	a := &attempt{}
	if s.plan.failures == 0 {
		a.replaces = s.plan.leaf // a CA that has lost it refuses the order: later attempts go without
	}
	began := time.Now()
	err := pki.CheckClock(m.now())
	if err == nil {
		err = m.storage.s.Ready() // a certificate that cannot be kept is not asked for
	}
	if err == nil {
		within, cancel := context.WithTimeout(a.in(ctx), attemptMax)
		err = m.magic.RenewCertSync(within, s.name, true) // gets the first one too
		cancel()
	}
	if err == nil {
		err = m.load(ctx, s)
	}
	now := m.now()
	if err == nil {
		s.trouble.Store(nil)
		leaf := s.served.Load().Leaf
		s.plan.rest(now)
		m.log.Info("acme: certificate obtained", "name", s.name, "issuer", clip(errors.New(leaf.Issuer.String())),
			"serial", leaf.SerialNumber.Text(16), "until", leaf.NotAfter.UTC(), "renewal", s.plan.renewAt(m.cfg.RenewBefore).UTC(), "took", time.Since(began).Round(time.Millisecond))
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("renew %s: %w", s.name, ErrClosed)
	}
	why := explain(s.name, m.cfg, err)
	s.plan.failed(now, why.near, a.retryAfter, rand.Float64())
	t := &trouble{why, now, s.plan.retryAt}
	if old := s.trouble.Load(); old != nil {
		t.since = old.since
	}
	s.trouble.Store(t)
	level := slog.LevelError
	if s.plan.leaf != nil && s.plan.leaf.NotAfter.Sub(now) > lifeOf(s.plan.leaf)/6 {
		level = slog.LevelWarn
	}
	m.log.Log(ctx, level, "acme: no certificate obtained", "name", s.name, "cause", why.what, "hint", why.fix,
		"attempt", s.plan.failures, "next", t.next.UTC(), "forced", forced)
	return &failure{s.name, why, err}
}

// failure is what Renew returns of an attempt.
type failure struct {
	name string
	why  cause
	err  error
}

func (f *failure) Error() string { return fmt.Sprintf("renew %s: %s", f.name, f.why.what) }
func (f *failure) Unwrap() error { return f.err }

// Hint is one line of advice.
func (f *failure) Hint() string { return f.why.fix }

// ask asks the CA when to renew. That it does not say is no trouble.
func (m *Manager) ask(ctx context.Context, s *site) {
	within, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()
	info, err := m.issuer.renewalInfo(within, s.plan.leaf)
	before := s.plan.renewAt(m.cfg.RenewBefore)
	s.plan.advised(m.now(), info, err)
	if after := s.plan.renewAt(m.cfg.RenewBefore); err == nil && before.Sub(after) > lifeOf(s.plan.leaf)/20 {
		m.log.Info("acme: the CA wants the certificate to be renewed early", "name", s.name, "renewal", after.UTC(), "was", before.UTC(),
			"explanation", clip(errors.New(info.ExplanationURL)))
	}
}

// clean deletes certificates and OCSP responses that have expired, those of names that are kept no more among them.
func (m *Manager) clean(ctx context.Context) {
	t := time.NewTimer(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := m.sweep(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("acme: expired certificates not deleted", "error", clip(err))
		}
		t.Reset(cleanEvery)
	}
}

func (m *Manager) sweep(ctx context.Context) error {
	return certmagic.CleanStorage(ctx, m.storage, certmagic.CleanStorageOptions{
		Logger: zapTo(m.log), OCSPStaples: true, ExpiredCerts: true, ExpiredCertGracePeriod: expiredFor,
	})
}

func lifeOf(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) }
