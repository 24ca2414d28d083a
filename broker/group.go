package broker

import (
	"sync"

	"github.com/sealmq/sealmq/store"
)

// group is a shared subscription: the members of one $share/NAME/FILTER [MQTT-4.8.2-1].
type group struct {
	b     *Broker
	key   string
	entry subscription // its entry in the index

	mu sync.Mutex
	// Members with a connection take turns; those without one get a message only when nobody else can.
	online, offline []*subscription
	turn            int
}

// groupTable finds a group by its full filter.
type groupTable struct {
	mu sync.Mutex
	m  map[string]*group
}

// join adds a member. The first one puts the group into the index.
func (t *groupTable) join(b *Broker, key, filter string, sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.m[key]
	if g == nil {
		g = &group{b: b, key: key}
		g.entry.group, g.entry.filter = g, filter
		t.m[key] = g
		defer func() { g.entry.ref = b.index.Insert(filter, &g.entry) }()
	}
	sub.share = g
	g.mu.Lock()
	g.enter(&g.online, sub)
	g.mu.Unlock()
}

// leave removes a member. The last one takes the group out of the index.
func (t *groupTable) leave(b *Broker, sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := sub.share
	g.mu.Lock()
	g.exit(sub)
	empty := len(g.online)+len(g.offline) == 0
	g.mu.Unlock()
	if empty {
		delete(t.m, g.key)
		b.index.Remove(g.entry.ref)
	}
}

func (g *group) enter(list *[]*subscription, sub *subscription) {
	sub.slot = len(*list)
	*list = append(*list, sub)
}

func (g *group) exit(sub *subscription) {
	for _, list := range []*[]*subscription{&g.online, &g.offline} {
		l := *list
		if sub.slot < len(l) && l[sub.slot] == sub {
			last := l[len(l)-1]
			l[sub.slot], last.slot = last, sub.slot
			l[len(l)-1] = nil
			*list = l[:len(l)-1]
			return
		}
	}
}

// move notes that a member got or lost its connection.
func (g *group) move(sub *subscription, online bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.exit(sub)
	if online {
		g.enter(&g.online, sub)
	} else {
		g.enter(&g.offline, sub)
	}
}

// find returns the group of a full filter, nil if it has no members.
func (t *groupTable) find(key string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[key]
}

// durable reports whether a member's session is.
func (g *group) durable() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range [][]*subscription{g.online, g.offline} {
		for _, sub := range list {
			if sub.sess.dur != nil && sub.options().qos() > 0 {
				return true
			}
		}
	}
	return false
}

// pick returns the member whose turn it is, the n-th further one when n > 0, or nil when all have been tried.
func (g *group) pick(turn, n int) *subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < len(g.online) {
		return g.online[(turn+n)%len(g.online)]
	}
	if n -= len(g.online); n < len(g.offline) {
		return g.offline[(turn+n)%len(g.offline)]
	}
	return nil
}

// maxPatience is how many members with a full window are passed over before one of them gets the message into its queue.
const maxPatience = 16

// route gives a message to one member and reports whether one took it. Members whose window is open come first, then
// members that queue it. One that may not receive it is passed over.
func (g *group) route(w *worker, m *store.Message) bool {
	g.mu.Lock()
	turn, busy := g.turn, min(len(g.online), maxPatience)
	w.passed = false
	g.turn++
	if g.turn < 0 {
		g.turn = 0
	}
	g.mu.Unlock()
	for n := range busy {
		if sub := g.pick(turn, n); sub != nil && g.give(w, sub, m, false) {
			return true
		}
	}
	for n := 0; ; n++ {
		sub := g.pick(turn, n)
		if sub == nil {
			switch {
			case w.passed:
				w.count(droppedDenied, 1)
			case m.QoS == 0:
				w.count(droppedOffline, 1)
			default:
				w.count(droppedQueue, 1)
			}
			return false
		}
		if g.give(w, sub, m, true) {
			return true
		}
	}
}

func (g *group) give(w *worker, sub *subscription, m *store.Message, wait bool) bool {
	o := sub.options()
	d := delivery{qos: min(m.QoS, o.qos()), retain: m.Retain && o.retainAsPublished(), ids: sub.ids(), share: g, wait: wait}
	return sub.sess.push(w, m, d)
}
