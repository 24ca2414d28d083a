package transport

import (
	"crypto/tls"
	"io"
	"sync"
	"testing"
	"time"
)

// Tickets hold for one to two periods, whatever happened in between.
func TestTicketPeriods(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for _, mode := range []ClientCertificates{Required, None} {
			ca := newTestCA(t)
			s := newSwap(ca)
			d := newDoor(t, Config{ClientCertificates: mode}, s)
			keys := d.ln.(*listener).g.tickets
			var clock time.Duration
			start := time.Now()
			keys.now = func() time.Time { return start.Add(clock) }
			// A handshake is over before the clock moves.
			for _, tt := range []struct {
				at     time.Duration
				others bool // someone else connects in between
				want   bool
			}{
				{at: ticketPeriod - time.Second, want: true},
				{at: ticketPeriod, want: true},
				{at: 2*ticketPeriod - time.Second, want: true},
				{at: 2 * ticketPeriod},
				{at: 2*ticketPeriod - time.Second, others: true, want: true},
				{at: 2 * ticketPeriod, others: true},
				{at: 100 * ticketPeriod},
			} {
				clock = 0
				d.ln.ForgetSessions()
				client := ca.clientFor(version, &ca.client)
				d.try(t, client)
				if tt.others {
					clock = ticketPeriod + time.Second
					d.try(t, ca.clientFor(version, &ca.client))
				}
				clock = tt.at
				if resumed, r := d.try(t, client); r.err != nil || resumed != tt.want {
					t.Errorf("%s, after %v: resumed %v, %v", mode, tt.at, resumed, r.err)
				}
				if n := len(keys.keys); n > 2 {
					t.Errorf("%d keys", n)
				}
			}
		}
	})
}

// No ticket survives ForgetSessions; connections do, and those that come have
// sessions again. The CA pool changes meanwhile: its copies of the
// configuration must not keep the old keys.
func TestForgetSessions(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for _, mode := range []ClientCertificates{Required, Optional, None, Any} {
			ca := newTestCA(t)
			s := newSwap(ca)
			d := newDoor(t, Config{ClientCertificates: mode}, s)
			client := ca.clientFor(version, &ca.client)
			d.try(t, client)
			for round := range 3 {
				if resumed, r := d.try(t, client); r.err != nil || !resumed {
					t.Errorf("%s, round %d: resumed %v, %v", mode, round, resumed, r.err)
				}
				if round > 0 {
					s.pool.Store(ca.pool.Clone())
				}
				d.ln.ForgetSessions()
				if resumed, r := d.try(t, client); r.err != nil || resumed {
					t.Errorf("%s, round %d: forgotten, yet resumed %v, %v", mode, round, resumed, r.err)
				}
			}
		}
	})
}

// Listeners do not take each other's tickets.
func TestSessionsPerListener(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		ca := newTestCA(t)
		s := newSwap(ca)
		a, b := newDoor(t, Config{}, s), newDoor(t, Config{}, s)
		client := ca.clientFor(version, &ca.client)
		a.try(t, client)
		if resumed, r := b.try(t, client); r.err != nil || resumed {
			t.Errorf("resumed %v, %v", resumed, r.err)
		}
	})
}

func TestForgetLeavesConnections(t *testing.T) {
	k := kind{driver: testDrivers()[0], tls: tls.VersionTLS13}
	s := startServer(t, k, Config{}, echo)
	c := s.dial()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				s.ln.ForgetSessions()
			}
		})
	}
	for range 20 {
		c.Write([]byte("ping"))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		s.dial().Close()
	}
	wg.Wait()
	c.Close()
	s.stop()
	plain := startServer(t, kind{driver: testDrivers()[0]}, Config{}, echo)
	plain.ln.ForgetSessions()
	plain.stop()
}

func BenchmarkTicketsTurn(b *testing.B) {
	t := &tickets{cfg: new(tls.Config), now: time.Now}
	b.ReportAllocs()
	for b.Loop() {
		t.turn()
	}
}
