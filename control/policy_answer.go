package control

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/policy"
	"github.com/sealmq/sealmq/registry"
)

// maxPolicyBody is for a body with a policy file: what JSON escapes takes up to six times its bytes.
const maxPolicyBody = 6*policy.MaxSize + maxBody

// policy adds the paths about permissions.
func (p *routes) policy(f *Fleet) {
	a := &policyAnswers{p.s.o.Policy, f.Registry}
	p.add("POST", "/v1/acl/explain", func(w http.ResponseWriter, r *http.Request) { answer(w, r, maxPolicyBody, a.explain) })
	p.get("/v1/acl/why", a.why)
}

// policyAnswers answers questions about permissions. Both may be nil.
type policyAnswers struct {
	*Policy
	registry *registry.Registry
}

// actionOf is the action of a word, 0 if there is none.
func actionOf(word string) auth.Action {
	for a := auth.Publish; a <= auth.Receive; a++ {
		if a.String() == word {
			return a
		}
	}
	return 0
}

func (a *policyAnswers) explain(r *http.Request) (any, error) {
	var q ExplainRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	action := actionOf(q.Action)
	switch {
	case action == 0:
		return nil, badRequest("explain: %.40q is not publish, subscribe or receive", q.Action)
	case q.QoS > 2:
		return nil, badRequest("explain: there is no QoS %d", q.QoS)
	case q.Size < 0:
		return nil, badRequest("explain: a size of %d bytes", q.Size)
	case len(q.Topic) > 65535:
		return nil, badRequest("explain: a topic of %d bytes", len(q.Topic))
	case (q.Client == "") == (q.ClientID == ""):
		return nil, badRequest("explain: one of client and client_id wanted")
	}
	by, err := a.by(q.Policy)
	if err != nil {
		return nil, err
	}
	id, narrower, notes, err := a.identify(&q)
	if err != nil {
		return nil, err
	}
	request := policy.Request{Action: action, Topic: q.Topic, QoS: q.QoS, Retain: q.Retain, Size: q.Size, Time: q.Time}
	e := by.Explain(*id, request)
	if q.ClientID == "" && narrower == nil {
		notes = append(notes, unsaid(by, id)...)
	}
	out := ExplainAnswer{Allowed: e.Allowed, Reason: e.Reason, Fix: e.Fix, Client: describe(id), Notes: notes}
	if e.Rule != nil {
		out.Rule = e.Rule.String()
	}
	if e.Nearest != nil {
		out.Nearest = e.Nearest.String()
	}
	if narrower != nil {
		out.Rule, out.Nearest = "", ""
		narrower.judge(&out, &request)
	}
	return out, nil
}

// by is the policy of a file, or the one in force.
func (a *policyAnswers) by(f *PolicyFile) (*policy.Policy, error) {
	switch {
	case f != nil:
		p, err := f.Compile()
		if err != nil {
			return nil, badRequest("read policy: %.2000s", err)
		}
		return p, nil
	case a.Policy == nil || a.Live == nil:
		return nil, &Error{Text: "no policy is in force here", Code: CodeUnsupported, Advice: "name a file with --policy", Status: http.StatusNotFound}
	}
	return a.Live.Policy(), nil
}

// narrow is what a client may do that the policy file has no say in: nothing if allows is nil.
type narrow struct {
	allows      auth.Policy
	reason, fix string
}

func (n *narrow) judge(out *ExplainAnswer, r *policy.Request) {
	path := r.Topic
	if rest, ok := strings.CutPrefix(path, "$share/"); ok && r.Action == auth.Subscribe {
		_, path, _ = strings.Cut(rest, "/")
	}
	out.Allowed, out.Reason, out.Fix = n.allows != nil && n.allows.May(r.Action, path, r.QoS, r.Retain), n.reason, n.fix
	if out.Allowed {
		out.Fix = ""
	}
}

// identify finds out who is asked about.
func (a *policyAnswers) identify(q *ExplainRequest) (*policy.Identity, *narrow, []string, error) {
	if q.ClientID != "" {
		if a.Policy == nil || a.Client == nil {
			return nil, nil, nil, noBroker()
		}
		id, narrower, ok := a.Client(q.ClientID)
		switch {
		case !ok:
			return nil, nil, nil, &Error{Text: fmt.Sprintf("explain: no client %.200q is connected", q.ClientID), Code: CodeNotFound,
				Advice: "ask about a device or user by its name", Status: http.StatusNotFound}
		case narrower != nil:
			return id, &narrow{narrower, "it is in quarantine, or has to enrol first, and the policy file has no say in what it may do",
				"sealmq device show " + id.Name}, nil, nil
		}
		return id, nil, nil, nil
	}
	id, err := policy.ParseIdentity(q.Client)
	if err != nil {
		return nil, nil, nil, badRequest("explain: %.500s", err)
	}
	narrower, notes := a.register(&id)
	return &id, narrower, notes, nil
}

