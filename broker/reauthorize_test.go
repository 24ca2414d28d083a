package broker

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
	"github.com/sealmq/sealmq/topic"
)

// except is a policy that denies what one filter matches or contains.
type except string

func (e except) May(a auth.Action, name string, _ uint8, _ bool) bool {
	if a == auth.Subscribe {
		return !topic.Contains(string(e), name)
	}
	return !topic.Match(string(e), name)
}

func authorized(t testing.TB, f func(id string, peer *auth.Peer, p *auth.Principal) (auth.Policy, error)) *Broker {
	t.Helper()
	b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: named{}, Authorize: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	b.Reauthorize()
	return b
}

func ask(t testing.TB, c *Conn, filters ...string) {
	t.Helper()
	s := mqtt.Subscribe{PacketID: 1}
	for _, f := range filters {
		s.Filters = append(s.Filters, mqtt.Subscription{Filter: []byte(f), QoS: 1})
	}
	if err := c.Data(s.Append(nil, mqtt.V5)); err != nil {
		t.Fatal(err)
	}
	c.Flush()
}

// A CONNECT that was given its policy before it changed, and comes to its session after everybody has been looked at, has the
// new one all the same.
func TestReauthorizeMeetsConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *Broker
		first := true
		b = authorized(t, func(_ string, peer *auth.Peer, p *auth.Principal) (auth.Policy, error) {
			if first && peer != nil { // the policy changes before CONNECT hears the answer
				first = false
				done := make(chan bool)
				go func() { b.Reauthorize(); close(done) }()
				<-done
				return except("old"), nil
			}
			return except("new"), nil
		})
		c, err := enter(t, b, &sink{}, "late", 100)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.sess.rights.Load().policy; got != except("new") {
			t.Errorf("the client has the policy %q", got)
		}
	})
}

// What sessions from the store still have to publish waits for the first Reauthorize, and is up to their policy then.
func TestRestoredWillsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		authorize := func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) { return except("secret"), nil }
		o := Options{Store: st, Auth: named{}, Authorize: authorize}
		b, err := New(Config{SysInterval: -1}, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"open", "secret"} {
			c := b.NewConn(&sink{}, auth.Peer{}, Limits{})
			p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), HasWill: true}
			p.Props.SessionExpiry = 1000
			p.Props.Set(mqtt.PropSessionExpiry)
			p.Will = mqtt.Will{Topic: []byte("open"), Payload: []byte("x"), Retain: true}
			p.Will.Props.WillDelay = 5
			p.Will.Props.Set(mqtt.PropWillDelay)
			r := once(p.Append(nil, mqtt.V5))
			if err := c.Open(&r); err != nil {
				t.Fatal(err)
			}
			c.will.Topic = []byte(id) // as if the policy had been another one
			c.Closed(nil)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, err = New(Config{SysInterval: -1}, o); err != nil {
			t.Fatal(err)
		}
		defer b.Shutdown(t.Context())
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if n := b.retained.Len(); n != 0 {
			t.Errorf("%d wills were published before anybody has asked", n)
		}
		b.Reauthorize()
		time.Sleep(time.Second)
		synctest.Wait()
		if _, ok := b.retained.Get("open"); !ok || b.retained.Len() != 1 || b.Stats().DroppedDenied != 1 {
			t.Errorf("%d wills were published, %d denied", b.retained.Len(), b.Stats().DroppedDenied)
		}
	})
}

// hesitant is a policy that has something happen while it is asked about a subscription.
type hesitant struct{ before func() }

func (h hesitant) May(a auth.Action, _ string, _ uint8, _ bool) bool {
	if a == auth.Subscribe {
		h.before()
	}
	return true
}

// A SUBSCRIBE that was allowed before the policy changed does not get past the look at the session.
func TestReauthorizeMeetsSubscribe(t *testing.T) {
	var c *Conn
	var b *Broker
	now := atomic.Bool{}
	b = authorized(t, func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) {
		if now.Load() {
			return except("t"), nil
		}
		return hesitant{func() {
			now.Store(true)
			b.authorizations.Add(1)
			b.reauthorize(b.allSessions()) // what Reauthorize does before it withdraws, for which it would wait for this packet
			if lost := c.sess.lost(c.sess.rights.Load()); lost != nil {
				t.Errorf("it had %d already", len(lost))
			}
		}}, nil
	})
	c, err := enter(t, b, &sink{}, "a", 100)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "t")
	if n := len(c.sess.subs); n != 0 {
		t.Errorf("the session has %d subscriptions", n)
	}
	if filters, _ := b.index.Len(); filters != 0 {
		t.Errorf("the index has %d filters", filters)
	}
}

