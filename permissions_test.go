package sealmq_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/registry"
)

// ruled is a configuration with a listener and a policy file of this text.
func ruled(t *testing.T, text string) (cfg sealmq.Config, file string) {
	dir := t.TempDir()
	file = filepath.Join(dir, "sealmq.policy")
	rewrite(t, file, text)
	return sealmq.Config{Data: filepath.Join(dir, "data"), Policy: file, Listeners: []sealmq.Listener{tlsListener("a")}}, file
}

func rewrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// control opens the control socket of a server.
func (r *running) control() *control.Client {
	r.t.Helper()
	c, err := control.Dial(r.Config().Data)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// may reports whether the server lets a client subscribe to a filter.
func may(t *testing.T, c *client.Client, filter string) bool {
	t.Helper()
	_, err := c.Subscribe(t.Context(), client.Subscription{Filter: filter, QoS: 1})
	return err == nil
}

// A new data folder gets a policy, by which a device has topics of its own. One that has lost it does not start.
func TestFirstPolicy(t *testing.T) {
	testkit.NoLeaks(t)
	cfg := sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{tlsListener("a"), plainListener("open")}}
	s := start(t, cfg)
	file := sealmq.PolicyFile(cfg.Data)
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the policy file: %v, %v, want one that is its owner's alone", i, err)
	}
	pump := connect(t, s.dialer("a", s.device("pump-17"), s.Folder().CA()), client.Config{ClientID: "pump-17"})
	anyone := connect(t, s.dialer("open", nil, nil), client.Config{ClientID: "anyone"})
	operator := connect(t, s.dialer("a", s.operator(), s.Folder().CA()), client.Config{ClientID: "desk"})
	for _, c := range []struct {
		who    *client.Client
		filter string
		want   bool
	}{
		{pump, "pump-17/#", true}, {pump, "pump-18/#", false}, {pump, "#", false}, {pump, "$pki/cacerts", true}, {pump, "$SYS/#", false},
		{operator, "#", true}, {operator, "$SYS/#", true}, {operator, "$share/g/+/x", true},
		{anyone, "#", true}, {anyone, "$SYS/#", false}, {anyone, "$pki/cacerts", false},
	} {
		if got := may(t, c.who, c.filter); got != c.want {
			t.Errorf("may subscribe to %s: %v", c.filter, got)
		}
	}
	if _, err := pump.Publish(t.Context(), &client.Message{Topic: "pump-18/temp", QoS: 1}); err == nil {
		t.Error("a device publishes to a topic of another")
	}
	s.await("publish refused", "client=pump-17", "topic=pump-18/temp", "policy:18: allow publish, subscribe ${device}/#")
	s.await("not allowed", "client=pump-17", "topic=pump-18/#", "policy:18", "hint=")
	asked := s.control()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // it is explained a moment later
		why, err := asked.Why(t.Context(), "pump-17", 10)
		if err == nil && len(why) > 0 && why[0].Topic == "pump-18/temp" && why[0].Fix != "" {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("why: %v, %v", why, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := sealmq.New(cfg, sealmq.WithLog(slog.New(slog.DiscardHandler))); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without its policy it starts: %v", err)
	}
}

