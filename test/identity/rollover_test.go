package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestRollover replaces the root of a fleet that goes on working: every device
// renews its certificate once, and nothing else happens to it.
func TestRollover(t *testing.T) {
	n, every, much := size(50, 500), 100*time.Millisecond, size(3, 100)
	if *long {
		every *= 2
	}
	h := newHome(t, twoListeners)
	h.sealmq(t, "init")
	all := h.fleet(t, n)
	b := h.start(t)
	root := []byte(h.read(t, "data/ca/root.pem"))
	members := make([]*member, n)
	for i, d := range all {
		members[i] = &member{t: t, b: b, id: d.id, next: all[(i+1)%n].id, answers: make(chan []byte, 4), pair: d.pair(t), roots: root}
	}
	both := func(do func(m *member) error, some ...*member) {
		t.Helper()
		each(len(some), func(i int) {
			if err := do(some[i]); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	both(func(m *member) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.connect(t.Context())
	}, members...)
	t.Cleanup(func() { each(n, func(i int) { members[i].leave() }) })

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var sending sync.WaitGroup
	for _, m := range members {
		sending.Go(func() { m.send(ctx, every) })
	}
	// work waits until everybody has sent a few more.
	work := func() {
		t.Helper()
		from := make([]int64, n)
		for i, m := range members {
			from[i] = m.sent.Load()
		}
		for i, m := range members {
			eventually(t, func() error {
				if now := m.sent.Load(); now < from[i]+int64(much) {
					return fmt.Errorf("%s has sent %d messages, %d before", m.id, now, from[i])
				}
				return nil
			})
		}
	}
	var status struct {
		State            string
		Devices, Renewed int
		Missing          []string
		Roots            []struct{ Seen int }
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		eventually(t, func() error {
			text := b.sealmq(t, "ca", "status", "--json")
			if err := json.Unmarshal([]byte(text), &status); err != nil {
				t.Fatalf("ca status: %v\n%s", err, text)
			}
			if !ok() {
				return fmt.Errorf("%s: not so:\n%s", what, text)
			}
			return nil
		})
	}

	work()
	slow, silent := members[0], members[1]
	silent.silent.Store(true)
	begin := time.Now()
	b.sealmq(t, "ca", "announce")
	await("all but one know the new root", func() bool { return len(status.Roots) == 2 && status.Roots[1].Seen == n-1 })
	t.Logf("%d of %d devices have told that they have the new root after %v", n-1, n, time.Since(begin).Round(time.Millisecond))
	b.refuses(t, "", "ca", "retire")
	work()

	b.sealmq(t, "ca", "switch")
	work()
	admitted(t, b.tls, all[1]) // with the old root alone, and a certificate of the old CA
	begin = time.Now()
	both((*member).renew, members[2:]...)
	t.Logf("%d devices have renewed their certificates after %v", n-2, time.Since(begin).Round(time.Millisecond))
	await("all but two have renewed", func() bool { return status.Renewed == n-2 && status.Devices == n })
	b.refuses(t, "new root", "ca", "retire")
	both((*member).renew, slow)
	b.refuses(t, fmt.Sprintf("%d of %d are known to have the new root", n-1, n), "ca", "retire")
	silent.silent.Store(false)
	silent.tellRoots()
	both((*member).renew, silent)
	await("all have renewed", func() bool { return status.Renewed == n && status.Roots[1].Seen == n })
	work()

	b.sealmq(t, "ca", "retire")
	work()
	late := all[2]
	late.ca = h.path("data/ca/root.pem")
	b.barred(t, b.tls, late)
	admitted(t, b.tls, h.add(t, "newcomer"))

	stop()
	sending.Wait()
	messages, unknown := 0, 0
	for i, m := range members {
		eventually(t, func() error {
			if left := m.session.Pending(); left > 0 {
				return fmt.Errorf("%s has %d messages that are not acknowledged", m.id, left)
			}
			return nil
		})
		m.acked.Range(func(text, _ any) bool {
			messages++
			eventually(t, func() error {
				if _, ok := members[(i+1)%n].got.Load(text); !ok {
					return fmt.Errorf("message %q was acknowledged, and has not arrived", text)
				}
				return nil
			})
			return true
		})
		if int64(countOf(&m.acked)) != m.sent.Load() {
			unknown++
		}
	}
	if unknown > 0 {
		t.Errorf("%d devices have messages that were not acknowledged", unknown)
	}
	t.Logf("%d devices, %d messages acknowledged, all arrived; no connection was lost but by renewal", n, messages)
}

func countOf(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}
