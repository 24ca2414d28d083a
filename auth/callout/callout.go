// Package callout lets a web service decide who a client is: it gets the client's credentials as JSON and answers allow,
// deny or ignore. Request and answer are those that EMQX users know; docs/handbook/authentication.md describes them.
//
// Decisions are kept for a short time, so that a client that comes back at once costs no request. What is kept is found by
// a keyed hash of the request and holds no password. The package starts no goroutine beside those of net/http, which
// Close ends.
package callout

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/internal/secret"
	"github.com/sealmq/sealmq/auth/internal/web"
	"github.com/sealmq/sealmq/mqtt"
)

// Config says which service is asked. Zero fields have their defaults.
type Config struct {
	// URL is where the request is posted: https://…, or http:// to 127.0.0.1 or [::1].
	URL string `toml:"url"`

	// CAFile is a PEM file with the CA of the service's certificate. Empty: those of the machine.
	CAFile string `toml:"ca_file"`

	// TokenFile is a file, readable by its owner alone, whose first line is sent as Authorization: Bearer.
	TokenFile string `toml:"token_file"`

	// Timeout is how long an answer may take. After it the client is told that authentication is not available.
	Timeout time.Duration `toml:"timeout" default:"5s" min:"100ms" max:"1m"`

	// AtOnce is how many requests are under way at the same time. More clients wait.
	AtOnce int `toml:"requests_at_once" default:"32" min:"1" max:"1000"`

	// KeepAllowed is how long the service is not asked again about a client that it allowed. Any change of user name,
	// password, client identifier, address or certificate is another client.
	KeepAllowed time.Duration `toml:"keep_allowed" default:"30s" min:"0s" max:"24h" none:"-1"`

	// KeepDenied is how long the service is not asked again about a client that it denied or ignored.
	KeepDenied time.Duration `toml:"keep_denied" default:"5s" min:"0s" max:"24h" none:"-1"`

	// Private allows a service at a private address, or on this machine. Without it none is asked, whatever its name says.
	Private bool `toml:"allow_private"`
}

func (c Config) effective() Config {
	for _, d := range []struct {
		val  *time.Duration
		base time.Duration
	}{{&c.Timeout, 5 * time.Second}, {&c.KeepAllowed, 30 * time.Second}, {&c.KeepDenied, 5 * time.Second}} {
		if *d.val == 0 {
			*d.val = d.base
		}
	}
	c.KeepAllowed, c.KeepDenied = max(c.KeepAllowed, 0), max(c.KeepDenied, 0)
	if c.AtOnce == 0 {
		c.AtOnce = 32
	}
	return c
}

// Validate reports every value outside its limits, by its key in the configuration file.
func (c Config) Validate() error {
	c = c.effective()
	var errs []error
	if err := web.Check(c.URL, c.Private); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	for _, d := range []struct {
		key          string
		val, min, to time.Duration
	}{{"timeout", c.Timeout, 100 * time.Millisecond, time.Minute}, {"keep_allowed", c.KeepAllowed, 0, 24 * time.Hour},
		{"keep_denied", c.KeepDenied, 0, 24 * time.Hour}} {
		if d.val < d.min || d.val > d.to {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", d.key, d.val, d.min, d.to))
		}
	}
	if c.AtOnce < 1 || c.AtOnce > 1000 {
		errs = append(errs, fmt.Errorf("requests_at_once: %d is not between 1 and 1000", c.AtOnce))
	}
	return errors.Join(errs...)
}

const (
	queue     = 1024     // clients that wait for their request
	maxAnswer = 64 << 10 // bytes
	maxGroups = 64       // of an answer
	maxName   = 256      // bytes of a group, and of a user or client whose identity is to be
)

// Authenticator asks the service. Principals have the method "http", the user name as name, or else the client identifier,
// and the groups of the answer.
type Authenticator struct {
	cfg    Config
	client *web.Client
	header http.Header
	key    []byte
	now    func() time.Time
	turns  *auth.Turns
	kept   kept
}

