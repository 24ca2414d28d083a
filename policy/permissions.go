package policy

import (
	"hash/maphash"
	"strings"
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

var _ auth.Policy = (*Permissions)(nil)

// May implements auth.Policy: Check without a size, so that a rule that allows up to a size does not allow. It does not keep
// the topic, and allocates nothing for one that it was asked about a while ago.
func (p *Permissions) May(a auth.Action, topic string, qos uint8, retain bool) bool {
	return p.Check(Request{Action: a, Topic: topic, QoS: qos, Retain: retain, Size: -1}).Allowed
}

// Check decides, and counts a publication that a rule with a rate allows. It does not keep the topic.
func (p *Permissions) Check(r Request) Decision { return p.current().check(&r) }

// Admit reports whether the identity may have its client identifier, as Policy.Admit does.
func (p *Permissions) Admit() error { return p.current().policy.Admit(p.id) }

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

	unlimited bool // rates are not counted

	mu      sync.Mutex
	buckets map[*Rule]time.Time // of rules with a rate: when the bucket is full again
}

func (p *Policy) subject(id *Identity) *subject {
	proven, err := p.bound(id)
	proven = err == nil && (proven || id.Proven)
	return &subject{policy: p, id: id, groups: p.members(id), values: newValues(id, proven || p.file.mosquitto)}
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
		s.remember(&q, &out, d)
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
		f.find(g.tries[q.action], path)
	}
}

// outcome is what the rules say that match a question.
type outcome struct {
	deny, allow         *Rule
	weakDeny, weakAllow *Rule
	later               []*Rule // those that depend on size, rate or time
}

// add adds a rule whose filter is right, if its conditions hold.
func (o *outcome) add(r *Rule, s *subject, q *question) {
	op := s.policy.testOnlyFlip
	if s.barred(r) {
		return
	}
	// What comes by a subscription has a QoS of its own.
	if (q.action != auth.Receive || r.hears) && !op.ask(opRequest, r.when.request(q.qos, q.retain)) {
		return
	}
	if !op.ask(opWho, r.when.identity(s.id)) {
		return
	}
	if r.when.later() {
		o.later = append(o.later, r)
		return
	}
	at := &o.deny
	switch {
	case r.Allow && r.weak:
		at = &o.weakAllow
	case r.Allow:
		at = &o.allow
	case r.weak:
		at = &o.weakDeny
	}
	if *at == nil || r.Pos.before((*at).Pos) {
		*at = r
	}
}

// decide is the policy's answer: no, if a rule denies; else yes, if one allows; else what the weak ones say in the same
// way; else no.
func (o *outcome) decide(s *subject, r *Request) Decision {
	op := s.policy.testOnlyFlip
	if op.ask(opDeny, o.deny != nil) {
		return Decision{false, o.deny}
	}
	var limited *Rule
	if o.later != nil {
		now := r.Time
		if now.IsZero() {
			now = s.policy.now()
		}
		holds := func(r *Rule, size int) bool {
			return op.ask(opSize, r.when.fits(size, r.Allow)) && op.ask(opTime, r.when.open(now))
		}
		for _, rule := range o.later {
			if !rule.Allow && holds(rule, r.Size) {
				return Decision{false, rule}
			}
		}
		if o.allow != nil {
			return Decision{true, o.allow}
		}
		for _, rule := range o.later {
			if rule.Allow && rule.when.every == 0 && holds(rule, r.Size) {
				return Decision{true, rule}
			}
		}
		for _, rule := range o.later {
			if rule.Allow && rule.when.every > 0 && holds(rule, r.Size) {
				if op.ask(opRate, s.take(rule, now)) {
					return Decision{true, rule}
				}
				limited = rule
			}
		}
	}
	switch {
	case o.allow != nil:
		return Decision{true, o.allow}
	case op.ask(opWeak, o.weakDeny != nil):
		return Decision{false, o.weakDeny}
	case o.weakAllow != nil:
		return Decision{true, o.weakAllow}
	}
	return Decision{op == opDefault, limited}
}

// take takes a message from the bucket of a rule with a rate, if one is left.
func (s *subject) take(r *Rule, now time.Time) bool {
	if s.unlimited {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[*Rule]time.Time{}
	}
	full := s.buckets[r]
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > r.when.every*time.Duration(r.when.burst-1) {
		return false
	}
	s.buckets[r] = full.Add(r.when.every)
	return true
}

// The bounds of a subject's cache: entries, and bytes of the topics in it.
const (
	maxCached = 64
	maxTopic  = 128
)

// table is a subject's cache: each question has two places.
type table struct {
	slots []atomic.Pointer[entry]
	lost  atomic.Uint32 // answers that found no place
}

// entry is an answer, or what an answer depends on.
type entry struct {
	q        question
	decision Decision
	later    *outcome
}

func (s *subject) place(q *question) uint64 {
	h := uint64(q.action)<<3 | uint64(q.qos)<<1
	if q.retain {
		h++
	}
	return maphash.String(s.policy.seed, q.topic) + h*0x9e3779b97f4a7c15>>32
}

// cached returns the entry of a question, nil if there is none.
func (s *subject) cached(q *question) *entry {
	t := s.cache.Load()
	if t == nil {
		return nil
	}
	i := s.place(q) & uint64(len(t.slots)-1)
	if e := t.slots[i].Load(); e != nil && e.q == *q {
		return e
	}
	if e := t.slots[i^1].Load(); e != nil && e.q == *q {
		return e
	}
	return nil
}

// remember puts an answer into the cache. When that is full, one in eight replaces another: a flood of topics costs no
// memory, and what is asked often finds its place.
func (s *subject) remember(q *question, out *outcome, d Decision) {
	if len(q.topic) > maxTopic {
		return
	}
	t := s.cache.Load()
	if t == nil {
		t = &table{slots: make([]atomic.Pointer[entry], 4)}
		if !s.cache.CompareAndSwap(nil, t) {
			return
		}
	}
	i := s.place(q) & uint64(len(t.slots)-1)
	switch {
	case t.slots[i].Load() == nil:
	case t.slots[i^1].Load() == nil:
		i ^= 1
	case len(t.slots) < maxCached:
		t = s.grow(t)
		if i = s.place(q) & uint64(len(t.slots)-1); t.slots[i].Load() != nil {
			i ^= 1
		}
	case t.lost.Add(1)%8 != 0:
		return
	}
	e := &entry{q: *q, decision: d}
	e.q.topic = strings.Clone(q.topic)
	if out.later != nil {
		kept := *out
		e.later = &kept
	}
	t.slots[i].Store(e)
}

// grow replaces a table by one of four times its size.
func (s *subject) grow(t *table) *table {
	larger := &table{slots: make([]atomic.Pointer[entry], 4*len(t.slots))}
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil {
			k := s.place(&e.q) & uint64(len(larger.slots)-1)
			if larger.slots[k].Load() != nil {
				k ^= 1
			}
			larger.slots[k].Store(e)
		}
	}
	if !s.cache.CompareAndSwap(t, larger) {
		return s.cache.Load()
	}
	return larger
}

// operator is a decision of the evaluator that a test may turn round.
type operator uint8

// The operators.
const (
	opNone operator = iota
	opDeny
	opDefault
	opRequest
	opWho
	opSize
	opTime
	opRate
	opWeak
	opReserved
	opParent
	opWildHash
	opWildPlus
	opValue
	opDamaged
	operators
)

// ask returns yes, or its opposite if this is the operator that is turned round.
func (o operator) ask(which operator, yes bool) bool { return yes != (o == which) }
