// Package gate decides which connections may begin, before a byte is read from them or a key is touched.
//
//	g, err := gate.New(gate.Config{}, gate.Options{Log: log})
//	ticket, verdict := g.Enter(addr)
//	if verdict != gate.Admitted { conn.Close(); continue }
//	go serve(conn, &ticket) // which tells it Handshaken, Connected and, in the end, Leave
//
// It bounds rates and numbers of connections per address, per network (/24 of IPv4, /48 of IPv6) and in total, separately
// those that are open, in the TLS handshake, and before CONNECT. It keeps a list of banned addresses, reads the PROXY
// protocol's header, and judges when memory gets short. An address is one of IPv4, or the /64 of an IPv6 one.
//
// It imports the standard library alone, starts no goroutine and opens no socket: the time comes from Options.Now. All
// methods of a Gate may be called from many goroutines. DESIGN.md says what its tables withstand.
package gate

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// Options are the surroundings of a Gate.
type Options struct {
	Log *slog.Logger     // nil: discarded
	Now func() time.Time // nil: time.Now
}

// Gate is the front door. Make one with New.
type Gate struct {
	log   *slog.Logger
	clock func() time.Time
	start time.Time
	seed  maphash.Seed
	rules atomic.Pointer[rules]
	level atomic.Uint32 // a Level

	addrs, nets table[place, *place]
	total       total

	failed     table[record, *record]   // by address
	failedNets table[network, *network] // by network
	manual     manual

	verdicts  [verdictCount]atomic.Uint64
	refused   [verdictCount]meter
	causes    [len(causes)]atomic.Uint64
	banned    atomic.Uint64 // automatic bans made
	banLines  meter
	untracked atomic.Uint64 // connections whose address or network found no room in its table
	unkept    atomic.Uint64 // failures that found no room in theirs
}

// What the tables of failures hold at most. The table of addresses with connections is Config.TrackedAddresses long.
const (
	mostRecords  = 1 << 16
	mostNetworks = 1 << 14
)

// New makes a gate that nobody has passed yet.
func New(cfg Config, o Options) (*Gate, error) {
	g := &Gate{log: o.Log, clock: o.Now, seed: maphash.MakeSeed()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.clock == nil {
		g.clock = time.Now
	}
	g.start = g.clock()
	if err := g.Configure(cfg); err != nil {
		return nil, err
	}
	tracked := g.rules.Load().tracked
	g.addrs.open(g.seed, tracked)
	g.nets.open(g.seed, tracked/4)
	g.failed.open(g.seed, mostRecords)
	g.failedNets.open(g.seed, mostNetworks)
	g.manual.init()
	return g, nil
}

// Configure replaces the configuration. What is open stays open, and bans stay; the sizes of tables do not change.
func (g *Gate) Configure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configure gate: %w", err)
	}
	g.rules.Store(newRules(cfg.effective()))
	return nil
}

// now is the time since the gate was made, in ns. A clock that is set back does not make it negative.
func (g *Gate) now() int64 { return max(0, int64(g.clock().Sub(g.start))) }

// Shed sets the level of overload. From ShedUnknown on only addresses are admitted from which a client has connected within
// the last day, and exempt ones; from ShedNew on none. Connections that were admitted before are not touched.
func (g *Gate) Shed(l Level) { g.level.Store(uint32(l)) }

// Shedding is the level that was set.
func (g *Gate) Shedding() Level { return Level(g.level.Load()) }

// Enter judges a connection that was accepted from addr, and counts it if it is admitted. The ticket must then see its end
// with Leave; otherwise it is empty. An invalid address, such as that of a unix socket, is treated as an exempt one.
//
// From an address in Config.Proxies the connection counts in the totals alone, until Ticket.From tells where it comes from.
func (g *Gate) Enter(addr netip.Addr) (Ticket, Verdict) {
	addr = addr.Unmap().WithZone("")
	now, r := g.now(), g.rules.Load()
	t := Ticket{gate: g, stage: handshaking}
	v := g.admit(&t, r, now, addr, !addr.IsValid() || r.exempt.contains(addr) || r.proxies.contains(addr))
	g.count(v, addr, now)
	if v != Admitted {
		return Ticket{}, v
	}
	return t, v
}

