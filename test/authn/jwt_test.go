package authn

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// issuer signs tokens and serves its JWK set over HTTPS.
type issuer struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]ed25519.PrivateKey
	down bool
}

func newIssuer(t *testing.T, kids ...string) *issuer {
	i := &issuer{}
	i.rotate(kids...)
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.down || r.URL.Path != "/keys" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var all []map[string]string
		for kid, k := range i.keys {
			x := base64.RawURLEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
			all = append(all, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "use": "sig"})
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": all})
	}))
	t.Cleanup(i.Close)
	return i
}

// rotate replaces the keys.
func (i *issuer) rotate(kids ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = map[string]ed25519.PrivateKey{}
	for _, kid := range kids {
		_, i.keys[kid], _ = ed25519.GenerateKey(nil)
	}
}

func (i *issuer) fail(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) key(kid string) ed25519.PrivateKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[kid]
}

// token signs claims.
func token(kid string, key ed25519.PrivateKey, claims map[string]any) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "EdDSA", "kid": kid}) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

func claims(sub string, left time.Duration) map[string]any {
	return map[string]any{"sub": sub, "iss": "https://login.example.org", "aud": "mqtt", "exp": time.Now().Add(left).Unix()}
}

// certificateOf is the certificate of a test server as PEM, its own CA.
func certificateOf(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func byToken(t *testing.T, i *issuer) *broker {
	b := prepare(t, fmt.Sprintf(`
[auth.jwt]
jwks_url = "%s/keys"
ca_file = "issuer-ca.pem"
allow_private = true
issuer = "https://login.example.org"
audience = ["mqtt"]
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_certificates = "optional"
auth = ["certificate", "jwt"]
`, i.URL))
	b.write(t, "issuer-ca.pem", certificateOf(i.Server))
	return b.start(t)
}

// bearer is a client with a token as its password.
func bearer(id, token string) client.Config {
	return client.Config{ClientID: id, Password: []byte(token), CleanStart: true}
}

// Tokens by password and by method; the issuer changes its keys, and is out of reach.
func TestJWT(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, "one")
	b := byToken(t, i)
	one := i.key("one")
	good := token("one", one, claims("alice", time.Hour))
	b.secrets = append(b.secrets, good)
	eventually(t, func() error { // once the keys are fetched
		_, err := b.try(t, bearer("a", good))
		return err
	})
	b.connect(t, client.Config{ClientID: "b", CleanStart: true, AuthMethod: "JWT", AuthData: []byte(good)})
	b.awaitLog(t, 0, `"msg":"authenticated"`, `"by":"jwt"`, `"principal":"alice"`)

	other := claims("alice", time.Hour)
	other["aud"] = "shop"
	b.refused(t, bearer("c", token("one", one, claims("alice", -time.Second))), mqtt.BadUserNameOrPassword, "has ended")
	b.refused(t, bearer("c", token("one", one, other)), mqtt.BadUserNameOrPassword, "another audience")
	_, stranger, _ := ed25519.GenerateKey(nil)
	b.refused(t, bearer("c", token("one", stranger, claims("alice", time.Hour))), mqtt.BadUserNameOrPassword, "no key known here")
	b.refused(t, bearer("a", token("one", one, claims("bob", time.Hour))), mqtt.ClientIDNotValid, "") // alice's

	i.fail(true)
	b.reload(t, "keys for tokens cannot be fetched")
	b.connect(t, bearer("d", good)) // by the keys from before

	i.rotate("two")
	i.fail(false)
	b.reload(t, "configuration reloaded")
	eventually(t, func() error { // once the keys are fetched
		_, err := b.try(t, bearer("e", token("two", i.key("two"), claims("alice", time.Hour))))
		return err
	})
	b.refused(t, bearer("f", good), mqtt.BadUserNameOrPassword, "no key known here")
}

// A connection ends with its token, unless the client hands in the next one.
func TestJWTEnds(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, "one")
	b := byToken(t, i)
	key := i.key("one")
	var short, renewed *client.Client
	for life := 3 * time.Second; ; life *= 3 { // as long as this machine needs
		var one, two, again error
		text := token("one", key, claims("alice", life))
		short, one = b.try(t, bearer("short", text))
		renewed, two = b.try(t, client.Config{ClientID: "renewed", CleanStart: true, AuthMethod: "JWT", AuthData: []byte(text)})
		if one == nil && two == nil {
			again = renewed.Reauthenticate(t.Context(), []byte(token("one", key, claims("alice", time.Hour))))
		}
		err := errors.Join(one, two, again)
		if err == nil {
			break
		}
		if life > 20*time.Second {
			t.Fatal(err)
		}
	}
	var code mqtt.ReasonCode
	if err := ended(t, short); !errors.As(err, &code) {
		t.Errorf("the end of the token: %v, want a reason", err)
	}
	if _, err := renewed.Publish(t.Context(), &client.Message{Topic: "t", QoS: 1}); err != nil {
		t.Errorf("with the next token: %v", err)
	}
	if err := renewed.Reauthenticate(t.Context(), []byte(token("one", key, claims("bob", time.Hour)))); err == nil {
		t.Error("became another user")
	}
	ended(t, renewed)
}
