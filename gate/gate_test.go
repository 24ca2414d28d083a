package gate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	h := newHouse(t, Config{AddressRate: 10, AddressBurst: 3, NetworkRate: 20, NetworkBurst: 8, TotalRate: 100, TotalBurst: 16})
	for range 3 {
		h.want("192.0.2.1", Admitted)
	}
	h.want("192.0.2.1", AddressRate)
	h.want("192.0.2.1", AddressRate) // a refusal costs nothing
	h.pass(100 * time.Millisecond)
	h.want("192.0.2.1", Admitted)
	h.want("192.0.2.1", AddressRate)

	// Two of the network's tokens have come back; one of its eight is for those who are known.
	for i := range 5 {
		h.want(fmt.Sprintf("192.0.2.%d", 10+i), Admitted)
	}
	h.want("192.0.2.99", NetworkRate)

	// Ten of the total's tokens came back, all there were; 6 of its 14 for strangers are gone.
	for i := range 8 {
		h.want(fmt.Sprintf("198.51.%d.1", i), Admitted)
	}
	h.want("203.0.113.1", TotalRate)
	h.pass(time.Hour)
	h.want("203.0.113.1", Admitted)
	h.want("192.0.2.1", Admitted)
}

func TestIPv6CountsBySixtyFour(t *testing.T) {
	h := newHouse(t, Config{AddressRate: 1, AddressBurst: 2, NetworkRate: 1, NetworkBurst: 4})
	h.want("2001:db8:1:1::1", Admitted)
	h.want("2001:db8:1:1:ffff::2", Admitted)
	h.want("2001:db8:1:1::3", AddressRate)
	h.want("2001:db8:1:2::3", Admitted)
	h.want("2001:db8:1:3::3", Admitted)
	h.want("2001:db8:1:4::3", NetworkRate)
	h.want("2001:db8:2:1::1", Admitted)
}

func TestAddressesInOtherForms(t *testing.T) {
	h := newHouse(t, Config{AddressRate: 1, AddressBurst: 1})
	h.want("192.0.2.1", Admitted)
	h.want("::ffff:192.0.2.1", AddressRate)
	h.want("fe80::1%eth0", Admitted)
	h.want("fe80::1%eth1", AddressRate)
	for range 10 { // of a unix socket
		if _, v := h.Enter(netip.Addr{}); v != Admitted {
			t.Fatal(v)
		}
	}
}

func TestCaps(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want [3]Verdict // the third connection of one address, the sixth of its network, the ninth of all
	}{
		{Config{AddressConnections: 2, NetworkConnections: 5, TotalConnections: 8}, [3]Verdict{AddressConnections, NetworkConnections, TotalConnections}},
		{Config{AddressHandshakes: 2, NetworkHandshakes: 5, TotalHandshakes: 8}, [3]Verdict{AddressHandshakes, NetworkHandshakes, TotalHandshakes}},
	} {
		h := newHouse(t, c.cfg)
		first := h.open("192.0.2.1")
		h.open("192.0.2.1")
		h.want("192.0.2.1", c.want[0])
		for i := range 3 {
			h.open(fmt.Sprintf("192.0.2.%d", i+2))
		}
		h.want("192.0.2.9", c.want[1])
		h.open("198.51.100.1")
		h.open("198.51.101.1")
		h.want("198.51.102.1", c.want[2]) // seven of eight: the last is for those who are known
		first.Leave()
		first.Leave()
		h.want("198.51.102.1", Admitted)
		h.want("192.0.2.1", Admitted)
		h.open("192.0.2.1")
		h.want("192.0.2.1", c.want[0])
	}
}

func TestConnectsAreCountedApart(t *testing.T) {
	h := newHouse(t, Config{
		AddressHandshakes: 3, AddressConnects: 2, NetworkConnects: 3, TotalConnects: 4, TotalHandshakes: 100, Exempt: []string{"10.0.0.0/8"},
	})
	a, b, c := h.open("192.0.2.1"), h.open("192.0.2.1"), h.open("192.0.2.1")
	d, e, f := h.open("192.0.2.2"), h.open("192.0.2.3"), h.open("198.51.100.1")
	h.want("192.0.2.1", AddressHandshakes)
	a.Handshaken()
	a.Handshaken() // said again
	h.open("192.0.2.1").Handshaken()
	for range 2 {
		if v := c.Handshaken(); v != AddressConnects {
			t.Fatal(v)
		}
	}
	// Nobody begins a handshake whose end would be refused.
	c.Leave()
	h.want("192.0.2.1", AddressConnects)
	a.Connected()
	a.Connected()
	h.want("192.0.2.1", Admitted)
	if v := b.Handshaken(); v != Admitted {
		t.Fatal(v)
	}
	d.Handshaken()
	if v := e.Handshaken(); v != NetworkConnects {
		t.Fatal(v)
	}
	h.want("192.0.2.4", NetworkConnects)
	h.open("10.0.0.1").Handshaken()
	h.want("10.0.0.1", TotalConnects)
	if v := f.Handshaken(); v != TotalConnects {
		t.Fatal(v)
	}
	h.want("198.51.101.1", TotalConnects)
	if s := h.Stats(); s.Open != 7 || s.Connects != 4 || s.Handshakes != 2 {
		t.Fatalf("%+v", s)
	}
}

