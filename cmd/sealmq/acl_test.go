//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	core "github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/store"
)

type stillBroker struct{}

func (stillBroker) Stats() core.Stats { return core.Stats{} }

type stillStore struct{}

func (stillStore) Ready() error       { return nil }
func (stillStore) Stats() store.Stats { return store.Stats{} }

// A running broker answers by the policy in force, of the clients that it has, and tells what it has refused.
func TestAclOfRunningBroker(t *testing.T) {
	dir, err := os.MkdirTemp("", "acl") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := &control.PolicyFile{Name: "p", Text: "policy everybody {\n  allow publish ${device}/# rate<=1/h\n  deny publish x\n}\n"}
	p, err := file.Compile()
	if err != nil {
		t.Fatal(err)
	}
	id := &policy.Identity{Name: "pump-17", Kind: "device", Method: "certificate", ClientID: "pump-17/logger", Proven: true}
	answers := &control.Policy{Live: policy.NewLive(p), Denials: &policy.Denials{}, Client: func(name string) (*policy.Identity, auth.Policy, bool) {
		return id, nil, name == id.ClientID
	}}
	s, err := control.Serve(control.Options{Data: dir, Broker: stillBroker{}, Store: stillStore{}, Policy: answers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	perms := answers.Live.For(*id)
	for i, topic := range []string{"x", "else\x1b[2J", "else\x1b[2J", "pump-17/a", "pump-17/b"} {
		r := policy.Request{Action: auth.Publish, Topic: topic, QoS: 1, Retain: true, Size: 7, Time: time.Unix(1_700_000_000+int64(i), 0)}
		if d := perms.Check(r); !d.Allowed {
			answers.Denials.Note(id, r, d)
		}
	}
	answers.Denials.Note(id, policy.Request{Time: time.Unix(1_700_000_009, 0)}, policy.Decision{})
	newer := filepath.Join(dir, "newer")
	if err := os.WriteFile(newer, []byte("policy everybody { allow publish x }"), 0o600); err != nil {
		t.Fatal(err)
	}

	const when = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  `
	for _, c := range []struct {
		args string
		exit int
		want string // of stdout and stderr
	}{
		{"explain --client pump-17/logger publish pump-17/x", 0, `^ALLOW: p:2: .*\n  for device "pump-17", client identifier "pump-17/logger", method "certificate"\n$`},
		{"explain --client pump-17/logger publish x", 1, `^DENY: p:3: deny publish x denies .*narrow or remove p:3`},
		{"explain --client pump-17/logger --policy " + newer + " publish x", 0, `^ALLOW: \S+newer:1: `},
		{"explain --client other publish x", 3, `^sealmq: explain: no client "other" is connected\nhint: ask about a device or user`},
		{"explain --device pump-17 publish pump-17/x", 0, `^ALLOW: .*\n  for .*\nsealmq: note: there is no registry`},
		{"why pump-17 --last 1", 0, `^` + when + `connect as "pump-17/logger"\n  refused then \(no rule allowed it\), allowed since: the client identifier is allowed\n$`},
		{"why pump-17/logger", 0, `^` + when + `connect .*\n.*\n` +
			when + `publish "pump-17/b", QoS 1, retained, 7 bytes, client "pump-17/logger"\n  DENY: p:2 allows it, but not so often; to allow it: .*\n` +
			when + `publish "else\\x1b\[2J", .*, 2 times\n  DENY: no rule allows to publish "else\\x1b\[2J"; .*\n` +
			when + `publish "x", .*\n  DENY: p:3: deny publish x denies .*\n$`},
		{"why pump-17 --json", 0, `"rule": "p:3"`},
		{"why nobody", 0, `^sealmq: nothing is known that was refused to nobody; connections that failed: .* status --failures 20 --data .*\n$`},
		{"why pump-17 --last 0", 2, `less than 1`},
	} {
		var out bytes.Buffer
		args := append([]string{"acl"}, strings.Fields(c.args)...)
		code := run(context.Background(), append(args, "--data", dir), strings.NewReader(""), &out, &out)
		if code != c.exit || !regexp.MustCompile(c.want).MatchString(out.String()) {
			t.Errorf("%s: exit %d\n%s\nwant %d %s", c.args, code, &out, c.exit, c.want)
		}
	}
	answers.Live.Swap(mustCompile(t, newer))
	var out bytes.Buffer
	if run(context.Background(), []string{"acl", "why", "pump-17", "--data", dir}, strings.NewReader(""), &out, &out); !strings.Contains(out.String(), "refused then (by p:3), allowed since: ") {
		t.Errorf("after a change: %s", out.String())
	}
}

func mustCompile(t *testing.T, path string) *policy.Policy {
	t.Helper()
	f, err := readPolicy(nil, path, false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
