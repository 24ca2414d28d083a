package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// ErrUndecided is what an Authenticator returns, as it is or wrapped, whose business these credentials are not: the next
// one of the chain is asked. It is no refusal.
var ErrUndecided = errors.New("these credentials are for another authenticator")

// InTheClear refuses a password that came without TLS.
func InTheClear(c *Credentials) error {
	if c.HasPassword && !c.Peer.Secure {
		return &Refusal{mqtt.BadUserNameOrPassword, "passwords and tokens are refused on a listener without TLS: use mqtts://"}
	}
	return nil
}

// Wrong is the refusal of a user name and password. It is one for all causes, so that names cannot be found out.
func Wrong() error {
	return &Refusal{mqtt.BadUserNameOrPassword, "the user name or the password is wrong"}
}

// ByCertificate is Certificates as a link of a Chain: it decides about peers with a certificate and about those on a
// listener for enrolment, and leaves all others to the next link.
type ByCertificate Certificates

// Unguessable implements Unguessable.
func (ByCertificate) Unguessable() {}

// Authenticate implements Authenticator.
func (a ByCertificate) Authenticate(ctx context.Context, c *Credentials) (*Principal, error) {
	if c.Peer.Cert == nil && !c.Peer.Enrolment {
		return nil, ErrUndecided
	}
	return Certificates(a).Authenticate(ctx, c)
}

// Anonymous lets in a peer that proves nothing, on a listener that allows it. It belongs at the end of a Chain.
type Anonymous struct{}

// Authenticate implements Authenticator.
func (Anonymous) Authenticate(_ context.Context, c *Credentials) (*Principal, error) {
	if !c.Peer.Anonymous {
		return nil, ErrUndecided
	}
	return &Principal{Method: "anonymous"}, nil
}

// Unguessable is an Authenticator of proofs that nobody can guess, such as signatures: what it refuses is no guess, and does
// not slow down others.
type Unguessable interface {
	Authenticator
	Unguessable()
}

func guessable(a Authenticator) bool {
	_, no := a.(Unguessable)
	return !no
}

// Link is an authenticator of a Chain under the name that it has in the configuration: "certificate", "password", …
type Link struct {
	Name string
	Authenticator
}

// Chain asks its links in order; the first that decides has decided. A link that cannot tell, since its server is down,
// ends the search: whoever it would have refused must not get in by the next.
//
// A password that a link has looked at and nobody has accepted is refused: it does not make its sender anonymous. Without
// TLS no password is looked at. On a listener for enrolment ByCertificate alone is asked.
type Chain struct {
	links   []Link
	backoff *Backoff
	log     *slog.Logger
}

// NewChain makes a Chain. backoff, if not nil, slows down guessing; it is best shared by all chains. log may be nil.
func NewChain(links []Link, backoff *Backoff, log *slog.Logger) *Chain {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Chain{links, backoff, log}
}

// Authenticate implements Authenticator.
func (ch *Chain) Authenticate(ctx context.Context, c *Credentials) (*Principal, error) {
	if err := InTheClear(c); err != nil {
		return nil, err
	}
	a := attempt{ch: ch, peer: c.Peer.Addr, listener: c.Peer.Listener, user: c.Username, proof: c.Password}
	for _, l := range ch.links {
		switch l.Authenticator.(type) {
		case ByCertificate:
		case Anonymous:
			if a.looked {
				continue
			}
		default:
			if c.Peer.Enrolment {
				continue
			}
			a.looked = c.HasPassword
			if c.HasPassword && !a.guess && guessable(l.Authenticator) {
				if err := a.wait(); err != nil {
					return nil, err
				}
				a.guess = true
				ctx = context.WithValue(ctx, attemptKey{}, &a)
			}
		}
		p, err := l.Authenticate(ctx, c)
		if errors.Is(err, ErrUndecided) {
			continue
		}
		a.link, a.guess = l, a.guess && guessable(l.Authenticator)
		return p, a.decided(p, err)
	}
	return nil, a.decided(nil, ch.nobody(c, a.looked))
}

type attemptKey struct{}

// nobody is the refusal of a client about which no link has decided.
func (ch *Chain) nobody(c *Credentials, looked bool) error {
	if looked {
		return Wrong()
	}
	var names []string
	for _, l := range ch.links {
		if l.Name != "anonymous" {
			names = append(names, l.Name)
		}
	}
	text := "this listener wants to know who you are, by: " + strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		text = "this listener lets nobody in"
	case len(names) == 1 && names[0] == "certificate":
		text = "a client certificate is required: sealmq device add ID"
	}
	if c.HasUsername && !c.HasPassword {
		text += "; a user name alone proves nothing"
	}
	return &Refusal{mqtt.NotAuthorized, text}
}

