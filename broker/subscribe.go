package broker

import (
	"context"
	"log/slog"
	"strings"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

func (c *Conn) onSubscribe(flags uint8, body []byte) error {
	var p mqtt.Subscribe
	if err := p.Parse(c.version, flags, body); err != nil {
		return c.fail(err)
	}
	if p.Props.Has(mqtt.PropSubscriptionIDs) && c.lim.NoSubscriptionIDs {
		return c.fail(violation(mqtt.SubscriptionIDsNotSupported, "subscription identifiers are switched off here"))
	}
	if c.tooMany(&p.Props) {
		return c.failMany()
	}
	if n := len(p.Filters) - c.lim.MaxSubscribeFilters; n > 0 {
		c.limited(limitedFilters, "max_subscribe_filters", "filters", len(p.Filters))
		c.w.count(limitedFilters, uint64(n-1))
	}
	ack := mqtt.Suback{PacketID: p.PacketID, Codes: make([]mqtt.ReasonCode, len(p.Filters))}
	if err := c.answerable(ack.Size(c.version)); err != nil {
		return err
	}
	id := uint32(0)
	if p.Props.Has(mqtt.PropSubscriptionIDs) && len(p.Props.SubscriptionIDs) > 0 {
		id = p.Props.SubscriptionIDs[0]
	}
	var wanted []*replay
	var kept []store.Subscription
	var greeted []string
	full := c.sess.dur != nil && c.b.store.Ready() != nil
	var refused int
	var first []byte // of these
	var firstCode mqtt.ReasonCode
	asked := make(map[*subscription]*replay)
	for i := range p.Filters {
		f := &p.Filters[i]
		if full || i >= c.lim.MaxSubscribeFilters {
			ack.Codes[i] = mqtt.QuotaExceeded
			continue
		}
		sub, isNew, code, why := c.subscribe(f, id)
		ack.Codes[i] = code
		if sub == nil {
			if why != "" && !ack.Props.Has(mqtt.PropReasonString) { // one for the whole packet
				ack.Props.ReasonString = []byte(why)
				ack.Props.Set(mqtt.PropReasonString)
			}
			if refused++; refused == 1 {
				first, firstCode = f.Filter, code
			}
			continue
		}
		if sub.filter[0] == '$' && c.b.greeter != nil && c.b.owns(f.Filter) {
			greeted = append(greeted, sub.filter)
		}
		if c.sess.dur != nil {
			c.sess.mu.Lock()
			k := sub.stored()
			k.Replay = c.sess.owes(sub)
			c.sess.mu.Unlock()
			kept = append(kept, k)
		}
		// Retained messages are not for shared subscriptions, section 4.8.2.
		if sub.share == nil && (f.RetainHandling == 0 || f.RetainHandling == 1 && isNew) { // [MQTT-3.3.1-9] … 11
			r := asked[sub]
			if r == nil {
				r = &replay{sub: sub}
				asked[sub] = r
				wanted = append(wanted, r)
			}
			r.round(sub.options())
		}
	}
	if refused > 0 {
		c.logFilters(first, firstCode, refused)
	}
	if int64(ack.Size(c.version)) > c.maxSend { // [MQTT-3.9.2-1]
		ack.Props.Reset()
	}
	var replays []*replay
	if len(wanted) > 0 && c.b.sheds(shedRetained) {
		c.w.count(shedReplays, uint64(len(wanted)))
		wanted = nil
	}
	for _, r := range wanted {
		r.collect(c.b)
		replays = append(replays, r)
		if c.sess.dur == nil || !r.lasting() {
			continue
		}
		r.owed = true
		for i := range kept {
			if kept[i].Filter == r.sub.filter {
				kept[i].Replay = true // also when the filter stands there twice
			}
		}
	}
	if suback := encoded(ack.Append(nil, c.version)); len(kept) > 0 { // [MQTT-3.8.4-1]
		ch := &change{Op: store.Op{Kind: store.Subscribe, Session: c.sess.dur.id, Subscriptions: kept}}
		c.w.alter(c, ch, suback)
		ch.answer.replays = replays // nobody looks before it is submitted
		c.supersede(replays)
	} else {
		c.answer(suback)
		c.sess.mu.Lock()
		c.sess.replay(c.w, replays)
		c.sess.mu.Unlock()
	}
	c.greet(greeted)
	return nil
}

// logFilters logs that filters of a SUBSCRIBE were refused, and why the first of them was: one line a minute for a client,
// however many it sends.
func (c *Conn) logFilters(filter []byte, code mqtt.ReasonCode, n int) {
	if omitted, ok := c.b.hush.allow(c.b.now(), "subscription refused", c.who()); ok {
		c.b.log.Info("subscription refused", c.attrs("filter", clip(filter), "reason", code.String(), "filters", n,
			"not_logged_before", omitted)...)
		return
	}
	if c.b.log.Enabled(context.Background(), slog.LevelDebug) {
		c.b.log.Debug("subscription refused", c.attrs("filter", clip(filter), "reason", code.String(), "filters", n)...)
	}
}

// supersede notes replays that wait for their SUBACK. One for the same subscription that still waits has nothing to send.
func (c *Conn) supersede(replays []*replay) {
	s := c.sess
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range replays {
		if c.asked == nil {
			c.asked = make(map[*subscription]*replay)
		}
		if old := c.asked[r.sub]; old != nil {
			old.list, old.owed = nil, false
		}
		c.asked[r.sub] = r
	}
}

func (c *Conn) onUnsubscribe(flags uint8, body []byte) error {
	var p mqtt.Unsubscribe
	if err := p.Parse(c.version, flags, body); err != nil {
		return c.fail(err)
	}
	if c.tooMany(&p.Props) {
		return c.failMany()
	}
	ack := mqtt.Unsuback{PacketID: p.PacketID, Codes: make([]mqtt.ReasonCode, len(p.Filters))}
	if err := c.answerable(ack.Size(c.version)); err != nil {
		return err
	}
	var gone []string
	for i, f := range p.Filters {
		if c.sess.unsubscribe(c.w, string(f)) {
			gone = append(gone, string(f))
		} else {
			ack.Codes[i] = mqtt.NoSubscriptionExisted
		}
	}
	if unsuback := encoded(ack.Append(nil, c.version)); len(gone) > 0 && c.sess.dur != nil { // [MQTT-3.10.4-4]
		c.w.alter(c, &change{Op: store.Op{Kind: store.Unsubscribe, Session: c.sess.dur.id, Filters: gone}}, unsuback)
	} else {
		c.answer(unsuback)
	}
	return nil
}

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
	case len(plain) > c.lim.MaxTopicLength:
		c.limited(limitedTopicLength, "max_topic_length", "bytes", len(plain))
		return nil, false, mqtt.TopicFilterInvalid, ""
	case c.lim.MaxTopicLevels < 65535 && levels(plain) > c.lim.MaxTopicLevels:
		c.limited(limitedTopicLevels, "max_topic_levels", "levels", levels(plain))
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
		c.limited(limitedSubscriptions, "max_subscriptions")
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
