package enroll

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTableIsBounded(t *testing.T) {
	tab := newTable[int](10)
	for i := range 100 {
		tab.with(strings.Repeat("x", 100)+strconv.Itoa(i), func(n *int) { *n++ })
	}
	if len(tab.m) != 10 {
		t.Errorf("%d remembered", len(tab.m))
	}
	for name := range tab.m {
		if len(name) > 64 {
			t.Errorf("a name of %d bytes", len(name))
		}
	}
	tab.with("a", func(n *int) { *n = 7 })
	tab.with("a", func(n *int) {
		if *n != 7 {
			t.Error("forgotten")
		}
	})
}

func TestHourly(t *testing.T) {
	var h hourly
	now := time.Unix(1e9, 0)
	for range 3 {
		if wait := h.take(now, 3); wait != 0 {
			t.Fatalf("wait %v", wait)
		}
	}
	if wait := h.take(now.Add(time.Minute), 3); wait != 59*time.Minute {
		t.Errorf("wait %v", wait)
	}
	if wait := h.take(now.Add(-time.Minute), 3); wait != 0 { // the clock was set back
		t.Errorf("wait %v", wait)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	now := time.Unix(1e9, 0)
	for i, want := range []time.Duration{0, 0, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		if b.failed(now, 10*time.Second); b.wait(now) != want {
			t.Errorf("failure %d: wait %v, want %v", i+1, b.wait(now), want)
		}
	}
	if b.wait(now.Add(9*time.Second)) != time.Second || b.wait(now.Add(2*time.Hour)) != 0 || b.failures != 0 {
		t.Errorf("%+v", b)
	}
}

func TestLines(t *testing.T) {
	var l lines
	now := time.Unix(1e9, 0)
	for i, c := range []struct {
		after time.Duration
		left  int
		ok    bool
	}{{0, 0, true}, {0, 0, false}, {999 * time.Millisecond, 0, false}, {time.Second, 2, true}, {2 * time.Second, 0, true}, {0, 0, true}} {
		if left, ok := l.take("a", now.Add(c.after)); left != c.left || ok != c.ok {
			t.Errorf("%d: %d, %v", i, left, ok)
		}
	}
	if _, ok := l.take("b", now); !ok {
		t.Error("another kind")
	}
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7:4711": "192.0.2.7", "192.0.2.7": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8::1]:1": "2001:db8::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "", "": ""} {
		if got := network(addr); got != want {
			t.Errorf("%s: %q", addr, got)
		}
	}
}

func TestClip(t *testing.T) {
	for s, want := range map[string]string{"": "", "abc": "abc", "a\nb": "a\uFFFDb", "\xff": "\uFFFD"} {
		if got := clip(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
	if got := clip(strings.Repeat("ü", 1000)); len(got) > 80+4 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
