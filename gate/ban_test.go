package gate

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestManualBans(t *testing.T) {
	h := newHouse(t, Config{})
	ban := func(p string, d time.Duration, note string) Ban {
		t.Helper()
		b, err := h.Ban(netip.MustParsePrefix(p), d, note)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := ban("192.0.2.77/24", time.Hour, "scans us"); b.Prefix.String() != "192.0.2.0/24" || !b.Until.Equal(h.Now().Add(time.Hour)) || !b.Manual {
		t.Fatalf("%+v", b)
	}
	ban("192.0.2.5/32", 0, "for good")
	ban("2001:db8::/32", 0, "")
	ban("127.0.0.1/32", time.Minute, "even an exempt one")
	for _, a := range []string{"192.0.2.1", "192.0.2.5", "2001:db8:1:2::3", "127.0.0.1"} {
		h.want(a, Banned)
	}
	h.want("127.0.0.2", Admitted)
	h.want("192.0.3.1", Admitted)
	if b := h.Covering(netip.MustParseAddr("::ffff:192.0.2.5")); len(b) != 2 || b[0].Note != "for good" || !b[0].Until.IsZero() || b[1].Note != "scans us" {
		t.Fatalf("%+v", b)
	}
	h.pass(time.Hour)
	h.want("192.0.2.1", Admitted)
	h.want("192.0.2.5", Banned)
	ban("192.0.2.5/32", time.Second, "in its place")
	h.pass(time.Second)
	h.want("192.0.2.5", Admitted)
	if b := h.List(); len(b) != 1 || b[0].Prefix.String() != "2001:db8::/32" {
		t.Fatalf("%+v", b)
	}
}

func TestManualBansAreChecked(t *testing.T) {
	h := newHouse(t, Config{})
	for _, c := range []struct {
		p    netip.Prefix
		d    time.Duration
		note string
	}{
		{netip.Prefix{}, 0, ""},
		{netip.MustParsePrefix("0.0.0.0/0"), 0, ""},
		{netip.MustParsePrefix("10.0.0.0/7"), 0, ""},
		{netip.MustParsePrefix("2001::/15"), 0, ""},
		{netip.PrefixFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 128), 0, ""},
		{netip.MustParsePrefix("192.0.2.0/24"), -1, ""},
		{netip.MustParsePrefix("192.0.2.0/24"), 1 << 62, ""},
		{netip.MustParsePrefix("192.0.2.0/24"), 0, "line\nbreak"},
		{netip.MustParsePrefix("192.0.2.0/24"), 0, strings.Repeat("n", 129)},
	} {
		if _, err := h.Ban(c.p, c.d, c.note); err == nil {
			t.Errorf("%v, %v, %q was taken", c.p, c.d, c.note)
		}
	}
	for i := range mostManual - 1 { // what Ban does, but for the index
		h.manual.bans[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32)] = manualBan{until: int64(time.Minute)}
	}
	if _, err := h.Ban(netip.MustParsePrefix("10.255.0.0/16"), time.Minute, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ban(netip.MustParsePrefix("192.0.2.0/24"), 0, ""); !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
	h.pass(time.Minute)
	if _, err := h.Ban(netip.MustParsePrefix("192.0.2.0/24"), 0, ""); err != nil {
		t.Fatal(err)
	}
}

func TestUnban(t *testing.T) {
	h := newHouse(t, Config{BanTime: time.Hour})
	setUp := func() {
		for i := 1; i <= 8; i++ {
			h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 20)
		}
		h.fail("192.0.3.1", CauseProtocol, 20)
		h.fail("2001:db8::1", CauseProtocol, 20)
		h.Ban(netip.MustParsePrefix("192.0.2.1/32"), 0, "by hand")
	}
	setUp()
	if b := h.List(); len(b) != 12 || h.Stats().Bans != 12 {
		t.Fatalf("%+v", b)
	}
	if b := h.Unban(netip.MustParsePrefix("192.0.2.1/32")); len(b) != 2 {
		t.Fatalf("%+v", b)
	}
	h.want("192.0.2.1", Banned) // the network is
	if b := h.Unban(netip.MustParsePrefix("192.0.2.0/24")); len(b) != 8 {
		t.Fatalf("%+v", b)
	}
	h.want("192.0.2.8", Admitted)
	if b := h.Unban(netip.MustParsePrefix("192.0.2.0/24")); len(b) != 0 {
		t.Fatalf("%+v", b)
	}
	h.want("192.0.3.1", Banned)
	if b := h.Unban(netip.MustParsePrefix("2001:db8::77/128")); len(b) != 1 {
		t.Fatalf("%+v", b)
	}
	h.want("2001:db8::1", Admitted)
	if n := h.fail("2001:db8::1", CauseProtocol, 30); n != 20 {
		t.Fatalf("failures were not forgotten: banned after %d", n)
	}
	setUp()
	if b := h.Unban(netip.MustParsePrefix("0.0.0.0/0")); len(b) != 11 {
		t.Fatalf("%d: %+v", len(b), b)
	}
	h.want("192.0.2.1", Admitted)
	h.Ban(netip.MustParsePrefix("10.0.0.0/8"), 0, "")
	if b := h.Unban(netip.MustParsePrefix("10.0.0.0/16")); len(b) != 0 {
		t.Fatalf("a wider one: %+v", b)
	}
	h.want("10.0.0.1", Banned)
	if h.Unban(netip.Prefix{}) != nil {
		t.Fatal("of no prefix")
	}
}

