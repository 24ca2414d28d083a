// Package jwt authenticates clients by a JSON Web Token (RFC 7519), which they send as their password, or as the
// authentication data of the MQTT 5 method "JWT". It takes EdDSA, ES256 and RS256, each with keys of its kind alone, from
// files or from a JWK set that is fetched over HTTPS. A token has to name its audience and its end; the connection ends
// with it, unless the client authenticates again.
//
// What a token says about where its key is, is not looked at. With a JWK set the package starts one goroutine, which Close
// ends.
package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/internal/web"
	"github.com/sealmq/sealmq/mqtt"
)

// Method is the name of the authentication method in CONNECT and AUTH.
const Method = "JWT"

// Config says whose tokens are good. Zero fields have their defaults.
type Config struct {
	// Keys are files with public keys: PEM (also certificates, whose dates are not looked at), a JWK or a JWK set.
	Keys []string `toml:"keys"`

	// JWKS is the URL of the issuer's JWK set, with https://. It is fetched at the start, at times, and when a token names an
	// unknown key.
	JWKS string `toml:"jwks_url"`

	// CAFile is a PEM file with the CA of the URL's server. Empty: those of the machine.
	CAFile string `toml:"ca_file"`

	// Private allows a URL at a private address, or on this machine.
	Private bool `toml:"allow_private"`

	// Refresh is how often the JWK set is fetched. A key that is gone from it is good no more.
	Refresh time.Duration `toml:"refresh" default:"15m" min:"1m" max:"24h"`

	// Keep is how long the keys stay good while the JWK set cannot be fetched.
	Keep time.Duration `toml:"keep_keys" default:"24h" min:"1m" max:"720h"`

	// Issuer is what iss has to be; tokens of others are left to the next authenticator. Empty: it is not looked at.
	Issuer string `toml:"issuer"`

	// Audience are the values of which aud has to have one. Required.
	Audience []string `toml:"audience"`

	// User is how the client is called: text with claims in ${}, a.b for b inside a.
	User string `toml:"user" default:"${sub}"`

	// MatchUser refuses a client whose user name in CONNECT is another one than that. Without it the user name is not looked
	// at.
	MatchUser bool `toml:"match_user"`

	// Groups is the claim with the client's groups: a list of texts, or a text with spaces between them.
	Groups string `toml:"groups_claim" default:"groups"`

	// Leeway is how far the issuer's clock may be ahead of ours (nbf, iat).
	Leeway time.Duration `toml:"leeway" default:"30s" min:"0s" max:"5m" none:"-1"`
}

func (c Config) effective() Config {
	for _, d := range []struct {
		val  *time.Duration
		base time.Duration
	}{{&c.Refresh, 15 * time.Minute}, {&c.Keep, 24 * time.Hour}, {&c.Leeway, 30 * time.Second}} {
		if *d.val == 0 {
			*d.val = d.base
		}
	}
	c.Leeway = max(c.Leeway, 0)
	if c.User == "" {
		c.User = "${sub}"
	}
	if c.Groups == "" {
		c.Groups = "groups"
	}
	return c
}

// Validate reports every value that is missing or outside its limits, by its key in the configuration file. It opens no
// file.
func (c Config) Validate() error {
	c = c.effective()
	var errs []error
	if len(c.Keys) == 0 && c.JWKS == "" {
		errs = append(errs, errors.New("keys: files with public keys are wanted, or jwks_url"))
	}
	if c.JWKS != "" {
		if err := web.Check(c.JWKS, c.Private); err != nil {
			errs = append(errs, fmt.Errorf("jwks_url: %w", err))
		}
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		errs = append(errs, errors.New("audience: want at least one, and none that is empty"))
	}
	for _, d := range []struct {
		key          string
		val, min, to time.Duration
	}{{"refresh", c.Refresh, time.Minute, 24 * time.Hour}, {"keep_keys", c.Keep, time.Minute, 720 * time.Hour}, {"leeway", c.Leeway, 0, 5 * time.Minute}} {
		if d.val < d.min || d.val > d.to {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", d.key, d.val, d.min, d.to))
		}
	}
	if _, err := parseTemplate(c.User); err != nil {
		errs = append(errs, fmt.Errorf("user: %w", err))
	}
	return errors.Join(errs...)
}

const (
	maxToken  = 8 << 10 // bytes
	maxName   = 256     // bytes of a user or group
	maxGroups = 256
	maxTries  = 8 // keys that a token without a key id is tried with
)

