package broker

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

type peek struct {
	list []store.Session
	subs map[store.SessionID]int
}

func (p *peek) Session(s *store.Session, subs []store.Subscription, r []uint16, q store.QueueState) {
	p.list = append(p.list, *s)
	if p.subs == nil {
		p.subs = map[store.SessionID]int{}
	}
	p.subs[s.ID] = len(subs)
}
func (p *peek) Retained(*store.Message)      {}
func (p *peek) Committed([]*store.Op, error) {}

func on(t *testing.T, st store.Store, cfg Config) *Broker {
	cfg.SysInterval = -1
	b, err := New(cfg, Options{Store: st, Auth: auth.Certificates{}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func connectWill(t *testing.T, b *Broker, id string, clean bool, expiry uint32, will bool) *Conn {
	link := &tape{}
	c := b.NewConn(link, auth.Peer{Anonymous: true}, Limits{})
	p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), CleanStart: clean, HasWill: will}
	if expiry > 0 {
		p.Props.SessionExpiry = expiry
		p.Props.Set(mqtt.PropSessionExpiry)
	}
	if will {
		p.Will = mqtt.Will{Topic: []byte("will"), Payload: []byte(id), Retain: true}
	}
	r := once(p.Append(nil, mqtt.V5))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	return c
}

// A client that is back while the end of its last connection is under way is online in its stored record.
func TestRecordAfterFastReconnect(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprint("clean=", clean), func(t *testing.T) {
			st := memory.New()
			b := on(t, st, Config{})
			c := connectWill(t, b, "s", true, 100, true)
			hold, in := make(chan struct{}), make(chan struct{})
			var once1 sync.Once
			b.testOnlyRetaining = func() { once1.Do(func() { close(in); <-hold }) }
			done := make(chan struct{})
			go func() { c.Closed(nil); close(done) }()
			<-in
			got := make(chan *Conn, 1)
			go func() { got <- connectWill(t, b, "s", clean, 100000, true) }()
			select {
			case <-got:
				t.Log("CONNECT went through while the old connection was ending")
			case <-time.After(500 * time.Millisecond):
				t.Log("CONNECT waits")
			}
			close(hold)
			<-done
			time.Sleep(50 * time.Millisecond)
			st.Close()
			p := &peek{}
			st.Load(p) // what a crash now would leave
			for _, s := range p.list {
				t.Logf("id %d online %v expiry %d expireAt %v will %v", s.ID, s.Online, s.Expiry, s.ExpireAt, s.Will != nil)
			}
			if len(p.list) != 1 || !p.list[0].Online || p.list[0].Will == nil {
				t.Error("the store's record of a connected session is wrong")
			}
		})
	}
}

// Sessions that end as the broker starts do not come back at the next start.
func TestLoadOrder(t *testing.T) {
	st := memory.New()
	b := on(t, st, Config{DurableWills: true})
	for i := range 3000 {
		connectWill(t, b, fmt.Sprint("s", i), true, 0, true)
	}
	st.Close()
	_ = b // crash
	b2 := on(t, st, Config{DurableWills: true})
	for range 200 {
		time.Sleep(10 * time.Millisecond)
		if b2.Stats().Sessions == 0 {
			break
		}
	}
	time.Sleep(100 * time.Millisecond)
	st.Close()
	p := &peek{}
	st.Load(p)
	wills := 0
	for _, s := range p.list {
		if s.Will != nil {
			wills++
		}
	}
	if len(p.list) > 0 {
		t.Errorf("%d ended sessions in the store, %d of them with wills that were published", len(p.list), wills)
	}
}

// The number of a session is not given again, also when the session and the broker have ended.
func TestSessionIDs(t *testing.T) {
	st := memory.New()
	b := on(t, st, Config{})
	c := connectWill(t, b, "s", true, 100, false)
	first := c.sess.dur.id
	p := mqtt.Disconnect{}
	p.Props.SessionExpiry = 0
	p.Props.Set(mqtt.PropSessionExpiry)
	c.Data(p.Append(nil, mqtt.V5))
	c.Flush()
	st.Close()
	b2 := on(t, st, Config{})
	c2 := connectWill(t, b2, "other", true, 100, false)
	if c2.sess.dur.id == first {
		t.Errorf("session identifier %d was given again", first)
	}
}

// A packet identifier in use is not given again after a jump of positions.
func TestIdentifierAfterJump(t *testing.T) {
	var f inflight
	m := store.NewMessage("t", nil, nil)
	for pos := uint64(1); pos <= 100; pos++ {
		f.addAs(flight{m: m, qos: 2, state: published, sent: true, place: &store.Placement{Pos: pos}}, packetID(pos))
	}
	f.finish(0)
	pos := uint64(65535 + 50)
	if f.usable(pos) {
		f.addAs(flight{m: m, qos: 2, state: published, sent: true}, packetID(pos))
		n := 0
		for i := range f.len() {
			if f.id(i) == packetID(pos) && f.at(i).state != done {
				n++
			}
		}
		t.Errorf("identifier %d is in use %d times", packetID(pos), n)
	}
}

