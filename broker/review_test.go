package broker

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// heard is a link that remembers what was written, and whether it was closed.
type heard struct {
	mu     sync.Mutex
	bytes  []byte
	closed bool
}

func (h *heard) Write(p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes = append(h.bytes, p...)
	return nil
}

func (h *heard) Backlog() int { return 0 }

func (h *heard) Close(bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// packets returns the types of what was written.
func (h *heard) packets() (types []mqtt.Type, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for b := h.bytes; len(b) > 0; {
		p, err := mqtt.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		types = append(types, p.Type)
		b = b[p.Size+p.Length:]
	}
	return types, h.closed
}

// reviewed is a broker whose authenticator and judge are a test's.
func reviewed(t testing.TB, a auth.Authenticator, judge func(*auth.Principal) Standing) *Broker {
	t.Helper()
	b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: a, Standing: judge})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	b.Review()
	return b
}

// named makes every client the principal that its client identifier is the name of.
type named struct{ kind string }

func (n named) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	return &auth.Principal{Name: c.ClientID, Method: "certificate", Kind: n.kind, Bound: true, Cert: auth.CertID{Serial: "2a"}}, nil
}

func enter(t testing.TB, b *Broker, l Link, id string, expiry uint32) (*Conn, error) {
	c := b.NewConn(l, auth.Peer{}, Limits{})
	hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id)}
	if expiry > 0 {
		hello.Props.SessionExpiry = expiry
		hello.Props.Set(mqtt.PropSessionExpiry)
	}
	r := once(hello.Append(nil, mqtt.V5))
	return c, c.Open(&r)
}

var revoked = Standing{Refused: mqtt.AdministrativeAction, Text: "revoked"}

// A CONNECT that was judged before a revocation and comes to its session after the review ends all the same, whenever the
// review comes between.
func TestReviewMeetsConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *Broker
		var ban atomic.Bool
		first := true
		b = reviewed(t, named{}, func(p *auth.Principal) Standing {
			switch {
			case p.Name != "late":
			case first: // CONNECT asks; the device is revoked and everything reviewed before it hears the answer
				first = false
				ban.Store(true)
				done := make(chan bool)
				go func() { b.Review(); close(done) }()
				<-done
			case ban.Load():
				return revoked
			}
			return Standing{}
		})
		l := new(heard)
		if _, err := enter(t, b, l, "late", 100); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		types, closed := l.packets()
		if fmt.Sprint(types) != "[CONNACK DISCONNECT]" || !closed {
			t.Errorf("the client heard %v, closed: %v", types, closed)
		}
		if st := b.Stats(); st.Frozen != 1 || st.Online != 0 {
			t.Errorf("%d sessions are frozen and %d online", st.Frozen, st.Online)
		}
	})
}

// A session without a connection is its device's, not a certificate's: it is judged by name and kind, also after a restart.
func TestReviewOfTheAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []auth.Principal
		judge := func(p *auth.Principal) Standing {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, *p)
			if p.Cert.Serial != "" && len(asked) > 1 { // the certificate is revoked, the device is not
				return revoked
			}
			return Standing{}
		}
		st := memory.New()
		o := Options{Store: st, Auth: named{"device"}, Standing: judge}
		b, err := New(Config{SysInterval: -1}, o)
		if err != nil {
			t.Fatal(err)
		}
		l := new(heard)
		if _, err := enter(t, b, l, "pump", 100); err != nil {
			t.Fatal(err)
		}
		want := auth.Principal{Name: "pump", Method: "certificate", Kind: "device", Bound: true}
		check := func(calls int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(asked) != calls || !reflect.DeepEqual(asked[calls-1], want) {
				t.Errorf("asked %d times, the last time about %+v", len(asked), asked[len(asked)-1])
			}
			if n := b.Stats().Frozen; n != 0 {
				t.Errorf("%d sessions are frozen", n)
			}
		}
		b.Review()
		check(3)
		if types, closed := l.packets(); fmt.Sprint(types) != "[CONNACK DISCONNECT]" || !closed {
			t.Errorf("the client heard %v, closed: %v", types, closed)
		}
		b.Review()
		check(4)
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, err = New(Config{SysInterval: -1}, o); err != nil {
			t.Fatal(err)
		}
		defer b.Shutdown(t.Context())
		b.Review()
		check(5)
	})
}

