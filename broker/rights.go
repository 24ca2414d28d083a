package broker

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// rights are a session's principal and what it may do. A session gets others when its client connects, authenticates
// again, or is gone over by Reauthorize; they themselves do not change.
type rights struct {
	*auth.Principal
	policy   auth.Policy   // that is asked; nil allows everything
	measured auth.Measured // the same, if it looks at sizes
	dormant  bool          // what was subscribed stays, though it may not be allowed
	hears    atomic.Bool   // what its subscriptions bring may be received, see settle
	restored bool          // of a session from the store: only some of the identity is known until its client is back
	owner    uint64        // for whom the session is counted, see ownerOf
	told     *told         // nil if nothing can be denied
}

func newRights(p *auth.Principal) *rights {
	r := &rights{Principal: p, policy: p.Policy, dormant: p.Restricted, owner: ownerOf(p)}
	if p.Policy != nil {
		r.measured, _ = p.Policy.(auth.Measured)
		r.told = new(told)
	}
	return r
}

// settle is called when the session has no subscription that r does not allow: then deliveries may need no question.
func (r *rights) settle() {
	if h, ok := r.policy.(auth.Hearer); ok && !r.dormant {
		r.hears.Store(h.Hears())
	}
}

// restoredRights are those of a session from the store.
func restoredRights(p *auth.Principal) *rights {
	r := newRights(p)
	r.dormant, r.restored = true, true
	if r.policy != nil {
		r.policy = untilBack{r.policy}
	}
	return r
}

// noRights are those of a principal that Options.Authorize has refused.
func noRights(p *auth.Principal, restored bool) *rights {
	return &rights{Principal: p, policy: nothing{}, dormant: true, restored: restored, owner: ownerOf(p), told: new(told)}
}

// may asks the policy about anything but publishing.
func (r *rights) may(a auth.Action, topic string, qos uint8, retain bool) bool {
	return r.policy == nil || r.policy.May(a, topic, qos, retain)
}

func (r *rights) mayReceive(m *store.Message) bool {
	return r.may(auth.Receive, m.Topic, m.QoS, m.Retain)
}

// mayPublish is may for a publication. limited says of one that is refused that there were too many.
func (r *rights) mayPublish(topic []byte, qos uint8, retain bool, size int) (ok, limited bool) {
	switch {
	case r.policy == nil:
		return true, false
	case r.measured != nil:
		return r.measured.MayPublish(lent(topic), qos, retain, size)
	}
	return r.policy.May(auth.Publish, lent(topic), qos, retain), false
}

