package sealmq

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/registry"
)

// permissions give principals what the policy in force says of them.
type permissions struct {
	live   *policy.Live
	groups func(*auth.Principal) []string // of a device; nil: those of the principal
	log    *slog.Logger

	kept    policy.Denials
	trouble atomic.Pointer[string] // why the policy was not replaced
	due     chan struct{}          // groups have changed
	denials chan broker.Denial
}

// maxDenied is how many denials wait to be explained.
const maxDenied = 256

func newPermissions(p *policy.Policy, groups func(*auth.Principal) []string, log *slog.Logger) *permissions {
	return &permissions{
		live: policy.NewLive(p), groups: groups, log: log, due: make(chan struct{}, 1), denials: make(chan broker.Denial, maxDenied),
	}
}

// groups are those that the registry has of a device, nil of anybody else.
func (s *Server) groups(p *auth.Principal) []string {
	f := s.fleet.Load()
	if f == nil || p.Method != "certificate" {
		return nil
	}
	groups, _ := f.registry.Groups(registry.ID(pki.Kind(p.Kind), p.Name))
	return groups
}

// authorize answers the broker. An authenticator's own policy stands: that of a device in quarantine, of a client that is to
// enrol, or of an embedding program.
func (a *permissions) authorize(clientID string, peer *auth.Peer, p *auth.Principal) (auth.Policy, error) {
	before, ours := p.Policy.(*policy.Permissions)
	if p.Policy != nil && !ours {
		return p.Policy, nil
	}
	var id policy.Identity
	switch {
	case peer != nil:
		id = policy.Identify(p, peer, clientID, p.Claims)
	case ours:
		id = *before.Identity()
		id.Groups, id.Claims = p.Groups, p.Claims
	default: // of a session in the store
		id = policy.Identify(p, &auth.Peer{}, clientID, p.Claims)
	}
	if g := a.groups(p); g != nil {
		id.Groups = g
	}
	perms := before
	if !ours || peer != nil || !same(&id, before.Identity()) {
		perms = a.live.For(id)
	}
	if clientID != "" { // or one is yet to be assigned
		if err := perms.Admit(); err != nil {
			a.kept.Note(perms.Identity(), policy.Request{}, policy.Decision{})
			return nil, err
		}
	}
	if bad := perms.Unusable(); peer != nil && len(bad) > 0 {
		a.log.Warn("rules with these placeholders allow this client nothing: its name cannot stand in a topic",
			"client", clientID, "name", p.Name, "placeholders", bad)
	}
	return perms, nil
}

// same reports whether the parts of an identity that may change have not.
func same(a, b *policy.Identity) bool {
	return slices.Equal(a.Groups, b.Groups) && maps.EqualFunc(a.Claims, b.Claims, slices.Equal)
}

// note takes a denial of the broker, which holds locks.
func (a *permissions) note(d broker.Denial) {
	select {
	case a.denials <- d:
	default: // the log tells of others
	}
}

// withdrawn tells of subscriptions that a session has lost.
func (a *permissions) withdrawn(clientID string, p *auth.Principal, filters []string) {
	a.log.Warn("subscriptions withdrawn: the policy does not allow them any more", "client", clientID, "name", p.Name,
		"filters", filters[:min(len(filters), 20)], "count", len(filters))
}

// load reads the policy of a configuration that is to replace the one in force. What is wrong with it stays in trouble until
// one is right.
func (a *permissions) load(cfg Config) (*policy.Policy, error) {
	p, err := LoadPolicy(cfg)
	if err != nil {
		text := "the policy in force is an older one, since its file cannot be used: " + err.Error()
		a.trouble.Store(&text)
		return nil, err
	}
	return p, nil
}

// Bounds of what the log says about a change of the policy.
const (
	askedAbout   = 100       // devices, the first ones
	askedAtMost  = 1_000_000 // devices times rules
	changesShown = 20
)

