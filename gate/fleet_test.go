package gate

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// event is something that happens to a device of a simulated fleet.
type event struct {
	at     time.Duration
	device int
	what   int // dial, handshake over, CONNECT over
}

type agenda []event

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(e any)        { *a = append(*a, e.(event)) }
func (a *agenda) Pop() any {
	e := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return e
}

// reconnect simulates a fleet behind one address that connects anew, all within a second, to a server that does a number of
// handshakes a second, of which none is faster than the devices are. Who is refused or takes more than 15 s tries again,
// as clients do: after 1 s, twice as long each time up to 2 min, more or less by half.
func reconnect(h *house, devices, handshakesPerSecond int, device time.Duration) (took time.Duration, refused int) {
	const (
		dial = iota
		shaken
		done
	)
	rng := rand.New(rand.NewPCG(1, 2))
	addr := netip.MustParseAddr("198.51.100.1")
	var todo agenda
	backoff := make([]time.Duration, devices)
	tickets := make([]Ticket, devices)
	late := make([]bool, devices)
	for i := range devices {
		backoff[i] = time.Second
		heap.Push(&todo, event{time.Duration(rng.Int64N(int64(time.Second))), i, dial})
	}
	again := func(now time.Duration, d int) {
		heap.Push(&todo, event{now + backoff[d]/2 + time.Duration(rng.Int64N(int64(backoff[d]))), d, dial})
		backoff[d] = min(2*backoff[d], 2*time.Minute)
	}
	var now, free time.Duration // when the processor is free again
	for len(todo) > 0 {
		e := heap.Pop(&todo).(event)
		h.pass(e.at - now)
		now = e.at
		tk := &tickets[e.device]
		switch e.what {
		case dial:
			var v Verdict
			if *tk, v = h.Enter(addr); v != Admitted {
				refused++
				again(now, e.device)
				continue
			}
			free = max(free, now) + time.Second/time.Duration(handshakesPerSecond)
			end := max(free, now+device)
			late[e.device] = end-now > 15*time.Second
			heap.Push(&todo, event{min(end, now+15*time.Second), e.device, shaken})
		case shaken:
			if late[e.device] || tk.Handshaken() != Admitted {
				tk.Leave()
				again(now, e.device)
				continue
			}
			heap.Push(&todo, event{now + 50*time.Millisecond, e.device, done})
		case done:
			tk.Connected()
			took = now
		}
	}
	return took, refused
}

// The defaults let 10,000 devices behind one address come back: within the time that two processors need for the handshakes
// and some patience, and also if every device needs 8 s for its own.
func TestFleetBehindOneAddress(t *testing.T) {
	for _, c := range []struct {
		name   string
		device time.Duration
		within time.Duration
	}{
		{"quick devices", 200 * time.Millisecond, 40 * time.Second},
		{"slow devices", 8 * time.Second, 90 * time.Second},
	} {
		h := newHouse(t, Config{})
		took, refused := reconnect(h, 10_000, 1500, c.device)
		t.Logf("%s: %v, %d refusals", c.name, took.Round(time.Second/10), refused)
		if took > c.within {
			t.Errorf("%s took %v", c.name, took)
		}
		if s := h.Stats(); s.Open != 10_000 || s.Handshakes != 0 || s.Connects != 0 {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}
