package gate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the same bounds written down naively: exact buckets in maps, every connection in a list.
type model struct {
	cfg     Config
	now     time.Duration
	buckets map[string]*bucket
	good    map[string]time.Duration
	conns   []*modelConn
}

type bucket struct {
	tokens float64
	at     time.Duration
}

type modelConn struct {
	addr, net string
	stage     string
	ticket    *Ticket
}

func (m *model) bucket(name string, rate, burst int) *bucket {
	b := m.buckets[name]
	if b == nil {
		b = &bucket{float64(burst), m.now}
		m.buckets[name] = b
	}
	b.tokens = min(float64(burst), b.tokens+(m.now-b.at).Seconds()*float64(rate))
	b.at = m.now
	return b
}

// count counts connections by a name ("" is all) and a stage ("" is all).
func (m *model) count(name, stage string) (n int) {
	for _, c := range m.conns {
		if (name == "" || c.addr == name || c.net == name) && (stage == "" || c.stage == stage) {
			n++
		}
	}
	return n
}

func (m *model) known(addr string) bool {
	at, ok := m.good[addr]
	return ok && m.now-at < 24*time.Hour
}

func kept(n int, known bool) int {
	if known {
		return n
	}
	return n - n/8
}

func (m *model) enter(addr, net string) Verdict {
	c := m.cfg
	known := m.known(addr)
	a, n, all := m.bucket(addr, c.AddressRate, c.AddressBurst), m.bucket(net, c.NetworkRate, c.NetworkBurst), m.bucket("", c.TotalRate, c.TotalBurst)
	// What strangers must leave in a bucket.
	rest := func(burst int) float64 { return float64(burst - kept(burst, known)) }
	const most = 1 - 1e-6
	switch {
	case a.tokens < most:
		return AddressRate
	case m.count(addr, "") >= c.AddressConnections:
		return AddressConnections
	case m.count(addr, "handshake") >= c.AddressHandshakes:
		return AddressHandshakes
	case m.count(addr, "connect") >= c.AddressConnects:
		return AddressConnects
	case n.tokens-rest(c.NetworkBurst) < most:
		return NetworkRate
	case m.count(net, "") >= kept(c.NetworkConnections, known):
		return NetworkConnections
	case m.count(net, "handshake") >= kept(c.NetworkHandshakes, known):
		return NetworkHandshakes
	case m.count(net, "connect") >= kept(c.NetworkConnects, known):
		return NetworkConnects
	case m.count("", "connect") >= kept(c.TotalConnects, known):
		return TotalConnects
	case m.count("", "") >= kept(c.TotalConnections, known):
		return TotalConnections
	case m.count("", "handshake") >= kept(c.TotalHandshakes, known):
		return TotalHandshakes
	case all.tokens-rest(c.TotalBurst) < most:
		return TotalRate
	}
	a.tokens--
	n.tokens--
	all.tokens--
	return Admitted
}

func (m *model) handshaken(c *modelConn) Verdict {
	known := m.known(c.addr)
	switch {
	case m.count(c.addr, "connect") >= m.cfg.AddressConnects:
		return AddressConnects
	case m.count(c.net, "connect") >= kept(m.cfg.NetworkConnects, known):
		return NetworkConnects
	case m.count("", "connect") >= kept(m.cfg.TotalConnects, known):
		return TotalConnects
	}
	return Admitted
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		small := rapid.IntRange(1, 20)
		cfg := Config{
			// Rates that divide a second, so that steps are whole nanoseconds.
			AddressRate: rapid.SampledFrom([]int{1, 2, 5, 10}).Draw(rt, "ar"), AddressBurst: small.Draw(rt, "ab"),
			NetworkRate: rapid.SampledFrom([]int{1, 4, 10, 20}).Draw(rt, "nr"), NetworkBurst: small.Draw(rt, "nb"),
			TotalRate: rapid.SampledFrom([]int{2, 8, 20, 50}).Draw(rt, "tr"), TotalBurst: small.Draw(rt, "tb"),
			AddressConnections: small.Draw(rt, "ac"), NetworkConnections: small.Draw(rt, "nc"), TotalConnections: small.Draw(rt, "tc"),
			AddressHandshakes: small.Draw(rt, "ah"), NetworkHandshakes: small.Draw(rt, "nh"), TotalHandshakes: small.Draw(rt, "th"),
			AddressConnects: small.Draw(rt, "ak"), NetworkConnects: small.Draw(rt, "nk"), TotalConnects: small.Draw(rt, "tk"),
		}
		h := newHouse(t, cfg)
		m := &model{cfg: cfg, buckets: map[string]*bucket{}, good: map[string]time.Duration{}}
		pick := func() *modelConn {
			if len(m.conns) == 0 {
				rt.Skip("nobody")
			}
			return m.conns[rapid.IntRange(0, len(m.conns)-1).Draw(rt, "conn")]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"enter": func(rt *rapid.T) {
				n, a := rapid.IntRange(0, 2).Draw(rt, "net"), rapid.IntRange(1, 3).Draw(rt, "addr")
				text, net := fmt.Sprintf("10.0.%d.%d", n, a), fmt.Sprintf("10.0.%d", n)
				if rapid.Bool().Draw(rt, "v6") {
					text, net = fmt.Sprintf("2001:db8:%x:%x::%x", n, a, rapid.IntRange(1, 9).Draw(rt, "host")), fmt.Sprintf("v6 %d", n)
				}
				name := text
				if net[0] == 'v' {
					name = fmt.Sprint(net, a)
				}
				want := m.enter(name, net)
				tk, got := h.Enter(netip.MustParseAddr(text))
				if got != want {
					rt.Fatalf("%s enters: %v, want %v", text, got, want)
				}
				if got == Admitted {
					c := &modelConn{name, net, "handshake", &Ticket{}}
					*c.ticket = tk
					m.conns = append(m.conns, c)
				}
			},
			"handshaken": func(rt *rapid.T) {
				c := pick()
				want := Admitted
				if c.stage == "handshake" {
					want = m.handshaken(c)
				}
				if got := c.ticket.Handshaken(); got != want {
					rt.Fatalf("%s handshaken: %v, want %v", c.addr, got, want)
				}
				if c.stage == "handshake" && want == Admitted {
					c.stage = "connect"
				}
			},
			"connected": func(rt *rapid.T) {
				c := pick()
				if c.ticket.Connected(); c.stage != "connected" {
					c.stage = "connected"
					m.good[c.addr] = m.now.Truncate(time.Second)
				}
			},
			"leave": func(rt *rapid.T) {
				c := pick()
				c.ticket.Leave()
				for i := range m.conns {
					if m.conns[i] == c {
						m.conns = append(m.conns[:i], m.conns[i+1:]...)
						break
					}
				}
			},
			"time": func(rt *rapid.T) {
				d := time.Duration(rapid.SampledFrom([]int{1, 10, 100, 500, 1000, 60_000, 86_400_000}).Draw(rt, "ms")) * time.Millisecond
				m.now += d
				h.pass(d)
			},
			"": func(rt *rapid.T) {
				s := h.Stats()
				if int(s.Open) != len(m.conns) || int(s.Handshakes) != m.count("", "handshake") || int(s.Connects) != m.count("", "connect") {
					rt.Fatalf("%+v, want %d open", s, len(m.conns))
				}
			},
		})
		for _, c := range m.conns {
			c.ticket.Leave()
		}
		h.empty()
	})
}
