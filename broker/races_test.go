package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// hello opens a connection of a version 3.1.1 client and returns its CONNACK's session present flag.
func hello(t testing.TB, b *Broker, id string, clean bool, lim Limits) (*Conn, bool) {
	t.Helper()
	link := &tape{}
	c := b.NewConn(link, auth.Peer{Anonymous: true}, lim)
	p := mqtt.Connect{Version: mqtt.V311, ClientID: []byte(id), CleanStart: clean}
	r := once(p.Append(nil, mqtt.V311))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	if len(link.text()) < 4 || link.text()[0] != byte(mqtt.CONNACK)<<4 {
		t.Fatalf("no CONNACK: % x", link.text())
	}
	return c, link.text()[2] == 1
}

// tape is a link that keeps what is written.
type tape struct {
	mu      sync.Mutex
	kept    []byte
	waiting int
}

func (l *tape) Write(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	return nil
}

func (l *tape) Backlog() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

func (l *tape) Close(bool) {}

func (l *tape) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// clear forgets what was written and sets the backlog.
func (l *tape) clear(backlog int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept, l.waiting = nil, backlog
}

func (l *tape) setBacklog(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = n
}

func data(t testing.TB, c *Conn, packet []byte) {
	t.Helper()
	if err := c.Data(packet); err != nil {
		t.Fatal(err)
	}
	c.Flush()
}

func subscribe(t testing.TB, c *Conn, filter string, qos uint8) {
	t.Helper()
	p := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte(filter), QoS: qos}}}
	data(t, c, p.Append(nil, c.version))
}