// swapPolicy puts a policy in force for everybody, and logs what it changes for some of the devices.
func (s *Server) swapPolicy(p *policy.Policy) {
	a := s.permissions
	a.trouble.Store(nil)
	before := a.live.Swap(p)
	s.broker.Reauthorize()
	attrs := []any{"file", p.File().Name, "rules", len(p.Rules())}
	some := s.someClients()
	if len(some)*(len(p.Rules())+len(before.Rules())) > askedAtMost {
		s.log.Info("policy in force; what it changes: sealmq acl diff", attrs...)
		return
	}
	changes := policy.Diff(before, p, slices.Values(some), nil)
	s.log.Info("policy in force", append(attrs, "changes", len(changes), "asked_about", len(some))...)
	for _, c := range changes[:min(len(changes), changesShown)] {
		s.log.Info("policy change", "change", c.String())
	}
}

// someClients are the first devices, an operator and an anonymous client.
func (s *Server) someClients() []policy.Identity {
	all := []policy.Identity{{Method: "anonymous"}, {Name: "operator", Kind: string(pki.Operator), Method: "certificate"}}
	f := s.fleet.Load()
	if f == nil {
		return all
	}
	_ = f.registry.Each(registry.Query{}, func(d registry.Device) bool { // no pattern, no error
		all = append(all, control.IdentityOf(&d))
		return len(all) < askedAbout+2
	})
	return all
}

// changed looks at a change in the registry: of groups, perhaps.
func (a *permissions) changed(e registry.Event) {
	switch e.What {
	case "add", "update", "import", "purge":
		wake(a.due)
	}
}

// run has sessions follow their groups, and explains denials, until the server ends.
func (a *permissions) run(stop context.Context, b *broker.Broker) {
	told := make(map[string]*denied)
	for {
		select {
		case <-stop.Done():
			return
		case <-a.due:
			b.Reauthorize()
		case d := <-a.denials:
			a.explain(d, told)
		}
	}
}

// denied is what the log was told of a client's denials.
type denied struct {
	last    time.Time
	omitted uint64
}

// Bounds of the lines about denials: one for a client in that time, and how many clients are remembered.
const (
	deniedEvery   = 10 * time.Second
	deniedClients = 4096
)

// explain says why something was denied, and what would allow it.
func (a *permissions) explain(d broker.Denial, told map[string]*denied) {
	r := policy.Request{Action: d.Action, Topic: d.Topic, QoS: d.QoS, Retain: d.Retain, Size: d.Size}
	e := policy.Explanation{Reason: "its policy is not that of the file: it is in quarantine, or is to enrol first"}
	if perms, ok := d.Principal.Policy.(*policy.Permissions); ok {
		e = perms.Explain(r)
		by := policy.Decision{Rule: e.Rule}
		if e.Allowed && !d.Limited {
			by.Rule = nil // what has decided is gone
		}
		a.kept.Note(perms.Identity(), r, by)
		if e.Allowed { // the policy has changed meanwhile, or a rate was exceeded, or an embedding program refuses
			e.Allowed, e.Fix = false, ""
			if d.Limited {
				e.Reason = "too many publications: " + e.Reason
			}
		}
	}
	now := time.Now()
	t := told[d.ClientID]
	switch {
	case t == nil:
		if len(told) >= deniedClients {
			clear(told)
		}
		t = &denied{}
		told[d.ClientID] = t
	case now.Sub(t.last) < deniedEvery:
		t.omitted += 1 + d.Untold
		return
	}
	attrs := []any{"client", d.ClientID, "name", d.Principal.Name, "action", d.Action.String(), "topic", d.Topic, "reason", e.Reason}
	if e.Fix != "" {
		attrs = append(attrs, "hint", e.Fix)
	}
	if n := t.omitted + d.Untold; n > 0 {
		attrs = append(attrs, "not_logged_before", n)
	}
	t.last, t.omitted = now, 0
	a.log.Warn("not allowed", attrs...)
}

// asked is what control answers questions about permissions from.
func (s *Server) asked() *control.Policy {
	return &control.Policy{Live: s.permissions.live, Denials: &s.permissions.kept, Client: s.clientIdentity}
}

// clientIdentity returns the identity of a connected client, and its policy if that is not the file's.
func (s *Server) clientIdentity(clientID string) (*policy.Identity, auth.Policy, bool) {
	p, ok := s.broker.Principal(clientID)
	if !ok {
		return nil, nil, false
	}
	if perms, ok := p.Policy.(*policy.Permissions); ok {
		return perms.Identity(), nil, true
	}
	id := policy.Identify(p, &auth.Peer{Listener: p.Listener}, clientID, p.Claims)
	return &id, p.Policy, true
}
