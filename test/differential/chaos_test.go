package differential

import (
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
)

// memory and files of a broker without clients.
type print struct {
	resident    int64
	descriptors int
}

func footprint(t *testing.T, b *broker) print {
	t.Helper()
	var p print
	var err error
	if p.resident, err = b.resident(); err != nil {
		t.Fatal(err)
	}
	if p.descriptors, err = b.descriptors(); err != nil {
		t.Fatal(err)
	}
	return p
}

// What a broker may keep when its clients have gone: caches and the garbage
// collector's slack, a spare goroutine here and there.
const (
	moreMemory      = 96 << 20
	moreGoroutines  = 5
	moreDescriptors = 3
)

// drained waits until the broker has closed its clients' connections.
func drained(t *testing.T, b *broker, before print) {
	t.Helper()
	for end := time.Now().Add(patience()); footprint(t, b).descriptors > before.descriptors+moreDescriptors && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
}

// checkAfter ends the broker and checks that it has forgotten its clients.
func checkAfter(t *testing.T, b *broker, before print) {
	t.Helper()
	drained(t, b, before)
	after := footprint(t, b)
	growth := after.resident - before.resident
	bound := int64(moreMemory)
	if built.Race {
		bound *= 4
	}
	if growth > bound || after.descriptors > before.descriptors+moreDescriptors {
		t.Errorf("%s keeps %d MB more and %d descriptors instead of %d", b.name, growth>>20, after.descriptors, before.descriptors)
	}
	for _, line := range b.complaints() {
		t.Errorf("%s says: %s", b.name, line)
	}
	idle, err := startSealmq(tested, t.TempDir(), !*onDisk)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{broker: idle, patience: patience(), ids: make(map[string]bool)}
	if err := s.ready(); err != nil {
		t.Fatal(err)
	}
	s.observer.close()
	expected, err := idle.goroutines()
	if err != nil {
		t.Fatal(err)
	}
	left, err := b.goroutines()
	if err != nil {
		t.Fatal(err)
	}
	b.err = nil // it was ended on purpose
	t.Logf("afterwards: %d MB resident (%+d), %d descriptors (%+d), %d goroutines; a broker that has done nothing has %d",
		after.resident>>20, growth>>20, after.descriptors, after.descriptors-before.descriptors, left, expected)
	if left > expected+moreGoroutines {
		t.Errorf("%s has %d goroutines left, a broker that has done nothing has %d", b.name, left, expected)
	}
}

// TestChaos plays sequences on many connections at once and waits for nothing.
func TestChaos(t *testing.T) {
	ours := startOurs(t)
	s := &side{broker: ours, patience: patience(), ids: make(map[string]bool)}
	if err := s.ready(); err != nil {
		t.Fatal(err)
	}
	before := footprint(t, ours)
	limit := *long
	if limit == 0 {
		limit = shortChaos
	}
	t.Logf("first seed %d", *first)
	const pairs = 3
	var mu sync.Mutex
	var wait sync.WaitGroup
	end := time.Now().Add(limit)
	played, steps := 0, 0
	for i := range pairs {
		for who := range 2 {
			wait.Go(func() {
				for seed := *first + uint64(i); time.Now().Before(end) && !ours.dead(); seed += pairs {
					ids, n := hammer(ours.address, sequence(seed), who)
					mu.Lock()
					played++
					steps += n
					for id := range ids {
						s.ids[id] = true
					}
					mu.Unlock()
				}
			})
		}
	}
	wait.Wait()
	t.Logf("%d halves of sequences with %d steps in %v, %d connections at a time", played, steps, limit, 2*pairs)
	if ours.dead() {
		t.Fatalf("sealmq ended: %v\n%v", ours.err, ours.complaints())
	}
	drained(t, ours, before)
	if err := s.watch(); err != nil {
		t.Fatal(err)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if err := s.settle(); err != nil {
		t.Fatal(err)
	}
	if err := s.wipe(); err != nil {
		t.Fatal(err)
	}
	s.observer.close()
	checkAfter(t, ours, before)
}

// hammer plays the steps of one of the two clients, and returns the client
// identifiers it has used and how many steps there were.
func hammer(address string, steps []step, who int) (map[string]bool, int) {
	s := &side{broker: &broker{address: address}, patience: patience(), ids: make(map[string]bool)}
	n := 0
	for _, st := range steps {
		if st.client != who {
			continue
		}
		n++
		if st.kind == open {
			s.leave(0)
			c, err := s.connect(st)
			if err != nil {
				continue
			}
			s.clients[0] = c
		}
		c := s.clients[0]
		if c == nil {
			continue
		}
		switch st.kind {
		case open, send:
			st.client = 0
			s.write(st, c)
			c.goOn()
		case acks:
			s.acknowledge(c, st)
		case drop:
			s.leave(0)
		}
	}
	s.leave(0)
	return s.ids, n
}