// Clients come, subscribe, publish, go and are taken over while the policy changes over and over. At the end everybody has
// the last one, and nobody a subscription that it does not allow.
func TestReauthorizeStorm(t *testing.T) {
	var inForce atomic.Int64
	b := authorized(t, func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) {
		return except(fmt.Sprint("t/", inForce.Load()%4, "/#")), nil
	})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for r := range 20 {
				c, err := enter(t, b, &sink{}, fmt.Sprint(i/2), 1000) // two fight for a name
				if err != nil {
					continue
				}
				var p []byte
				for k := range 4 {
					s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{
						{Filter: fmt.Appendf(nil, "t/%d/%d", k, r%3), QoS: 1}, {Filter: fmt.Appendf(nil, "$share/g/t/%d/+", k), QoS: 2}}}
					p = s.Append(p, mqtt.V5)
					m := mqtt.Publish{Topic: fmt.Appendf(nil, "t/%d/%d", k, r%3), QoS: 1, PacketID: uint16(k + 1), Payload: []byte("x"), Retain: k == r%4}
					p = m.Append(p, mqtt.V5)
					u := mqtt.Unsubscribe{PacketID: 2, Filters: [][]byte{fmt.Appendf(nil, "t/%d/%d", r%4, r%3)}}
					p = u.Append(p, mqtt.V5)
				}
				if c.Data(p) == nil {
					c.Flush()
				}
				c.Closed(nil)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 20 {
				inForce.Add(1)
				b.Reauthorize()
			}
		})
	}
	wg.Wait()
	b.Reauthorize()
	last := except(fmt.Sprint("t/", inForce.Load()%4, "/#"))
	filters := map[string]bool{}
	for _, s := range b.allSessions() {
		if got := s.rights.Load().policy; got != last {
			t.Errorf("%s has the policy %q, not %q", s.id, got, last)
		}
		if lost := s.lost(s.rights.Load()); len(lost) > 0 {
			t.Errorf("%s still has %q", s.id, lost[0].filter)
		}
		for f := range s.subs {
			_, plain, _, _ := topic.ParseShare(f)
			filters[plain] = true
		}
	}
	if n, _ := b.index.Len(); n != len(filters) {
		t.Errorf("the index has %d filters, the sessions have %d", n, len(filters))
	}
}

