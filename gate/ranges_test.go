package gate

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestRangesAgainstAList(t *testing.T) {
	// Few distinct bits, so that prefixes nest and touch.
	addr := rapid.Custom(func(rt *rapid.T) netip.Addr {
		edge := rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xfe, 0xff})
		if rapid.Bool().Draw(rt, "v4") {
			var b [4]byte
			for i := range b {
				b[i] = edge.Draw(rt, "byte")
			}
			return netip.AddrFrom4(b)
		}
		var b [16]byte
		for _, i := range []int{0, 1, 7, 15} {
			b[i] = edge.Draw(rt, "byte")
		}
		return netip.AddrFrom16(b)
	})
	rapid.Check(t, func(rt *rapid.T) {
		var ps []timed
		for range rapid.IntRange(0, 12).Draw(rt, "n") {
			a := addr.Draw(rt, "prefix")
			ps = append(ps, timed{netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(rt, "bits")).Masked(), int64(rapid.IntRange(1, 5).Draw(rt, "until"))})
		}
		r := newRanges(ps)
		for range 20 {
			a := addr.Draw(rt, "addr")
			want := int64(0)
			for _, p := range ps {
				if p.prefix.Contains(a) {
					want = max(want, p.until)
				}
			}
			if got := r.at(a); got != want {
				rt.Fatalf("%v in %v: %d, want %d", a, ps, got, want)
			}
		}
	})
}

func TestRangesOfWholeSpaces(t *testing.T) {
	r := always([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")})
	if !r.contains(netip.MustParseAddr("255.255.255.255")) || r.contains(netip.MustParseAddr("::")) || r.contains(netip.MustParseAddr("ffff::")) {
		t.Error("0.0.0.0/0")
	}
	r = always([]netip.Prefix{netip.MustParsePrefix("::/0")})
	if r.contains(netip.MustParseAddr("255.255.255.255")) || !r.contains(netip.MustParseAddr("::")) || !r.contains(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")) {
		t.Error("::/0")
	}
	if r.contains(netip.Addr{}) {
		t.Error("no address")
	}
}
