package sealmq

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/callout"
	"github.com/sealmq/sealmq/auth/jwt"
	"github.com/sealmq/sealmq/auth/ldap"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/auth/scram"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/config"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/store"
)

// authentication is the chains of all listeners, and what they are made of.
type authentication struct {
	chains  auth.Listeners // for the broker
	devices auth.Devices
	log     *slog.Logger
	review  func() // users are gone: sessions are to be judged again

	current atomic.Pointer[ways] // nil until use

	mu      sync.Mutex // guards what follows, and changes of current
	secret  []byte     // of SCRAM
	trouble error      // of the password file
}

// ways are the authenticators of one configuration.
type ways struct {
	cfg     config.Auth
	chains  map[string]*auth.Chain
	names   map[string]naming // by listener
	backoff *auth.Backoff
	users   *password.Authenticator // nil: not configured
	file    *password.Source        // theirs
	tokens  *jwt.Authenticator
	service *callout.Authenticator
	folk    *ldap.Authenticator
}

func newAuthentication(d auth.Devices, log *slog.Logger, review func()) *authentication {
	return &authentication{devices: d, log: log, review: review}
}

// plan makes the authenticators of a configuration, changing nothing that is in use; the result goes to use, or is closed.
// records, where the secret of SCRAM is, is called only if there is need of it.
func (a *authentication) plan(cfg Config, records func() (store.Store, error)) (_ *ways, err error) {
	w := &ways{cfg: cfg.Auth, chains: map[string]*auth.Chain{}, names: map[string]naming{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	old := a.current.Load()
	if old != nil && old.cfg.Backoff == cfg.Auth.Backoff {
		w.backoff = old.backoff // who guesses does not begin anew
	} else {
		w.backoff = auth.NewBackoff(cfg.Auth.Backoff, nil)
	}
	links := map[string]auth.Authenticator{"certificate": auth.ByCertificate{Devices: a.devices}, "anonymous": auth.Anonymous{}}
	if cfg.Uses("password", "scram") {
		source, users, err := password.Open(cfg.Auth.Password.File)
		if err != nil {
			return nil, err
		}
		w.file, w.users = source, password.NewAuthenticator(cfg.Auth.Password, users)
		links["password"] = w.users
	}
	if cfg.Uses("scram") {
		secret, err := a.scramSecret(records)
		if err != nil {
			return nil, err
		}
		links["scram"] = scram.New(scram.Options{Users: w.users.File, Secret: secret})
	}
	if cfg.Uses("jwt") {
		if w.tokens, err = jwt.New(cfg.Auth.JWT, a.log); err != nil {
			return nil, err
		}
		if old != nil && old.tokens != nil {
			w.tokens.Inherit(old.tokens)
		}
		links["jwt"] = w.tokens
	}
	if cfg.Uses("http") {
		if w.service, err = callout.New(cfg.Auth.HTTP); err != nil {
			return nil, err
		}
		links["http"] = w.service
	}
	if cfg.Uses("ldap") {
		if w.folk, err = ldap.New(cfg.Auth.LDAP); err != nil {
			return nil, err
		}
		links["ldap"] = w.folk
	}
	for _, l := range cfg.Listeners {
		var chain []auth.Link
		for _, name := range l.Chain() {
			chain = append(chain, auth.Link{Name: name, Authenticator: links[name]})
		}
		w.chains[l.Name] = auth.NewChain(chain, w.backoff, a.log)
		if w.names[l.Name], err = newNaming(l); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// close ends what ways have begun. Clients that are in the middle of it are asked to come again.
func (w *ways) close() {
	if w == nil {
		return
	}
	if w.tokens != nil {
		w.tokens.Close()
	}
	if w.service != nil {
		w.service.Close()
	}
	if w.folk != nil {
		w.folk.Close()
	}
}

// use puts ways in force, and closes those from before. Without any, the chains stay unused.
func (a *authentication) use(w *ways) {
	if w == nil {
		return
	}
	a.mu.Lock()
	old := a.current.Swap(w)
	a.trouble = nil
	a.chains.Set(w.chains)
	a.mu.Unlock()
	if old != nil {
		old.close()
		a.review()
	}
}

// close ends the authenticators; the broker has ended before.
func (a *authentication) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current.Load().close()
}

// usersEvery is how often the password file is looked at.
const usersEvery = time.Second

// run follows the password file until ctx ends.
func (a *authentication) run(ctx context.Context) {
	tick := time.NewTicker(usersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.look()
		}
	}
}

// look reads the password file if it has changed.
func (a *authentication) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.current.Load()
	if w == nil || w.file == nil {
		return
	}
	f, err := w.file.Poll()
	switch {
	case err != nil:
		a.trouble = err
		attrs := []any{"error", err}
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			attrs = append(attrs, "hint", h.Hint())
		}
		a.log.Error("the password file cannot be used: the users from before stay", attrs...)
	case f != nil:
		a.trouble = nil
		w.users.Use(f)
		a.log.Info("password file read again", "users", len(f.Users()))
		a.review()
	}
}

