package broker

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/memory"
)

// The number under which a principal's retained messages are stored must not change.
func TestOwnerStays(t *testing.T) {
	for p, want := range map[*auth.Principal]uint64{
		{Method: "certificate", Kind: "device", Name: "pump-17"}: 0xa057b50ef0a097cb,
		{Method: "password", Kind: "", Name: "alice"}:            0x63e9f12b77caaa04,
		{Method: "anonymous", Kind: "", Name: ""}:                0xe9b5f04e1170f6f4,
	} {
		if got := ownerOf(p); got != want {
			t.Errorf("%+v: %d, want %d", p, got, want)
		}
	}
}

// What is counted is what is there, however many clients publish to the same topics, and no bound is passed.
func TestQuotasUnderLoad(t *testing.T) {
	const most, clients, rounds = 40, 6, 400
	b := benchBroker(t)
	b.cfg.MaxRetained = 60
	lim := Limits{MaxRetainedPerPrincipal: most, MaxSessionsPerPrincipal: 3}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			p := &auth.Principal{Name: fmt.Sprint("p", i%2), Method: "test"}
			c := b.NewConn(&sink{}, auth.Peer{Anonymous: true}, lim)
			hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(fmt.Sprint(i)), CleanStart: true}
			r := once(hello.Append(nil, mqtt.V5))
			if err := c.Open(&r); err != nil {
				t.Error(err)
				return
			}
			c.sess.mu.Lock()
			b.uses.hand(c.sess.rights.Load().owner, ownerOf(p))
			c.sess.rights.Store(newRights(p))
			c.sess.mu.Unlock()
			for n := range rounds {
				m := mqtt.Publish{Topic: fmt.Append(nil, "t/", (n*7+i*13)%97), Retain: true}
				if n%3 > 0 {
					m.Payload = bytes.Repeat([]byte("x"), n%50)
				}
				if err := c.Data(m.Append(nil, mqtt.V5)); err != nil {
					t.Error(err)
				}
				c.Flush()
				if n := b.Stats().Retained; n > 60 {
					t.Errorf("%d retained messages", n)
				}
			}
			if i%2 == 0 {
				c.Closed(nil)
			}
		})
	}
	wg.Wait()
	want := make(map[uint64]use)
	total := use{}
	add := func(owner uint64, n use) {
		u := want[owner]
		want[owner] = use{u.sessions + n.sessions, u.retained + n.retained, u.bytes + n.bytes}
		total = use{total.sessions + n.sessions, total.retained + n.retained, total.bytes + n.bytes}
	}
	b.retained.Match("#", func(_ string, m *store.Message) bool {
		n, owner := retainedUse(m)
		add(owner, n)
		return true
	})
	for _, s := range b.allSessions() {
		add(s.rights.Load().owner, use{sessions: 1})
	}
	got := make(map[uint64]use)
	for i := range b.uses.shards {
		for owner, n := range b.uses.shards[i].m {
			got[owner] = n
			if n.retained > most {
				t.Errorf("%d messages of one principal", n.retained)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, there are %v", got, want)
	}
	if sum := (use{b.uses.sessions.Load(), b.uses.retained.Load(), b.uses.bytes.Load()}); sum != total {
		t.Errorf("counted %v in all, there are %v", sum, total)
	}
	if st := b.Stats(); st.Limited.Retained == 0 || st.RetainedBytes != total.bytes {
		t.Errorf("%+v", st)
	}
}

// Whose a retained message is, is known after a restart from the disk, too.
func TestQuotasAfterRestart(t *testing.T) {
	dir := t.TempDir() + "/store"
	lim := Limits{MaxRetainedPerPrincipal: 2}
	start := func() (*Broker, store.Store) {
		st, err := disk.Open(dir, disk.Config{MinFree: -1}, disk.Options{Fatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(Config{SysInterval: -1}, Options{Store: st, Auth: named{"device"}, Recovered: lim})
		if err != nil {
			t.Fatal(err)
		}
		return b, st
	}
	b, st := start()
	publish := func(id string, n int) {
		t.Helper()
		c := b.NewConn(&sink{}, auth.Peer{}, lim)
		hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), CleanStart: true}
		r := once(hello.Append(nil, mqtt.V5))
		if err := c.Open(&r); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			m := mqtt.Publish{Topic: fmt.Append(nil, id, "/", i), Retain: true, Payload: []byte("x")}
			data(t, c, m.Append(nil, mqtt.V5))
		}
		c.Closed(nil)
	}
	publish("pump", 3)
	for range 2 {
		if st := b.Stats(); st.Retained != 2 || st.Limited.Retained != 1 {
			t.Fatalf("%+v", st)
		}
		if err := errors.Join(b.Shutdown(t.Context()), st.Close()); err != nil {
			t.Fatal(err)
		}
		b, st = start()
		publish("pump", 3)
	}
	publish("valve", 1)
	if n := b.Stats().Retained; n != 3 {
		t.Errorf("%d retained messages, want those of pump and one of valve", n)
	}
	if err := errors.Join(b.Shutdown(t.Context()), st.Close()); err != nil {
		t.Fatal(err)
	}
}