// An accepted CONNECT straight from the handshake, and all orders of the end, leave nothing behind.
func TestEveryWayOut(t *testing.T) {
	h := newHouse(t, Config{})
	var empty Ticket
	empty.Handshaken()
	empty.Connected()
	empty.From(netip.MustParseAddr("192.0.2.1"))
	empty.Leave()
	for way := range 16 {
		tk := h.open("192.0.2.1")
		if way&1 != 0 {
			tk.Handshaken()
		}
		if way&2 != 0 {
			tk.Connected()
		}
		if way&4 != 0 {
			tk.Handshaken()
		}
		tk.Leave()
		if way&8 != 0 {
			tk.Handshaken()
			tk.Connected()
			tk.Leave()
		}
		h.empty()
	}
}

// empty fails unless nobody is there.
func (h *house) empty() {
	h.t.Helper()
	if s := h.Stats(); s.Open != 0 || s.Handshakes != 0 || s.Connects != 0 {
		h.t.Fatalf("left behind: %+v", s)
	}
	for _, tb := range []*table[place, *place]{&h.addrs, &h.nets} {
		tb.each(func(k key, p *place) bool {
			if p.open|p.handshakes|p.connects != 0 {
				h.t.Fatalf("%v: left behind %+v", k.prefix(), *p)
			}
			return true
		})
	}
}

func TestExempt(t *testing.T) {
	strict := Config{AddressRate: 1, AddressBurst: 1, AddressConnections: 1, NetworkRate: 1, NetworkBurst: 1, TotalRate: 1, TotalBurst: 1, TotalConnections: 50, BanAfter: 1}
	h := newHouse(t, strict)
	for range 50 {
		h.open("127.0.0.1")
		h.Failed(netip.MustParseAddr("127.0.0.1"), CauseCredentials)
	}
	h.want("127.0.0.1", TotalConnections) // the totals hold for everybody

	strict.Exempt = []string{"10.1.0.0/16", "2001:db8::/48", "192.0.2.7"}
	h = newHouse(t, strict)
	for range 5 {
		h.open("10.1.2.3")
		h.open("2001:db8::1")
		h.open("192.0.2.7")
	}
	h.open("127.0.0.1")
	h.want("127.0.0.1", AddressRate) // a list replaces loopback

	strict.Exempt = []string{"none"}
	h = newHouse(t, strict)
	h.open("127.0.0.1")
	h.want("127.0.0.1", AddressRate)
}

func TestProxies(t *testing.T) {
	h := newHouse(t, Config{Proxies: []string{"10.0.0.5"}, AddressRate: 1, AddressBurst: 2, AddressHandshakes: 2, TotalRate: 1000, TotalBurst: 1000})
	lb, client := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("198.51.100.9")
	if !h.Proxied(lb) || !h.Proxied(netip.MustParseAddr("::ffff:10.0.0.5")) || h.Proxied(client) {
		t.Fatal("proxies not told apart")
	}
	var tickets []*Ticket
	for range 4 {
		tickets = append(tickets, h.open("10.0.0.5"))
	}
	for i, want := range []Verdict{Admitted, Admitted, AddressRate} {
		if v := tickets[i].From(client); v != want {
			t.Fatalf("%d: %v", i, v)
		}
	}
	if v := tickets[0].From(netip.MustParseAddr("198.51.100.10")); v != Admitted {
		t.Fatal(v)
	}
	h.want("198.51.100.10", Admitted) // the second From did nothing
	h.want("198.51.100.9", AddressRate)
	h.Ban(netip.MustParsePrefix("203.0.113.0/24"), 0, "")
	if v := tickets[3].From(netip.MustParseAddr("203.0.113.8")); v != Banned {
		t.Fatal(v)
	}
	if s := h.Stats(); s.Open != 4 || s.Handshakes != 4 {
		t.Fatalf("%+v", s)
	}
	tickets[0].Handshaken()
	tickets[0].Connected()
	for _, tk := range tickets {
		tk.Leave()
	}
	h.empty()
	if h.fail("10.0.0.5", CauseProtocol, 1000) != 0 {
		t.Fatal("the load balancer was banned")
	}
}