// Proxied tells whether connections from addr must begin with a header of the PROXY protocol.
func (g *Gate) Proxied(addr netip.Addr) bool {
	return g.rules.Load().proxies.contains(addr.Unmap().WithZone(""))
}

// admit counts the connection in the totals and, unless the address is exempt, in its address and network.
func (g *Gate) admit(t *Ticket, r *rules, now int64, addr netip.Addr, exempt bool) Verdict {
	if g.manual.holds(addr, now) {
		return Banned
	}
	level := Level(g.level.Load())
	if level >= ShedNew {
		return Overloaded
	}
	first := !t.counted
	if exempt {
		v := Admitted
		if first {
			v = g.total.enter(&r.total, true)
		}
		t.counted = v == Admitted
		return v
	}
	src := g.locate(addr)
	if g.isBanned(src, now) {
		return Banned
	}
	// Addresses before networks: always in this order.
	as, ns := g.addrs.lock(src.addr), g.nets.lock(src.net)
	defer as.Unlock()
	defer ns.Unlock()
	a, n := g.addrs.find(as, src.addr), g.nets.find(ns, src.net)
	known := a != nil && a.known(now)
	if level == ShedUnknown && !known {
		return Overloaded
	}
	if over := r.address.exceeded(a, now, true); over != within {
		return AddressRate + Verdict(over) - 1
	}
	if over := r.network.exceeded(n, now, known); over != within {
		return NetworkRate + Verdict(over) - 1
	}
	if first {
		if v := g.total.enter(&r.total, known); v != Admitted {
			return v
		}
	}
	if !g.total.take(&r.total, now, known) {
		if first {
			g.total.leave()
		}
		return TotalRate
	}
	t.counted = true
	if a == nil {
		a = g.addrs.make(as, src.addr, now)
	}
	if n == nil {
		n = g.nets.make(ns, src.net, now)
	}
	if a == nil || n == nil {
		g.untracked.Add(1)
	}
	t.src, t.inAddr, t.inNet = src, a != nil, n != nil
	a.enter(&r.address, now)
	n.enter(&r.network, now)
	return Admitted
}

// source is where a connection comes from.
type source struct{ addr, net spot }

func (g *Gate) locate(a netip.Addr) source {
	addr, net := keys(a)
	return source{spot{addr, hash(g.seed, addr)}, spot{net, hash(g.seed, net)}}
}

// Stats are the figures of a gate. The maps have a key for every word that there is.
type Stats struct {
	Open       int64             `json:"open"`
	Handshakes int64             `json:"handshakes"` // in the TLS handshake
	Connects   int64             `json:"connects"`   // after it, before CONNECT was accepted
	Level      string            `json:"level"`
	Verdicts   map[string]uint64 `json:"verdicts"`
	Failures   map[string]uint64 `json:"failures"`      // by cause
	Bans       int               `json:"bans"`          // in force
	Banned     uint64            `json:"bans_made"`     // automatic ones
	Untracked  uint64            `json:"untracked"`     // connections that counted in fewer places, for want of room
	Unkept     uint64            `json:"failures_lost"` // failures that were not kept, for want of room
}

// Stats returns the figures. It reads all tables, which is for a scrape and not for every connection.
func (g *Gate) Stats() Stats {
	s := Stats{
		Open: g.total.open.Load(), Handshakes: g.total.handshakes.Load(), Connects: g.total.connects.Load(),
		Level: g.Shedding().String(), Bans: g.inForce(), Banned: g.banned.Load(),
		Untracked: g.untracked.Load(), Unkept: g.unkept.Load(),
		Verdicts: make(map[string]uint64, verdictCount), Failures: make(map[string]uint64, len(causes)),
	}
	for v := range g.verdicts {
		s.Verdicts[Verdict(v).String()] = g.verdicts[v].Load()
	}
	for i := range causes {
		s.Failures[causes[i].word] = g.causes[i].Load()
	}
	return s
}

// count counts a verdict, and logs refusals: a line for each kind in ten seconds.
func (g *Gate) count(v Verdict, addr netip.Addr, now int64) {
	g.verdicts[v].Add(1)
	if v == Admitted {
		return
	}
	if n, ok := g.refused[v].tick(now); ok {
		g.log.Warn("connections refused", "cause", v.String(), "hint", v.Hint(), "times", n, "last", addr.String())
	}
}