func TestSnapshot(t *testing.T) {
	h := newHouse(t, Config{BanTime: time.Hour})
	for i := 1; i <= 8; i++ {
		h.fail(fmt.Sprintf("192.0.2.%d", i), CauseProtocol, 20)
	}
	h.fail("2001:db8::1", CauseCredentials, 20)
	h.Ban(netip.MustParsePrefix("10.0.0.0/8"), 0, "<ours> \"quoted\"")
	h.Ban(netip.MustParsePrefix("10.1.0.0/16"), 30*time.Minute, "")
	saved := h.Snapshot()
	if len(saved) > 2000 {
		t.Fatalf("%d bytes", len(saved))
	}

	later := newHouse(t, Config{})
	later.pass(31 * time.Minute)
	for range 2 {
		if err := later.Restore(saved); err != nil {
			t.Fatal(err)
		}
	}
	want := h.List()
	got := later.List()
	if len(got) != len(want)-1 {
		t.Fatalf("%d, want all but one of %d: %+v", len(got), len(want), got)
	}
	for i := range got {
		w := want[i]
		if got[i] != w {
			t.Errorf("%+v, want %+v", got[i], w)
		}
	}
	later.want("192.0.2.99", Banned)
	later.pass(29 * time.Minute)
	later.want("192.0.2.99", Admitted)
	later.want("10.2.3.4", Banned)
	// The next ban is the second.
	later.fail("2001:db8::1", CauseCredentials, 20)
	if b := later.Covering(netip.MustParseAddr("2001:db8::1")); len(b) != 1 || b[0].Times != 2 {
		t.Fatalf("%+v", b)
	}

	// A clock that was wrong when it was saved bans nobody for years.
	strict := houseAt(t, Config{BanLongest: 10 * time.Minute}, h.Now().Add(-365*24*time.Hour))
	if err := strict.Restore(saved); err != nil {
		t.Fatal(err)
	}
	strict.pass(11 * time.Minute)
	strict.want("192.0.2.1", Admitted)
}

func TestSnapshotIsBounded(t *testing.T) {
	h := newHouse(t, Config{BanTime: time.Hour, BanNetworkAfter: -1})
	for i := range 1000 {
		h.fail(fmt.Sprintf("10.%d.%d.1", i>>8, i&255), CauseProtocol, 20)
	}
	for i := range mostManual {
		p := netip.MustParsePrefix(fmt.Sprintf("2001:db8:1000:1000:1000:1000:1000:%x/128", 0x1000+i))
		if _, err := h.Ban(p, 24*time.Hour, strings.Repeat("<", mostNote)); err != nil { // nothing is longer as JSON
			t.Fatal(err)
		}
	}
	saved := h.Snapshot()
	if len(saved) > MaxSnapshot {
		t.Fatalf("%d bytes", len(saved))
	}
	later := newHouse(t, Config{})
	if err := later.Restore(saved); err != nil {
		t.Fatal(err)
	}
	manual, others := 0, 0
	for _, b := range later.List() {
		if b.Manual {
			manual++
		} else {
			others++
		}
	}
	if manual != mostManual || others < 500 || others > 900 {
		t.Fatalf("%d manual ones, %d others", manual, others)
	}
}

func TestRestoreRefuses(t *testing.T) {
	for _, s := range []string{
		"", "null", "{}", `{"version":2,"bans":[]}`, `{"version":1,"bans":[{}]}`, "\xff",
		`{"version":1,"bans":[{"prefix":"10.0.0.0/8","until":"2099-01-01T00:00:00Z"}]}`,
		`{"version":1,"bans":[{"prefix":"192.0.2.1/24","until":"2099-01-01T00:00:00Z"}]}`,
		`{"version":1,"bans":[{"prefix":"192.0.2.1/32"}]}`,
		`{"version":1,"bans":[{"prefix":"0.0.0.0/0","manual":true}]}`,
		`{"version":1,"bans":[{"prefix":"192.0.2.0/24","manual":true},{"prefix":"::/0","manual":true}]}`,
		`{"version":1,"bans":[{"prefix":"192.0.2.0/24","manual":true,"note":"\u0007"}]}`,
		`{"version":1,"bans":[]}` + strings.Repeat(" ", MaxSnapshot),
	} {
		h := newHouse(t, Config{})
		if err := h.Restore([]byte(s)); err == nil {
			t.Errorf("%.80q was taken", s)
		}
		if b := h.List(); len(b) != 0 {
			t.Errorf("%.80q left %+v", s, b)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"version":1,"bans":[{"prefix":"192.0.2.0/24","until":"2099-01-01T00:00:00Z","times":-3,"cause":"x"},{"prefix":"2001:db8::/32","manual":true,"note":"n"}]}`))
	f.Add([]byte(`{"version":1,"bans":[{"prefix":"2001:db8::/64","until":"0001-01-01T00:00:01Z"},{"prefix":"::1/128","until":"9999-12-31T23:59:59Z","manual":true}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := newHouse(t, Config{})
		if err := h.Restore(data); err != nil {
			if len(h.List()) != 0 {
				t.Fatal("restored in part")
			}
			return
		}
		saved := h.Snapshot()
		again := newHouse(t, Config{})
		if err := again.Restore(saved); err != nil {
			t.Fatalf("%v\n%s", err, saved)
		}
		if second := again.Snapshot(); !bytes.Equal(saved, second) {
			t.Fatalf("%s\n%s", saved, second)
		}
	})
}