// Exchange implements Enhanced: the first link that knows the method does it, unless a certificate has decided before.
func (ch *Chain) Exchange(method string, c *Credentials) Exchange {
	if c.Peer.Enrolment {
		return nil
	}
	for _, l := range ch.links {
		if _, ok := l.Authenticator.(ByCertificate); ok && c.Peer.Cert != nil {
			return refused{mqtt.BadAuthenticationMethod, "the certificate says who this is: connect without an authentication method"}
		}
		e, ok := l.Authenticator.(Enhanced)
		if !ok {
			continue
		}
		x := e.Exchange(method, c)
		if x == nil {
			continue
		}
		if !c.Peer.Secure {
			return refused{mqtt.NotAuthorized, "passwords and tokens are refused on a listener without TLS: use mqtts://"}
		}
		return &watched{Exchange: x, attempt: attempt{ch: ch, link: l, guess: guessable(l.Authenticator),
			peer: strings.Clone(c.Peer.Addr), listener: strings.Clone(c.Peer.Listener)}}
	}
	if !c.Peer.Secure {
		return refused{mqtt.BadAuthenticationMethod, "there are no authentication methods on a listener without TLS: use mqtts://"}
	}
	return nil
}

// refused is an exchange that is over before it begins.
type refused Refusal

// Next implements Exchange.
func (r refused) Next(context.Context, []byte) ([]byte, *Principal, error) {
	return nil, nil, &Refusal{r.Code, r.Text}
}

// watched is an exchange whose outcome the Chain logs and counts.
type watched struct {
	Exchange
	attempt
}

// Next implements Exchange.
func (w *watched) Next(ctx context.Context, data []byte) ([]byte, *Principal, error) {
	w.user = userOf(w.Exchange)
	if w.guess {
		if err := w.wait(); err != nil {
			return nil, nil, err
		}
	}
	reply, p, err := w.Exchange.Next(ctx, data)
	if p == nil && err == nil {
		return reply, nil, nil
	}
	w.user = userOf(w.Exchange)
	return reply, p, w.decided(p, err)
}

// userOf is the user that an exchange is about, as far as it knows one yet.
func userOf(x Exchange) string {
	if u, ok := x.(interface{ User() string }); ok {
		return u.User()
	}
	return ""
}

// attempt is one try to get in.
type attempt struct {
	ch             *Chain
	link           Link // that has decided
	looked         bool // a link has looked at the password
	guess          bool // a failure may be a guess
	peer, listener string
	user           string
	proof          []byte
}

// wait refuses an attempt that comes too early after others that failed.
func (a *attempt) wait() error {
	b := a.ch.backoff
	if b == nil {
		return nil
	}
	left := b.Wait(a.user, a.peer)
	if left <= 0 {
		return nil
	}
	a.ch.log.Debug("authentication not tried after failures before", a.attrs("wait", left.Round(time.Millisecond))...)
	return &Refusal{mqtt.ConnectionRateExceeded, "too many failures; the next attempt counts in " + max(left.Round(time.Second), time.Second).String()}
}

// decided logs and counts what came of an attempt, and returns err or, if there is neither principal nor error, one.
func (a *attempt) decided(p *Principal, err error) error {
	if p == nil && err == nil {
		err = errors.New("the authenticator returned neither a principal nor an error")
	}
	var no *Refusal
	switch {
	case err == nil:
		a.ch.log.Debug("authenticated", a.attrs("principal", clip(p.Name), "method", p.Method)...)
		if a.guess && a.ch.backoff != nil {
			a.ch.backoff.Succeeded(a.user, a.peer)
		}
	case !errors.As(err, &no):
		if a.link.Name != "" {
			err = fmt.Errorf("authenticate by %s: %w", a.link.Name, err)
		}
	default:
		level := slog.LevelInfo
		if a.link.Name == "" && a.user == "" { // nobody was asked about anybody; the broker logs the connection
			level = slog.LevelDebug
		}
		a.ch.log.Log(context.Background(), level, "authentication refused", a.attrs("reason", no.Code.String(), "text", no.Text)...)
		if a.guess && a.ch.backoff != nil && (no.Code == mqtt.BadUserNameOrPassword || no.Code == mqtt.NotAuthorized) {
			if wait := a.ch.backoff.Failed(a.user, a.peer, a.proof); wait > 0 {
				a.ch.log.Warn("authentication slowed down after failures", a.attrs("wait", wait)...)
			}
		}
	}
	return err
}

func (a *attempt) attrs(more ...any) []any {
	all := []any{"user", clip(a.user), "peer", a.peer, "listener", a.listener}
	if a.link.Name != "" { // else none has decided
		all = append([]any{"by", a.link.Name}, all...)
	}
	return append(all, more...)
}

// clip bounds a text from the network for the log.
func clip(s string) string {
	const most = 128 // bytes
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Listeners is the authenticator of a broker whose listeners have each a Chain of their own. The zero value knows none.
type Listeners struct {
	chains atomic.Pointer[map[string]*Chain]
}

// Set replaces the chains, by the names of their listeners. The map must not be changed afterwards.
func (l *Listeners) Set(chains map[string]*Chain) { l.chains.Store(&chains) }

func (l *Listeners) chain(name string) *Chain {
	if m := l.chains.Load(); m != nil {
		return (*m)[name]
	}
	return nil
}

// Authenticate implements Authenticator.
func (l *Listeners) Authenticate(ctx context.Context, c *Credentials) (*Principal, error) {
	ch := l.chain(c.Peer.Listener)
	if ch == nil {
		return nil, fmt.Errorf("authenticate: listener %q has no chain", c.Peer.Listener)
	}
	return ch.Authenticate(ctx, c)
}

// Exchange implements Enhanced.
func (l *Listeners) Exchange(method string, c *Credentials) Exchange {
	ch := l.chain(c.Peer.Listener)
	if ch == nil {
		return nil
	}
	return ch.Exchange(method, c)
}
