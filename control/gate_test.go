package control

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testGate bans what it is told to.
type testGate struct{ bans []Ban }

func (g *testGate) Bans() []Ban { return g.bans }

func (g *testGate) Ban(p netip.Prefix, d time.Duration, note string) (Ban, error) {
	if p.Bits() < 8 {
		return Ban{}, errors.New("too wide")
	}
	b := Ban{Prefix: p, Manual: true, Note: note}
	if d > 0 {
		b.Until = time.Unix(1_800_000_000, 0).UTC().Add(d)
	}
	g.bans = append(g.bans, b)
	return b, nil
}

func (g *testGate) Unban(p netip.Prefix) (ended, left []Ban) {
	for _, b := range g.bans {
		if b.Prefix == p {
			ended = append(ended, b)
		} else {
			left = append(left, b)
		}
	}
	g.bans = left
	return ended, left
}

func (g *testGate) Figures() GateStats {
	return GateStats{Open: 7, Level: "calm", Bans: len(g.bans), Verdicts: map[string]uint64{"admitted": 9}, MemoryLimit: 1 << 30}
}

// gated asks a gate over a pipe.
func gated(t *testing.T, g Gate) *Client {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	s := start(l, Options{}, self)
	p := &routes{s: s, mux: http.NewServeMux(), paths: make(map[string]string)}
	p.gate(g)
	s.mux.Store(p.mux)
	c := &Client{server: s}
	c.http.Transport = &http.Transport{DialContext: l.dial, DisableCompression: true}
	t.Cleanup(c.Close)
	return c
}

func TestGate(t *testing.T) {
	g := &testGate{}
	c, ctx := gated(t, g), t.Context()
	none, err := c.Bans(ctx)
	if err != nil || len(none) != 0 {
		t.Fatalf("%v, %v", none, err)
	}
	one := netip.MustParsePrefix("203.0.113.0/24")
	b, err := c.Ban(ctx, BanRequest{Prefix: one, For: 3600, Note: "scanner"})
	want := Ban{Prefix: one, Until: time.Unix(1_800_003_600, 0).UTC(), Manual: true, Note: "scanner"}
	if err != nil || !cmp.Equal(b, want, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
		t.Fatalf("%+v, %v", b, err)
	}
	if b, err = c.Ban(ctx, BanRequest{Prefix: netip.MustParsePrefix("2001:db8::/32")}); err != nil || !b.Until.IsZero() {
		t.Fatalf("%+v, %v", b, err)
	}
	if all, err := c.Bans(ctx); err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	s, err := c.GateStats(ctx)
	if err != nil || s.Open != 7 || s.Bans != 2 || s.Verdicts["admitted"] != 9 || s.MemoryLimit != 1<<30 {
		t.Errorf("%+v, %v", s, err)
	}
	u, err := c.Unban(ctx, UnbanRequest{Prefix: one})
	if err != nil || len(u.Ended) != 1 || u.Ended[0].Prefix != one || len(u.Left) != 1 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestGateRefuses(t *testing.T) {
	c, ctx := gated(t, &testGate{}), t.Context()
	for name, f := range map[string]func() error{
		"too wide": func() error { _, err := c.Ban(ctx, BanRequest{Prefix: netip.MustParsePrefix("0.0.0.0/0")}); return err },
		"for_seconds": func() error {
			_, err := c.Ban(ctx, BanRequest{Prefix: netip.MustParsePrefix("192.0.2.1/32"), For: -1})
			return err
		},
		"prefix is missing": func() error { _, err := c.Unban(ctx, UnbanRequest{}); return err },
		"unknown field":     func() error { return c.do(ctx, "POST", "/v1/gate/ban", map[string]int{"many": 1}, nil) },
	} {
		var e *Error
		if err := f(); !errors.As(err, &e) || !strings.Contains(e.Text, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	without := gated(t, nil)
	var e *Error
	if _, err := without.Bans(ctx); !errors.As(err, &e) || e.Code != CodeUnsupported {
		t.Errorf("without a gate: %v", err)
	}
	if _, err := without.GateStats(ctx); !errors.As(err, &e) {
		t.Errorf("without a gate: %v", err)
	}
}
