package authn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth/password"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

const byPassword = `
[auth.password]
file = "passwords"
[auth.backoff]
free_failures = 2
[[listener]]
name = "tls"
address = "127.0.0.1:0"
client_certificates = "optional"
auth = ["certificate", "password", "scram"]
[[listener]]
name = "open"
address = "127.0.0.1:0"
client_certificates = "none"
auth = ["password", "anonymous"]
[[listener]]
name = "plain"
address = "127.0.0.1:0"
tls = false
anonymous = true
`

// Users of a file, with Mosquitto's own client: right, wrong, unknown, and none.
func TestPasswordMosquitto(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skipf("skipped: %v; Debian has it in mosquitto-clients", err)
	}
	b := prepare(t, byPassword)
	b.users(t, password.Argon2id, "alice", "wonder land ü", "bob", "builder-4711")
	b.start(t)
	pub := func(listener string, args ...string) (string, error) {
		_, port, err := net.SplitHostPort(b.address(t, listener))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), *patience)
		defer cancel()
		args = append([]string{"-h", "localhost", "-p", port, "-t", "greetings", "-m", "hello", "-q", "1"}, args...)
		if listener != "plain" {
			args = append(args, "--cafile", b.ca())
		}
		out, err := exec.CommandContext(ctx, "mosquitto_pub", args...).CombinedOutput()
		return string(out), err
	}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		if out, err := pub("tls", "-V", version, "-u", "alice", "-P", "wonder land ü"); err != nil {
			t.Errorf("%s: %v: %s", version, err, out)
		}
	}
	if out, err := pub("tls", "-u", "bob", "-P", "wonder land ü"); err == nil || !strings.Contains(strings.ToLower(out), "bad user") {
		t.Errorf("another's password: %v: %s", err, out)
	}
	if out, err := pub("tls", "-u", "eve", "-P", "apple-0815"); err == nil || !strings.Contains(strings.ToLower(out), "bad user") {
		t.Errorf("an unknown user: %v: %s", err, out)
	}
	if out, err := pub("tls", "-u", "alice"); err == nil || !strings.Contains(strings.ToLower(out), "not authori") {
		t.Errorf("a user name alone: %v: %s", err, out)
	}
	if out, err := pub("tls"); err == nil {
		t.Errorf("nothing: %s", out)
	}
	if out, err := pub("plain", "-V", "mqttv5", "-u", "alice", "-P", "wonder land ü"); err == nil || !strings.Contains(strings.ToLower(out), "bad user") {
		t.Errorf("in the clear: %v: %s", err, out)
	}
	if out, err := pub("plain"); err != nil {
		t.Errorf("anonymous: %v: %s", err, out)
	}
	b.secrets = append(b.secrets, "apple-0815")
}

// What clients of MQTT 5 are told, and that a wrong password makes nobody anonymous.
func TestPasswordReasons(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.users(t, password.Argon2id, "alice", "wonderland-1")
	b.start(t)
	b.connect(t, user("alice", "wonderland-1"))
	b.refused(t, user("alice", "wonderland-2"), mqtt.BadUserNameOrPassword, "the user name or the password is wrong")
	b.refused(t, user("nobody", "wonderland-1"), mqtt.BadUserNameOrPassword, "the user name or the password is wrong")
	b.refused(t, client.Config{ClientID: "c"}, mqtt.NotAuthorized, "by: certificate, password, scram")
	b.refused(t, client.Config{ClientID: "c", Username: "alice"}, mqtt.NotAuthorized, "a user name alone proves nothing")
	on := func(listener string, c client.Config) client.Config {
		c.Dial = b.dial(t, listener)
		return c
	}
	b.refused(t, on("open", user("alice", "wonderland-3")), mqtt.BadUserNameOrPassword, "wrong")
	b.connect(t, on("open", client.Config{ClientID: "guest", CleanStart: true}))
	b.refused(t, on("plain", user("alice", "wonderland-1")), mqtt.BadUserNameOrPassword, "refused on a listener without TLS: use mqtts://")
	b.connect(t, on("plain", client.Config{ClientID: "guest2", CleanStart: true}))
	b.awaitLog(t, 0, `"msg":"authentication refused"`, `"by":"password"`, `"user":"alice"`, `"listener":"tls"`)
	b.secrets = append(b.secrets, "wonderland-2", "wonderland-3")
}

