package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmelib "github.com/mholt/acmez/v3/acme"

	"github.com/sealmq/sealmq/pki"
)

const (
	maxBody       = 1 << 20 // bytes of an answer of the CA
	maxSecret     = 4 << 10 // bytes of eab_key_file
	shortProfile  = "shortlived"
	requestTime   = 30 * time.Second
	maxRetryAfter = 24 * time.Hour
)

// issuer gets certificates from the CA. It implements certmagic.Issuer; each call of Issue is one attempt.
type issuer struct {
	cfg     Config
	storage *storage
	log     *slog.Logger
	http    *http.Client
	eab     *acmelib.EAB
	solvers map[string]acmez.Solver

	mu sync.Mutex // held while the account is made
}

var _ certmagic.Issuer = (*issuer)(nil)

// attempt is what Issue is told, and tells, beside the certificate: it travels in the context, and stays with the goroutine.
type attempt struct {
	replaces   *x509.Certificate // RFC 9773 section 5; nil: none
	retryAfter time.Duration     // that the CA asked for; 0: it did not
}

type attemptKey struct{}

func (a *attempt) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

func newIssuer(cfg Config, st *storage, a *answers, log *slog.Logger) (*issuer, error) {
	i := &issuer{cfg: cfg, storage: st, log: log, solvers: make(map[string]acmez.Solver)}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: requestTime}).DialContext,
		TLSHandshakeTimeout:   requestTime,
		ResponseHeaderTimeout: requestTime,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile != "" {
		pool, err := pki.LoadPool(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	i.http = &http.Client{Transport: &bounded{transport}, Timeout: requestTime}
	if cfg.EABKeyFile != "" {
		key, err := readKey(cfg.EABKeyFile)
		if err != nil {
			return nil, fmt.Errorf("eab_key_file: %w", err)
		}
		i.eab = &acmelib.EAB{KeyID: cfg.EABKeyID, MACKey: key}
	}
	names := make(map[string]bool)
	for _, n := range cfg.Names {
		names[strings.TrimPrefix(n, "*.")] = true
	}
	for _, ch := range cfg.Challenges {
		switch ch {
		case TLSALPN01:
			i.solvers[ch] = ours{alpnSolver{a}, names}
		case HTTP01:
			i.solvers[ch] = ours{httpSolver{a}, names}
		case DNS01:
			i.solvers[ch] = ours{execSolver{cfg.DNSExec, execTime}, names}
		}
	}
	return i, nil
}

// readKey reads a MAC key, and returns it in base64url without padding.
func readKey(file string) (string, error) {
	if err := pki.CheckSecret(file); err != nil {
		return "", err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	key := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimSpace(string(b))), "=")
	if raw, err := base64.RawURLEncoding.DecodeString(key); err != nil || len(raw) == 0 || len(b) > maxSecret {
		return "", fmt.Errorf("open %s: a key in base64url wanted, on one line", file)
	}
	return key, nil
}

// IssuerKey names the CA in the keys of the storage.
func (i *issuer) IssuerKey() string {
	u, err := url.Parse(i.cfg.Directory)
	if err != nil {
		return "unnamed"
	}
	return u.Host + strings.TrimRight(strings.ReplaceAll(u.EscapedPath(), "/", "-"), "-")
}

// client is for one attempt: it keeps nonces.
func (i *issuer) client() *acmez.Client {
	return &acmez.Client{
		Client:           &acmelib.Client{Directory: i.cfg.Directory, HTTPClient: i.http, UserAgent: "sealmq", Logger: i.log},
		ChallengeSolvers: i.solvers,
	}
}

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	client := i.client()
	for again := false; ; again = true {
		account, err := i.account(ctx, client)
		if err != nil {
			return nil, err
		}
		chains, err := i.order(ctx, client, account, csr)
		var p acmelib.Problem
		if errors.As(err, &p) && p.Type == acmelib.ProblemTypeAccountDoesNotExist && !again {
			// The CA has forgotten us, or was set up anew.
			if err := i.storage.Delete(ctx, i.accountKey()); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := checkIssued(chains[0].ChainPEM, csr, i.storage.now()); err != nil {
			return nil, err
		}
		return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
	}
}

func (i *issuer) order(ctx context.Context, client *acmez.Client, account acmelib.Account, csr *x509.CertificateRequest) ([]acmelib.Certificate, error) {
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, fmt.Errorf("make order: %w", err)
	}
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		params.Replaces = a.replaces
	}
	if len(csr.IPAddresses) > 0 {
		// Let's Encrypt issues certificates for addresses under this profile alone.
		if dir, err := client.GetDirectory(ctx); err == nil && dir.Meta != nil && dir.Meta.Profiles[shortProfile] != "" {
			params.Profile = shortProfile
		}
	}
	chains, err := client.ObtainCertificate(ctx, params)
	if err == nil && len(chains) == 0 {
		err = errors.New("the CA sent no certificate")
	}
	return chains, err
}

