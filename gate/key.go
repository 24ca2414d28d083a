package gate

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// key names an address or a network in a table.
type key struct {
	bits uint64
	kind kind
}

type kind uint8

const (
	empty kind = iota // no key
	ip4               // an IPv4 address
	ip6               // a /64, which is what one IPv6 host or attacker has
	net4              // a /24
	net6              // a /48, which is what one site has
)

// keys are those of a valid address, which is not an IPv4 one in IPv6 form, and of its network.
func keys(a netip.Addr) (addr, net key) {
	if a.Is4() {
		b := a.As4()
		u := uint64(binary.BigEndian.Uint32(b[:]))
		return key{u, ip4}, key{u >> 8, net4}
	}
	b := a.As16()
	u := binary.BigEndian.Uint64(b[:8])
	return key{u, ip6}, key{u >> 16, net6}
}

// prefix is what k names; that of the empty key is invalid.
func (k key) prefix() netip.Prefix {
	switch k.kind {
	case ip4:
		return prefix4(k.bits, 32)
	case net4:
		return prefix4(k.bits<<8, 24)
	case ip6:
		return prefix6(k.bits, 64)
	case net6:
		return prefix6(k.bits<<16, 48)
	}
	return netip.Prefix{}
}

func prefix4(bits uint64, n int) netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(bits))
	return netip.PrefixFrom(netip.AddrFrom4(b), n)
}

func prefix6(bits uint64, n int) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], bits)
	return netip.PrefixFrom(netip.AddrFrom16(b), n)
}

// keyOf is the key that p has in the tables; ok is false if it is none of the sizes there.
func keyOf(p netip.Prefix) (k key, ok bool) {
	addr, net := keys(p.Masked().Addr())
	switch {
	case p.Addr().Is4() && p.Bits() == 32 || p.Addr().Is6() && p.Bits() == 64:
		return addr, true
	case p.Addr().Is4() && p.Bits() == 24 || p.Addr().Is6() && p.Bits() == 48:
		return net, true
	}
	return key{}, false
}

// network tells which of the two sizes k has.
func (k key) network() bool { return k.kind == net4 || k.kind == net6 }

// spot is a key and where to look for it. The hash has a secret seed: nobody can aim at a spot.
type spot struct {
	key  key
	hash uint64
}

func hash(seed maphash.Seed, k key) uint64 { return maphash.Comparable(seed, k) }
