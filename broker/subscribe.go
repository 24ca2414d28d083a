package broker

import (
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/topic"
)

// subscribe carries out one entry of a SUBSCRIBE. It returns the subscription and whether it did not exist before, or
// nil and the reason against it, with the words of the policy if it has any.
func (c *Conn) subscribe(f *mqtt.Subscription, id uint32) (sub *subscription, isNew bool, code mqtt.ReasonCode, why string) {
	s, filter := c.sess, string(f.Filter)
	authorized := c.b.authorizations.Load()
	_, plain, shared, err := topic.ParseShare(filter)
	switch {
	case err != nil:
		return nil, false, mqtt.TopicFilterInvalid, ""
	case shared && c.lim.NoShared:
		return nil, false, mqtt.SharedSubscriptionsNotSupported, ""
	case c.lim.NoWildcards && strings.ContainsAny(plain, "+#"):
		return nil, false, mqtt.WildcardSubscriptionsNotSupported, ""
	case c.lim.MaxTopicLevels < 65535 && levels(plain) > c.lim.MaxTopicLevels:
		return nil, false, mqtt.TopicFilterInvalid, ""
	}
	if r := s.rights.Load(); !r.may(auth.Subscribe, plain, f.QoS, false) {
		code, why = c.forbidFilter(r, f)
		return nil, false, code, why
	}
	sub, isNew, code = c.enter(f, filter, plain, shared, id)
	// A Reauthorize that has begun meanwhile may have looked at the session before the subscription was there.
	if r := s.rights.Load(); sub != nil && c.b.authorizations.Load() != authorized && !r.may(auth.Subscribe, plain, f.QoS, false) {
		s.unsubscribe(c.w, filter)
		code, why = c.forbidFilter(r, f)
		return nil, false, code, why
	}
	return sub, isNew, code, ""
}

// enter adds a subscription that is allowed, or changes the options of the one that is there.
func (c *Conn) enter(f *mqtt.Subscription, filter, plain string, shared bool, id uint32) (sub *subscription, isNew bool, code mqtt.ReasonCode) {
	s := c.sess
	granted := min(f.QoS, uint8(c.lim.MaxQoS)) // [MQTT-3.2.2-10]
	noLocal, asPublished := f.NoLocal, f.RetainAsPublished
	if c.bridge && !shared {
		noLocal, asPublished = true, true
	}
	o := packOptions(granted, noLocal, asPublished, id)

	// Only this connection changes the map, so looking and adding need not be one step.
	s.mu.Lock()
	sub, n := s.subs[filter], len(s.subs)
	s.mu.Unlock()
	if sub != nil { // [MQTT-3.8.4-3]
		sub.setOptions(o)
		return sub, false, mqtt.ReasonCode(granted)
	}
	if n >= c.lim.MaxSubscriptions {
		return nil, false, mqtt.QuotaExceeded
	}
	sub = &subscription{sess: s, filter: filter}
	sub.setOptions(o)
	if shared {
		c.b.groups.join(c.b, filter, plain, sub)
	} else {
		sub.ref = c.b.index.Insert(filter, sub)
	}
	// Whoever finds it in the map finds it whole.
	s.mu.Lock()
	if s.subs == nil {
		s.subs = make(map[string]*subscription, 1)
	}
	s.subs[filter] = sub
	s.mu.Unlock()
	return sub, true, mqtt.ReasonCode(granted)
}

// unsubscribe removes a subscription and reports whether it existed. Messages already under way are completed
// [MQTT-3.10.4-3]; those of a shared subscription that still wait go to another member.
func (s *session) unsubscribe(w *worker, filter string) bool {
	s.mu.Lock()
	sub := s.subs[filter]
	if sub == nil {
		s.mu.Unlock()
		return false
	}
	delete(s.subs, filter)
	kept := s.replays[:0]
	for _, r := range s.replays {
		if r.sub != sub {
			kept = append(kept, r)
		}
	}
	s.replays = kept
	s.mu.Unlock()
	s.b.dropSubscription(sub)
	if sub.share == nil {
		return true
	}
	s.mu.Lock()
	rest := s.orphans(w, func(g *group) bool { return g == sub.share }, false)
	s.mu.Unlock()
	w.reroute(rest)
	return true
}