// New makes an Authenticator. It opens no connection yet. Close it.
func New(c Config) (*Authenticator, error) {
	c = c.effective()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("set up HTTP authentication: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"sealmq"}}
	if c.TokenFile != "" {
		token, err := secret.Read(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("set up HTTP authentication: %w", err)
		}
		header.Set("Authorization", "Bearer "+token)
	}
	client, err := web.New(web.Options{URL: c.URL, CAFile: c.CAFile, Private: c.Private, Timeout: c.Timeout, Conns: c.AtOnce})
	if err != nil {
		return nil, fmt.Errorf("set up HTTP authentication: %w", err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	return &Authenticator{cfg: c, client: client, header: header, key: key, now: time.Now,
		turns: auth.NewTurns(c.AtOnce, queue), kept: kept{entries: map[[32]byte]decision{}}}, nil
}

// Close ends its connections. Nobody may be waiting for it.
func (a *Authenticator) Close() { a.client.Close() }

// request is what the service gets.
type request struct {
	Username   string `json:"username"`
	Password   string `json:"password"`
	ClientID   string `json:"clientid"`
	PeerHost   string `json:"peerhost"`
	ProtoName  string `json:"proto_name"`
	ProtoVer   int    `json:"proto_ver"`
	Listener   string `json:"listener"`
	Transport  string `json:"transport"`
	CommonName string `json:"cert_common_name"`
	Subject    string `json:"cert_subject"`
	Serial     string `json:"cert_serial"`
	Print      string `json:"cert_sha256"`
}

// answer is what it may say. Other members are not looked at.
type answer struct {
	Result    string            `json:"result"`
	Superuser bool              `json:"is_superuser"`
	Groups    []string          `json:"groups"`
	Attrs     map[string]string `json:"client_attrs"`
	ExpireAt  *int64            `json:"expire_at"` // seconds since 1970
}

// Authenticate implements auth.Authenticator.
func (a *Authenticator) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if !c.HasUsername && !c.HasPassword && c.Peer.Cert == nil {
		return nil, auth.ErrUndecided
	}
	if err := auth.InTheClear(c); err != nil {
		return nil, err
	}
	if !utf8.Valid(c.Password) {
		return nil, auth.ErrUndecided // JSON cannot say it
	}
	name := c.Username
	if name == "" {
		name = c.ClientID
	}
	if len(name) > maxName {
		return nil, auth.ErrUndecided
	}
	body, err := json.Marshal(ask(c))
	if err != nil {
		return nil, fmt.Errorf("ask HTTP service: %w", err)
	}
	key := a.sum(body)
	d, ok := a.kept.get(key, a.now())
	if !ok {
		if d, err = a.post(ctx, body); err != nil {
			return nil, err
		}
		a.keep(key, d)
	}
	switch d.result {
	case "allow":
		return &auth.Principal{Name: strings.Clone(name), Method: "http", Groups: d.groups, Until: d.until}, nil
	case "deny":
		return nil, auth.Wrong()
	}
	return nil, auth.ErrUndecided
}

func ask(c *auth.Credentials) request {
	r := request{
		Username: c.Username, Password: string(c.Password), ClientID: c.ClientID, PeerHost: c.Peer.Addr,
		ProtoName: "MQTT", ProtoVer: int(c.Version), Listener: c.Peer.Listener, Transport: c.Peer.Transport,
	}
	if c.Version == mqtt.V31 {
		r.ProtoName = "MQIsdp"
	}
	if ap, err := netip.ParseAddrPort(c.Peer.Addr); err == nil {
		r.PeerHost = ap.Addr().Unmap().String()
	}
	if cert := c.Peer.Cert; cert != nil {
		r.CommonName, r.Subject = cert.Subject.CommonName, cert.Subject.String()
		sum := sha256.Sum256(cert.Raw)
		r.Serial, r.Print = auth.Identify(cert).Serial, hex.EncodeToString(sum[:])
	}
	return r
}

func (a *Authenticator) sum(body []byte) [32]byte {
	m := hmac.New(sha256.New, a.key)
	m.Write(body)
	return [32]byte(m.Sum(nil))
}

// post asks the service.
func (a *Authenticator) post(ctx context.Context, body []byte) (decision, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	if err := a.turns.Take(ctx); err != nil {
		return decision{}, fmt.Errorf("ask HTTP service: %w", err)
	}
	defer a.turns.Leave()
	status, text, err := a.client.Do(ctx, http.MethodPost, a.header, bytes.NewReader(body), maxAnswer)
	if err != nil {
		return decision{}, err
	}
	d, err := parse(status, text, a.now())
	if err != nil {
		return decision{}, fmt.Errorf("ask HTTP service: %w", err)
	}
	return d, nil
}

// parse reads an answer. 204 is allow; any other status than 200 is no answer.
func parse(status int, text []byte, now time.Time) (decision, error) {
	switch status {
	case http.StatusNoContent:
		return decision{result: "allow"}, nil
	case http.StatusOK:
	default:
		return decision{}, fmt.Errorf("the answer has status %d; want 200 with a result, or 204", status)
	}
	var r answer
	if err := json.Unmarshal(text, &r); err != nil {
		return decision{}, errors.New("the answer is not the JSON object that is wanted")
	}
	d := decision{result: r.Result}
	switch r.Result {
	case "deny", "ignore":
		return d, nil
	case "allow":
	default:
		return decision{}, errors.New("the answer has no result of allow, deny or ignore")
	}
	d.groups = r.Groups
	if r.Superuser {
		d.groups = append(d.groups, "superuser")
	}
	for k, v := range r.Attrs {
		d.groups = append(d.groups, k+"="+v)
	}
	slices.Sort(d.groups)
	d.groups = slices.Compact(d.groups)
	if len(d.groups) > maxGroups || slices.ContainsFunc(d.groups, func(g string) bool { return g == "" || len(g) > maxName }) {
		return decision{}, fmt.Errorf("the answer has more than %d groups, or one without or with a long name", maxGroups)
	}
	if r.ExpireAt != nil {
		d.until = time.Unix(min(*r.ExpireAt, now.Add(100*365*24*time.Hour).Unix()), 0)
		if !d.until.After(now) {
			return decision{result: "deny"}, nil
		}
	}
	return d, nil
}
