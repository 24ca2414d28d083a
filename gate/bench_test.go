package gate

import (
	"net/netip"
	"testing"
	"time"
)

func quiet(t testing.TB, cfg Config) *Gate {
	cfg.AddressRate, cfg.NetworkRate, cfg.TotalRate = -1, -1, -1
	g, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func fleetOf(n int) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	return all
}

// The door costs no allocation, whoever knocks.
func TestNoAllocations(t *testing.T) {
	g := quiet(t, Config{})
	addrs := fleetOf(256)
	v6 := netip.MustParseAddr("2001:db8::1")
	banned := netip.MustParseAddr("192.0.2.1")
	for range 20 {
		g.Failed(banned, CauseProtocol)
	}
	g.Ban(netip.MustParsePrefix("203.0.113.0/24"), time.Hour, "")
	life := func(a netip.Addr) {
		tk, _ := g.Enter(a)
		tk.Handshaken()
		tk.Connected()
		tk.Leave()
	}
	for _, a := range addrs {
		life(a)
	}
	life(v6)
	g.Enter(banned) // the first one is logged
	manual := netip.MustParseAddr("203.0.113.1")
	g.Enter(manual)
	i := 0
	for name, fn := range map[string]func(){
		"life":    func() { i++; life(addrs[i%len(addrs)]) },
		"IPv6":    func() { life(v6) },
		"banned":  func() { g.Enter(banned) },
		"by hand": func() { g.Enter(manual) },
		"failed":  func() { g.Failed(addrs[0], "timeout"); g.Failed(banned, CauseProtocol) },
	} {
		if n := testing.AllocsPerRun(500, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func benchmarkLife(b *testing.B, g *Gate, addrs []netip.Addr) {
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tk, _ := g.Enter(addrs[i%len(addrs)])
		tk.Leave()
		i += 7919
	}
}

// A connection that comes and goes: Enter and Leave.
func BenchmarkEnterLeave(b *testing.B) {
	benchmarkLife(b, quiet(b, Config{}), fleetOf(1))
}

func BenchmarkEnterLeave10k(b *testing.B) {
	benchmarkLife(b, quiet(b, Config{}), fleetOf(10_000))
}

func BenchmarkEnterLeave500k(b *testing.B) {
	benchmarkLife(b, quiet(b, Config{}), fleetOf(500_000))
}

// The same with all four tables in use.
func BenchmarkEnterLeaveWithBans(b *testing.B) {
	g := quiet(b, Config{})
	for _, a := range fleetOf(20_000)[10_000:] {
		for range 20 {
			g.Failed(a, CauseProtocol)
		}
	}
	benchmarkLife(b, g, fleetOf(10_000))
}

func BenchmarkEnterBanned(b *testing.B) {
	g := quiet(b, Config{})
	addrs := fleetOf(10_000)
	for _, a := range addrs {
		for range 20 {
			g.Failed(a, CauseProtocol)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.Enter(addrs[i%len(addrs)])
		i += 7919
	}
}

func BenchmarkEnterRefused(b *testing.B) {
	g, _ := New(Config{AddressRate: 1, AddressBurst: 1}, Options{})
	a := netip.MustParseAddr("192.0.2.1")
	g.Enter(a)
	b.ReportAllocs()
	for b.Loop() {
		g.Enter(a)
	}
}

// From the first byte to CONNECT and the end.
func BenchmarkWholeLife(b *testing.B) {
	g := quiet(b, Config{})
	addrs := fleetOf(10_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tk, _ := g.Enter(addrs[i%len(addrs)])
		tk.Handshaken()
		tk.Connected()
		tk.Leave()
		i += 7919
	}
}

func BenchmarkEnterLeaveParallel(b *testing.B) {
	g := quiet(b, Config{})
	addrs := fleetOf(10_000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := 0
		for pb.Next() {
			tk, _ := g.Enter(addrs[i%len(addrs)])
			tk.Leave()
			i += 7919
		}
	})
}

func BenchmarkFailed(b *testing.B) {
	g := quiet(b, Config{BanAfter: 100_000})
	addrs := fleetOf(10_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.Failed(addrs[i%len(addrs)], "timeout")
		i += 7919
	}
}

func BenchmarkParseProxy(b *testing.B) {
	for name, header := range map[string]string{
		"v1": "PROXY TCP4 192.0.2.1 198.51.100.1 56324 8883\r\n",
		"v2": proxySignature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x22\xb3",
	} {
		b.Run(name, func(b *testing.B) {
			p := []byte(header)
			b.ReportAllocs()
			for b.Loop() {
				if _, n, err := ParseProxy(p); n != len(p) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