// checkIssued makes sure that the CA has issued what was asked for, before it takes the place of what there is.
func checkIssued(chain []byte, csr *x509.CertificateRequest, now time.Time) error {
	fail := func(err error) error { return fmt.Errorf("check issued certificate: %w", err) }
	certs, err := pki.ParseCertificates(chain)
	if err != nil {
		return fail(err)
	}
	leaf := certs[0]
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(csr.PublicKey) {
		return fail(errors.New("it is for another key"))
	}
	for _, n := range csr.DNSNames {
		if err := leaf.VerifyHostname(n); err != nil {
			return fail(err)
		}
	}
	for _, ip := range csr.IPAddresses {
		if err := leaf.VerifyHostname(ip.String()); err != nil {
			return fail(err)
		}
	}
	if now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return fail(&clockError{now, leaf})
	}
	return nil
}

// clockError: the clocks of the CA and of this machine differ.
type clockError struct {
	now  time.Time
	leaf *x509.Certificate
}

func (e *clockError) Error() string {
	return fmt.Sprintf("it is valid from %s to %s, and the clock here says %s", e.leaf.NotBefore.UTC().Format(time.RFC3339),
		e.leaf.NotAfter.UTC().Format(time.RFC3339), e.now.UTC().Format(time.RFC3339))
}

// Hint is one line of advice.
func (e *clockError) Hint() string {
	return "set the date of this machine (timedatectl set-ntp true); if it is right, that of the CA is not"
}

// renewalInfo asks the CA when to renew.
func (i *issuer) renewalInfo(ctx context.Context, leaf *x509.Certificate) (acmelib.RenewalInfo, error) {
	return i.client().GetRenewalInfo(ctx, leaf)
}

// savedAccount is the account with the CA, as it is stored.
type savedAccount struct {
	Account acmelib.Account `json:"account"`
	Key     []byte          `json:"key"` // PKCS#8, DER
	Email   string          `json:"email"`
	EAB     string          `json:"eab"` // key identifier
}

func (i *issuer) accountKey() string { return "accounts/" + i.IssuerKey() + ".json" }

// account returns that of the storage, or registers one.
func (i *issuer) account(ctx context.Context, client *acmez.Client) (acmelib.Account, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	saved, err := i.loadAccount(ctx)
	switch {
	case err == nil && saved.EAB == i.cfg.EABKeyID && saved.Email == i.cfg.Email:
		return saved.Account, nil
	case err == nil && saved.EAB == i.cfg.EABKeyID:
		saved.Account.Contact = contact(i.cfg.Email)
		if _, err = client.UpdateAccount(ctx, saved.Account); err != nil {
			return saved.Account, fmt.Errorf("update account: %w", err)
		}
		saved.Email = i.cfg.Email
	case err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged):
		if saved, err = i.register(ctx, client); err != nil {
			return saved.Account, fmt.Errorf("register account: %w", err)
		}
	default:
		return saved.Account, err
	}
	b, err := json.Marshal(saved)
	if err == nil {
		err = i.storage.Store(ctx, i.accountKey(), b)
	}
	return saved.Account, err
}

func (i *issuer) loadAccount(ctx context.Context) (s savedAccount, err error) {
	b, err := i.storage.Load(ctx, i.accountKey())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read account: %w: %w", errDamaged, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return s, fmt.Errorf("read account: %w: %w", errDamaged, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return s, fmt.Errorf("read account: %w: a key of type %T", errDamaged, key)
	}
	s.Account.PrivateKey = signer
	return s, nil
}

func (i *issuer) register(ctx context.Context, client *acmez.Client) (s savedAccount, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return s, err
	}
	if s.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return s, err
	}
	a := acmelib.Account{Contact: contact(i.cfg.Email), TermsOfServiceAgreed: true, PrivateKey: key}
	if i.eab != nil {
		if err := a.SetExternalAccountBinding(ctx, client.Client, *i.eab); err != nil {
			return s, err
		}
	}
	if s.Account, err = client.NewAccount(ctx, a); err != nil {
		return s, err
	}
	s.Account.PrivateKey, s.Account.ExternalAccountBinding = key, nil
	s.Email, s.EAB = i.cfg.Email, i.cfg.EABKeyID
	return s, nil
}

func contact(email string) []string {
	if email == "" {
		return nil
	}
	return []string{"mailto:" + email}
}

// bounded is a transport that bounds answers, and notes when the CA wants to be left alone.
type bounded struct{ http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxBody), resp.Body}
	a, ok := r.Context().Value(attemptKey{}).(*attempt)
	if ok && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return resp, nil
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds or a date. What is wrong counts as absent.
func retryAfter(h string, now time.Time) time.Duration {
	if d, err := time.ParseDuration(h + "s"); err == nil && d > 0 {
		return min(d, maxRetryAfter)
	}
	if t, err := http.ParseTime(h); err == nil && t.After(now) {
		return min(t.Sub(now), maxRetryAfter)
	}
	return 0
}