// A policy that cannot be used does not come into force: at the first start there is none, later it is the one from before, and
// whoever looks after the server learns of it.
func TestBadPolicy(t *testing.T) {
	testkit.NoLeaks(t)
	const good = "policy everybody { allow subscribe a }\n"
	bad := []struct {
		name string
		make func(t *testing.T, file string)
	}{
		{"missing", func(t *testing.T, file string) { os.Remove(file) }},
		{"empty", func(t *testing.T, file string) { rewrite(t, file, "") }},
		{"mistake", func(t *testing.T, file string) { rewrite(t, file, "policy everybody { alow subscribe b }") }},
		{"cut off", func(t *testing.T, file string) { rewrite(t, file, "policy everybody { allow subscribe b") }},
		{"assertion", func(t *testing.T, file string) { rewrite(t, file, good+"assert allow { user = x } subscribe b\n") }},
		{"not text", func(t *testing.T, file string) { rewrite(t, file, "\x00\x01") }},
		{"too large", func(t *testing.T, file string) { rewrite(t, file, strings.Repeat("#\n", 1<<20)) }},
		{"folder", func(t *testing.T, file string) {
			os.Remove(file)
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, b := range bad {
		t.Run(b.name, func(t *testing.T) {
			cfg, file := ruled(t, good)
			b.make(t, file)
			if s, err := sealmq.New(cfg, sealmq.WithLog(slog.New(slog.DiscardHandler))); err == nil {
				s.Close()
				t.Error("the server starts")
			}
		})
	}
	cfg, file := ruled(t, good)
	s := start(t, cfg)
	c := connect(t, s.dialer("a", s.device("pump-17"), s.Folder().CA()), client.Config{ClientID: "pump-17"})
	trouble := func() []string {
		h, err := s.control().Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h.Trouble
	}
	for _, b := range bad {
		b.make(t, file)
		if err := s.Reload(cfg); err == nil {
			t.Errorf("%s: it is put in force", b.name)
		}
		if !may(t, c, "a") || may(t, c, "b") {
			t.Errorf("%s: the policy from before is not in force", b.name)
		}
		if !slices.ContainsFunc(trouble(), func(s string) bool { return strings.Contains(s, "policy") }) {
			t.Errorf("%s: nobody learns of it: %q", b.name, trouble())
		}
		os.RemoveAll(file)
		rewrite(t, file, good)
	}
	if err := s.Reload(cfg); err != nil || len(trouble()) > 0 {
		t.Errorf("the file is right again: %v, %q", err, trouble())
	}
}

// What is allowed changes with the file and with a device's groups, at once and for sessions that are there.
func TestPolicyFollows(t *testing.T) {
	testkit.NoLeaks(t)
	cfg, file := ruled(t, "policy everybody { allow subscribe a, b/# }\n")
	if _, err := sealmq.New(cfg, sealmq.WithLog(slog.New(slog.DiscardHandler))); err == nil {
		t.Fatal("filters are not a list, but it starts")
	}
	const text = `group north { groups has north }
policy everybody { allow publish, subscribe a/# }
policy north { allow subscribe north/# }
`
	rewrite(t, file, text)
	s := start(t, cfg)
	got := make(chan string, 10)
	c := connect(t, s.dialer("a", s.device("pump-17"), s.Folder().CA()), client.Config{
		ClientID: "pump-17", OnMessage: func(m *client.Message) { got <- m.Topic },
	})
	if !may(t, c, "a/#") || may(t, c, "north/#") {
		t.Fatal("the policy is not in force")
	}

	// The registry puts it into a group.
	w := s.control()
	if _, err := w.Import(t.Context(), strings.NewReader("id,groups\npump-17,north\n"), control.ImportRequest{Format: registry.CSV, Update: true}, nil); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !may(t, c, "north/#"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a device has not got the rights of its group")
		}
	}

	rewrite(t, file, strings.Replace(text, "a/#", "a/b", 1))
	if err := s.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	s.await("subscriptions withdrawn", "client=pump-17", "a/#")
	s.await("policy in force", "changes=")
	operator := connect(t, s.dialer("a", s.operator(), s.Folder().CA()), client.Config{ClientID: "desk"})
	if _, err := operator.Publish(t.Context(), &client.Message{Topic: "a/b", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if !may(t, c, "a/b") {
		t.Fatal("what stays allowed is not")
	}
	if _, err := operator.Publish(t.Context(), &client.Message{Topic: "a/b", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	<-got
	select {
	case topic := <-got:
		t.Errorf("%s arrived by a subscription that was withdrawn", topic)
	default:
	}
}

// An ACL file of Mosquitto means what it means there, and the policy of a bundle's identity is by its name.
func TestMosquittoFile(t *testing.T) {
	testkit.NoLeaks(t)
	cfg, file := ruled(t, "user pump-17\ntopic readwrite own/#\ntopic deny own/secret\npattern read of/%u/#\n")
	cfg.Policy, cfg.ACLFile = "", file
	s := start(t, cfg)
	c := connect(t, s.dialer("a", s.device("pump-17"), s.Folder().CA()), client.Config{ClientID: "pump-17"})
	for topic, want := range map[string]bool{"own/x": true, "own/secret": false, "of/pump-17/x": false, "other": false} {
		if _, err := c.Publish(t.Context(), &client.Message{Topic: topic, QoS: 1}); (err == nil) != want {
			t.Errorf("publish to %s: %v", topic, err)
		}
	}
	if !may(t, c, "#") {
		t.Error("every subscription is granted there")
	}
}
