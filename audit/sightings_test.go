package audit

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"
)

// watched is a Sightings with a clock of its own, and a certificate for each device.
type watched struct {
	*Sightings
	clock time.Time
	leaf  *x509.Certificate
}

func watch(t testing.TB) *watched {
	w := &watched{clock: now, leaf: authority(t, "device CA", 0, year, nil)}
	w.Sightings = NewSightings(func() time.Time { return w.clock })
	return w
}

func (w *watched) connect(after time.Duration, id string, serial int64, host string) {
	w.clock = w.clock.Add(after)
	leaf := *w.leaf
	leaf.SerialNumber = big.NewInt(serial)
	w.Accepted(id, "pump-17", host+":40000", &leaf)
}

func TestSightings(t *testing.T) {
	for _, tt := range []struct {
		name      string
		do        func(w *watched)
		shared    bool
		takeovers int
	}{
		{name: "one that reconnects", do: func(w *watched) {
			for range 50 {
				w.connect(time.Second, "pump-17", 1, "192.0.2.1")
			}
		}},
		{name: "one that travels", do: func(w *watched) {
			for i := range 50 {
				w.connect(time.Second, "pump-17", 1, fmt.Sprint("192.0.2.", i))
			}
		}},
		{name: "one that is at home and at work", do: func(w *watched) {
			for i := range 50 {
				w.connect(6*time.Minute, "pump-17", 1, fmt.Sprint("192.0.2.", i%2))
			}
		}},
		{name: "a double", shared: true, takeovers: 18, do: func(w *watched) {
			for i := range 20 {
				w.connect(10*time.Second, "pump-17", 1, fmt.Sprint("192.0.2.", i%2))
			}
		}},
		{name: "a double with another client identifier", shared: true, do: func(w *watched) {
			for i := range 20 {
				w.connect(10*time.Second, fmt.Sprint("pump-17/", i%2), 1, fmt.Sprint("192.0.2.", i%2))
			}
		}},
		{name: "two devices, one identifier, one address", takeovers: 18, do: func(w *watched) {
			for i := range 20 {
				w.connect(10*time.Second, "pump", int64(1+i%2), "192.0.2.1")
			}
		}},
		{name: "a few times, and again hours later", do: func(w *watched) {
			for range 10 {
				for i := range 6 {
					w.connect(time.Second, "pump-17", 1, fmt.Sprint("192.0.2.", i%2))
				}
				w.clock = w.clock.Add(2 * time.Hour)
			}
			w.clock = w.clock.Add(-2 * time.Hour)
		}, takeovers: 4},
		{name: "a double of yesterday", do: func(w *watched) {
			for i := range 20 {
				w.connect(10*time.Second, "pump-17", 1, fmt.Sprint("192.0.2.", i%2))
			}
			w.clock = w.clock.Add(stale)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watch(t)
			tt.do(w)
			var b Broker
			w.Fill(&b)
			if (len(b.SeenFrom) > 0) != tt.shared {
				t.Errorf("%+v", b.SeenFrom)
			}
			if tt.shared && (len(b.SeenFrom) != 1 || b.SeenFrom[0].Serial != "01" || b.SeenFrom[0].Device != "pump-17" || len(b.SeenFrom[0].Addresses) != 2) {
				t.Errorf("%+v", b.SeenFrom)
			}
			times := 0
			for _, o := range b.Takeovers {
				times += o.Times
			}
			if times != tt.takeovers {
				t.Errorf("%+v", b.Takeovers)
			}
			for k := range b.Keys {
				if k.Kind != "ECDSA P-256" || k.Device != "pump-17" {
					t.Errorf("%+v", k)
				}
			}
			// What is gathered leads to findings, or to none.
			checks := make(map[Check]bool)
			for _, f := range Judge(Snapshot{Now: now, Broker: &b}) {
				checks[f.Check] = true
			}
			if checks[DeviceShared] != tt.shared || checks[ClientIDs] != (tt.takeovers >= manyTakeovers) {
				t.Errorf("%v", checks)
			}
		})
	}
}

// However many clients come, memory is bounded, and those that came last are there.
func TestSightingsAreBounded(t *testing.T) {
	w := watch(t)
	for i := range int64(2 * maxSightings) {
		w.connect(time.Second, fmt.Sprint("client-", i), 1+i, "192.0.2.1")
	}
	for i := range 1000 {
		w.connect(time.Second, "one", 1, fmt.Sprint("192.0.2.", i))
	}
	w.Accepted(string(make([]byte, 60_000)), "", "no address", nil)
	w.Accepted("anonymous", "", "[2001:db8::1]:5", nil)
	if len(w.certs) > maxSightings || len(w.ids) > maxSightings || len(w.ids["one"].places) > maxPlaces || w.ids["anonymous"].place != "2001:db8::1" {
		t.Errorf("%d certificates, %d identifiers", len(w.certs), len(w.ids))
	}
}

func TestSightingsAtOnce(t *testing.T) {
	leaf := authority(t, "device CA", 0, year, nil)
	s := NewSightings(time.Now)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 100 {
				s.Accepted("pump-17", "pump-17", fmt.Sprintf("192.0.2.%d:1", i), leaf)
				s.Fill(&Broker{})
			}
		})
	}
	wg.Wait()
}

func BenchmarkAccepted(b *testing.B) {
	leaf := authority(b, "device CA", 0, year, nil)
	s := NewSightings(time.Now)
	b.ReportAllocs()
	for b.Loop() {
		s.Accepted("pump-17", "pump-17", "192.0.2.1:40000", leaf)
	}
}
