package policy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/topic"
)

// Request is a question to a policy.
type Request struct {
	Action auth.Action
	Topic  string // a filter for Subscribe, $share/GROUP/ included or not
	QoS    uint8  // of the message, or the one asked for in a subscription
	Retain bool
	Size   int       // of the payload that is published, in bytes; negative: unknown
	Time   time.Time // zero: now
}

// Decision is the answer to a Request.
type Decision struct {
	Allowed bool
	// Rule has decided: it allows, or denies, or allows at a rate that is exceeded. nil: no rule allows it.
	Rule *Rule
}

// Limited reports whether it is only too often: a rule would allow it, but for its rate.
func (d Decision) Limited() bool { return !d.Allowed && d.Rule != nil && d.Rule.Allow }

// Permissions are what one identity may do. They implement auth.Policy.
type Permissions struct {
	id   Identity
	live *Live // nil: of one policy, for ever
	now  atomic.Pointer[subject]
	mu   sync.Mutex // held to replace now
}

var (
	_ auth.Measured  = (*Permissions)(nil)
	_ auth.Explainer = (*Permissions)(nil)
	_ auth.Hearer    = (*Permissions)(nil)
)

// May implements auth.Policy: Check without a size, so that a rule that allows up to a size does not allow. It does not keep
// the topic, and allocates nothing for one that it was asked about a while ago.
func (p *Permissions) May(a auth.Action, topic string, qos uint8, retain bool) bool {
	q := question{topic: topic, action: a, qos: qos, retain: retain, wild: a == auth.Subscribe}
	s := p.current()
	if e := s.cached(&q); e != nil && e.later == nil {
		return e.decision.Allowed
	}
	return s.check(&Request{Action: a, Topic: topic, QoS: qos, Retain: retain, Size: -1}).Allowed
}

// MayPublish is May for a publication whose size is known, in bytes. limited says that it is refused because there were too
// many, and may be allowed later.
func (p *Permissions) MayPublish(topic string, qos uint8, retain bool, size int) (ok, limited bool) {
	d := p.Check(Request{Action: auth.Publish, Topic: topic, QoS: qos, Retain: retain, Size: size})
	return d.Allowed, d.Limited()
}

// Check decides, and counts a publication that a rule with a rate allows. It does not keep the topic.
func (p *Permissions) Check(r Request) Decision { return p.current().check(&r) }

// Admit reports whether the identity may have its client identifier, as Policy.Admit does. The error names the place in the
// file for those whom the policy tells.
func (p *Permissions) Admit() error {
	s := p.current()
	err := s.policy.Admit(p.id)
	if err != nil && !s.told() {
		v := newValues(&p.id, false)
		return misnamed(&p.id, &v, "")
	}
	return err
}

// Unusable returns the placeholders of this client's rules whose values must not stand in a topic, so that no rule with them
// allows it anything. Whoever accepts the connection should log them.
func (p *Permissions) Unusable() []string {
	s := p.current()
	var used uint8
	for _, g := range s.groups {
		used |= g.uses
	}
	var out []string
	for i, bad := range s.values.bad {
		if bad && used&(1<<i) != 0 {
			out = append(out, "${"+variableNames[i]+"}")
		}
	}
	return out
}

// Hears implements auth.Hearer.
func (p *Permissions) Hears() bool {
	s := p.current()
	return !s.policy.file.mosquitto && !slices.ContainsFunc(s.groups, func(g *group) bool { return g.picks })
}

// picks reports whether because of the rule somebody who may subscribe to a filter may not receive all that comes by it.
func (r *Rule) picks() bool {
	if !r.Allow {
		return r.concerns(auth.Receive)
	}
	return slices.Contains(r.Actions, auth.Subscribe) && (r.when.timed() || r.hears && (r.when.qos != 0 || r.when.retain != 0))
}

// Explain tells why, as Policy.Explain does.
func (p *Permissions) Explain(r Request) Explanation { return p.current().policy.Explain(p.id, r) }

// Why implements auth.Explainer: it is for those who are in a group that the policy tells.
func (p *Permissions) Why(a auth.Action, topic string, qos uint8, retain bool, size int) string {
	s := p.current()
	if !s.told() {
		return ""
	}
	e := s.policy.Explain(p.id, Request{Action: a, Topic: topic, QoS: qos, Retain: retain, Size: size})
	if e.Allowed {
		return "" // but for its rate, or another moment
	}
	return e.String()
}

// Identity is whose permissions they are. It must not be changed.
func (p *Permissions) Identity() *Identity { return &p.id }

// current returns the subject by the policy in force.
func (p *Permissions) current() *subject {
	s := p.now.Load()
	if p.live == nil || p.live.policy.Load() == s.policy {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.live.policy.Load(); now != p.now.Load().policy {
		p.now.Store(now.subject(&p.id))
	}
	return p.now.Load()
}

// subject is an identity as one policy sees it.
type subject struct {
	policy *Policy
	id     *Identity
	groups []*group
	values values
	cache  atomic.Pointer[table]
	last   [4]atomic.Pointer[entry] // for each action the entry asked for last

	rehearsal bool // rates are not counted, and nothing is kept

	mu      sync.Mutex
	buckets map[*Rule]time.Time // of rules with a rate: when the bucket is full again
}

func (p *Policy) subject(id *Identity) *subject {
	proven, err := p.bound(id)
	proven = err == nil && (proven || id.Proven)
	return &subject{policy: p, id: id, groups: p.members(id), values: newValues(id, proven || p.file.mosquitto)}
}

// told reports whether the subject may know why something is refused.
func (s *subject) told() bool {
	return slices.ContainsFunc(s.groups, func(g *group) bool { return g.tells })
}

// question is what decides which rules are meant, and the key of the cache.
type question struct {
	topic  string
	action auth.Action
	qos    uint8
	retain bool
	wild   bool // the topic is a filter
}

func (s *subject) check(r *Request) Decision {
	q := question{r.Topic, r.Action, r.QoS, r.Retain, r.Action == auth.Subscribe}
	e := s.cached(&q)
	if e == nil {
		var out outcome
		s.ask(&q, &out)
		d := out.decide(s, r)
		if !s.rehearsal {
			s.remember(&q, &out, d)
		}
		return d
	}
	if e.later == nil {
		return e.decision
	}
	return e.later.decide(s, r)
}

// ask has the rules of all groups of the subject speak.
func (s *subject) ask(q *question, out *outcome) {
	path := q.topic
	switch {
	case q.action < auth.Publish || q.action > auth.Receive:
		return
	case !q.wild:
		if topic.ValidName(path) != nil {
			return
		}
	case topic.ValidFilter(path) != nil:
		return
	default:
		var err error
		if _, path, _, err = topic.ParseShare(path); err != nil {
			return
		}
	}
	if q.wild && s.policy.file.mosquitto {
		out.allow = s.policy.file.granted
		return
	}
	f := search{who: s, q: q, out: out}
	for _, g := range s.groups {
		if root := g.tries[q.action]; root != nil {
			f.find(root, path)
		}
	}
}
