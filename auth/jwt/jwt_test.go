package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer has a key of each kind.
type issuer struct {
	ed  ed25519.PrivateKey
	ec  *ecdsa.PrivateKey
	rsa *rsa.PrivateKey
}

var theIssuer = sync.OnceValue(func() issuer {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	return issuer{ed, ec, r}
})

// claims are good ones for now, with changes.
func claims(now time.Time, change map[string]any) map[string]any {
	c := map[string]any{"iss": "https://issuer", "aud": "mqtt", "sub": "alice", "exp": now.Unix() + 60, "iat": now.Unix(), "groups": []string{"ops", "dev"}}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, c any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pemOf(t testing.TB, public any) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func file(t testing.TB, text []byte) string {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var start = time.Unix(1_800_000_000, 0)

// static is an authenticator with the issuer's keys from a file.
func static(t testing.TB, c Config) *Authenticator {
	i := theIssuer()
	var text []byte
	for _, k := range []any{i.ed.Public(), i.ec.Public(), i.rsa.Public()} {
		text = append(text, pemOf(t, k)...)
	}
	c.Keys, c.Issuer = []string{file(t, text)}, "https://issuer"
	if c.Audience == nil {
		c.Audience = []string{"other", "mqtt"}
	}
	a, err := open(c, func() time.Time { return start }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func with(user, token string) *auth.Credentials {
	return &auth.Credentials{Peer: auth.Peer{Secure: true}, HasUsername: user != "", Username: user, HasPassword: true, Password: []byte(token)}
}

// outcome is "name until groups", the text of a refusal, "undecided" or "error".
func outcome(p *auth.Principal, err error) string {
	var no *auth.Refusal
	switch {
	case p != nil && err == nil:
		return p.Name
	case p != nil || err == nil:
		return "neither or both"
	case errors.Is(err, auth.ErrUndecided):
		return "undecided"
	case errors.As(err, &no):
		return no.Text
	}
	return "error"
}

// Tokens that are good, with each algorithm and by both ways, and what they make of a client.
func TestGoodTokens(t *testing.T) {
	i := theIssuer()
	a := static(t, Config{})
	for alg, key := range map[jose.SignatureAlgorithm]any{jose.EdDSA: i.ed, jose.ES256: i.ec, jose.RS256: i.rsa} {
		token := sign(t, alg, key, "any", claims(start, nil))
		p, err := a.Authenticate(t.Context(), with("whoever", token))
		want := &auth.Principal{Name: "alice", Method: "jwt", Groups: []string{"ops", "dev"}, Until: start.Add(time.Minute)}
		if err != nil || !cmp.Equal(p, want, noClaims) {
			t.Errorf("%s: %+v, %v", alg, p, err)
		}
		_, p, err = a.Exchange(Method, &auth.Credentials{}).Next(t.Context(), []byte(token))
		if err != nil || !cmp.Equal(p, want, noClaims) {
			t.Errorf("%s by AUTH: %+v, %v", alg, p, err)
		}
	}
	if a.Exchange("jwt", &auth.Credentials{}) != nil {
		t.Error("another method is known")
	}
}

var noClaims = cmpopts.IgnoreFields(auth.Principal{}, "Claims")

// Claims as texts.
func TestTexts(t *testing.T) {
	var all map[string]any
	err := json.Unmarshal([]byte(`{"sub":"a","n":17,"f":1.5,"b":true,"z":null,"l":["x",1,["y"],{"q":1}],"o":{"p":{"q":"r"},"s":["t"],"u":"v"},"o.u":"whole"}`), &all)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"sub": {"a"}, "n": {"17"}, "f": {"1.5"}, "b": {"true"}, "l": {"x", "1", "y"}, "o.p.q": {"r"}, "o.s": {"t"}, "o.u": {"whole"}}
	if diff := cmp.Diff(want, texts(all)); diff != "" {
		t.Error(diff)
	}
}

// What claims make of a token whose signature is good.
func TestClaims(t *testing.T) {
	now := start.Unix()
	for _, test := range []struct {
		cfg    Config
		change map[string]any
		want   string
	}{
		{Config{}, map[string]any{"aud": []string{"x", "mqtt"}}, "alice"},
		{Config{}, map[string]any{"aud": "x"}, "the token is for another audience (aud)"},
		{Config{}, map[string]any{"aud": nil}, "the token is for another audience (aud)"},
		{Config{}, map[string]any{"aud": []string{}}, "the token is for another audience (aud)"},
		{Config{}, map[string]any{"iss": "https://other"}, "undecided"},
		{Config{}, map[string]any{"iss": nil}, "undecided"},
		{Config{}, map[string]any{"exp": nil}, "the token has no end (exp)"},
		{Config{}, map[string]any{"exp": now}, "the token has ended (exp)"},
		{Config{}, map[string]any{"exp": now + 1}, "alice"},
		{Config{}, map[string]any{"exp": -1}, "the token has ended (exp)"},
		{Config{}, map[string]any{"exp": "soon"}, "the token's claims cannot be read"},
		{Config{}, map[string]any{"nbf": now + 30}, "alice"},
		{Config{}, map[string]any{"nbf": now + 31}, "the token is not valid yet (nbf)"},
		{Config{Leeway: -1}, map[string]any{"nbf": now + 1}, "the token is not valid yet (nbf)"},
		{Config{}, map[string]any{"iat": now + 31}, "the token is from the future (iat)"},
		{Config{}, map[string]any{"iat": nil, "groups": nil}, "alice"},
		{Config{}, map[string]any{"sub": nil}, "the token names no usable user"},
		{Config{}, map[string]any{"sub": ""}, "the token names no usable user"},
		{Config{}, map[string]any{"sub": "a\nb"}, "the token names no usable user"},
		{Config{}, map[string]any{"sub": strings.Repeat("a", 257)}, "the token names no usable user"},
		{Config{User: "${tenant.name}-${sub}"}, map[string]any{"tenant": map[string]any{"name": "acme"}}, "acme-alice"},
		{Config{User: "${tenant.name}"}, map[string]any{"tenant.name": "whole", "tenant": map[string]any{"name": "acme"}}, "whole"},
		{Config{User: "${tenant.name}"}, map[string]any{"tenant": "acme"}, "the token names no usable user"},
		{Config{User: "${n}"}, map[string]any{"n": 17}, "the token names no usable user"},
		{Config{MatchUser: true}, nil, "the token is for another user name"},
		{Config{MatchUser: true}, map[string]any{"sub": "whoever"}, "whoever"},
		{Config{}, map[string]any{"groups": 1}, "the token's groups cannot be read, or are too many"},
		{Config{}, map[string]any{"groups": []any{"a", 1}}, "the token's groups cannot be read, or are too many"},
		{Config{}, map[string]any{"groups": []string{""}}, "the token's groups cannot be read, or are too many"},
		{Config{}, map[string]any{"groups": strings.Repeat("g ", 257)}, "the token's groups cannot be read, or are too many"},
	} {
		a := static(t, test.cfg)
		p, err := a.Authenticate(t.Context(), with("whoever", sign(t, jose.EdDSA, theIssuer().ed, "", claims(start, test.change))))
		if got := outcome(p, err); got != test.want {
			t.Errorf("%+v %v: %s, want %s", test.cfg, test.change, got, test.want)
		}
	}
	for name, change := range map[string]map[string]any{
		"scope": {"scope": "a b"}, "realm.roles": {"realm": map[string]any{"roles": []string{"a", "b"}}}, "https://x/roles": {"https://x/roles": []string{"a", "b"}},
	} {
		a := static(t, Config{Groups: name})
		p, err := a.Authenticate(t.Context(), with("", sign(t, jose.EdDSA, theIssuer().ed, "", claims(start, change))))
		if err != nil || !cmp.Equal(p.Groups, []string{"a", "b"}) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	a := static(t, Config{})
	p, err := a.Authenticate(t.Context(), with("", sign(t, jose.EdDSA, theIssuer().ed, "", claims(start, map[string]any{"exp": int64(1) << 50}))))
	if err != nil || p.Until.Sub(start) > 101*365*24*time.Hour {
		t.Errorf("a token for ever: %+v, %v", p, err)
	}
}

// What is no token of this issuer's: other algorithms above all, which a key of ours must not be good for.
func TestForged(t *testing.T) {
	i := theIssuer()
	a := static(t, Config{})
	good := sign(t, jose.ES256, i.ec, "", claims(start, nil))
	part := strings.Split(good, ".")
	enc := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(claims(start, nil))
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	der, _ := x509.MarshalPKIXPublicKey(i.rsa.Public())
	header := func(s string) string { return enc([]byte(s)) + "." + enc(payload) + "." }
	const unknown, none = "the token is signed by no key known here", "this is no token signed by EdDSA, ES256 or RS256"
	for name, test := range map[string]struct{ token, want string }{
		"none":                      {header(`{"alg":"none"}`), none},
		"None":                      {header(`{"alg":"None"}`) + part[2], none},
		"no algorithm":              {header(`{"typ":"JWT"}`) + part[2], none},
		"HS256 with the public key": {sign(t, jose.HS256, der, "", claims(start, nil)), none},
		"HS256 with the PEM":        {sign(t, jose.HS256, pemOf(t, i.rsa.Public()), "", claims(start, nil)), none},
		"RS512":                     {sign(t, jose.RS512, i.rsa, "", claims(start, nil)), none},
		"PS256":                     {sign(t, jose.PS256, i.rsa, "", claims(start, nil)), none},
		"another key":               {sign(t, jose.EdDSA, other, "", claims(start, nil)), unknown},
		"no signature":              {part[0] + "." + part[1] + ".", unknown},
		"signature of zeros":        {part[0] + "." + part[1] + "." + enc(make([]byte, 64)), unknown},
		"another payload":           {part[0] + "." + enc(payload[:len(payload)-1]) + "fQ." + part[2], ""},
		"critical header":           {header(`{"alg":"ES256","crit":["x"],"x":1}`) + part[2], ""},
		"its own key":               {own(t, other), unknown},
		"long":                      {"eyJ" + strings.Repeat("a", maxToken) + "..", "the token is longer than 8 KiB"},
		"long key id":               {sign(t, jose.EdDSA, i.ed, strings.Repeat("k", 300), claims(start, nil)), unknown},
		"no payload":                {part[0] + ".." + part[2], ""},
		"encrypted":                 {"eyJhbGciOiJkaXIifQ....", "undecided"},
		"a password":                {"secret", "undecided"},
		"empty":                     {"", "undecided"},
	} {
		p, err := a.Authenticate(t.Context(), with("", test.token))
		if got := outcome(p, err); p != nil || err == nil || test.want != "" && got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	clear := with("", good)
	clear.Peer.Secure = false
	if p, err := a.Authenticate(t.Context(), clear); p != nil || !strings.Contains(outcome(p, err), "without TLS") {
		t.Errorf("in the clear: %v", err)
	}
	var no *auth.Refusal
	_, p, err := a.Exchange(Method, &auth.Credentials{}).Next(t.Context(), []byte("secret"))
	if p != nil || !errors.As(err, &no) || no.Code != mqtt.NotAuthorized {
		t.Errorf("by AUTH: %v, %v", p, err)
	}
	_, p, err = a.Exchange(Method, &auth.Credentials{}).Next(t.Context(), []byte(sign(t, jose.EdDSA, i.ed, "", claims(start, map[string]any{"iss": "x"}))))
	if p != nil || !errors.As(err, &no) || no.Code != mqtt.NotAuthorized {
		t.Errorf("of another issuer by AUTH: %v, %v", p, err)
	}
}

// own is a token with its key in its header.
func own(t *testing.T, k ed25519.PrivateKey) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims(start, nil))
	signed, _ := s.Sign(payload)
	text, _ := signed.CompactSerialize()
	return text
}

// set is a JWK set with public keys by their id.
func set(keys map[string]crypto.PublicKey) []byte {
	var s jose.JSONWebKeySet
	for id, k := range keys {
		s.Keys = append(s.Keys, jose.JSONWebKey{Key: k, KeyID: id, Use: "sig"})
	}
	b, _ := json.Marshal(s)
	return b
}

// Keys behind a URL: found by their id, fetched again when a new one is named but not too often, kept through an outage and
// for no longer than allowed, gone when the issuer says so.
func TestRemoteKeys(t *testing.T) {
	i := theIssuer()
	_, second, _ := ed25519.GenerateKey(rand.Reader)
	var served atomic.Pointer[[]byte]
	var fetches atomic.Int32
	publish := func(b []byte) { served.Store(&b) }
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		if b := *served.Load(); b != nil {
			w.Write(b)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	var now atomic.Int64
	now.Store(start.Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	ca := file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	a, err := open(Config{JWKS: s.URL, CAFile: ca, Private: true, Audience: []string{"mqtt"}, Keep: time.Hour}, clock, nil)
	if err != nil {
		t.Fatal(err)
	}
	publish(set(map[string]crypto.PublicKey{"one": i.ed.Public(), "rsa": i.rsa.Public()}))
	a.remote.wait = time.Minute // however slow the machine
	a.start()
	defer a.Close()
	try := func(key any, kid, want string) {
		t.Helper()
		p, err := a.Authenticate(t.Context(), with("", sign(t, jose.EdDSA, key, kid, claims(clock(), nil))))
		if got := outcome(p, err); got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	const unknown = "the token is signed by no key known here"
	try(i.ed, "one", "alice") // waits for the first fetch
	try(i.ed, "", "alice")
	try(i.ed, "rsa", unknown) // a key of another algorithm has this id
	publish(set(map[string]crypto.PublicKey{"one": i.ed.Public(), "two": second.Public()}))
	n := fetches.Load()
	try(second, "two", unknown) // fetched just before
	if fetches.Load() != n {
		t.Error("tokens can have the set fetched at will")
	}
	now.Add(31)
	try(second, "two", "alice")
	now.Add(31)
	publish(nil)
	try(i.ed, "three", unknown) // fetches in vain
	try(i.ed, "one", "alice")
	now.Add(31)
	publish(set(map[string]crypto.PublicKey{"two": second.Public()}))
	try(i.ed, "four", unknown) // fetches
	try(i.ed, "one", unknown)
	publish(nil)
	now.Add(3600)
	try(second, "two", "error")
	now.Add(31)
	publish(set(map[string]crypto.PublicKey{"two": second.Public()}))
	try(second, "two", "alice")

	publish(nil)
	next, err := open(Config{JWKS: s.URL, CAFile: ca, Private: true, Audience: []string{"mqtt"}, Keep: time.Hour}, clock, nil)
	if err != nil {
		t.Fatal(err)
	}
	next.Inherit(a)
	fetched := next.remote.next
	next.start()
	if p, err := next.Authenticate(t.Context(), with("", sign(t, jose.EdDSA, second, "two", claims(clock(), nil)))); outcome(p, err) != "alice" {
		t.Errorf("with keys taken over: %v", err)
	}
	<-fetched
	if next.Trouble() == nil {
		t.Error("nobody is told that the set cannot be fetched")
	}
	next.Close()
}

// Without a set there is no decision, and Close does not wait for the server.
func TestRemoteKeysOutOfReach(t *testing.T) {
	hangs := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer s.Close()
	defer close(hangs)
	ca := file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	a, err := New(Config{JWKS: s.URL, CAFile: ca, Private: true, Audience: []string{"mqtt"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.remote.wait = time.Millisecond
	if p, err := a.Authenticate(t.Context(), with("", sign(t, jose.EdDSA, theIssuer().ed, "", claims(time.Now(), nil)))); outcome(p, err) != "error" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestKeyFiles(t *testing.T) {
	i := theIssuer()
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	private, _ := x509.MarshalPKCS8PrivateKey(i.ec)
	jwk := func(k jose.JSONWebKey) []byte { b, _ := json.Marshal(k); return b }
	for name, test := range map[string]struct {
		text []byte
		want string // of the error; empty: good
	}{
		"PEM":            {pemOf(t, i.ec.Public()), ""},
		"PKCS #1":        {pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&i.rsa.PublicKey)}), ""},
		"JWK":            {jwk(jose.JSONWebKey{Key: i.ed.Public(), KeyID: "k"}), ""},
		"set":            {set(map[string]crypto.PublicKey{"a": i.ed.Public(), "b": i.rsa.Public()}), ""},
		"empty":          {nil, "no public key"},
		"text":           {[]byte("hello"), "no public key"},
		"JSON":           {[]byte("{}"), "key 1"},
		"no keys":        {[]byte(`{"keys":[]}`), "without a key"},
		"broken JSON":    {[]byte(`{"keys":`), "no JWK set"},
		"private":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "a private key"},
		"private JWK":    {jwk(jose.JSONWebKey{Key: i.ed}), "private or symmetric"},
		"symmetric JWK":  {jwk(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}), "private or symmetric"},
		"small RSA":      {pemOf(t, small.Public()), "1024 bits"},
		"P-384":          {pemOf(t, p384.Public()), "other than P-256"},
		"for encryption": {jwk(jose.JSONWebKey{Key: i.rsa.Public(), Use: "enc"}), "another use"},
		"for PS256":      {jwk(jose.JSONWebKey{Key: i.rsa.Public(), Algorithm: "PS256"}), "another algorithm"},
		"other PEM":      {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL"}), `"X509 CRL"`},
		"broken PEM":     {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "asn1"},
	} {
		_, err := New(Config{Keys: []string{file(t, test.text)}, Audience: []string{"a"}}, nil)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	keys, err := parseSet(set(map[string]crypto.PublicKey{"a": i.ed.Public(), "b": p384.Public()}), false)
	if err != nil || len(keys) != 1 || keys[0].id != "a" {
		t.Errorf("keys of others in a set: %v, %v", keys, err)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Keys: []string{"k"}, Audience: []string{"a"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for key, change := range map[string]func(*Config){
		"keys": func(c *Config) { c.Keys = nil }, "audience": func(c *Config) { c.Audience = nil }, "jwks_url": func(c *Config) { c.JWKS = "http://a/" },
		"refresh": func(c *Config) { c.Refresh = time.Second }, "keep_keys": func(c *Config) { c.Keep = 721 * time.Hour },
		"leeway": func(c *Config) { c.Leeway = time.Hour }, "user": func(c *Config) { c.User = "everybody" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, bad := range []string{"${", "${}", "a${sub"} {
		if _, err := parseTemplate(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// No text gets in that the issuer has not signed.
func FuzzToken(f *testing.F) {
	a := static(f, Config{})
	good := sign(f, jose.EdDSA, theIssuer().ed, "k", claims(start, nil))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJFZERTQSJ9.eyJleHAiOjF9.AAAA")
	f.Add("eyJhbGciOiJFUzI1NiIsImp3ayI6e319.e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := a.Authenticate(t.Context(), with("", token)); p != nil && token != good || p == nil && err == nil {
			t.Errorf("%q: %+v, %v", token, p, err)
		}
	})
}

// Files and sets give only keys that are fit to be used.
func FuzzKeys(f *testing.F) {
	f.Add(set(map[string]crypto.PublicKey{"a": theIssuer().ed.Public()}))
	f.Add(pemOf(f, theIssuer().ec.Public()))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, strict := range []bool{false, true} {
			if keys, err := parseSet(text, strict); err == nil && (len(keys) == 0 || len(keys) > maxKeys) {
				t.Errorf("%d keys", len(keys))
			}
		}
		parseFile(text)
	})
}

func BenchmarkCheck(b *testing.B) {
	i := theIssuer()
	for alg, key := range map[jose.SignatureAlgorithm]any{jose.EdDSA: i.ed, jose.ES256: i.ec, jose.RS256: i.rsa} {
		b.Run(string(alg), func(b *testing.B) {
			a := static(b, Config{})
			c := with("", sign(b, alg, key, "k", claims(start, nil)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Authenticate(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
