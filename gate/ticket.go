package gate

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Ticket is a connection that was admitted. It must not be copied once it is in use. Its methods, but for From, may be called
// from several goroutines; those of the empty ticket do nothing.
type Ticket struct {
	gate    *Gate
	src     source // empty if exempt
	inAddr  bool   // it counts in src.addr
	inNet   bool
	counted bool // it counts in the totals
	stage   uint32
}

// Stages of a connection.
const (
	left uint32 = iota
	handshaking
	connecting
	connected
)

// From says where the connection really comes from, as the header of the PROXY protocol has it: the bounds of that address
// hold for it from here on. It is to be called at most once, before Handshaken, for a connection from Config.Proxies. If
// it is refused the caller closes the connection and calls Leave, as ever, but not while From runs; after Leave it does nothing.
func (t *Ticket) From(addr netip.Addr) Verdict {
	g := t.gate
	if g == nil || t.inAddr || t.inNet || atomic.LoadUint32(&t.stage) == left {
		return Admitted
	}
	addr = addr.Unmap().WithZone("")
	now, r := g.now(), g.rules.Load()
	v := g.admit(t, r, now, addr, !addr.IsValid() || r.exempt.contains(addr))
	if v != Admitted {
		g.count(v, addr, now) // that it was admitted has been counted
	}
	return v
}

// Handshaken says that the TLS handshake is over and the CONNECT awaited. It may be refused.
func (t *Ticket) Handshaken() Verdict {
	g := t.gate
	if g == nil || atomic.LoadUint32(&t.stage) != handshaking {
		return Admitted
	}
	r := g.rules.Load()
	if v := g.beginConnect(t, r); v != Admitted {
		g.count(v, t.src.addr.key.prefix().Addr(), g.now())
		return v
	}
	g.moveOn(t)
	return Admitted
}

// Connected says that a CONNECT was accepted: the address has one more client that is no stranger.
func (t *Ticket) Connected() {
	g := t.gate
	if g == nil {
		return
	}
	for {
		s := atomic.LoadUint32(&t.stage)
		if s == left || s == connected {
			return
		}
		if atomic.CompareAndSwapUint32(&t.stage, s, connected) {
			now := g.now()
			g.end(t, s, false, uint32(now/int64(time.Second))+1)
			if t.inAddr || t.inNet {
				g.succeeded(t.src, now)
			}
			return
		}
	}
}

// Leave says that the connection is over. Further calls do nothing.
func (t *Ticket) Leave() {
	if t.gate == nil {
		return
	}
	if s := atomic.SwapUint32(&t.stage, left); s != left {
		t.gate.end(t, s, true, 0)
	}
}

// held are the records of a ticket, locked. They are nil for one that is exempt, or found no room.
type held struct {
	as, ns *shard[place]
	a, n   *place
}

func (t *Ticket) hold() (h held) {
	if t.inAddr || t.inNet {
		h.as, h.ns = t.gate.addrs.lock(t.src.addr), t.gate.nets.lock(t.src.net)
	}
	if t.inAddr {
		h.a = t.gate.addrs.find(h.as, t.src.addr)
	}
	if t.inNet {
		h.n = t.gate.nets.find(h.ns, t.src.net)
	}
	return h
}

func (h held) release() {
	if h.as != nil {
		h.ns.Unlock()
		h.as.Unlock()
	}
}

// beginConnect counts the connection among those that wait for CONNECT.
func (g *Gate) beginConnect(t *Ticket, r *rules) Verdict {
	now := g.now()
	h := t.hold()
	defer h.release()
	known := h.as == nil || h.a != nil && h.a.known(now)
	switch {
	case h.a != nil && int64(h.a.connects) >= r.address.connects:
		return AddressConnects
	case h.n != nil && int64(h.n.connects) >= r.network.bound(r.network.connects, known):
		return NetworkConnects
	case g.total.connects.Add(1) > r.total.bound(r.total.connects, known):
		g.total.connects.Add(-1)
		return TotalConnects
	}
	if h.a != nil {
		h.a.connects++
	}
	if h.n != nil {
		h.n.connects++
	}
	return Admitted
}

// moveOn takes the connection, which counts in both stages, out of one.
func (g *Gate) moveOn(t *Ticket) {
	if atomic.CompareAndSwapUint32(&t.stage, handshaking, connecting) {
		g.end(t, handshaking, false, 0)
	} else {
		g.end(t, connecting, false, 0) // it has left meanwhile
	}
}

// end takes the connection out of those in a stage, and out of those that are open if it is gone. If good is not 0 a client
// connected then, in s+1.
func (g *Gate) end(t *Ticket, stage uint32, gone bool, good uint32) {
	h := t.hold()
	defer h.release()
	h.a.end(stage, gone)
	h.n.end(stage, gone)
	if h.a != nil && good != 0 {
		h.a.good = good
	}
	switch stage {
	case handshaking:
		g.total.handshakes.Add(-1)
	case connecting:
		g.total.connects.Add(-1)
	}
	if gone {
		g.total.open.Add(-1)
	}
}