// Until the first review the wills and expiries of an earlier run wait: what is to be frozen is not known before.
func TestRestoredSessionsWaitForReview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		ban := false
		judge := func(p *auth.Principal) Standing {
			if ban && p.Name == "pump" {
				return revoked
			}
			return Standing{}
		}
		o := Options{Store: st, Auth: named{}, Standing: judge}
		start := func() *Broker {
			b, err := New(Config{SysInterval: -1}, o)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := start()
		for _, id := range []string{"pump", "valve"} {
			c := b.NewConn(new(heard), auth.Peer{}, Limits{})
			hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), HasWill: true}
			hello.Will = mqtt.Will{Topic: []byte("will/" + id)}
			hello.Will.Props.WillDelay = 10
			hello.Will.Props.Set(mqtt.PropWillDelay)
			hello.Props.SessionExpiry = 60
			hello.Props.Set(mqtt.PropSessionExpiry)
			r := once(hello.Append(nil, mqtt.V5))
			if err := c.Open(&r); err != nil {
				t.Fatal(err)
			}
			c.Closed(nil)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)

		b = start()
		defer b.Shutdown(t.Context())
		var wills []string
		if _, err := b.Subscribe("will/#", func(m *store.Message) { wills = append(wills, m.Topic) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(wills) > 0 || b.Stats().Sessions != 2 {
			t.Errorf("before a review: wills %v, %d sessions", wills, b.Stats().Sessions)
		}
		ban = true
		b.Review()
		time.Sleep(time.Hour)
		synctest.Wait()
		if fmt.Sprint(wills) != "[will/valve]" || b.Stats().Sessions != 0 || b.Stats().Frozen != 0 {
			t.Errorf("after it: wills %v, %d sessions", wills, b.Stats().Sessions)
		}
	})
}

// Nobody's lock is held while a principal is judged, and one connection that cannot be ended at once delays no other.
func TestReviewIsNotHeldUp(t *testing.T) {
	const clients = 200
	var b *Broker
	var ban atomic.Bool
	b = reviewed(t, named{}, func(p *auth.Principal) Standing {
		if !ban.Load() {
			return Standing{}
		}
		b.Publish(&store.Message{Topic: "t", QoS: 1}) // to all of them
		b.Stats()
		b.Kick("nobody", mqtt.AdministrativeAction, "")
		return revoked
	})
	conns := make([]*Conn, clients)
	for i := range conns {
		var err error
		if conns[i], err = enter(t, b, new(heard), fmt.Sprint(i), 1000); err != nil {
			t.Fatal(err)
		}
		s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("t"), QoS: 1}}}
		if err := conns[i].Data(s.Append(nil, mqtt.V5)); err != nil {
			t.Fatal(err)
		}
		conns[i].Flush()
	}
	for _, i := range []int{3, 70, 71} {
		conns[i].proc.Lock() // a read that takes its time
	}
	ban.Store(true)
	b.Review()
	if n := b.Stats().Frozen; n != clients {
		t.Errorf("%d sessions are frozen when Review returns", n)
	}
	if err := conns[5].Data([]byte{0xc0, 0}); err == nil {
		t.Error("a connection is served after Review")
	}
	online := func(want int) {
		t.Helper()
		eventually(t, func() error {
			if n := b.Stats().Online; n != want {
				return fmt.Errorf("%d connections are left, want %d", n, want)
			}
			return nil
		})
	}
	online(3)
	for _, i := range []int{3, 70, 71} {
		conns[i].proc.Unlock()
	}
	online(0)
}