// Strangers cannot fill what is kept for the addresses that have clients.
func TestKnownComeFirst(t *testing.T) {
	h := newHouse(t, Config{TotalHandshakes: 80, TotalConnects: 80, TotalConnections: 160, TotalRate: 100, TotalBurst: 160, NetworkHandshakes: 1000})
	h.client("192.0.2.1").Leave()
	h.pass(time.Hour)
	n := 0
	for i := range 200 {
		if _, v := h.Enter(netip.AddrFrom4([4]byte{198, 51, byte(i), 1})); v == Admitted {
			n++
		} else if v != TotalHandshakes {
			t.Fatal(v)
		}
	}
	if n != 70 {
		t.Fatalf("%d strangers", n)
	}
	for range 10 {
		h.open("192.0.2.1")
	}
	h.want("192.0.2.1", TotalHandshakes)
	h.pass(25 * time.Hour)
	h.want("192.0.2.1", TotalHandshakes)

	h = newHouse(t, Config{NetworkConnects: 8})
	h.client("192.0.2.1")
	late := h.open("192.0.2.9")
	for i := 2; i <= 8; i++ {
		h.open(fmt.Sprintf("192.0.2.%d", i)).Handshaken()
	}
	h.want("192.0.2.10", NetworkConnects)
	if v := late.Handshaken(); v != NetworkConnects {
		t.Fatal(v)
	}
	if v := h.open("192.0.2.1").Handshaken(); v != Admitted {
		t.Fatal(v)
	}
}

func TestShed(t *testing.T) {
	h := newHouse(t, Config{})
	old := h.client("192.0.2.1")
	for _, c := range []struct {
		level                     Level
		stranger, known, loopback Verdict
	}{
		{Calm, Admitted, Admitted, Admitted},
		{ShedUnknown, Overloaded, Admitted, Admitted},
		{ShedNew, Overloaded, Overloaded, Overloaded},
		{ShedRetained, Overloaded, Overloaded, Overloaded},
		{ShedQoS0, Overloaded, Overloaded, Overloaded},
		{Calm, Admitted, Admitted, Admitted},
	} {
		h.Shed(c.level)
		h.want("198.51.100.1", c.stranger)
		h.want("192.0.2.1", c.known)
		h.want("127.0.0.1", c.loopback)
	}
	if old.stage != connected {
		t.Fatal("an established connection was touched")
	}
}

func TestConfigure(t *testing.T) {
	h := newHouse(t, Config{})
	a := h.open("192.0.2.1")
	if err := h.Configure(Config{AddressConnections: 1}); err != nil {
		t.Fatal(err)
	}
	h.want("192.0.2.1", AddressConnections)
	a.Leave()
	h.want("192.0.2.1", Admitted)
	if err := h.Configure(Config{AddressRate: -7}); err == nil || !strings.Contains(err.Error(), "address_rate") {
		t.Fatal(err)
	}
	h.open("192.0.2.1")
	h.want("192.0.2.1", AddressConnections)
}

func TestRefusalsAreLoggedOnceInTenSeconds(t *testing.T) {
	h := newHouse(t, Config{AddressRate: 1, AddressBurst: 1, NetworkBurst: 100000, TotalBurst: 100000})
	h.want("192.0.2.1", Admitted)
	for range 50 {
		h.want("192.0.2.1", AddressRate)
	}
	if n := strings.Count(h.log.String(), "connections refused"); n != 1 {
		t.Fatalf("%d lines:\n%s", n, h.log)
	}
	h.log.Reset()
	h.pass(10 * time.Second)
	h.want("192.0.2.1", Admitted)
	h.want("192.0.2.1", AddressRate)
	if got := h.log.String(); !strings.Contains(got, "cause=address_rate") || !strings.Contains(got, "times=50") || !strings.Contains(got, "last=192.0.2.1") || !strings.Contains(got, "gate.address_rate") {
		t.Fatal(got)
	}
	if s := h.Stats(); s.Verdicts["address_rate"] != 51 || s.Verdicts["admitted"] != 2 {
		t.Fatalf("%+v", s.Verdicts)
	}
}

func TestVerdictsHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for v := range verdictCount {
		if v.String() == "" || seen[v.String()] || (v.Hint() == "") != (v == Admitted) {
			t.Errorf("%d: %q, %q", v, v, v.Hint())
		}
		seen[v.String()] = true
	}
	if Verdict(200).String() != "unknown" || Verdict(200).Hint() != "" {
		t.Error("of no verdict")
	}
	words := map[string]bool{}
	for _, c := range causes {
		if words[c.word] {
			t.Errorf("%s is there twice", c.word)
		}
		words[c.word] = true
	}
}