// Only who has no identity is turned away by the first level.
func TestShedAnonymous(t *testing.T) {
	b := benchBroker(t)
	early := benchConn(t, b, "early", mqtt.V5, "a", 0)
	b.Shed(1)
	for v, want := range map[mqtt.Version]byte{mqtt.V311: 3, mqtt.V5: byte(mqtt.ServerBusy)} {
		l := &recorder{}
		c := b.NewConn(l, auth.Peer{Anonymous: true}, Limits{})
		hello := mqtt.Connect{Version: v, ClientID: []byte("late"), CleanStart: true}
		r := once(hello.Append(nil, v))
		var no *mqtt.Error
		if err := c.Open(&r); !errors.As(err, &no) || no.Code != mqtt.ServerBusy {
			t.Errorf("%v: %v", v, err)
		}
		if p := l.b.Bytes(); len(p) < 4 || p[3] != want {
			t.Errorf("%v: answered % x", v, p)
		}
	}
	if early.gone || b.Stats().Limited.ShedConnects != 2 {
		t.Errorf("%+v", b.Stats())
	}
	b.Shed(-1)
	benchConn(t, b, "late", mqtt.V5, "a", 0)

	b, err := New(Config{SysInterval: -1}, Options{Store: memory.New(), Auth: named{"device"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Shed(1)
	benchConn(t, b, "device", mqtt.V5, "a", 0)
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

type recorder struct{ b bytes.Buffer }

func (r *recorder) Write(p []byte) error { r.b.Write(p); return nil }
func (r *recorder) Backlog() int         { return 0 }
func (r *recorder) Close(bool)           {}

// A link that cannot stop to read is closed when its client is too fast.
func TestRateWithoutPause(t *testing.T) {
	b := benchBroker(t)
	l := &recorder{}
	c := b.NewConn(l, auth.Peer{Anonymous: true}, Limits{MaxPublishRate: 1, PublishBurst: time.Hour})
	hello := mqtt.Connect{Version: mqtt.V5, ClientID: []byte("p"), CleanStart: true}
	r := once(hello.Append(nil, mqtt.V5))
	if err := c.Open(&r); err != nil {
		t.Fatal(err)
	}
	m := mqtt.Publish{Topic: []byte("t")}
	packet := m.Append(nil, mqtt.V5)
	if err := c.Data(bytes.Repeat(packet, 3600)); err != nil {
		t.Fatalf("an hour's worth: %v", err)
	}
	c.Flush()
	l.b.Reset()
	if err := c.Data(bytes.Repeat(packet, 10)); err == nil {
		t.Fatal("ten more were taken")
	}
	c.Flush()
	if p := l.b.Bytes(); len(p) < 3 || p[0] != 0xE0 || p[2] != byte(mqtt.MessageRateTooHigh) {
		t.Errorf("ended with % x", p)
	}
}

// Lines of one kind about one client come once a minute, and the table stays small whoever comes.
func TestHush(t *testing.T) {
	var h hush
	allow := func(now time.Duration, what, who string, omitted uint64, ok bool) {
		t.Helper()
		if n, got := h.allow(now, what, who); n != omitted || got != ok {
			t.Errorf("%v %s %s: %d %v", now, what, who, n, got)
		}
	}
	allow(0, "a", "x", 0, true)
	allow(1, "a", "x", 0, false)
	allow(1, "b", "x", 0, true)
	allow(1, "a", "y", 0, true)
	allow(hushTime-1, "a", "x", 0, false)
	allow(hushTime, "a", "x", 2, true)
	allow(hushTime, "a", "x", 0, false)
	lines := 0
	for i := range 10 * maxHushed {
		if _, ok := h.allow(hushTime+time.Duration(i), "a", fmt.Sprint(i)); ok {
			lines++
		}
	}
	if lines > maxHushed || len(h.m) > maxHushed+2 {
		t.Errorf("%d lines, %d entries", lines, len(h.m))
	}
	later := 3 * hushTime
	allow(later, "a", "new", 0, true)
	if len(h.m) > 1 {
		t.Errorf("%d entries of long ago", len(h.m)-1)
	}
}
