package gate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func slots[E any, P holder[E]](t *table[E, P]) (n int) {
	for i := range t.shards {
		n += len(t.shards[i].slots)
	}
	return n
}

// An attacker with a whole IPv6 /32 gets no more than the totals allow, takes no more memory than is set aside, and does not
// flush what is known of his first address, nor of the fleet.
func TestFloodOfAddresses(t *testing.T) {
	h := newHouse(t, Config{TrackedAddresses: 5000, AddressRate: 1, AddressBurst: 100, TotalRate: 1000, TotalBurst: 2000})
	fleet := make([]string, 200)
	for i := range fleet {
		fleet[i] = fmt.Sprintf("192.0.%d.1", i)
		h.client(fleet[i])
	}
	gone := "198.51.100.1"
	h.client(gone).Leave()
	for range 100 {
		h.want("2001:db8::1", Admitted)
	}
	admitted := 0
	for second := range 20 {
		for i := range 3000 {
			a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb9, byte(second), byte(i >> 8), byte(i), 1})
			if tk, v := h.Enter(a); v == Admitted {
				admitted++
				tk.Leave()
			}
		}
		h.pass(time.Second)
	}
	if most := 2000 + 20*1000; admitted > most || admitted < most*8/10 {
		t.Errorf("%d admitted", admitted)
	}
	if n := slots(&h.addrs); n > 2*5000*4/3 {
		t.Errorf("%d slots for addresses", n)
	}
	if n := slots(&h.nets); n > 2*1250*4/3 {
		t.Errorf("%d slots for networks", n)
	}
	for i := range 20 { // what came back of the bucket meanwhile
		if _, v := h.Enter(netip.MustParseAddr("2001:db8::1")); v != Admitted {
			t.Fatalf("%d: %v", i, v)
		}
	}
	h.want("2001:db8::1", AddressRate)
	h.Shed(ShedUnknown)
	h.want(gone, Admitted)
	for _, a := range fleet {
		h.want(a, Admitted)
	}
	if s := h.Stats(); s.Untracked != 0 {
		t.Errorf("%d not tracked", s.Untracked)
	}
}

// More open connections from different addresses than are tracked still count in the totals, and leave nothing behind.
func TestMoreAddressesThanAreTracked(t *testing.T) {
	h := newHouse(t, Config{TrackedAddresses: 1000, TotalRate: -1, TotalHandshakes: -1, TotalConnections: 12_000})
	var all []*Ticket
	for i := range 10_000 {
		all = append(all, h.open(fmt.Sprintf("10.%d.%d.1", i>>8, i&255)))
	}
	s := h.Stats()
	if s.Open != 10_000 || s.Untracked < 10_000-2*1000*4/3 || slots(&h.addrs) > 2*1000*4/3+1024 {
		t.Fatalf("%+v, %d slots", s, slots(&h.addrs))
	}
	for _, tk := range all {
		tk.Handshaken()
		tk.Connected()
		tk.Leave()
	}
	h.empty()
}

// 5,000 connections that never end their handshake, from one address, leave room for others.
func TestHalfOpen(t *testing.T) {
	h := newHouse(t, Config{})
	n := 0
	for range 5000 {
		if _, v := h.Enter(netip.MustParseAddr("203.0.113.1")); v == Admitted {
			n++
		}
		h.pass(time.Millisecond)
	}
	if n != 2500 {
		t.Fatalf("%d admitted", n)
	}
	h.client("203.0.113.2")
	h.client("192.0.2.1")
}