// register adds what the registry knows of a device.
func (a *policyAnswers) register(id *policy.Identity) (*narrow, []string) {
	if id.Kind != "device" || id.Name == "" {
		return nil, nil
	}
	if a.registry == nil {
		if id.Groups == nil {
			return nil, []string{"there is no registry of devices here to take its groups from"}
		}
		return nil, nil
	}
	groups, state := a.registry.Groups(id.Name)
	var notes []string
	switch {
	case state == "":
		notes = []string{fmt.Sprintf("no device %.80q is registered", id.Name)}
	case id.Groups == nil:
		id.Groups = groups
	}
	switch state {
	case "", registry.Active:
		return nil, notes
	case registry.Quarantined:
		return &narrow{auth.Quarantine(id.Name), fmt.Sprintf("device %.80q is in quarantine: it may use $pki/# and quarantine/%.80s/# alone", id.Name, id.Name),
			"sealmq device enable " + id.Name}, notes
	case registry.Revoked:
		return &narrow{reason: fmt.Sprintf("device %.80q is revoked: it cannot connect", id.Name), fix: "sealmq device purge " + id.Name + ", and add it again"}, notes
	}
	return &narrow{reason: fmt.Sprintf("device %.80q is %s: it cannot connect", id.Name, state), fix: "sealmq device enable " + id.Name}, notes
}

// unsaid notes what groups of the policy look at and nothing was said of.
func unsaid(p *policy.Policy, id *policy.Identity) []string {
	c := &id.Cert
	cert := c.Issuer+c.CN+c.Serial+c.Fingerprint != "" || len(c.OU)+len(c.O)+len(c.URI)+len(c.DNS) > 0
	var names []string
	var look func(*policy.Expr)
	look = func(e *policy.Expr) {
		for _, x := range slices.Concat(e.All, e.Any) {
			look(x)
		}
		of, _, _ := strings.Cut(e.Attr, ".")
		if (of == "cert" && !cert && id.Method == "certificate" || of == "jwt" && id.Claims == nil && id.Kind == "" && id.Name != "") &&
			!slices.Contains(names, e.Attr) {
			names = append(names, e.Attr)
		}
	}
	for _, d := range p.File().Decls {
		if d.Group != nil {
			look(d.Group.Expr)
		}
	}
	if names == nil {
		return nil
	}
	return []string{fmt.Sprintf("groups of the policy look at %.200s, and nothing was said of that: --with '%.80s = …', or --client for one that is connected",
		strings.Join(names, ", "), names[0])}
}

// describe names a client with what a policy could look at.
func describe(id *policy.Identity) string {
	var parts []string
	add := func(what, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%s %.200q", what, value))
		}
	}
	switch {
	case id.Name == "":
		parts = append(parts, "an anonymous client")
	case id.Kind != "":
		add(id.Kind, id.Name)
	case id.Method == "certificate":
		add("device", id.Name)
	default:
		add("user", id.Name)
	}
	add("client identifier", id.ClientID)
	if len(id.Groups) > 0 {
		add("groups", strings.Join(id.Groups, ", "))
	}
	add("method", id.Method)
	add("listener", id.Listener)
	return strings.Join(parts, ", ")
}

func (a *policyAnswers) why(r *http.Request) (any, error) {
	v, err := once(r.URL.RawQuery, "name", "last")
	if err != nil {
		return nil, err
	}
	n := policy.MaxDenials
	if text := v["last"]; text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			return nil, badRequest("read query: last=%.20q is no number above 0", text)
		}
	}
	switch {
	case v["name"] == "":
		return nil, badRequest("read query: name is missing")
	case a.Policy == nil || a.Denials == nil || a.Live == nil:
		return nil, noBroker()
	}
	now := a.Live.Policy()
	all := []Denial{}
	for _, d := range a.Denials.Last(v["name"], min(n, 2*policy.MaxDenials)) {
		e := d.Explain(now)
		action := "connect"
		if d.Request.Action != 0 {
			action = d.Request.Action.String()
		}
		all = append(all, Denial{
			Time: d.Request.Time, Times: d.Times, Name: d.Client.Name, ClientID: d.Client.ClientID, Action: action,
			Topic: d.Request.Topic, QoS: d.Request.QoS, Retain: d.Request.Retain, Size: d.Request.Size, Rule: d.Rule,
			Allowed: e.Allowed, Reason: e.Reason, Fix: e.Fix,
		})
	}
	return all, nil
}