// clauses: MQTT5 [MQTT-3.1.2-4] [MQTT-3.2.2-2] MQTT311 [MQTT-3.1.2-6] [MQTT-3.2.2-1]
// A clean start ends the old session; another client takes the identifier while the old one's will is on its way. The
// clean start must not resume the session of that one.
func TestCleanStartOverAFasterConnection(t *testing.T) {
	b := benchBroker(t)
	first := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, Limits{})
	p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("one"), HasWill: true}
	p.Props.SessionExpiry = 3600
	p.Props.Set(mqtt.PropSessionExpiry)
	p.Will = mqtt.Will{Topic: []byte("will"), Payload: []byte("x")}
	p.Will.Props.WillDelay = 3600
	p.Will.Props.Set(mqtt.PropWillDelay)
	r := once(p.Append(nil, mqtt.V5))
	if err := first.Open(&r); err != nil {
		t.Fatal(err)
	}
	first.Closed(nil)

	var faster *Conn
	cancel, err := b.Subscribe("will", func(*store.Message) {
		faster, _ = hello(t, b, "one", false, Limits{})
		subscribe(t, faster, "of/the/other", 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	c, present := hello(t, b, "one", true, Limits{})
	if faster == nil {
		t.Fatal("the will was not published")
	}
	if present || len(c.sess.subs) != 0 {
		t.Errorf("session present %v with %d subscriptions after a clean start", present, len(c.sess.subs))
	}
	if !faster.gone {
		t.Error("the faster connection was not taken over")
	}
}

// A session whose expiry runs out while a CONNECT has claimed it does not end under that connection.
func TestExpiryDuringConnect(t *testing.T) {
	b := benchBroker(t)
	c, _ := hello(t, b, "one", false, Limits{})
	s := c.sess
	c.Closed(nil)
	s.mu.Lock()
	s.expireAt = 1
	s.mu.Unlock()
	s.claim.Lock() // as CONNECT holds it up to CONNACK
	done := make(chan struct{})
	go func() {
		s.onTimer()
		close(done)
	}()
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-done:
		t.Error("the session ended while a CONNECT held it")
	default:
	}
	s.claim.Unlock()
	<-done
	if b.Stats().Sessions != 0 {
		t.Error("the session did not end after that")
	}
}

// The end of an embedding program's subscription may be asked for twice; it takes nobody else's place.
func TestLocalSubscriptionCancelledTwice(t *testing.T) {
	b := benchBroker(t)
	got := 0
	_, err := b.Subscribe("a/b", func(*store.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	cancel, err := b.Subscribe("a/b", func(*store.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Subscribe("a/b", func(*store.Message) { got++ }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Publish(&store.Message{Topic: "a/b"}); err != nil || got != 1 {
		t.Errorf("the other subscription got %d messages, want 1 (%v)", got, err)
	}
	if st := b.Stats(); st.Subscriptions != 2 {
		t.Errorf("%d subscriptions, want 2", st.Subscriptions)
	}
}

// Connections that come and go share one keep-alive timer.
func TestOneKeepAliveTimer(t *testing.T) {
	b := benchBroker(t)
	var c Conn
	b.wheel.add(&c, time.Hour, time.Time{})
	first := b.wheel.timer
	b.wheel.remove(&c)
	b.wheel.add(&c, time.Hour, time.Time{})
	if b.wheel.timer != first {
		t.Error("a second timer was started beside the first")
	}
	b.wheel.remove(&c)
	b.wheel.tick()
	if b.wheel.timer != nil {
		t.Error("the timer goes on with nothing to watch")
	}
}

// A session without connection keeps to the limits of the listener on which it was.
func TestOfflineQueueHasTheListenersLimits(t *testing.T) {
	b := benchBroker(t)
	c, _ := hello(t, b, "one", false, Limits{MaxQueued: 2})
	subscribe(t, c, "a", 1)
	s := c.sess
	c.Closed(nil)
	for range 5 {
		if _, err := b.Publish(&store.Message{Topic: "a", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := s.queued(); n != 2 {
		t.Errorf("%d messages wait, want 2", n)
	}
	if n := b.Stats().DroppedQueue; n != 3 {
		t.Errorf("%d counted as dropped, want 3", n)
	}
}

// A client that subscribes again and again and reads nothing gets one replay of retained messages, not one for each.
func TestOneReplayForASubscription(t *testing.T) {
	const size = 1 << 10 // all together are more than replayBytes and less than flushQuantum
	b := benchBroker(t)
	for i := range 100 {
		m := &store.Message{Topic: fmt.Sprint("r/", i), Payload: make([]byte, size), Retain: true}
		if _, err := b.Publish(m); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := hello(t, b, "one", true, Limits{})
	link := c.link.(*tape)
	link.setBacklog(1) // from here on the client does not read
	same := mqtt.Subscription{Filter: []byte("r/#")}
	p := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{same, same}}
	for range 5 {
		data(t, c, p.Append(nil, mqtt.V311))
	}
	if n := len(c.sess.replays); n != 1 {
		t.Fatalf("%d replays wait, want 1", n)
	}
	link.clear(0)
	c.Writable()
	if n := len(c.sess.replays); n != 0 {
		t.Errorf("%d replays wait after the client has read", n)
	}
	// Each begun replay sent what fits the outbox; the last one sent everything, twice.
	if got := len(link.text()); got < 200*size || got > 350*size {
		t.Errorf("%d bytes of retained messages, want %d to %d", got, 200*size, 350*size)
	}
	subscribe(t, c, "r/#", 0)
	if n := len(link.text()); n < 300*size {
		t.Errorf("subscribing again sent %d bytes in all", n)
	}
}

// clauses: MQTT5 [MQTT-3.3.1-9] MQTT311 [MQTT-3.3.1-6]
// Whoever subscribes while a message is being retained gets it, as a live one or as a retained one.
func TestSubscribeWhileRetaining(t *testing.T) {
	b := benchBroker(t)
	c, _ := hello(t, b, "one", true, Limits{})
	b.testOnlyRetaining = func() { subscribe(t, c, "a", 0) }
	if _, err := b.Publish(&store.Message{Topic: "a", Payload: []byte("PAYLOAD"), Retain: true}); err != nil {
		t.Fatal(err)
	}
	if text := c.link.(*tape).text(); !bytes.Contains(text, []byte("PAYLOAD")) {
		t.Errorf("the subscriber got % x", text)
	}
}

// A message that expires before the last flush of a connection has not been sent: the next connection does not get it as
// a repetition.
func TestExpiredInTheLastFlush(t *testing.T) {
	b := benchBroker(t)
	c, _ := hello(t, b, "one", false, Limits{})
	subscribe(t, c, "a", 1)
	c.link.(*tape).setBacklog(1)
	pub := benchConn(t, b, "p", mqtt.V5, "", 0)
	m := mqtt.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1}
	m.Props.MessageExpiry = 1
	m.Props.Set(mqtt.PropMessageExpiry)
	data(t, pub, m.Append(nil, mqtt.V5))
	c.sess.mu.Lock()
	c.sess.inflight.at(0).m.Expires = 1 // long ago
	c.sess.mu.Unlock()
	if !b.Kick("one", mqtt.AdministrativeAction, "") {
		t.Fatal("not connected")
	}
	c, _ = hello(t, b, "one", false, Limits{})
	if text := c.link.(*tape).text(); len(text) != 4 {
		t.Errorf("more than a CONNACK: % x", text)
	}
	if n := b.Stats().DroppedExpired; n != 1 {
		t.Errorf("%d expired, want 1", n)
	}
}

// A message that no member of a shared subscription takes is counted as one.
func TestSharedDropIsCountedOnce(t *testing.T) {
	b := benchBroker(t)
	for i := range 5 {
		c, _ := hello(t, b, fmt.Sprint("m", i), false, Limits{MaxQueued: -1})
		subscribe(t, c, "$share/g/a", 1)
		c.Closed(nil)
	}
	for qos := range uint8(2) {
		if _, err := b.Publish(&store.Message{Topic: "a", QoS: qos}); err != nil {
			t.Fatal(err)
		}
	}
	if st := b.Stats(); st.DroppedOffline != 1 || st.DroppedQueue != 1 {
		t.Errorf("counted %d with QoS 0 and %d with QoS 1, want 1 and 1", st.DroppedOffline, st.DroppedQueue)
	}
}

// clauses: MQTT5 [MQTT-2.2.1-4] MQTT311 [MQTT-2.3.1-4]
// A client with the largest window that acknowledges only the last message it got never sees an identifier again that is
// in use.
func TestIdentifiersWithALargeWindow(t *testing.T) {
	var f inflight
	m := &store.Message{}
	used := map[uint16]bool{}
	add := func() uint16 {
		id := f.add(flight{m: m, qos: 1, state: published, sent: true})
		if used[id] {
			t.Fatalf("identifier %d is given out while it is in use, %d are", id, len(used))
		}
		used[id] = true
		return id
	}
	for f.room(maxIDs, 1<<40) {
		add()
	}
	if len(used) < 10_000 {
		t.Errorf("only %d messages may be under way", len(used))
	}
	ack := func(id uint16) {
		i := f.find(id)
		if i < 0 {
			t.Fatalf("identifier %d is not found", id)
		}
		f.finish(i)
		delete(used, id)
	}
	ack(f.id(f.len() - 1))
	for range maxIDs - maxActive + 1000 {
		ack(add())
	}
}

// A will is held against the policy once more when it is due.
func TestWillForbiddenMeanwhile(t *testing.T) {
	b := benchBroker(t)
	got := 0
	if _, err := b.Subscribe("will", func(*store.Message) { got++ }); err != nil {
		t.Fatal(err)
	}
	for _, allowed := range []switchable{true, false} {
		c := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, Limits{})
		p := mqtt.Connect{Version: mqtt.V311, ClientID: []byte("one"), CleanStart: true, HasWill: true}
		p.Will = mqtt.Will{Topic: []byte("will")}
		r := once(p.Append(nil, mqtt.V311))
		if err := c.Open(&r); err != nil {
			t.Fatal(err)
		}
		c.sess.rights.Store(newRights(&auth.Principal{Policy: allowed}))
		c.Closed(nil)
	}
	if got != 1 || b.Stats().DroppedDenied != 1 {
		t.Errorf("%d wills published and %d refused, want one each", got, b.Stats().DroppedDenied)
	}
}

// switchable is a policy that allows everything or nothing.
type switchable bool

func (s switchable) May(auth.Action, string, uint8, bool) bool { return bool(s) }

// What a CONNECT takes counts against the budget of those not accepted as long as its authentication goes on.
func TestMemoryOfAnExchange(t *testing.T) {
	const user = 60_000
	x := &exchange{}
	b, err := New(Config{}, Options{Store: memory.New(), Auth: x})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	p := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("one"), CleanStart: true, HasUsername: true, Username: make([]byte, user)}
	for i := range p.Username {
		p.Username[i] = 'u'
	}
	a := mqtt.Auth{Code: mqtt.ContinueAuthentication}
	for _, q := range []*mqtt.Properties{&p.Props, &a.Props} {
		q.AuthMethod = []byte("m")
		q.Set(mqtt.PropAuthMethod)
	}
	a.Props.AuthData = make([]byte, 5000)
	a.Props.Set(mqtt.PropAuthData)
	x.step = func(data []byte) *auth.Principal {
		if len(data) == 0 {
			return nil
		}
		if n := b.Stats().PreAuthBytes; n < user+5000-preAuthFree {
			t.Errorf("%d bytes counted, want at least %d", n, user+5000-preAuthFree)
		}
		return &auth.Principal{}
	}
	c := b.NewConn(&sink{}, auth.Peer{}, Limits{})
	first, second := once(p.Append(nil, mqtt.V5)), once(a.Append(nil, mqtt.V5))
	if err := c.Open(io.MultiReader(&ended{first}, &ended{second})); err != nil {
		t.Fatal(err)
	}
	if n := b.Stats().PreAuthBytes; n != 0 {
		t.Errorf("%d bytes counted after CONNACK", n)
	}
}

// ended is a once that ends in order.
type ended struct{ once }

func (e *ended) Read(p []byte) (int, error) {
	if len(e.once) == 0 {
		return 0, io.EOF
	}
	return e.once.Read(p)
}

// exchange is an authenticator and its own exchange.
type exchange struct {
	step func(data []byte) *auth.Principal
}

func (x *exchange) Authenticate(context.Context, *auth.Credentials) (*auth.Principal, error) {
	return nil, errors.New("by exchange only")
}
func (x *exchange) Exchange(string, *auth.Credentials) auth.Exchange { return x }
func (x *exchange) Next(_ context.Context, data []byte) ([]byte, *auth.Principal, error) {
	return nil, x.step(data), nil
}
