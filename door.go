package sealmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/gate"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/transport"
)

// door is the gate of a server, with what it needs of its surroundings: a place for its bans, and a look at the memory. It
// is the door of every listener, and what control asks.
type door struct {
	*gate.Gate
	log     *slog.Logger
	records bans
	shed    func(level int) // of the broker
	used    func() int64    // bytes of memory
	collect func()          // garbage
	limit   atomic.Int64    // of the memory; 0: none
	last    atomic.Int64    // what used said last
	idle    int             // looks since the last collection, while memory is short

	mu    sync.Mutex // one save at a time
	saved []byte     // what the store has
}

// bans is the store, as far as the door needs it.
type bans interface {
	Records(prefix string, fn func(key string, value []byte) bool) error
	Submit(ops ...*store.Op)
}

const (
	bansKey = "gate/bans"

	lookEvery    = time.Second // at the memory
	saveEvery    = time.Minute // the bans, if they have changed
	collectAfter = 10          // looks at memory that is short and has not been collected
)

// newDoor makes the door of a server, with the bans that the store has. The broker is told how much to shed.
func newDoor(cfg gate.Config, records bans, shed func(level int), log *slog.Logger) (*door, error) {
	g, err := gate.New(cfg, gate.Options{Log: log})
	if err != nil {
		return nil, err
	}
	d := &door{Gate: g, log: log, records: records, shed: shed, used: memoryUsed(), collect: runtime.GC}
	d.setLimit(cfg)
	err = records.Records(bansKey, func(key string, value []byte) bool {
		if key == bansKey {
			d.saved = bytes.Clone(value)
		}
		return key == bansKey
	})
	if err != nil {
		return nil, fmt.Errorf("read bans: %w", err)
	}
	if d.saved != nil {
		if err := g.Restore(d.saved); err != nil {
			log.Error("the bans of before are lost", "error", err)
		}
	}
	return d, nil
}

// configure puts another configuration in force, which is valid.
func (d *door) configure(cfg gate.Config) error {
	if err := d.Configure(cfg); err != nil {
		return err
	}
	d.setLimit(cfg)
	return nil
}

func (d *door) setLimit(cfg gate.Config) {
	d.limit.Store(gate.MemoryLimit(cfg.MemoryLimit, debug.SetMemoryLimit(-1)))
}

// Enter is transport.Door.
func (d *door) Enter(addr netip.Addr) transport.Pass {
	t, v := d.Gate.Enter(addr)
	if v != gate.Admitted {
		return nil
	}
	return &pass{ticket: t, proxied: d.Proxied(addr)}
}

// pass is the ticket of a connection.
type pass struct {
	ticket  gate.Ticket
	proxied bool
	mu      sync.Mutex // a connection may be closed while it says where it comes from
}

func (p *pass) Proxied() bool    { return p.proxied }
func (p *pass) Handshaken() bool { return p.ticket.Handshaken() == gate.Admitted }
func (p *pass) Connected()       { p.ticket.Connected() }

func (p *pass) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ticket.Leave()
}

