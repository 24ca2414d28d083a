//go:build unix

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/registry"
)

const testPolicy = `group halls { groups = hall-3 }
bind client_id = ${device} or ${device}/*
policy everybody { allow publish, subscribe ${device}/# }
policy halls {
  allow publish hall/#  size<=100
  deny publish hall/closed
}
`

func compile(t testing.TB, text string) *policy.Policy {
	t.Helper()
	f, err := policy.Parse("p", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// permissions asks a client of a policy, on the socket of a broker and within the process.
func permissions(t *testing.T, p *Policy, test func(t *testing.T, b *bench)) {
	t.Run("socket", func(t *testing.T) {
		f, _ := newFleet(t, nil)
		parts := &parts{}
		server, err := Serve(Options{Data: f.Data, Broker: testBroker{parts}, Store: testStore{parts}, Fleet: f, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		c, err := Dial(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b := &bench{Client: c, t: t, f: f, server: server}
		b.raw.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", filepath.Join(f.Data, SocketName))
		}}
		test(t, b)
	})
	t.Run("local", func(t *testing.T) {
		f, _ := newFleet(t, nil)
		c := within(Options{Policy: p, Fleet: f})
		t.Cleanup(c.Close)
		b := &bench{Client: c, t: t, f: f, server: c.server}
		b.raw.Transport = c.http.Transport
		test(t, b)
	})
}

func TestExplain(t *testing.T) {
	live := policy.NewLive(compile(t, testPolicy))
	connected := policy.Identity{Name: "lamp", Kind: "device", Method: "certificate", ClientID: "lamp/2", Groups: []string{"hall-3"}, Listener: "mqtts"}
	p := &Policy{Live: live, Client: func(id string) (*policy.Identity, auth.Policy, bool) {
		switch id {
		case "lamp/2":
			return &connected, nil, true
		case "new":
			return &policy.Identity{ClientID: id, Method: "enrolment"}, auth.Enrolling(id), true
		}
		return nil, nil, false
	}}
	permissions(t, p, func(t *testing.T, b *bench) {
		ctx := t.Context()
		for id, state := range map[string]registry.State{"pump": registry.Active, "sick": registry.Quarantined, "off": registry.Disabled, "bad": registry.Revoked} {
			_, err := b.AddDevice(ctx, AddRequest{ID: id, Groups: []string{"hall-3"}})
			b.do(err)
			switch sel := (Selection{IDs: []string{id}}); state {
			case registry.Quarantined:
				_, err = b.Quarantine(ctx, sel, nil)
			case registry.Disabled:
				_, err = b.Disable(ctx, sel, nil)
			case registry.Revoked:
				_, err = b.Revoke(ctx, RevokeRequest{Selection: sel}, nil)
			}
			b.do(err)
		}
		for _, c := range []struct {
			q       ExplainRequest
			allowed bool
			want    string // in the answer
		}{
			{ExplainRequest{Client: "device = pump", Action: "publish", Topic: "pump/x"}, true, "p:3: allow publish, subscribe ${device}/#"},
			{ExplainRequest{Client: "device = pump", Action: "publish", Topic: "hall/x"}, true, `groups "hall-3"`},
			{ExplainRequest{Client: "device = pump", Action: "publish", Topic: "hall/x", Size: 101}, false, "not with 101 bytes"},
			{ExplainRequest{Client: "device = pump", Action: "publish", Topic: "hall/closed"}, false, "p:6: deny publish hall/closed"},
			{ExplainRequest{Client: "device = pump groups = none", Action: "publish", Topic: "hall/x"}, false, "the nearest is p:3"},
			{ExplainRequest{Client: "device = pump client_id = x", Action: "publish", Topic: "pump/x"}, false, "(p:2)"},
			{ExplainRequest{Client: "device = pump", Action: "subscribe", Topic: "pump/+/x", QoS: 2}, true, "p:3"},
			{ExplainRequest{Client: "device = pump", Action: "receive", Topic: "pump/x", Retain: true}, true, "p:3"},
			{ExplainRequest{Client: "device = pump", Action: "publish", Topic: "pump/#"}, false, "the topic"},
			{ExplainRequest{Client: "device = strange", Action: "publish", Topic: "hall/x"}, false, `no device "strange" is registered`},
			{ExplainRequest{Client: "user = alice", Action: "publish", Topic: "hall/x"}, false, `user "alice"`},
			{ExplainRequest{Client: "device = sick", Action: "publish", Topic: "hall/x"}, false, "sealmq device enable sick"},
			{ExplainRequest{Client: "device = sick", Action: "publish", Topic: "quarantine/sick/x"}, true, "is in quarantine"},
			{ExplainRequest{Client: "device = sick", Action: "subscribe", Topic: "$share/g/quarantine/sick/#"}, true, "is in quarantine"},
			{ExplainRequest{Client: "device = off", Action: "publish", Topic: "off/x"}, false, "is disabled: it cannot connect"},
			{ExplainRequest{Client: "device = bad", Action: "publish", Topic: "bad/x"}, false, "is revoked: it cannot connect"},
			{ExplainRequest{ClientID: "lamp/2", Action: "publish", Topic: "lamp/x"}, true, `device "lamp", client identifier "lamp/2", groups "hall-3", method "certificate", listener "mqtts"`},
			{ExplainRequest{ClientID: "new", Action: "publish", Topic: "hall/x"}, false, "has to enrol first"},
			{ExplainRequest{ClientID: "new", Action: "publish", Topic: "$pki/enroll/new/request"}, true, "an anonymous client"},
		} {
			a, err := b.Explain(ctx, c.q)
			if text := fmt.Sprintf("%+v", a); err != nil || a.Allowed != c.allowed || !strings.Contains(text, c.want) || (a.Fix == "") != a.Allowed {
				t.Errorf("%+v: %s %v; want %v, %q", c.q, text, err, c.allowed, c.want)
			}
		}
		file := &PolicyFile{Name: "other", Text: "policy everybody { allow publish hall/closed time=08:00-09:00 } # <>\n"}
		for hour, allowed := range map[int]bool{8: true, 10: false} {
			a, err := b.Explain(ctx, ExplainRequest{Client: "device = pump", Action: "publish", Topic: "hall/closed", Policy: file,
				Time: time.Date(2026, 1, 5, hour, 0, 0, 0, time.UTC)})
			if err != nil || a.Allowed != allowed || !strings.Contains(a.Reason, "other:1") {
				t.Errorf("by another file: %+v %v", a, err)
			}
		}
		file = &PolicyFile{Name: "p", Text: "group a { cert.ou = x or (cert.cn = y and jwt.g = z) or cert.ou = w }\n"}
		for client, want := range map[string]string{
			"device = pump": "cert.ou, cert.cn", "device = pump cert.ou = q": "", "user = alice": "jwt.g", "user = alice jwt.other = x": "",
			"method = anonymous": "", "user = olga kind = operator method = certificate": "cert.ou, cert.cn",
		} {
			a, err := b.Explain(ctx, ExplainRequest{Client: client, Action: "publish", Topic: "x", Policy: file})
			if notes := strings.Join(a.Notes, "\n"); err != nil || (want == "") != (notes == "") || !strings.Contains(notes, "look at "+want+",") && want != "" {
				t.Errorf("%s: %q %v", client, notes, err)
			}
		}
		file = &PolicyFile{Name: "acl", Text: "topic read x\n", Mosquitto: true}
		if a, err := b.Explain(ctx, ExplainRequest{Client: "method = anonymous", Action: "receive", Topic: "x", Policy: file}); err != nil || !a.Allowed {
			t.Errorf("by an ACL file: %+v %v", a, err)
		}
		_, err := b.Explain(ctx, ExplainRequest{ClientID: "gone", Action: "publish", Topic: "x"})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != CodeNotFound {
			t.Errorf("nobody: %v", err)
		}
		for _, bad := range []string{
			`{}`, `{"client":"device = a","action":"publish","topic":"x","more":1}`, `{"client":"device = a","action":"connect","topic":"x"}`,
			`{"client":"device = a","client_id":"a","action":"publish","topic":"x"}`, `{"action":"publish","topic":"x"}`,
			`{"client":"device = a","action":"publish","topic":"x","qos":3}`, `{"client":"device = a","action":"publish","topic":"x","size":-1}`,
			`{"client":"device = a","action":"publish","topic":"x","policy":{"name":"p","text":"nonsense"}}`,
			`{"client":"nonsense","action":"publish","topic":"x"}`, `{"client":"device = a","action":"publish","topic":"` + strings.Repeat("x", 70_000) + `"}`,
		} {
			if status, _ := b.ask("POST", "/v1/acl/explain", bad); status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge {
				t.Errorf("%.80s: %d", bad, status)
			}
		}
		if status, _ := b.ask("POST", "/v1/acl/explain", `{"client":"device = `+strings.Repeat("a", 60_000)+`","action":"publish","topic":"x"}`); status != http.StatusOK {
			t.Errorf("a long name: %d", status)
		}
	})
}

func TestWhy(t *testing.T) {
	live := policy.NewLive(compile(t, testPolicy))
	p := &Policy{Live: live, Denials: &policy.Denials{}}
	id := &policy.Identity{Name: "pump", Kind: "device", Method: "certificate", ClientID: "pump/1", Groups: []string{"hall-3"}}
	perms := live.For(*id)
	for i, topic := range []string{"hall/closed", "hall/x", "else\x1b/where"} {
		r := policy.Request{Action: auth.Publish, Topic: topic, Size: 200, Time: time.Unix(int64(i), 0)}
		p.Denials.Note(id, r, perms.Check(r))
	}
	p.Denials.Note(id, policy.Request{Time: time.Unix(9, 0)}, policy.Decision{})
	permissions(t, p, func(t *testing.T, b *bench) {
		live.Swap(compile(t, testPolicy))
		all, err := b.Why(t.Context(), "pump", 10)
		if err != nil || len(all) != 4 {
			t.Fatalf("%+v %v", all, err)
		}
		want := []struct{ action, topic, rule, reason string }{
			{"connect", "", "", "the client identifier is allowed"},
			{"publish", "else\x1b/where", "", `no rule allows to publish "else\x1b/where"`},
			{"publish", "hall/x", "", "not with 200 bytes"},
			{"publish", "hall/closed", "p:6", "p:6: deny publish hall/closed"},
		}
		for i, w := range want {
			d := all[i]
			if d.Action != w.action || d.Topic != w.topic || d.Rule != w.rule || !strings.Contains(d.Reason, w.reason) ||
				d.Times != 1 || d.ClientID != "pump/1" || d.Allowed != (d.Action == "connect") {
				t.Errorf("%+v, want %+v", d, w)
			}
		}
		live.Swap(compile(t, "policy everybody { allow publish # }"))
		if all, err := b.Why(t.Context(), "pump/1", 2); err != nil || len(all) != 2 || !all[1].Allowed {
			t.Errorf("after a change: %+v %v", all, err)
		}
		if all, err := b.Why(t.Context(), "nobody", 2); err != nil || len(all) != 0 {
			t.Errorf("nobody: %+v %v", all, err)
		}
		for _, bad := range []string{"", "?name=x&last=0", "?name=x&last=y", "?name=x&more=1", "?name=x&name=y"} {
			if status, _ := b.ask("GET", "/v1/acl/why"+bad, ""); status != http.StatusBadRequest {
				t.Errorf("%s: %d", bad, status)
			}
		}
	})
}

// Who answers may lack everything.
func TestPolicyLacks(t *testing.T) {
	for _, p := range []*Policy{nil, {}, {Live: policy.NewLive(compile(t, testPolicy))}} {
		c := within(Options{Policy: p})
		t.Cleanup(c.Close)
		_, err := c.Why(t.Context(), "x", 1)
		_, err2 := c.Explain(t.Context(), ExplainRequest{ClientID: "x", Action: "publish", Topic: "x"})
		for _, err := range []error{err, err2} {
			if e := (*Error)(nil); !errors.As(err, &e) || e.Code != CodeUnsupported {
				t.Errorf("%+v: %v", p, err)
			}
		}
		a, err := c.Explain(t.Context(), ExplainRequest{Client: "device = a", Action: "publish", Topic: "a/x"})
		if p != nil && p.Live != nil && (err != nil || !a.Allowed || len(a.Notes) != 1) {
			t.Errorf("%+v: %+v %v", p, a, err)
		}
	}
}

// FuzzExplain asks anything: whatever is asked is answered, or is a bad request.
func FuzzExplain(f *testing.F) {
	for _, body := range []string{
		`{"client":"device = pump","action":"publish","topic":"pump/x","qos":1,"retain":true,"size":7,"time":"2026-01-05T10:00:00Z"}`,
		`{"client":"user = \"a\\\\\" groups = [x, y]","action":"subscribe","topic":"$share/g/a/#"}`,
		`{"client_id":"x","action":"receive","topic":""}`,
		`{"client":"method = anonymous","action":"publish","topic":"x","policy":{"name":"p","text":"policy everybody { allow publish ${user}/# }"}}`,
		`{"client":"device = a","action":"publish","topic":"x","policy":{"name":"p","text":"pattern write %c/%u/#\nuser a","mosquitto":true}}`,
	} {
		f.Add([]byte(body))
	}
	a := &policyAnswers{Policy: &Policy{Live: policy.NewLive(compile(f, testPolicy)), Client: func(id string) (*policy.Identity, auth.Policy, bool) {
		return &policy.Identity{Name: id, ClientID: id}, auth.Quarantine(id), true
	}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := http.NewRequest("POST", "/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		v, err := a.explain(r)
		if err != nil {
			if e := asError(err); e.Status != http.StatusBadRequest {
				t.Fatalf("%+v", e)
			}
			return
		}
		if e, ok := v.(ExplainAnswer); !ok || e.Reason == "" || e.Client == "" {
			t.Fatalf("%+v", v)
		}
	})
}
