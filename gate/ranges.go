package gate

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// ranges tell until when an address is in one of some prefixes. They are never changed; a look-up is a binary search.
type ranges struct {
	// from is where each range begins, ascending; it ends where the next one does. until is 0 in those that no prefix has.
	from  []netip.Addr
	until []int64
}

// timed is a prefix with its end.
type timed struct {
	prefix netip.Prefix
	until  int64
}

// forever is the end of what has none.
const forever = math.MaxInt64

// newRanges takes masked prefixes. Where several have an address the latest end counts.
func newRanges(ps []timed) *ranges {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b timed) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	// Two prefixes are disjoint, or one is in the other: those that are open at a time are a stack.
	type open struct {
		last  netip.Addr
		until int64
	}
	var stack []open
	r := &ranges{}
	begin := func(at netip.Addr, until int64) {
		if n := len(r.from); n > 0 && r.from[n-1] == at {
			r.until[n-1] = until
			return
		}
		r.from, r.until = append(r.from, at), append(r.until, until)
	}
	pop := func() {
		next := following(stack[len(stack)-1].last)
		stack = stack[:len(stack)-1]
		until := int64(0)
		if len(stack) > 0 {
			until = stack[len(stack)-1].until
		}
		if next.IsValid() {
			begin(next, until)
		}
	}
	for _, p := range ps {
		first, until := p.prefix.Addr(), p.until
		for len(stack) > 0 && stack[len(stack)-1].last.Less(first) {
			pop()
		}
		if len(stack) > 0 {
			until = max(until, stack[len(stack)-1].until)
		}
		begin(first, until)
		stack = append(stack, open{lastOf(p.prefix), until})
	}
	for len(stack) > 0 {
		pop()
	}
	return r
}

// always are prefixes without an end.
func always(ps []netip.Prefix) *ranges {
	var ts []timed
	for _, p := range ps {
		ts = append(ts, timed{p, forever})
	}
	return newRanges(ts)
}

// at returns until when a is in one of the prefixes, 0 if it never is.
func (r *ranges) at(a netip.Addr) int64 {
	lo, hi := 0, len(r.from)
	for lo < hi {
		mid := (lo + hi) / 2
		if r.from[mid].Compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0
	}
	return r.until[lo-1]
}

func (r *ranges) contains(a netip.Addr) bool { return r.at(a) != 0 }

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	at := p.Bits()
	if p.Addr().Is4() {
		at += 96
	}
	for i := at; i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	if a := netip.AddrFrom16(b); p.Addr().Is4() {
		return a.Unmap()
	} else {
		return a
	}
}

// following is the address after a in the order of netip, in which IPv6 comes after IPv4.
func following(a netip.Addr) netip.Addr {
	next := a.Next()
	if !next.IsValid() && a.Is4() {
		return netip.IPv6Unspecified()
	}
	return next
}