// A session, and its client identifier, is its user's: nobody else resumes it, ends it or takes its place.
func TestPasswordSessions(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.users(t, password.Argon2id, "alice", "wonderland-1", "bob", "builder-4711")
	b.start(t)
	as := func(name, pass string, clean bool) client.Config {
		c := user(name, pass)
		c.ClientID, c.CleanStart, c.SessionExpiry = "shared", clean, 3600
		return c
	}
	alice := b.connect(t, as("alice", "wonderland-1", true))
	if _, err := alice.Subscribe(t.Context(), client.Subscription{Filter: "orders", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	b.refused(t, as("bob", "builder-4711", false), mqtt.ClientIDNotValid, "")
	b.refused(t, as("bob", "builder-4711", true), mqtt.ClientIDNotValid, "")
	guest := client.Config{ClientID: "shared", CleanStart: true, Dial: b.dial(t, "open")}
	b.refused(t, guest, mqtt.ClientIDNotValid, "")
	if alice.Err() != nil {
		t.Fatalf("others have ended the connection: %v", alice.Err())
	}
	if err := alice.Disconnect(mqtt.Success); err != nil {
		t.Fatal(err)
	}
	alice.Wait()
	bob := b.connect(t, user("bob", "builder-4711"))
	if _, err := bob.Publish(t.Context(), &client.Message{Topic: "orders", Payload: []byte("one"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	b.refused(t, as("bob", "builder-4711", true), mqtt.ClientIDNotValid, "") // nor while she is away

	b.stop(t) // nor after a restart
	b.launch(t)
	b.refused(t, as("bob", "builder-4711", false), mqtt.ClientIDNotValid, "")
	got := make(chan string, 1)
	back := as("alice", "wonderland-1", false)
	back.OnMessage = func(m *client.Message) { got <- string(m.Payload) }
	if c := b.connect(t, back); !c.Server().SessionPresent {
		t.Error("the session is gone")
	}
	select {
	case m := <-got:
		if m != "one" {
			t.Errorf("got %q", m)
		}
	case <-time.After(*patience):
		t.Error("the message that waited has not come")
	}
}

// The file is followed: who is taken out of it loses the connection, who is new gets in, and a file with a mistake, or
// none, changes nothing and is told of.
func TestPasswordFileChanges(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.meant = []string{"the password file cannot be used"}
	b.users(t, password.Argon2id, "alice", "wonderland-1", "bob", "builder-4711")
	b.start(t)
	alice, bob := b.connect(t, user("alice", "wonderland-1")), b.connect(t, user("bob", "builder-4711"))

	from := b.mark()
	b.write(t, "passwords", "alice:wonderland-9\n")
	b.awaitLog(t, from, "the password file cannot be used", "passwords:1: no hash")
	b.secrets = append(b.secrets, "wonderland-9")
	b.reload(t, "passwords:1: no hash")
	b.connect(t, client.Config{ClientID: "bob2", Username: "bob", Password: []byte("builder-4711"), CleanStart: true})

	b.users(t, password.Argon2id, "alice", "wonderland-1", "carol", "singing-1")
	var code mqtt.ReasonCode
	if err := ended(t, bob); !errors.As(err, &code) || code != mqtt.AdministrativeAction {
		t.Errorf("the user who was taken out: %v", err)
	}
	b.refused(t, user("bob", "builder-4711"), mqtt.BadUserNameOrPassword, "wrong")
	b.connect(t, user("carol", "singing-1"))
	if alice.Err() != nil {
		t.Errorf("others were disconnected too: %v", alice.Err())
	}
}

// Guessing is slowed down by user and address, and the log says so; who has got in before is not held up.
func TestBackoff(t *testing.T) {
	t.Parallel()
	b := prepare(t, byPassword)
	b.users(t, password.Argon2id, "alice", "wonderland-1", "bob", "builder-4711")
	b.start(t)
	for i := 0; ; i++ { // on a slow machine more than three: each failure doubles the time to wait
		guess := fmt.Sprintf("guess-%d.", i)
		b.secrets = append(b.secrets, guess)
		var code mqtt.ReasonCode
		_, err := b.try(t, user("alice", guess))
		if errors.As(err, &code) && code == mqtt.ConnectionRateExceeded && i > 2 && strings.Contains(err.Error(), "too many failures") {
			break
		}
		if code != mqtt.BadUserNameOrPassword {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	b.awaitLog(t, 0, `"level":"WARN"`, "slowed down after failures", `"user":"alice"`, `"peer":"127.0.0.1:`)
	b.connect(t, user("bob", "builder-4711"))
	eventually(t, func() error {
		c, err := b.try(t, user("alice", "wonderland-1"))
		if err == nil {
			c.Close()
		}
		return err
	})
}

// A listener without TLS may not even be configured to take passwords.
func TestPasswordPlainConfigured(t *testing.T) {
	t.Parallel()
	b := prepare(t, "[auth.password]\nfile = \"passwords\"\n[[listener]]\ntls = false\nauth = [\"password\", \"anonymous\"]\n")
	b.users(t, password.Argon2id, "alice", "wonderland-1")
	cmd := exec.Command(program, "serve", "--config", "sealmq.toml")
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), `listener.auth: "password" has no effect without TLS: credentials never travel in the clear`) {
		t.Errorf("%v: %s", err, out)
	}
}