// Authenticator checks tokens. Principals have the method "jwt", the groups of the token, and end with it.
type Authenticator struct {
	cfg    Config
	user   template
	static []key
	remote *remote // nil without a URL
	now    func() time.Time
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// New makes an Authenticator: it reads the files, and begins to fetch the JWK set, without waiting for it. log may be nil.
// Close it.
func New(c Config, log *slog.Logger) (*Authenticator, error) {
	a, err := open(c, time.Now, log)
	if err != nil {
		return nil, fmt.Errorf("set up JWT authentication: %w", err)
	}
	a.start()
	return a, nil
}

// open is New without the goroutine.
func open(c Config, now func() time.Time, log *slog.Logger) (*Authenticator, error) {
	c = c.effective()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{cfg: c, now: now, stop: func() {}}
	a.user, _ = parseTemplate(c.User)
	for _, path := range c.Keys {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if len(text) > maxSet {
			return nil, fmt.Errorf("open %s: more than %d bytes", path, maxSet)
		}
		keys, err := parseFile(text)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		if a.static = append(a.static, keys...); len(a.static) > maxKeys {
			return nil, fmt.Errorf("open %s: more than %d keys", path, maxKeys)
		}
	}
	if c.JWKS != "" {
		client, err := web.New(web.Options{URL: c.JWKS, CAFile: c.CAFile, Private: c.Private, Timeout: fetching, Conns: 1})
		if err != nil {
			return nil, err
		}
		a.remote = newRemote(client, c.Refresh, c.Keep, now, log)
	}
	return a, nil
}

func (a *Authenticator) start() {
	if a.remote == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.done.Go(func() { a.remote.run(ctx) })
}

// Close ends the fetching and waits for it.
func (a *Authenticator) Close() {
	a.stop()
	a.done.Wait()
	if a.remote != nil {
		a.remote.client.Close()
	}
}

// Inherit takes over the keys that an authenticator with the same URL has fetched, so that tokens are good at once. It comes
// before the first client.
func (a *Authenticator) Inherit(from *Authenticator) {
	if a.remote == nil || from.remote == nil || a.cfg.JWKS != from.cfg.JWKS {
		return
	}
	from.remote.mu.Lock()
	keys, fetched := from.remote.keys, from.remote.fetched
	from.remote.mu.Unlock()
	a.remote.mu.Lock()
	defer a.remote.mu.Unlock()
	if a.remote.fetched.IsZero() {
		a.remote.keys, a.remote.fetched = keys, fetched
	}
}

// Trouble is why the JWK set could not be fetched at the last attempt, nil if it could.
func (a *Authenticator) Trouble() error {
	if a.remote == nil {
		return nil
	}
	a.remote.mu.Lock()
	defer a.remote.mu.Unlock()
	return a.remote.failed
}

// looksLike reports whether a password is a token by its form: three parts of which the first is a JSON object.
func looksLike(password []byte) bool {
	return len(password) > 3 && string(password[:3]) == "eyJ" && strings.Count(string(password), ".") == 2
}

// Authenticate implements auth.Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if !c.HasPassword || !looksLike(c.Password) {
		return nil, auth.ErrUndecided
	}
	if err := auth.InTheClear(c); err != nil {
		return nil, err
	}
	return a.check(ctx, string(c.Password), c.HasUsername, c.Username, mqtt.BadUserNameOrPassword)
}

// Unguessable implements auth.Unguessable.
func (a *Authenticator) Unguessable() {}

// Exchange implements auth.Enhanced: the token is the authentication data, and there is one step.
func (a *Authenticator) Exchange(method string, c *auth.Credentials) auth.Exchange {
	if method != Method {
		return nil
	}
	return &exchange{a: a, named: c.HasUsername, user: strings.Clone(c.Username)}
}

type exchange struct {
	a     *Authenticator
	named bool
	user  string
}

// Next implements auth.Exchange.
func (x *exchange) Next(ctx context.Context, data []byte) ([]byte, *auth.Principal, error) {
	p, err := x.a.check(ctx, string(data), x.named, x.user, mqtt.NotAuthorized)
	if errors.Is(err, auth.ErrUndecided) {
		err = refuse(mqtt.NotAuthorized, "the token is of another issuer")
	}
	return nil, p, err
}

func refuse(code mqtt.ReasonCode, text string) error { return &auth.Refusal{Code: code, Text: text} }

// check turns a token into a principal. What a token says is told of only after its signature was found good.
func (a *Authenticator) check(ctx context.Context, text string, named bool, user string, code mqtt.ReasonCode) (*auth.Principal, error) {
	if len(text) > maxToken {
		return nil, refuse(code, "the token is longer than 8 KiB")
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.RS256})
	if err != nil || len(token.Headers) != 1 {
		return nil, refuse(code, "this is no token signed by EdDSA, ES256 or RS256")
	}
	var unproven jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&unproven); err != nil {
		return nil, refuse(code, "the token's claims cannot be read")
	}
	if a.cfg.Issuer != "" && unproven.Issuer != a.cfg.Issuer {
		return nil, auth.ErrUndecided
	}
	h := token.Headers[0]
	if len(h.KeyID) > maxKid {
		return nil, refuse(code, "the token is signed by no key known here")
	}
	alg := jose.SignatureAlgorithm(h.Algorithm)
	c, all := verify(token, fitting(a.static, alg, h.KeyID))
	if c == nil && a.remote != nil {
		keys, err := a.remote.find(ctx, alg, h.KeyID)
		if err != nil {
			return nil, err
		}
		c, all = verify(token, keys)
	}
	if c == nil {
		return nil, refuse(code, "the token is signed by no key known here")
	}
	return a.principal(c, all, named, user, code)
}