// Trouble is what is wrong, sentences for whoever operates the server.
func (a *authentication) Trouble() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	if a.trouble != nil {
		all = append(all, fmt.Sprintf("the password file cannot be used, and the users from before stay: %v", a.trouble))
	}
	if w := a.current.Load(); w != nil && w.tokens != nil {
		if err := w.tokens.Trouble(); err != nil {
			all = append(all, fmt.Sprintf("the keys for tokens cannot be fetched: %v", err))
		}
	}
	return all
}

// standing judges the user of a password file again.
func (a *authentication) standing(p *auth.Principal) broker.Standing {
	w := a.current.Load()
	if p.Method != "password" || w == nil || w.users != nil && w.users.File().Has(p.Name) {
		return broker.Standing{}
	}
	return broker.Standing{Refused: mqtt.AdministrativeAction, Text: "the user is no longer in the password file"}
}

// secretKey is the record with the secret of SCRAM.
const secretKey = "auth/scram"

// scramSecret finds the secret that makes up the salts of unknown users, or makes one.
func (a *authentication) scramSecret(records func() (store.Store, error)) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.secret != nil {
		return a.secret, nil
	}
	kept, err := records()
	if err != nil {
		return nil, err
	}
	err = kept.Records(secretKey, func(key string, value []byte) bool {
		if key == secretKey && len(value) == 32 {
			a.secret = append([]byte(nil), value...)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if a.secret == nil {
		a.secret = make([]byte, 32)
		rand.Read(a.secret)
		kept.Submit(&store.Op{Kind: store.PutRecord, Record: &store.Record{Key: secretKey, Value: a.secret}})
	}
	return a.secret, nil
}

// naming is what a listener calls those with a certificate of another CA.
type naming struct {
	identity auth.Mapping
	clientID auth.Mapping // zero: bound by the identity
	unbound  bool
}

func newNaming(l Listener) (n naming, err error) {
	if n.identity, err = auth.ParseMapping(l.Identity); err != nil {
		return n, err
	}
	switch l.BindClientID {
	case "", "identity":
	case "none":
		n.unbound = true
	default:
		n.clientID, err = auth.ParseMapping(l.BindClientID)
	}
	return n, err
}

// stranger admits the holder of a certificate of another CA, by the name that the listener reads in it. Operators and claims
// are of our CA alone.
func (a *authentication) stranger(listener string, leaf *x509.Certificate) (auth.Admission, error) {
	var n naming
	if w := a.current.Load(); w != nil {
		n = w.names[listener]
	}
	kind, name, err := n.identity.Name(leaf)
	if err != nil {
		return auth.Admission{}, err
	}
	if kind != string(pki.Device) {
		kind = ""
	}
	how := auth.Admission{Name: name, Kind: kind, Unbound: n.unbound}
	if !n.clientID.IsZero() {
		if _, how.ClientID, err = n.clientID.Name(leaf); err != nil {
			return auth.Admission{}, err
		}
	}
	return how, nil
}

// planWays is plan for the server, none if an authenticator of the embedding program decides. The caller holds mu, or is New.
func (s *Server) planWays(cfg Config) (*ways, error) {
	if s.custom {
		return nil, nil
	}
	return s.authentication.plan(cfg, func() (store.Store, error) { return s.records, s.openRecords(cfg) })
}