// The same through the broker, with a slow client and a queue that drops the oldest.
func TestIdentifierDropOldest(t *testing.T) {
	st := memory.New()
	b := on(t, st, Config{Limits: Limits{DropOldest: true, MaxQueued: 100, MaxInflight: 200}})
	link := &tape{}
	s := b.NewConn(link, auth.Peer{Anonymous: true}, Limits{})
	p := mqtt.Connect{Version: mqtt.V311, ClientID: []byte("s")}
	r := once(p.Append(nil, mqtt.V311))
	if err := s.Open(&r); err != nil {
		t.Fatal(err)
	}
	subscribe(t, s, "t", 1)
	pub, _ := hello(t, b, "p", true, Limits{})
	m := mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 1, Payload: []byte("x")}
	raw := m.Append(nil, mqtt.V311)
	for range 65700 {
		data(t, pub, raw)
	}
	st.Close()
	// the client acknowledges its first messages
	for id := 1; id <= 3; id++ {
		a := mqtt.Ack{Type: mqtt.PUBACK, PacketID: uint16(id)}
		data(t, s, a.Append(nil, mqtt.V311))
	}
	st.Close()
	time.Sleep(300 * time.Millisecond)
	s.sess.mu.Lock()
	defer s.sess.mu.Unlock()
	seen := map[uint16]int{}
	f := &s.sess.inflight
	for i := range f.len() {
		if f.at(i).state != done {
			seen[f.id(i)]++
		}
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("identifier %d is under way %d times", id, n)
		}
	}
	t.Log(len(seen), "under way; next", s.sess.dur.next, "tail", s.sess.dur.tail)
}

// R: retained lists held while the SUBACK waits.
type slowStore struct {
	store.Store
	mu   sync.Mutex
	held []*store.Op
	on   bool
}

func (s *slowStore) Submit(ops ...*store.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on {
		s.held = append(s.held, ops...)
		return
	}
	s.Store.Submit(ops...)
}

// Subscribing again and again while SUBACK waits for the disk holds one list of retained messages.
func TestReplaysHeld(t *testing.T) {
	st := &slowStore{Store: memory.New()}
	b := on(t, st, Config{})
	pub, _ := hello(t, b, "p", true, Limits{})
	for i := range 1000 {
		m := mqtt.Publish{Topic: []byte(fmt.Sprint("r/", i)), Retain: true, Payload: []byte("x")}
		data(t, pub, m.Append(nil, mqtt.V311))
	}
	c, _ := hello(t, b, "s", false, Limits{})
	st.mu.Lock()
	st.on = true
	st.mu.Unlock()
	for range 100 {
		subscribe(t, c, "#", 0)
	}
	n := 0
	for _, a := range c.answers {
		for _, r := range a.replays {
			n += len(r.list)
		}
	}
	if n > 1000 {
		t.Errorf("%d retained messages listed for one subscription", n)
	}
}

// A delayed will that the policy refused is not published after a restart.
func TestDeniedWillAfterRestart(t *testing.T) {
	st := memory.New()
	b := on(t, st, Config{})
	link := &tape{}
	c := b.NewConn(link, auth.Peer{Anonymous: true}, Limits{})
	p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("w"), HasWill: true}
	p.Props.SessionExpiry = 100
	p.Props.Set(mqtt.PropSessionExpiry)
	p.Will = mqtt.Will{Topic: []byte("will"), Payload: []byte("x"), Retain: true}
	p.Will.Props.WillDelay = 1
	p.Will.Props.Set(mqtt.PropWillDelay)
	r := once(p.Append(nil, mqtt.V5))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	c.Closed(nil)
	s := c.sess
	s.mu.Lock()
	s.rights.Store(newRights(&auth.Principal{Policy: switchable(false)}))
	s.willAt = 1
	s.mu.Unlock()
	s.onTimer()
	if _, ok := b.retained.Get("will"); ok {
		t.Fatal("published")
	}
	st.Close()
	time.Sleep(1100 * time.Millisecond)
	b2 := on(t, st, Config{})
	time.Sleep(200 * time.Millisecond)
	if _, ok := b2.retained.Get("will"); ok {
		t.Error("a will that was refused has been published after the restart")
	}
}

// A packet identifier that is forgotten for others is forgotten by the store too.
func TestForgottenIDsDoNotComeBack(t *testing.T) {
	kept := memory.New()
	start := func() *Broker {
		b, err := New(Config{SysInterval: -1}, Options{Store: kept, Auth: auth.Certificates{}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start()
	lim := Limits{MaxInflight: 2, ReceiveMaximum: 1}
	for _, ids := range [][]uint16{{1, 2}, {3}} {
		c, _ := hello(t, b, "one", false, lim)
		for _, id := range ids {
			data(t, c, (&mqtt.Publish{QoS: 2, PacketID: id, Topic: []byte("t")}).Append(nil, mqtt.V311))
		}
		c.Closed(nil)
	}
	b.Shutdown(t.Context())
	b = start()
	defer b.Shutdown(t.Context())
	if got := b.shard("one").m["one"].received2; !maps.Equal(got, map[uint16]uint32{3: 0}) {
		t.Errorf("the store has %v, want 3 alone", got)
	}
}
