package acl

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/policy"
)

const file = `topic read news/#
topic write inbox/+/x
topic deny news/secret

# users
user alice
  topic read sensors/+/temp
topic write cmd/alice
topic both/#
topic deny both/secret
topic readwrite  two spaces
topic read a b/c
user bob
topic #
topic deny private/#
user carol/x
topic deny dev/carol/x/in
user d+ve
topic write plus
user god
topic readwrite #
topic readwrite $x/#
pattern read dev/%u/in
pattern write dev/%u/%c/out
pattern readwrite c/%c/#
pattern deny c/%c/no
pattern readwrite $x/%u/y
pattern readwrite p%uq/%c%u
user alice
topic read again/#
`

var clients = []struct{ id, user string }{
	{"a1", ""}, {"ca", "alice"}, {"cb", "bob"}, {"cc", "carol/x"}, {"cd", "d+ve"}, {"x/y", "alice"}, {"c+", "alice"}, {"$cb", "bob"}, {"+", ""},
}

var topics = []string{
	"news", "news/a", "news/secret", "inbox/q/x", "inbox/x", "sensors", "sensors/1/temp", "sensors/1/hum", "cmd/alice", "cmd/alice/x",
	"both", "both/secret", "both/secret/x", "two spaces", "a b/c", "b/c", "private", "private/a", "plus", "again/1", "/",
	"dev/alice/in", "dev/bob/in", "dev/carol/x/in", "dev/alice/ca/out", "dev/alice/x/y/out", "dev//a1/out", "c/ca/1", "c/cb/no", "c/cb/yes",
	"c/x/y", "c/a1/k", "c/$cb/1", "$x/alice/y", "$x/bob/y", "$x//y", "palicq/caalice", "paliceq/caalice", "pbobq/cbbob", "pq/a1",
}

// mosquitto runs with the ACL file until the test ends, and returns its address.
func mosquitto(t *testing.T) string {
	path, err := exec.LookPath("mosquitto")
	if err != nil { // where Debian has it, and not every user looks
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	if err != nil {
		t.Skipf("skipped: %v; Debian has it in mosquitto", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\nacl_file %s\n", address.Port, write("acl", file))
	cmd := exec.Command(path, "-c", write("mosquitto.conf", config))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return address.String()
}

// connect retries until the broker listens.
func connect(t *testing.T, address string, cfg client.Config) *client.Client {
	t.Helper()
	cfg.CleanStart = true
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := client.Connect(t.Context(), cfg)
		if err == nil {
			t.Cleanup(func() { c.Close(); c.Wait() })
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// What may be published and what is received is the same for both. A name or client identifier that reaches into another
// level, or begins with $, is the one exception.
func TestMosquitto(t *testing.T) {
	address := mosquitto(t)
	f, err := policy.ParseMosquitto("acl", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	god := connect(t, address, client.Config{ClientID: "god", Username: "god"})
	asked := 0
	for _, who := range clients {
		got := map[string]bool{}
		c := connect(t, address, client.Config{ClientID: who.id, Username: who.user, OnMessage: func(m *client.Message) {
			if string(m.Payload) == "god" {
				got[m.Topic] = true
			}
		}})
		// The answer to a subscription comes after the messages before it.
		listen := func() {
			if _, err := c.Subscribe(t.Context(), client.Subscription{Filter: "#"}, client.Subscription{Filter: "$x/#"}); err != nil {
				t.Fatal(err)
			}
		}
		listen()
		perms := p.For(policy.Identity{Name: who.user, Method: "password", ClientID: who.id})
		strict := strings.ContainsAny(who.id+who.user, "/$")
		compare := func(a auth.Action, topic string, theirs bool) {
			asked++
			if ours := perms.May(a, topic, 1, false); ours != theirs && (ours || !strict) {
				t.Errorf("%q as %q, %v %q: %v, and with Mosquitto %v", who.id, who.user, a, topic, ours, theirs)
			}
		}
		for _, topic := range topics {
			code, err := c.Publish(t.Context(), &client.Message{Topic: topic, QoS: 1})
			if err != nil && code != mqtt.NotAuthorized {
				t.Fatal(err)
			}
			compare(auth.Publish, topic, err == nil)
			if _, err := god.Publish(t.Context(), &client.Message{Topic: topic, QoS: 1, Payload: []byte("god")}); err != nil {
				t.Fatal(err)
			}
		}
		listen()
		for _, topic := range topics {
			compare(auth.Receive, topic, got[topic])
		}
	}
	t.Logf("%d questions", asked)
}
