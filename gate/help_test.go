package gate

import (
	"bytes"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is a gate with its clock and log.
type house struct {
	*Gate
	*clock
	t   *testing.T
	log *bytes.Buffer
}

func newHouse(t *testing.T, cfg Config) *house {
	t.Helper()
	return houseAt(t, cfg, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
}

func houseAt(t *testing.T, cfg Config, now time.Time) *house {
	t.Helper()
	h := &house{clock: &clock{now: now}, t: t, log: &bytes.Buffer{}}
	g, err := New(cfg, Options{Log: slog.New(slog.NewTextHandler(h.log, nil)), Now: h.Now})
	if err != nil {
		t.Fatal(err)
	}
	h.Gate = g
	return h
}

// open lets a connection in.
func (h *house) open(addr string) *Ticket {
	h.t.Helper()
	t, v := h.Enter(netip.MustParseAddr(addr))
	if v != Admitted {
		h.t.Fatalf("%s: %v", addr, v)
	}
	return &t
}

// client lets a connection in that gets through CONNECT.
func (h *house) client(addr string) *Ticket {
	h.t.Helper()
	t := h.open(addr)
	if v := t.Handshaken(); v != Admitted {
		h.t.Fatalf("%s: %v", addr, v)
	}
	t.Connected()
	return t
}

// want enters and leaves at once if the verdict is that.
func (h *house) want(addr string, want Verdict) {
	h.t.Helper()
	t, v := h.Enter(netip.MustParseAddr(addr))
	if v != want {
		h.t.Fatalf("%s: %v, want %v", addr, v, want)
	}
	t.Leave()
}

// fail lets an address fail several times, and tells when it was banned: 0 never.
func (h *house) fail(addr, cause string, times int) int {
	for i := 1; i <= times; i++ {
		if h.Failed(netip.MustParseAddr(addr), cause) {
			return i
		}
	}
	return 0
}
