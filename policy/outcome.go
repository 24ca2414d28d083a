package policy

import (
	"time"

	"github.com/sealmq/sealmq/auth"
)

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
	if s.rehearsal {
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
