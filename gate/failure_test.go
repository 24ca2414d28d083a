package gate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestFailuresBan(t *testing.T) {
	for _, c := range []struct {
		cause string
		after int // 0: never
	}{
		{CauseCredentials, 20}, {CauseProtocol, 20}, {"client_certificate_ca", 20}, {"client_certificate", 20},
		{"not_tls", 20}, {"client_key_mismatch", 39}, {"client_certificate_revoked", 39}, {"http_on_tls", 39},
		{"timeout", 191}, {"plaintext_on_tls", 191}, {"client_certificate_absent", 191}, {"no word of ours", 191},
		{"client_certificate_expired", 0}, {"client_rejects_broker_ca", 0}, {"client_says_expired", 0}, {"nothing_sent", 0},
		{"client_left_after_flight", 0}, {"closed", 0}, {CauseProxy, 0},
	} {
		h := newHouse(t, Config{})
		if n := h.fail("192.0.2.1", c.cause, 5000); n != c.after {
			t.Errorf("%s: banned after %d, want %d", c.cause, n, c.after)
		}
		want := Admitted
		if c.after > 0 {
			want = Banned
		}
		h.want("192.0.2.1", want)
		h.want("192.0.2.2", Admitted)
	}
}

func TestSlowFailuresDoNot(t *testing.T) {
	h := newHouse(t, Config{})
	for range 3000 { // a forgotten device, for more than a day
		if h.fail("192.0.2.1", CauseCredentials, 1) != 0 {
			t.Fatal("banned")
		}
		h.pass(31 * time.Second)
	}
}

func TestBansDouble(t *testing.T) {
	h := newHouse(t, Config{BanTime: time.Minute, BanLongest: 10 * time.Minute})
	for i, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		// Three quarters of the failures are still on record after a ban.
		if n := h.fail("2001:db8::1", CauseCredentials, 20); n != 20 && i == 0 || n != 5 && i > 0 {
			t.Fatalf("banned after %d", n)
		}
		if h.fail("2001:db8::1", CauseCredentials, 100) != 0 {
			t.Fatal("banned twice at once")
		}
		h.pass(want*time.Minute - time.Second)
		h.want("2001:db8::2", Banned) // the same /64
		h.pass(time.Second)
		h.want("2001:db8::2", Admitted)
	}
	if b := h.List(); len(b) != 0 {
		t.Fatal(b)
	}
	h.pass(25 * time.Hour)
	h.fail("2001:db8::1", CauseCredentials, 20)
	if b := h.List(); len(b) != 1 || b[0].Times != 1 || b[0].Until.Sub(h.Now()) != time.Minute || b[0].Cause != "credentials" {
		t.Fatalf("%+v", b)
	}
	if !strings.Contains(h.log.String(), "address banned") || !strings.Contains(h.log.String(), "prefix=2001:db8::/64") {
		t.Fatal(h.log)
	}
}

func TestLongestBan(t *testing.T) {
	h := newHouse(t, Config{BanTime: 20 * time.Hour, BanLongest: 720 * time.Hour})
	for range 80 { // more than there are bits in a duration
		if h.fail("192.0.2.1", CauseCredentials, 20) == 0 {
			t.Fatal("not banned")
		}
		b := h.List()
		if len(b) != 1 || b[0].Until.Sub(h.Now()) > 720*time.Hour {
			t.Fatal(b)
		}
		h.pass(b[0].Until.Sub(h.Now()))
	}
}

// One device with a wrong password must not lock out the fleet behind the same address, nor the office that shares it with
// a scanner.
func TestOneBadDeviceBehindNAT(t *testing.T) {
	h := newHouse(t, Config{AddressRate: -1, NetworkRate: -1, TotalRate: -1})
	for range 10_000 {
		h.client("192.0.2.1")
	}
	for i := range 6 * 3600 {
		if h.fail("192.0.2.1", CauseCredentials, 1) != 0 {
			t.Fatalf("the fleet was banned after %d s", i)
		}
		h.pass(time.Second)
	}

	// A fleet that does not stay: a success pays for a failure.
	h = newHouse(t, Config{AddressRate: -1, NetworkRate: -1, TotalRate: -1})
	for range 10_000 {
		h.client("192.0.2.1").Leave()
		if h.fail("192.0.2.1", CauseCredentials, 1) != 0 {
			t.Fatal("banned")
		}
	}
	// It does not pay for twenty.
	if h.fail("192.0.2.1", CauseCredentials, 20) == 0 {
		t.Fatal("not banned")
	}
	h.client("192.0.2.2")
	h.want("192.0.2.1", Banned)
}

