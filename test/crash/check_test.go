package crash

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCheckFindsFaults takes the journal of a run in which nothing went wrong,
// alters it as a faulty broker would have, and expects the check to find just that.
func TestCheckFindsFaults(t *testing.T) {
	t.Logf("seed %d", *seed)
	good, dir := journalOf(t, sealmq(tested), *seed, 0)
	if r := check(good); len(r.faults) > 0 {
		t.Fatalf("a run without kills: %s", explain(t, good, r, dir))
	}
	rng := rand.New(rand.NewPCG(*seed, 0))
	must := demanded(good)
	first := func(client string, qos byte) func(event) bool {
		return func(e event) bool {
			return e.kind == deliver && !e.retain && e.client == client && e.qos == qos && must[e.message] && e.message.publisher[0] == 'p'
		}
	}
	ofWill := func(e event) bool {
		return e.kind == deliver && must[e.message] && e.message.publisher[0] == 'w' && e.client == "s0"
	}
	for _, c := range []struct {
		name string
		want faultKind
		// pick chooses the event, alter changes the journal at it; where that is nil, the event is removed.
		pick  func(e event) bool
		alter func(events []event, at int) []event
	}{
		{"a QoS 2 message is not delivered", lostMessage, first("s0", 2), removeMessage},
		{"a QoS 1 message is not delivered", lostMessage, first("s1", 1), removeMessage},
		{"a will is not published", lostWill, ofWill, removeMessage},
		{"a QoS 2 message comes with another packet identifier", duplicate, first("s0", 2), func(events []event, at int) []event {
			return append(events, events[at])
		}},
		{"two messages change places", disorder, first("s0", 2), func(events []event, at int) []event {
			e := events[at]
			for i := at + 1; i < len(events); i++ {
				next := events[i]
				if next.kind == deliver && next.client == e.client && next.topic == e.topic && next.qos == e.qos && !next.retain &&
					next.message.publisher == e.message.publisher && next.message.n > e.message.n {
					events[at].message, events[i].message = next.message, e.message
					return events
				}
			}
			return nil
		}},
		{"an older message is retained", stale, func(e event) bool { return e.kind == retained && e.message.n > 1 }, func(events []event, at int) []event {
			events[at].message.n = 1
			return events
		}},
		{"a retained message is missing", stale, func(e event) bool { return e.kind == retained }, nil},
		{"a removed retained message is there", stale, func(e event) bool { return e.kind == probeEnd }, func(events []event, at int) []event {
			for topic, v := range retainedIn(events[:at]) {
				if v.empty {
					return slices.Insert(events, at, event{kind: retained, client: "probe", topic: topic, message: v.settled})
				}
			}
			return nil
		}},
		{"a session is gone", lostSession, func(e event) bool { return e.kind == connack && e.present }, func(events []event, at int) []event {
			events[at].present = false
			return events
		}},
		{"a session that was ended is there", lostSession, func(e event) bool { return e.kind == connack && e.client == "probe" }, func(events []event, at int) []event {
			events[at].present = true
			return events
		}},
		{"a subscription that was removed is there", stray, func(e event) bool { return e.kind == unsuback }, func(events []event, at int) []event {
			var late []event
			for _, e := range events[at:] {
				if e.kind == subscrib && e.client == events[at].client && e.topic == events[at].topic {
					return nil
				}
				if e.kind == publish && e.message.n > 0 && !e.dup && !e.clear && matches(events[at].topic, e.topic) {
					e.kind, e.client, e.retain = deliver, events[at].client, false
					late = append(late, e)
				}
			}
			if late == nil {
				return nil
			}
			return append(events, late[0])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tried := 0
			for _, at := range rng.Perm(len(good)) {
				if tried == 8 || !c.pick(good[at]) {
					continue
				}
				events := slices.Clone(good)
				if c.alter == nil {
					events = slices.Delete(events, at, at+1)
				} else if events = c.alter(events, at); events == nil {
					continue // not here
				}
				tried++
				r := check(events)
				if len(r.faults) == 0 {
					t.Errorf("not found: %v", good[at])
				}
				for _, f := range r.faults {
					if f.kind != c.want {
						t.Errorf("%v, want only: %s", f, c.want)
					}
				}
			}
			if tried == 0 {
				t.Skip("skipped: this run offers no place for it; other seeds do")
			}
		})
	}
}

// removeMessage removes the deliveries of a message to a client.
func removeMessage(events []event, at int) []event {
	e := events[at]
	return slices.DeleteFunc(events, func(x event) bool {
		return x.kind == deliver && x.client == e.client && x.message == e.message
	})
}

// demanded are the messages and wills that s0 and s1 must get: they subscribe to
// everything, s0 with QoS 2 and s1 with QoS 1, and stay so.
func demanded(events []event) map[messageID]bool {
	begun := make(map[messageID]bool)
	must := make(map[messageID]bool)
	subscribed := make(map[string]bool)
	for _, e := range events {
		switch e.kind {
		case suback:
			if e.client == "s0" || e.client == "s1" {
				subscribed[e.client+e.topic] = true
			}
		case publish:
			if len(subscribed) == 10 && !e.dup {
				begun[e.message] = true
			}
		case puback, pubcomp, alone:
			must[e.message] = begun[e.message]
		}
	}
	return must
}
