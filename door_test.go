package sealmq

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/gate"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/transport"
)

// cupboard keeps records as a store does.
type cupboard struct {
	mu      sync.Mutex
	m       map[string][]byte
	submits int
	err     error
}

func (c *cupboard) Records(prefix string, fn func(key string, value []byte) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range c.m {
		if strings.HasPrefix(k, prefix) && !fn(k, v) {
			break
		}
	}
	return nil
}

func (c *cupboard) Submit(ops ...*store.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range ops {
		c.submits++
		if c.err == nil {
			c.m[op.Record.Key] = op.Record.Value
			if op.Record.Value == nil {
				delete(c.m, op.Record.Key)
			}
		}
		op.Wait.(chan error) <- c.err
	}
}

// doorway is a door with a cupboard, a log and a memory that the test says.
type doorway struct {
	*door
	kept   *cupboard
	log    *bytes.Buffer
	memory int64
	shed   []int
	swept  int
}

func newDoorway(t *testing.T, cfg gate.Config, kept *cupboard) *doorway {
	t.Helper()
	w := &doorway{kept: kept, log: new(bytes.Buffer)}
	d, err := newDoor(cfg, kept, func(level int) { w.shed = append(w.shed, level) }, slog.New(slog.NewTextHandler(w.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d.used, d.collect = func() int64 { return w.memory }, func() { w.swept++ }
	w.door = d
	return w
}

func emptyCupboard() *cupboard { return &cupboard{m: map[string][]byte{}} }

// Bans outlive a restart; those made by hand from the moment that they are made.
func TestBansAreKept(t *testing.T) {
	kept := emptyCupboard()
	w := newDoorway(t, gate.Config{}, kept)
	if w.save(); kept.submits != 0 {
		t.Error("nothing was written")
	}
	net := netip.MustParsePrefix("203.0.113.0/24")
	if _, err := (steward{w.door}).Ban(net, time.Hour, "scan"); err != nil {
		t.Fatal(err)
	}
	if kept.submits != 1 {
		t.Errorf("%d writes", kept.submits)
	}
	if w.save(); kept.submits != 1 {
		t.Error("written though nothing has changed")
	}

	again := newDoorway(t, gate.Config{}, kept)
	if all := (steward{again.door}).Bans(); len(all) != 1 || all[0].Prefix != net || all[0].Note != "scan" {
		t.Errorf("bans %+v", all)
	}
	if p := again.Enter(netip.MustParseAddr("203.0.113.9")); p != nil {
		t.Error("a banned address was let in")
	}
	if again.save(); kept.submits != 1 {
		t.Error("written though it was read")
	}
	ended, left := (steward{again.door}).Unban(netip.MustParsePrefix("203.0.113.9/32"))
	if len(ended) != 0 || len(left) != 1 {
		t.Errorf("unban of an address: %v, %v", ended, left)
	}
	if ended, left = (steward{again.door}).Unban(net); len(ended) != 1 || len(left) != 0 {
		t.Errorf("unban: %v, %v", ended, left)
	}
	if len(kept.m) != 0 {
		t.Errorf("kept %q", kept.m)
	}
}

// What cannot be read, or kept, is said, and keeps nothing else from working.
func TestBansThatCannotBeKept(t *testing.T) {
	kept := emptyCupboard()
	kept.m[bansKey] = []byte(`{"version":7}`)
	w := newDoorway(t, gate.Config{}, kept)
	if !strings.Contains(w.log.String(), "bans of before are lost") {
		t.Errorf("log %s", w.log)
	}
	kept.err = store.ErrDegraded
	if _, err := (steward{w.door}).Ban(netip.MustParsePrefix("192.0.2.1/32"), 0, ""); err != nil {
		t.Error(err)
	}
	if !strings.Contains(w.log.String(), "bans are not kept over a restart") || len(w.List()) != 1 {
		t.Errorf("log %s", w.log)
	}
	kept.err = nil
	if w.save(); !bytes.Contains(kept.m[bansKey], []byte("192.0.2.1")) {
		t.Error("not written when the store is well again")
	}
}

// The bans are written when the server ends.
func TestDoorEnds(t *testing.T) {
	w := newDoorway(t, gate.Config{BanAfter: 1}, emptyCupboard())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.run(ctx); close(done) }()
	w.failed("198.51.100.7:4711", &mqtt.Error{Code: mqtt.BadUserNameOrPassword})
	cancel()
	<-done
	if !bytes.Contains(w.kept.m[bansKey], []byte("198.51.100.7")) {
		t.Errorf("kept %s", w.kept.m[bansKey])
	}
}

// A connection that is closed while a load balancer says where it comes from is counted nowhere afterwards.
func TestClosedBehindLoadBalancer(t *testing.T) {
	w := newDoorway(t, gate.Config{Proxies: []string{"10.0.0.5"}, AddressRate: -1, AddressConnections: 1}, emptyCupboard())
	for range 200 {
		p := w.Enter(netip.MustParseAddr("10.0.0.5"))
		var end sync.WaitGroup
		end.Go(p.Leave)
		if _, err := p.From(strings.NewReader("PROXY TCP4 198.51.100.9 10.0.0.1 4711 8883\r\n")); err != nil {
			t.Fatal(err)
		}
		end.Wait()
	}
	if s := w.Stats(); s.Open != 0 || s.Handshakes != 0 {
		t.Errorf("%d are open, %d in the handshake", s.Open, s.Handshakes)
	}
	if p := w.Enter(netip.MustParseAddr("198.51.100.9")); p == nil {
		t.Error("the address counts one that has gone")
	}
}

func TestShedding(t *testing.T) {
	w := newDoorway(t, gate.Config{MemoryLimit: 1000}, emptyCupboard())
	stranger := netip.MustParseAddr("192.0.2.1")
	for _, step := range []struct {
		memory  int64
		level   gate.Level
		trouble bool
	}{
		{0, gate.Calm, false}, {799, gate.Calm, false}, {800, gate.ShedUnknown, true}, {760, gate.ShedUnknown, true},
		{980, gate.ShedQoS0, true}, {900, gate.ShedRetained, true}, {700, gate.Calm, false},
	} {
		w.memory = step.memory
		w.look()
		if got := w.Shedding(); got != step.level {
			t.Errorf("with %d of 1000: %v, want %v", step.memory, got, step.level)
		}
		if p := w.Enter(stranger); (p != nil) != (step.level == gate.Calm) {
			t.Errorf("with %d a stranger gets in: %v", step.memory, p != nil)
		} else if p != nil {
			p.Leave()
		}
		if got := w.trouble(); (len(got) == 1) != step.trouble {
			t.Errorf("with %d: trouble %q", step.memory, got)
		}
	}
	if want := "[1 4 3 0]"; fmt.Sprint(w.shed) != want {
		t.Errorf("the broker was told %v, want %s", w.shed, want)
	}
	for _, line := range []string{"level=WARN msg=\"memory is short\" level=shed_unknown before=calm used=800 limit=1000", "memory is less short", "memory is no longer short"} {
		if !strings.Contains(w.log.String(), line) {
			t.Errorf("no %s in\n%s", line, w.log)
		}
	}
	// While memory is short the garbage is collected now and then, since nobody else may cause it.
	w.memory = 950
	for range 3 * collectAfter {
		w.look()
	}
	if w.swept != 3 {
		t.Errorf("collected %d times", w.swept)
	}
	// Without a limit nothing is ever refused.
	if err := w.configure(gate.Config{}); err != nil {
		t.Fatal(err)
	}
	if w.look(); w.Shedding() != gate.Calm {
		t.Errorf("without a limit: %v", w.Shedding())
	}
}

// What is read of the memory grows with what is held, and not with garbage.
func TestMemoryUsed(t *testing.T) {
	used := memoryUsed()
	before := used()
	if before <= 0 || before > 4<<30 {
		t.Fatalf("%d bytes", before)
	}
	if n := testing.AllocsPerRun(10, func() { used() }); n > 0 {
		t.Errorf("%v allocations a reading", n)
	}
}

func TestCausesOfRefusedConnects(t *testing.T) {
	for want, errs := range map[string][]error{
		gate.CauseCredentials:   {&mqtt.Error{Code: mqtt.BadUserNameOrPassword}},
		gate.CauseClientID:      {&mqtt.Error{Code: mqtt.ClientIDNotValid}},
		gate.CauseProtocol:      {&mqtt.Error{Code: mqtt.MalformedPacket}, &mqtt.Error{Code: mqtt.ProtocolError}},
		gate.CauseRefused:       {&mqtt.Error{Code: mqtt.NotAuthorized}, &mqtt.Error{Code: mqtt.PacketTooLarge}, &mqtt.Error{Code: mqtt.Banned}},
		"":                      {&mqtt.Error{Code: mqtt.ServerBusy}, &mqtt.Error{Code: mqtt.ServerUnavailable}, errors.New("gone"), io.EOF},
		gate.CauseTimeout:       {fmt.Errorf("read CONNECT: %w", os.ErrDeadlineExceeded)},
		"client_certificate_ca": {fmt.Errorf("no: %w", &transport.HandshakeError{Cause: transport.CauseClientUnknownCA})},
	} {
		for _, err := range errs {
			if got := causeOf(err); got != want {
				t.Errorf("%v: %q, want %q", err, got, want)
			}
		}
	}
}

// A CONNECT that is refused is kept with all that is known of its client; what ends without a CONNECT is not.
func TestRefusedConnectsAreKept(t *testing.T) {
	p := &auth.Peer{Listener: "tls", Addr: "192.0.2.1:4711", SNI: "broker.lan", ALPN: "mqtt", TLSVersion: tls.VersionTLS13, Cert: &x509.Certificate{SerialNumber: big.NewInt(26)}}
	for want, err := range map[transport.Cause]error{
		transport.CauseCredentials:    &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "wrong"},
		transport.CauseConnectRefused: &mqtt.Error{Code: mqtt.ServerBusy, Text: "wrong"},
		transport.CauseNoConnect:      fmt.Errorf("wrong: %w", os.ErrDeadlineExceeded),
	} {
		e := refusal(p, err)
		if e == nil || e.Cause != want {
			t.Errorf("%v becomes %v", err, e)
			continue
		}
		f := e.Record(time.Unix(0, 0))
		if f.Code == "" || f.Peer != p.Addr || f.Listener != "tls" || f.ServerName != "broker.lan" || fmt.Sprint(f.Versions, f.ALPN) != "[TLS 1.3] [mqtt]" ||
			f.Certificate == nil || f.Certificate.Serial != "1a" || !strings.Contains(f.Error, "wrong") {
			t.Errorf("%v becomes %+v", err, f)
		}
	}
	he := &transport.HandshakeError{Cause: transport.CauseTLSOnPlain}
	if e := refusal(p, fmt.Errorf("read CONNECT: %w", he)); e != he {
		t.Errorf("a handshake becomes %v", e)
	}
	if e := refusal(p, io.EOF); e != nil {
		t.Errorf("who just leaves becomes %v", e)
	}
}

// Every cause of package transport is one that the gate weighs.
func TestGateKnowsCauses(t *testing.T) {
	w := newDoorway(t, gate.Config{}, emptyCupboard())
	for _, e := range transport.Explanations() {
		if _, ok := w.Stats().Failures[string(e.Cause)]; !ok {
			t.Errorf("the gate does not know %s", e.Cause)
		}
	}
}

// A pass of a load balancer's connection counts for the address in its header.
func TestPassFromLoadBalancer(t *testing.T) {
	w := newDoorway(t, gate.Config{Proxies: []string{"10.0.0.5"}, AddressConnections: 1}, emptyCupboard())
	lb := netip.MustParseAddr("10.0.0.5")
	enter := func(header string) (transport.Pass, netip.AddrPort, error) {
		p := w.Enter(lb)
		if p == nil || !p.Proxied() {
			t.Fatal("the load balancer is not let in, or not known")
		}
		from, err := p.From(strings.NewReader(header))
		return p, from, err
	}
	p, from, err := enter("PROXY TCP4 203.0.113.9 10.0.0.1 4711 8883\r\n")
	if err != nil || from.String() != "203.0.113.9:4711" {
		t.Errorf("%v, %v", from, err)
	}
	second, _, err := enter("PROXY TCP4 203.0.113.9 10.0.0.1 4712 8883\r\n")
	if err != transport.ErrRefused {
		t.Errorf("a second one: %v", err)
	}
	third, from, err := enter("PROXY UNKNOWN\r\n")
	if err != nil || from.IsValid() {
		t.Errorf("health check: %v, %v", from, err)
	}
	fourth, _, err := enter("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00")
	if !errors.Is(err, gate.ErrProxy) {
		t.Errorf("no header: %v", err)
	}
	for _, p := range []transport.Pass{p, second, third, fourth} {
		p.Leave()
	}
	if s := (steward{w.door}).Figures(); s.Open != 0 || s.Handshakes != 0 {
		t.Errorf("left behind: %+v", s)
	}
	if p := w.Enter(netip.MustParseAddr("10.0.0.6")); p.Proxied() {
		t.Error("a header is wanted of somebody else")
	}
}

// The way of a connection through the door costs its pass and nothing more.
func TestPassAllocations(t *testing.T) {
	w := newDoorway(t, gate.Config{AddressRate: -1, NetworkRate: -1, TotalRate: -1}, emptyCupboard())
	a := netip.MustParseAddr("192.0.2.1")
	n := testing.AllocsPerRun(1000, func() {
		p := w.Enter(a)
		p.Handshaken()
		p.Connected()
		p.Leave()
	})
	if n > 1 {
		t.Errorf("%v allocations a connection", n)
	}
}