// A connection that was let in before does not end a ban by succeeding.
func TestSuccessEndsNoBan(t *testing.T) {
	h := newHouse(t, Config{})
	var before []*Ticket
	for range 30 {
		before = append(before, h.open("192.0.2.1"))
	}
	h.fail("192.0.2.1", CauseCredentials, 20)
	for _, tk := range before {
		tk.Connected()
	}
	h.want("192.0.2.1", Banned)
}

func TestNetworksAreBannedWhenManyFail(t *testing.T) {
	for _, c := range []struct{ format, other, outside string }{
		{"192.0.2.%d", "192.0.2.200", "192.0.3.1"},
		{"2001:db8:7:%x::1", "2001:db8:7:ffff::1", "2001:db8:8::1"},
	} {
		h := newHouse(t, Config{BanTime: 10 * time.Minute})
		for i := 1; i <= 7; i++ {
			h.fail(fmt.Sprintf(c.format, i), CauseProtocol, 20)
			h.fail(fmt.Sprintf(c.format, i), CauseProtocol, 20)
		}
		h.want(c.other, Admitted)
		for i := 8; i <= 12; i++ { // /64s may share a bit of the set
			h.fail(fmt.Sprintf(c.format, i), CauseProtocol, 20)
		}
		h.want(c.other, Banned)
		h.want(c.outside, Admitted)
		if b := h.Covering(netip.MustParseAddr(c.other)); len(b) != 1 || b[0].Times != 1 {
			t.Fatalf("%+v", b)
		}
		h.pass(10 * time.Minute)
		h.want(c.other, Admitted)
	}
}

func TestNetworksAreNotBanned(t *testing.T) {
	// One address, whatever it does.
	h := newHouse(t, Config{})
	for range 50 {
		h.fail("192.0.2.1", CauseProtocol, 20)
		h.pass(30 * time.Minute)
	}
	h.want("192.0.2.2", Admitted)

	// Many, but over days.
	h = newHouse(t, Config{})
	for i := range 200 {
		h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 20)
		h.pass(61 * time.Minute)
	}
	h.want("192.0.2.201", Admitted)

	// Many, among at least as many good ones.
	h = newHouse(t, Config{BanTime: 24 * time.Hour})
	h.fail("192.0.2.0", CauseProtocol, 20)
	for i := 100; i < 200; i++ {
		h.client(fmt.Sprintf("192.0.2.%d", i)).Leave()
	}
	for i := range 100 {
		h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 20)
	}
	h.want("192.0.2.150", Admitted)
	h.want("192.0.2.50", Banned)

	// The good ones that turn bad are good no longer.
	h = newHouse(t, Config{})
	h.fail("192.0.2.0", CauseProtocol, 20)
	for i := 1; i <= 12; i++ {
		h.client(fmt.Sprintf("192.0.2.%d", i)).Leave()
	}
	for i := 1; i <= 8; i++ {
		h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 40)
	}
	h.want("192.0.2.100", Banned)

	// Switched off.
	h = newHouse(t, Config{BanNetworkAfter: -1})
	for i := range 200 {
		h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 20)
	}
	h.want("192.0.2.250", Admitted)
	h = newHouse(t, Config{BanAfter: -1})
	if h.fail("192.0.2.1", CauseProtocol, 100_000) != 0 {
		t.Fatal("banned")
	}
}

// A flood of addresses that fail neither ends a ban nor makes the gate forget one that nearly has one.
func TestFailuresOfOthersFlushNothing(t *testing.T) {
	h := newHouse(t, Config{BanTime: time.Hour, BanNetworkAfter: -1})
	const most = 4096 // in place of mostRecords
	h.failed.open(h.seed, most)
	var banned, nearly []string
	for i := range 200 {
		banned, nearly = append(banned, fmt.Sprintf("198.51.%d.1", i)), append(nearly, fmt.Sprintf("203.0.%d.1", i))
		h.fail(banned[i], CauseCredentials, 20)
		h.fail(nearly[i], CauseCredentials, 15)
	}
	for i := range 10 * most {
		h.Failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), CauseCredentials)
	}
	for i := range banned {
		h.want(banned[i], Banned)
		if n := h.fail(nearly[i], CauseCredentials, 20); n != 5 {
			t.Fatalf("%s banned after %d more", nearly[i], n)
		}
	}
	if n := slots(&h.failed); n > 2*most*4/3 {
		t.Fatalf("%d slots", n)
	}

	// Even bans, as many as there may be, end none.
	for i := range 3 * most {
		h.fail(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff), CauseCredentials, 20)
	}
	for i := range banned {
		h.want(banned[i], Banned)
	}
	if s := h.Stats(); s.Unkept == 0 || s.Bans > slots(&h.failed) || s.Bans < most {
		t.Fatalf("%d bans, %d not kept", s.Bans, s.Unkept)
	}
	if n := strings.Count(h.log.String(), "\n"); n > 2 {
		t.Fatalf("%d lines of log in one moment", n)
	}
}