// Subscriptions are withdrawn between the packets of their connection, some at a time; messages do not wait for that.
func TestWithdrawInPieces(t *testing.T) {
	const many = 4 * withdrawChunk
	var policy atomic.Value
	policy.Store(except("none"))
	lost := make(chan int, 1)
	b, err := New(Config{SysInterval: -1}, Options{
		Store: memory.New(), Auth: named{},
		Authorize: func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) { return policy.Load().(except), nil },
		Withdrawn: func(_ string, _ *auth.Principal, filters []string) { lost <- len(filters) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	c, err := enter(t, b, &sink{}, "a", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range many {
		ask(t, c, fmt.Sprint("t/", i))
	}
	ask(t, c, "u")
	policy.Store(except("t/#"))
	c.proc.Lock() // a packet is under way: messages reach the session meanwhile
	done := make(chan bool)
	go func() { b.Reauthorize(); close(done) }()
	for deadline := time.Now().Add(time.Minute); c.sess.rights.Load().policy != except("t/#"); {
		if time.Now().After(deadline) {
			t.Fatal("the policy has not changed")
		}
		time.Sleep(time.Millisecond)
	}
	if ok, err := b.Publish(&store.Message{Topic: "u", QoS: 1}); !ok || err != nil {
		t.Errorf("a message is not taken: %v", err)
	}
	if n := len(c.sess.subs); n != many+1 {
		t.Errorf("%d subscriptions while a packet is under way", n)
	}
	c.proc.Unlock()
	<-done
	if n := <-lost; n != many {
		t.Errorf("%d were withdrawn, not %d", n, many)
	}
	if _, ok := c.sess.subs["u"]; !ok || len(c.sess.subs) != 1 {
		t.Errorf("%d are left", len(c.sess.subs))
	}
}

// Denials of one connection are told at most ten times a second, also when many goroutines find them.
func TestDenialsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told, untold atomic.Uint64
		b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: named{}, Denied: func(d Denial) {
			told.Add(1)
			untold.Add(d.Untold)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Shutdown(t.Context())
		r := newRights(&auth.Principal{Policy: nothing{}})
		for range 3 {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 100 {
						b.denied(r, Denial{Topic: "t"}, false)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		b.denied(r, Denial{Topic: "t"}, false)
		if told.Load() != 3*maxTold+1 || untold.Load() != 3*(800-maxTold) {
			t.Errorf("%d told, %d counted", told.Load(), untold.Load())
		}
	})
}

// A publication is decided without an allocation, even if it is denied.
func TestDenialAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := authorized(t, func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) { return except("secret/#"), nil })
	c, err := enter(t, b, &sink{}, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"open", "secret/x"} {
		m := mqtt.Publish{Topic: []byte(name), Payload: make([]byte, 64)}
		packet := m.Append(nil, mqtt.V5)
		if got := testing.AllocsPerRun(200, func() { c.Data(packet); c.Flush() }); got > 0 {
			t.Errorf("%v allocations for a publication to %s", got, name)
		}
	}
}

// All 10,000 sessions, and one with 100,000 subscriptions, none of which is lost.
func BenchmarkReauthorize(bm *testing.B) {
	for _, n := range [][2]int{{10000, 3}, {1, 100000}} {
		bm.Run(fmt.Sprintf("sessions=%d/subscriptions=%d", n[0], n[1]), func(bm *testing.B) {
			b := authorized(bm, func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) { return except("none"), nil })
			for i := range n[0] {
				c, err := enter(bm, b, &sink{}, fmt.Sprint(i), 1000)
				if err != nil {
					bm.Fatal(err)
				}
				var filters []string
				for k := range n[1] {
					filters = append(filters, fmt.Sprint("t/", i, "/", k))
				}
				for some := range slices.Chunk(filters, 100) {
					ask(bm, c, some...)
				}
			}
			bm.ResetTimer()
			for bm.Loop() {
				b.Reauthorize()
			}
		})
	}
}

// hearing is a policy that allows one filter, and all that comes by it.
type hearing string

func (h hearing) May(a auth.Action, name string, _ uint8, _ bool) bool {
	switch a {
	case auth.Subscribe:
		return topic.Contains(string(h), name)
	case auth.Receive:
		return topic.Match(string(h), name)
	}
	return true
}

func (hearing) Hears() bool { return true }

// Deliveries of who hears all are not asked about; a change of the policy ends that until what it does not allow is withdrawn.
func TestHearer(t *testing.T) {
	var allowed atomic.Value
	allowed.Store(hearing("#"))
	st := memory.New()
	b, err := New(Config{SysInterval: -1}, Options{Store: st, Auth: auth.Anonymous{},
		Authorize: func(string, *auth.Peer, *auth.Principal) (auth.Policy, error) { return allowed.Load().(hearing), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	b.Reauthorize()
	c := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, Limits{})
	in := once((&mqtt.Connect{Version: mqtt.V5, ClientID: []byte("x"), CleanStart: true}).Append(nil, mqtt.V5))
	if err := c.Open(&in); err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, "a/#", 0)
	subscribe(t, c, "b/#", 0)
	if !c.sess.rights.Load().hears.Load() {
		t.Error("deliveries are asked about")
	}
	allowed.Store(hearing("a/#"))
	b.Reauthorize()
	if r := c.sess.rights.Load(); !r.hears.Load() || len(c.sess.subs) != 1 {
		t.Errorf("after the change it hears: %v, with %d subscriptions", r.hears.Load(), len(c.sess.subs))
	}
	r := restoredRights(&auth.Principal{Policy: hearing("#")})
	if r.settle(); r.hears.Load() {
		t.Error("a session from the store hears before its client is back")
	}
}
