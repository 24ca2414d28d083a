package auth

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"
)

// clock is a Backoff with a time of its own.
func clock(free int, longest time.Duration) (*Backoff, *time.Time) {
	now := time.Unix(1e9, 0)
	return NewBackoff(BackoffConfig{Free: free, Longest: longest}, func() time.Time { return now }), &now
}

// fail fails n times, each with another password.
func fail(b *Backoff, user, addr string, n int) (wait time.Duration) {
	for range n {
		wait = b.Failed(user, addr, []byte(rand.Text()))
	}
	return wait
}

func TestBackoffDoubles(t *testing.T) {
	b, now := clock(3, 10*time.Second)
	if wait := fail(b, "alice", "192.0.2.1:1", 3); wait != 0 || b.Wait("alice", "192.0.2.1:1") > 0 {
		t.Errorf("free failures cost %v", wait)
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if wait := fail(b, "alice", "192.0.2.1:2", 1); wait != want*time.Second {
			t.Errorf("got %v, want %ds", wait, want)
		}
	}
	if wait := b.Wait("alice", "192.0.2.1:3"); wait != 10*time.Second {
		t.Errorf("got %v", wait)
	}
	if b.Wait("alice", "192.0.2.2:3") > 0 || b.Wait("bob", "192.0.2.1:3") > 0 {
		t.Error("another address or user has to wait")
	}
	*now = now.Add(10 * time.Second)
	if b.Wait("alice", "192.0.2.1:3") > 0 {
		t.Error("the time does not end")
	}
	*now = now.Add(2 * time.Hour)
	if wait := fail(b, "alice", "192.0.2.1:1", 3); wait != 0 {
		t.Errorf("failures are never forgotten: %v", wait)
	}
	for range 100 { // no overflow
		fail(b, "alice", "192.0.2.1:1", 1)
	}
	if wait := b.Wait("alice", "192.0.2.1:1"); wait != 10*time.Second {
		t.Errorf("got %v", wait)
	}
}

// One user from everywhere, everybody from one address; and who is known from there is not held up.
func TestBackoffOfManyPlaces(t *testing.T) {
	b, now := clock(2, time.Minute)
	b.Succeeded("alice", "192.0.2.200:1")
	for i := range 21 {
		fail(b, "alice", fmt.Sprintf("192.0.2.%d:1", i), 1)
	}
	if b.Wait("alice", "198.51.100.1:1") <= 0 {
		t.Error("a user is guessed at from many addresses without end")
	}
	if b.Wait("alice", "192.0.2.200:2") > 0 {
		t.Error("who got in before is locked out by others")
	}
	for i := range 21 {
		fail(b, fmt.Sprint("user", i), "[2001:db8::1]:1", 1)
	}
	if b.Wait("new", "[2001:db8::ffff]:1") <= 0 || b.Wait("", "[2001:db8::2]:9") <= 0 {
		t.Error("an address tries many users without end")
	}
	if b.Wait("new", "[2001:db8:0:1::1]:1") > 0 {
		t.Error("another network has to wait")
	}
	*now = now.Add(25 * time.Hour)
	for i := range 25 {
		fail(b, "alice", fmt.Sprintf("192.0.2.%d:1", i), 1)
	}
	if b.Wait("alice", "192.0.2.200:2") <= 0 {
		t.Error("trust never ends")
	}
}

// A device that repeats one wrong password is not guessing.
func TestBackoffSamePassword(t *testing.T) {
	b, _ := clock(1, time.Minute)
	for range 100 {
		if wait := b.Failed("alice", "192.0.2.1:1", []byte("old")); wait != 0 {
			t.Fatalf("got %v", wait)
		}
	}
	if wait := b.Failed("alice", "192.0.2.1:1", []byte("other")); wait != time.Second {
		t.Errorf("got %v", wait)
	}
	if wait := b.Failed("alice", "192.0.2.1:1", nil); wait != 2*time.Second {
		t.Errorf("an unknown proof: %v", wait)
	}
	if wait := b.Failed("alice", "192.0.2.1:1", nil); wait != 4*time.Second {
		t.Errorf("another unknown proof: %v", wait)
	}
}

// The table does not grow without bound, and who has to wait stays in it.
func TestBackoffIsBounded(t *testing.T) {
	b, now := clock(1, 24*time.Hour)
	for range 30 {
		fail(b, "victim", "192.0.2.1:1", 1)
	}
	for i := range crowd {
		*now = now.Add(time.Millisecond)
		fail(b, fmt.Sprint("user", i), fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), 1)
	}
	if n := len(b.entries); n > crowd {
		t.Errorf("%d entries", n)
	}
	if b.Wait("victim", "192.0.2.1:1") <= 0 {
		t.Error("a flood of names makes the table forget")
	}
}

func TestPlace(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "pipe": "pipe", "": "",
	} {
		if got := place(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestBackoffConfig(t *testing.T) {
	for _, c := range []BackoffConfig{{}, {Free: 1}, {Longest: time.Second}} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []BackoffConfig{{Free: -1}, {Free: 1001}, {Longest: time.Millisecond}, {Longest: 25 * time.Hour}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