// verify returns the claims of a token that one of the keys has signed, else nil.
func verify(token *jwt.JSONWebToken, keys []key) (*jwt.Claims, map[string]any) {
	for _, k := range keys[:min(len(keys), maxTries)] {
		var c jwt.Claims
		var all map[string]any
		if err := token.Claims(k.public, &c, &all); err == nil {
			return &c, all
		}
	}
	return nil, nil
}

// principal judges the claims of a token whose signature is good.
func (a *Authenticator) principal(c *jwt.Claims, all map[string]any, named bool, user string, code mqtt.ReasonCode) (*auth.Principal, error) {
	now := a.now()
	switch {
	case c.Expiry == nil:
		return nil, refuse(code, "the token has no end (exp)")
	case !c.Expiry.Time().After(now):
		return nil, refuse(code, "the token has ended (exp)")
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(a.cfg.Leeway)):
		return nil, refuse(code, "the token is not valid yet (nbf)")
	case c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(a.cfg.Leeway)):
		return nil, refuse(code, "the token is from the future (iat)")
	case !slices.ContainsFunc(c.Audience, func(s string) bool { return slices.Contains(a.cfg.Audience, s) }):
		return nil, refuse(code, "the token is for another audience (aud)")
	}
	name, ok := a.user.expand(all)
	if !ok {
		return nil, refuse(code, "the token names no usable user")
	}
	if a.cfg.MatchUser && named && user != "" && user != name {
		return nil, refuse(code, "the token is for another user name")
	}
	groups, ok := groupsOf(claim(all, a.cfg.Groups))
	if !ok {
		return nil, refuse(code, "the token's groups cannot be read, or are too many")
	}
	until := c.Expiry.Time()
	if far := now.Add(100 * 365 * 24 * time.Hour); until.After(far) {
		until = far
	}
	return &auth.Principal{Name: name, Method: "jwt", Groups: groups, Claims: texts(all), Until: until}, nil
}

// claim finds a claim by its whole name, or else by the way to it through objects.
func claim(all map[string]any, name string) any {
	if v, ok := all[name]; ok {
		return v
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	inner, _ := all[first].(map[string]any)
	return claim(inner, rest)
}

// groupsOf reads a list of texts, or a text with spaces; nothing is no groups.
func groupsOf(v any) ([]string, bool) {
	var all []string
	switch v := v.(type) {
	case nil:
		return nil, true
	case string:
		all = strings.Fields(v)
	case []any:
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, false
			}
			all = append(all, s)
		}
	default:
		return nil, false
	}
	if len(all) > maxGroups || slices.ContainsFunc(all, func(s string) bool { return !proper(s) }) {
		return nil, false
	}
	return all, true
}

// texts are claims as a policy reads them: texts, numbers, yes and no, lists of these, and what is inside objects under the
// way to it.
func texts(all map[string]any) map[string][]string {
	out := map[string][]string{}
	var put func(name string, v any)
	put = func(name string, v any) {
		switch v := v.(type) {
		case string:
			out[name] = append(out[name], v)
		case bool:
			out[name] = append(out[name], strconv.FormatBool(v))
		case float64:
			out[name] = append(out[name], strconv.FormatFloat(v, 'f', -1, 64))
		case []any:
			for _, x := range v {
				if _, object := x.(map[string]any); !object {
					put(name, x)
				}
			}
		case map[string]any:
			for k, x := range v {
				if _, whole := all[name+"."+k]; !whole { // a claim of that very name counts
					put(name+"."+k, x)
				}
			}
		}
	}
	for k, v := range all {
		put(k, v)
	}
	return out
}

// proper reports whether a text may be a name.
func proper(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// template is text, claim, text, claim, …
type template []string

func parseTemplate(s string) (template, error) {
	var t template
	for {
		text, rest, found := strings.Cut(s, "${")
		t = append(t, text)
		if !found {
			break
		}
		name, rest, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return nil, errors.New("want text with claims as ${sub}")
		}
		t, s = append(t, name), rest
	}
	if len(t) == 1 {
		return nil, errors.New("no claim in it: all clients would be one user")
	}
	return t, nil
}

// expand puts in the claims, which all have to be texts, and not empty.
func (t template) expand(all map[string]any) (string, bool) {
	var b strings.Builder
	for i, part := range t {
		if i%2 == 1 {
			v, ok := claim(all, part).(string)
			if !ok || v == "" {
				return "", false
			}
			part = v
		}
		b.WriteString(part)
	}
	return b.String(), proper(b.String())
}
