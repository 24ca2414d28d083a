package gate

import (
	"math/bits"
	"net/netip"
	"time"
)

// record is what is known of an address whose connections fail.
type record struct {
	clean int64 // when its failures are forgotten; each moves it on
	ban         // of the address
}

// ban is an automatic one, past or present.
type ban struct {
	until int64
	times uint8 // how many there were, the last one included
	cause uint8 // of the last one, among causes
}

// strikesFor is how long after its end a ban makes the next one longer.
const strikesFor = int64(24 * time.Hour)

func (b *ban) keep(now int64) int64 {
	switch {
	case b.until > now:
		return pinned // no flood of other addresses ends a ban
	case b.times > 0:
		return b.until + strikesFor - now
	}
	return 0
}

// start begins a ban and returns how long it lasts.
func (b *ban) start(r *rules, now int64, cause uint8) int64 {
	if b.times > 0 && now-b.until > strikesFor {
		b.times = 0
	}
	long := r.banLongest
	if d := r.banTime << b.times; b.times < 30 && d > 0 {
		long = min(d, long)
	}
	b.until, b.cause = now+long, cause
	if b.times < 255 {
		b.times++
	}
	return long
}

func (e *record) keep(now int64) int64 { return max(e.clean-now, e.ban.keep(now)) }

// network is what is known of a network with addresses that were banned.
type network struct {
	bad, good subset // of its addresses: banned; with a client that connected since then
	last      int64  // when one was banned
	ban
}

// networkMemory is how long a banned address counts against its network.
const networkMemory = int64(time.Hour)

func (n *network) keep(now int64) int64 { return max(n.last+networkMemory-now, n.ban.keep(now)) }

// subset are some of the addresses of a network: each of a /24, of a /48 each /64 by a secret hash to 8 bits.
type subset [4]uint64

func (s *subset) set(i uint8)   { s[i/64] |= 1 << (i % 64) }
func (s *subset) clear(i uint8) { s[i/64] &^= 1 << (i % 64) }

func (s *subset) size() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// member is the number of an address in its network.
func (p spot) member() uint8 {
	if p.key.kind == ip4 {
		return uint8(p.key.bits)
	}
	return uint8(p.hash >> 6)
}

// Failed notes that a connection from addr failed before its CONNECT was accepted, and bans the address if that makes too
// many. The cause is one of those above or of a handshake's; words that are not known count little. It tells whether a ban
// begins with it; that is logged here.
func (g *Gate) Failed(addr netip.Addr, cause string) bool {
	addr = addr.Unmap().WithZone("")
	c := causeOf(cause)
	g.causes[c].Add(1)
	r := g.rules.Load()
	if causes[c].weight == never || r.banAfter == 0 || !addr.IsValid() || r.exempt.contains(addr) || r.proxies.contains(addr) {
		return false
	}
	now, src := g.now(), g.locate(addr)
	long := g.fail(r, src, now, c, g.clients(src))
	if long == 0 {
		return false
	}
	g.tell(src.addr.key, long, now, c)
	if long := g.failNetwork(r, src, now, c); long != 0 {
		g.tell(src.net.key, long, now, c)
	}
	return true
}

// clients is how many are connected from an address.
func (g *Gate) clients(src source) int64 {
	s := g.addrs.lock(src.addr)
	defer s.Unlock()
	if a := g.addrs.find(s, src.addr); a != nil {
		return max(0, int64(a.open)-int64(a.handshakes)-int64(a.connects))
	}
	return 0
}

// fail returns how long the address is banned, 0 if it is not, or was before.
func (g *Gate) fail(r *rules, src source, now int64, cause int, clients int64) int64 {
	s := g.failed.lock(src.addr)
	defer s.Unlock()
	e := g.failed.find(s, src.addr)
	if e == nil {
		if e = g.failed.make(s, src.addr, now); e == nil {
			g.unkept.Add(1)
			return 0
		}
	}
	if e.until > now {
		return 0
	}
	one := r.window / (int64(r.banAfter) + clients)
	e.clean = max(e.clean, now) + one*int64(causes[cause].weight)/int64(attack)
	if e.clean-now <= r.window-one {
		return 0
	}
	long := e.start(r, now, uint8(cause))
	// A quarter of the failures that led to the ban is forgiven when it is over.
	e.clean = e.until + r.window*3/4
	g.banned.Add(1)
	return long
}

// failNetwork notes that an address of a network was banned, and returns how long the network is, 0 if it is not.
func (g *Gate) failNetwork(r *rules, src source, now int64, cause int) int64 {
	if r.banNetworkAfter == 0 {
		return 0
	}
	s := g.failedNets.lock(src.net)
	defer s.Unlock()
	n := g.failedNets.find(s, src.net)
	if n == nil {
		if n = g.failedNets.make(s, src.net, now); n == nil {
			g.unkept.Add(1)
			return 0
		}
	}
	if n.until > now {
		return 0
	}
	if now-n.last > networkMemory {
		n.bad, n.good = subset{}, subset{}
	}
	n.last = now
	n.bad.set(src.addr.member())
	n.good.clear(src.addr.member())
	if n.bad.size() < r.banNetworkAfter || n.good.size() >= n.bad.size() {
		return 0
	}
	long := n.start(r, now, uint8(cause))
	n.bad, n.good = subset{}, subset{}
	g.banned.Add(1)
	return long
}

// succeeded pays for one failure with a client that connected. It ends no ban.
func (g *Gate) succeeded(src source, now int64) {
	if g.failed.any.Load() {
		s := g.failed.lock(src.addr)
		if e := g.failed.find(s, src.addr); e != nil && e.until <= now {
			e.clean = max(now, e.clean-g.rules.Load().failure)
		}
		s.Unlock()
	}
	if g.failedNets.any.Load() {
		s := g.failedNets.lock(src.net)
		if n := g.failedNets.find(s, src.net); n != nil {
			n.good.set(src.addr.member())
			n.bad.clear(src.addr.member())
		}
		s.Unlock()
	}
}

// isBanned tells whether the address or its network is banned automatically.
func (g *Gate) isBanned(src source, now int64) bool {
	if !g.failed.any.Load() {
		return false
	}
	s := g.failed.lock(src.addr)
	e := g.failed.find(s, src.addr)
	banned := e != nil && e.until > now
	s.Unlock()
	if banned || !g.failedNets.any.Load() {
		return banned
	}
	s2 := g.failedNets.lock(src.net)
	n := g.failedNets.find(s2, src.net)
	banned = n != nil && n.until > now
	s2.Unlock()
	return banned
}

// tell logs a ban, unless there were many lately.
func (g *Gate) tell(k key, long, now int64, cause int) {
	if n, ok := g.banLines.tick(now); ok {
		g.log.Warn("address banned", "prefix", text(k.prefix()), "cause", causes[cause].word, "for", time.Duration(long), "times", n)
	}
}