// Principals are revoked and reinstated while their clients connect, publish and disconnect. In the end everybody who stands
// can connect, nobody else is connected, and the count of frozen sessions is right.
func TestReviewStorm(t *testing.T) {
	const clients = 24
	var banned [clients]atomic.Bool
	index := func(name string) (i int) {
		fmt.Sscan(name, &i)
		return i
	}
	b := reviewed(t, named{}, func(p *auth.Principal) Standing {
		if banned[index(p.Name)].Load() {
			return revoked
		}
		return Standing{}
	})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := range 40 {
				c, err := enter(t, b, new(heard), fmt.Sprint(i), uint32(n%3)*1000)
				if err != nil {
					continue
				}
				s := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("t/#"), QoS: 1}}}
				m := mqtt.Publish{Topic: fmt.Append(nil, "t/", i), QoS: 1, PacketID: 1}
				for _, p := range [][]byte{s.Append(nil, mqtt.V5), m.Append(nil, mqtt.V5)} {
					if err = c.Data(p); err != nil {
						break
					}
					c.Flush()
				}
				if n%4 != 0 || err != nil {
					c.Closed(nil)
				} // else the next one takes over
			}
		})
	}
	wg.Go(func() {
		for n := range 60 {
			banned[n*7%clients].Store(n%2 == 0)
			b.Review()
			if n%10 == 9 {
				b.End(func(p *auth.Principal) bool { return index(p.Name)%12 == n/10 }, nil)
			}
		}
	})
	wg.Wait()
	for i := range clients {
		banned[i].Store(i%2 == 0)
	}
	b.Review()
	eventually(t, func() error {
		frozen := 0
		for _, s := range b.allSessions() {
			s.mu.Lock()
			on, is := s.conn != nil, s.frozen
			s.mu.Unlock()
			if is {
				frozen++
			}
			if bad := index(s.id)%2 == 0; bad && on || is != bad {
				return fmt.Errorf("session %s: online %v, frozen %v", s.id, on, is)
			}
		}
		if n := b.Stats().Frozen; n != frozen {
			return fmt.Errorf("%d sessions are frozen, and %d are counted", frozen, n)
		}
		return nil
	})
	for i := range clients {
		if _, err := enter(t, b, new(heard), fmt.Sprint(i), 0); (err == nil) != (i%2 == 1) {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// A connection is one object of 512 bytes, and one byte more would cost 64.
func TestConnectionSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 512 {
		t.Errorf("a Conn has %d bytes", n)
	}
	if n := unsafe.Sizeof(session{}); n > 416 {
		t.Errorf("a session has %d bytes", n)
	}
}

// A review of 10,000 connected sessions that all stay, and of as many without a connection.
func BenchmarkReview(bm *testing.B) {
	b := reviewed(bm, named{"device"}, func(*auth.Principal) Standing { return Standing{} })
	for i := range 20000 {
		c, err := enter(bm, b, &sink{}, fmt.Sprint(i), uint32(i%2)*1000)
		if err != nil {
			bm.Fatal(err)
		}
		if i%2 == 1 {
			c.Closed(nil)
		}
	}
	for bm.Loop() {
		b.Review()
	}
}

// From the revocation of 10,000 connected devices to the last closed connection.
func BenchmarkRevoke(bm *testing.B) {
	ban := new(atomic.Bool)
	b := reviewed(bm, named{"device"}, func(*auth.Principal) Standing {
		if ban.Load() {
			return revoked
		}
		return Standing{}
	})
	for bm.Loop() {
		bm.StopTimer()
		ban.Store(false)
		for i := range 10000 {
			if _, err := enter(bm, b, &sink{}, fmt.Sprint(i), 1000); err != nil {
				bm.Fatal(err)
			}
		}
		bm.StartTimer()
		ban.Store(true)
		b.Review()
		for b.Stats().Online > 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
}