// lent is b as a string that nobody may keep.
func lent(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// nothing is the policy of who may do nothing.
type nothing struct{}

func (nothing) May(auth.Action, string, uint8, bool) bool { return false }

// untilBack is the policy for a session from the store until its client is back. What may be received is decided then, by
// all that is known of the client; until then it waits.
type untilBack struct{ auth.Policy }

func (p untilBack) May(a auth.Action, topic string, qos uint8, retain bool) bool {
	return a == auth.Receive || p.Policy.May(a, topic, qos, retain)
}

// Denial is something that a policy did not allow.
type Denial struct {
	ClientID  string
	Principal *auth.Principal
	Action    auth.Action // Publish for a will, too
	Topic     string      // of Subscribe the filter as the client sent it
	QoS       uint8
	Retain    bool
	Size      int  // of the payload, in bytes; -1 for a subscription
	Limited   bool // there were too many publications: it may be allowed later

	// Untold is how many denials of the same connection before it have not been told, since there were too many.
	Untold uint64
}

// maxTold is how many denials of one connection are told in a second, to Options.Denied and to its client.
const maxTold = 10

// told bounds how many denials of one connection are told.
type told struct {
	mu     sync.Mutex
	since  time.Duration // on the broker's clock, when the second has begun
	n      int
	untold uint64
}

// allow reports whether a denial is told, and how many before it have not been.
func (t *told) allow(now time.Duration) (untold uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 || now-t.since >= time.Second {
		t.since, t.n = now, 0
	}
	if t.n >= maxTold {
		t.untold++
		return 0, false
	}
	t.n++
	untold, t.untold = t.untold, 0
	return untold, true
}

// denied tells that the policy has not allowed something. With ask set it returns what the client may be told of it. The
// topic of d need not stay as it is.
func (b *Broker) denied(r *rights, d Denial, ask bool) (why string) {
	var explainer auth.Explainer
	if ask {
		explainer, _ = r.policy.(auth.Explainer)
	}
	if b.onDenied == nil && explainer == nil {
		return ""
	}
	untold, ok := r.told.allow(b.now())
	if !ok {
		return ""
	}
	d.Topic = strings.Clone(d.Topic)
	d.Principal, d.Untold = r.Principal, untold
	if b.onDenied != nil {
		b.onDenied(d)
	}
	if explainer == nil {
		return ""
	}
	why = explainer.Why(d.Action, d.Topic, d.QoS, d.Retain, d.Size)
	if len(why) > maxReason || !mqtt.ValidString([]byte(why)) {
		return ""
	}
	return why
}

// maxReason is how many bytes of explanation a client is sent.
const maxReason = 1 << 10

// mayReceive asks the policy, and counts and tells when it says no.
func (s *session) mayReceive(w *worker, m *store.Message) bool {
	r := s.rights.Load()
	if r.mayReceive(m) {
		return true
	}
	s.undelivered(w, r, m.Topic, m.QoS, m.Retain, len(m.Payload))
	return false
}

// undelivered counts and tells that a message may not be received.
func (s *session) undelivered(w *worker, r *rights, topic string, qos uint8, retain bool, size int) {
	w.count(droppedDenied, 1)
	s.b.denied(r, Denial{ClientID: s.id, Action: auth.Receive, Topic: topic, QoS: qos, Retain: retain, Size: size}, false)
}

// forbid tells of a PUBLISH that is denied, and returns what its client is told.
func (c *Conn) forbid(r *rights, p *mqtt.Publish, topic []byte, limited bool) (mqtt.ReasonCode, string) {
	code, text := mqtt.NotAuthorized, "publishing to this topic is not allowed"
	if limited {
		code, text = mqtt.QuotaExceeded, "too many publications: this one may be allowed later"
	}
	d := Denial{ClientID: c.sess.id, Action: auth.Publish, Topic: lent(topic), QoS: p.QoS, Retain: p.Retain,
		Size: len(p.Payload), Limited: limited}
	if why := c.b.denied(r, d, c.curious()); why != "" {
		text = why
	}
	return code, text
}

// forbidFilter is forbid for a subscription.
func (c *Conn) forbidFilter(r *rights, f *mqtt.Subscription) (mqtt.ReasonCode, string) {
	d := Denial{ClientID: c.sess.id, Action: auth.Subscribe, Topic: lent(f.Filter), QoS: f.QoS, Size: -1}
	return mqtt.NotAuthorized, c.b.denied(r, d, c.curious())
}

// curious reports whether the client wants to be told reasons [MQTT-3.1.2-29].
func (c *Conn) curious() bool { return c.version == mqtt.V5 && c.problems }

// authorize gives a principal its policy. before is what the principal could do until now.
func (b *Broker) authorize(clientID string, peer *auth.Peer, p *auth.Principal, before auth.Policy) (*auth.Principal, error) {
	if b.onAuthorize == nil {
		return p, nil
	}
	q := *p
	if q.Policy == nil {
		q.Policy = before
	}
	policy, err := b.onAuthorize(clientID, peer, &q)
	if err != nil {
		return nil, err
	}
	q.Policy = policy
	return &q, nil
}

// refusal is an error of Options.Authorize as a client that is connected is told.
func refusal(err error) Standing {
	var no *auth.Refusal
	if errors.As(err, &no) {
		return Standing{Refused: mqtt.NotAuthorized, Text: no.Text}
	}
	return Standing{Refused: mqtt.NotAuthorized, Text: "authorization is not available at the moment"}
}
