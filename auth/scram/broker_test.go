package scram_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/auth/scram"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store/memory"
)

// patience is how long a test waits for what must happen; only a failing test waits that long.
const patience = 60 * time.Second

// serve is a broker with the chain password, scram for its one listener.
func serve(t *testing.T) *broker.Broker {
	f := password.New()
	for user, scheme := range map[string]password.Scheme{"alice": password.SCRAM, "bob": password.Argon2id} {
		if err := f.Set(user, "secret", scheme, password.Cost{Memory: 64, Passes: 1, Iterations: 4096}); err != nil {
			t.Fatal(err)
		}
	}
	file := password.NewAuthenticator(password.Config{}, f)
	var chains auth.Listeners
	chains.Set(map[string]*auth.Chain{"test": auth.NewChain([]auth.Link{
		{Name: "password", Authenticator: file}, {Name: "scram", Authenticator: scram.New(scram.Options{Users: file.File})},
	}, auth.NewBackoff(auth.BackoffConfig{}, nil), nil)})
	b, err := broker.New(broker.Config{}, broker.Options{Store: memory.New(), Auth: &chains})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error("shutdown:", err)
		}
	})
	return b
}

// connect connects a client with TLS, as far as the broker knows.
func connect(t *testing.T, b *broker.Broker, cfg client.Config) (*client.Client, error) {
	server, end := testkit.Pipe(0)
	link := testkit.NewLink(server)
	c := b.NewConn(link, auth.Peer{Addr: "192.0.2.1:4711", Listener: "test", Transport: "tls", Secure: true}, broker.Limits{})
	link.OnWritable = c.Writable
	go func() {
		if c.Open(server) == nil {
			testkit.Drive(server, link, c)
		}
	}()
	t.Cleanup(func() { end.Close() })
	cfg.Dial, cfg.AckTimeout = func(context.Context) (net.Conn, error) { return end, nil }, patience
	cl, err := client.Connect(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() {
			cl.Close()
			cl.Wait()
		})
	}
	return cl, err
}

// proving is a client of RFC 5802.
func proving(user, pass string) client.Config {
	return client.Config{ClientID: "c", AuthMethod: scram.Method, AuthData: []byte("n,,n=" + user + ",r=abc"), OnAuth: func(challenge []byte) ([]byte, error) {
		part := strings.Split(string(challenge), ",")
		if len(part) != 3 {
			return nil, errors.New("no server-first-message")
		}
		salt, _ := base64.StdEncoding.DecodeString(part[1][2:])
		i, _ := strconv.Atoi(part[2][2:])
		salted, _ := pbkdf2.Key(sha256.New, pass, salt, i, 32)
		key := mac(salted, "Client Key")
		stored := sha256.Sum256(key)
		without := "c=biws," + part[0]
		subtle.XORBytes(key, key, mac(stored[:], "n="+user+",r=abc,"+string(challenge)+","+without))
		return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(key)), nil
	}}
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// A broker with a chain: by method and by password, again on the same connection, and whose a session is.
// [MQTT-4.12.0-2] [MQTT-4.12.1-1]
func TestBroker(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("clients", func(t *testing.T) {
		b := serve(t)
		alice, err := connect(t, b, proving("alice", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(alice.Server().AuthData), "v=") {
			t.Errorf("CONNACK carries %q, not the server's signature", alice.Server().AuthData)
		}
		if err := alice.Reauthenticate(t.Context(), []byte("n,,n=alice,r=abc")); err != nil {
			t.Errorf("again: %v", err)
		}
		refused := func(name string, want mqtt.ReasonCode, cfg client.Config) {
			t.Helper()
			var code mqtt.ReasonCode
			if _, err := connect(t, b, cfg); !errors.As(err, &code) || code != want {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		refused("wrong password", mqtt.NotAuthorized, proving("alice", "Secret"))
		refused("no SCRAM line", mqtt.NotAuthorized, proving("bob", "secret"))
		refused("unknown method", mqtt.BadAuthenticationMethod, client.Config{ClientID: "c", AuthMethod: "GS2-KRB5"})
		refused("nothing", mqtt.NotAuthorized, client.Config{ClientID: "c"})
		refused("wrong password as it is", mqtt.BadUserNameOrPassword, client.Config{ClientID: "c", Username: "alice", Password: []byte("x")})
		refused("another's session", mqtt.ClientIDNotValid, client.Config{ClientID: "c", Username: "bob", Password: []byte("secret")})
		if alice.Err() != nil {
			t.Errorf("others have ended the connection: %v", alice.Err())
		}
		if _, err := connect(t, b, client.Config{ClientID: "c", Username: "alice", Password: []byte("secret")}); err != nil {
			t.Errorf("the same user by password: %v", err)
		}
		<-alice.Done() // taken over
		bob, err := connect(t, b, client.Config{ClientID: "d", Username: "bob", Password: []byte("secret"), Version: mqtt.V311, CleanStart: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := bob.Disconnect(mqtt.Success); err != nil {
			t.Error(err)
		}
	})
	t.Run("another user on the same connection", func(t *testing.T) {
		b := serve(t)
		cfg := proving("alice", "secret")
		c, err := connect(t, b, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Reauthenticate(t.Context(), []byte("n,,n=nobody,r=abc")); err == nil {
			t.Error("authenticated as nobody")
		}
		<-c.Done()
	})
}