func (p *pass) From(r io.Reader) (netip.AddrPort, error) {
	h, err := gate.ReadProxy(r)
	if err != nil || h.Local || !h.Source.IsValid() {
		return netip.AddrPort{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ticket.From(h.Source.Addr()) != gate.Admitted {
		return netip.AddrPort{}, transport.ErrRefused
	}
	return h.Source, nil
}

// failed notes a connection that ended before its CONNECT was accepted. The peer is host:port.
func (d *door) failed(peer string, err error) {
	cause := causeOf(err)
	if cause == "" {
		return
	}
	if a, err := netip.ParseAddrPort(peer); err == nil {
		d.Failed(a.Addr(), cause)
	}
}

// causeOf is the gate's word for the end of a connection before its CONNECT was accepted; empty if it says nothing about
// the client.
func causeOf(err error) string {
	var he *transport.HandshakeError
	var refused *mqtt.Error
	switch {
	case errors.As(err, &he):
		return string(he.Cause)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return gate.CauseTimeout
	case !errors.As(err, &refused):
		return ""
	}
	switch refused.Code {
	case mqtt.BadUserNameOrPassword:
		return gate.CauseCredentials
	case mqtt.ClientIDNotValid:
		return gate.CauseClientID
	case mqtt.MalformedPacket, mqtt.ProtocolError:
		return gate.CauseProtocol
	case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.ServerShuttingDown, mqtt.UseAnotherServer, mqtt.ServerMoved, mqtt.QuotaExceeded:
		return "" // the server's own trouble
	}
	return gate.CauseRefused
}

// run looks at the memory and keeps the bans until ctx ends.
func (d *door) run(ctx context.Context) {
	look, save := time.NewTicker(lookEvery), time.NewTicker(saveEvery)
	defer look.Stop()
	defer save.Stop()
	for {
		select {
		case <-look.C:
			d.look()
		case <-save.C:
			d.save()
		case <-ctx.Done():
			d.save()
			return
		}
	}
}

// look judges how short memory is, and tells those who shed.
func (d *door) look() {
	used, limit, was := d.used(), d.limit.Load(), d.Shedding()
	d.last.Store(used)
	now := was.Next(used, limit)
	// What is live is known from the last collection only. A server that refuses everything may not come to the next by itself.
	if now == gate.Calm {
		d.idle = 0
	} else if d.idle++; d.idle >= collectAfter {
		d.idle = 0
		d.collect()
	}
	if now == was {
		return
	}
	d.Shed(now)
	d.shed(int(now))
	attrs := []any{"level", now.String(), "before", was.String(), "used", used, "limit", limit}
	switch {
	case now > was:
		d.log.Warn("memory is short", append(attrs, "refused", refusedAt(now), "hint", gate.Overloaded.Hint())...)
	case now == gate.Calm:
		d.log.Info("memory is no longer short", attrs...)
	default:
		d.log.Info("memory is less short", append(attrs, "refused", refusedAt(now))...)
	}
}

// refusedAt says in words what is refused at a level.
func refusedAt(l gate.Level) string {
	switch l {
	case gate.ShedUnknown:
		return "connections from addresses without a client within the last day, anonymous clients"
	case gate.ShedNew:
		return "new connections"
	case gate.ShedRetained:
		return "new connections, retained messages for new subscriptions"
	case gate.ShedQoS0:
		return "new connections, retained messages for new subscriptions, QoS 0 messages"
	}
	return "nothing"
}

// trouble are sentences for whoever operates the server.
func (d *door) trouble() []string {
	l := d.Shedding()
	if l == gate.Calm {
		return nil
	}
	return []string{fmt.Sprintf("memory is short (%d of %d MiB): refused are %s; %s", d.last.Load()>>20, d.limit.Load()>>20, refusedAt(l), gate.Overloaded.Hint())}
}

// memoryUsed reads what the process needs and cannot give back: the live heap, as the last collection found it, stacks, and
// what is outside of the heap.
func memoryUsed() func() int64 {
	var mu sync.Mutex
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/memory/classes/metadata/mcache/inuse:bytes"}, {Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"}, {Name: "/memory/classes/other:bytes"},
	}
	return func() (sum int64) {
		mu.Lock()
		defer mu.Unlock()
		metrics.Read(s)
		for i := range s {
			if s[i].Value.Kind() == metrics.KindUint64 {
				sum += int64(s[i].Value.Uint64())
			}
		}
		return sum
	}
}

// save has the store keep the bans in force, if it has others, and waits until it does.
func (d *door) save() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var value []byte
	if len(d.List()) > 0 {
		value = d.Snapshot()
	}
	if bytes.Equal(value, d.saved) {
		return
	}
	op, done := store.NewRecord(bansKey, value)
	d.records.Submit(op)
	if err := <-done; err != nil {
		d.log.Warn("bans are not kept over a restart", "error", err)
		return
	}
	d.saved = value
}

// steward answers control about the door.
type steward struct{ d *door }

func (s steward) Bans() []control.Ban { return controlBans(s.d.List()) }

func (s steward) Ban(p netip.Prefix, t time.Duration, note string) (control.Ban, error) {
	b, err := s.d.Gate.Ban(p, t, note)
	if err != nil {
		return control.Ban{}, err
	}
	s.d.save()
	return control.Ban(b), nil
}

func (s steward) Unban(p netip.Prefix) (ended, left []control.Ban) {
	gone := s.d.Gate.Unban(p)
	s.d.save()
	return controlBans(gone), controlBans(s.d.Covering(p.Addr()))
}

func (s steward) Figures() control.GateStats {
	st := s.d.Stats()
	return control.GateStats{
		Open: st.Open, Handshakes: st.Handshakes, Connects: st.Connects, Level: st.Level, Verdicts: st.Verdicts, Failures: st.Failures,
		Bans: st.Bans, Banned: st.Banned, Untracked: st.Untracked, Unkept: st.Unkept, MemoryUsed: s.d.used(), MemoryLimit: s.d.limit.Load(),
	}
}

func controlBans(all []gate.Ban) []control.Ban {
	list := make([]control.Ban, len(all))
	for i, b := range all {
		list[i] = control.Ban(b)
	}
	return list
}
