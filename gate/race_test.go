package gate

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Many goroutines leave nothing behind, and never pass a bound.
func TestConcurrent(t *testing.T) {
	g, err := New(Config{
		AddressRate: -1, NetworkRate: -1, TotalRate: -1, AddressConnections: 20, NetworkConnections: 60, TotalConnections: 100, TotalHandshakes: 80,
		TotalConnects: 60, TrackedAddresses: 1000, BanTime: time.Second, BanAfter: 50, Proxies: []string{"10.9.0.1"},
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			var mine []*Ticket
			for range 4000 {
				addr := netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(3)), byte(rng.IntN(4))})
				if rng.IntN(10) == 0 {
					addr = netip.AddrFrom4([4]byte{10, 9, 0, 1})
				}
				if tk, v := g.Enter(addr); v == Admitted {
					one := &tk
					if g.Proxied(addr) {
						one.From(netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(3)), 1}))
					}
					mine = append(mine, one)
				}
				if n := g.total.open.Load(); n > 100+8 { // each may be one over for a moment
					t.Errorf("%d open", n)
				}
				if len(mine) > 0 {
					tk := mine[rng.IntN(len(mine))]
					switch rng.IntN(4) {
					case 0:
						tk.Handshaken()
					case 1:
						tk.Connected()
					case 2:
						tk.Leave()
					case 3:
						g.Failed(addr, CauseCredentials)
					}
				}
				switch rng.IntN(500) {
				case 0:
					g.Ban(netip.PrefixFrom(addr, 32), time.Millisecond, "")
				case 1:
					g.Unban(netip.PrefixFrom(addr, 24))
				case 2:
					g.Restore(g.Snapshot())
				case 3:
					g.Shed(Level(rng.IntN(2)))
				case 4:
					g.Stats()
				}
			}
			for _, tk := range mine {
				tk.Leave()
			}
		})
	}
	wg.Wait()
	(&house{Gate: g, t: t}).empty()
}

// A connection that ends, as at a deadline, while its handshake does: at the moment between the two halves of Handshaken.
func TestLeavesInTheMiddleOfHandshaken(t *testing.T) {
	for _, addr := range []string{"192.0.2.1", "127.0.0.1"} {
		h := newHouse(t, Config{})
		tk := h.open(addr)
		if v := h.beginConnect(tk, h.rules.Load()); v != Admitted {
			t.Fatal(v)
		}
		tk.Leave()
		h.moveOn(tk)
		h.empty()
	}
}
