package crash

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// world is what all clients of a run share.
type world struct {
	journal    *journal
	broker     *broker
	trigger    trigger
	up         atomic.Bool   // clients may connect
	calm       atomic.Bool   // no more mischief, nothing new
	unfinished atomic.Int64  // messages in flight to the broker
	done       chan struct{} // closed at the end
}

// trigger kills the broker when a client receives the n-th packet of a type.
type trigger struct {
	mu   sync.Mutex
	typ  packetType
	left int
}

func (t *trigger) arm(typ packetType, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.typ, t.left = typ, n
}

func (t *trigger) saw(typ packetType, b *broker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if typ != t.typ || t.left == 0 {
		return
	}
	if t.left--; t.left == 0 {
		b.signal(syscall.SIGKILL)
	}
}

// Publishers, each with topics of its own besides those of all, and subscribers.
const (
	publishers  = 6
	subscribers = 5
)

// run puts a program to the test and returns the journal. The seed decides what
// clients and conductor do, though not how it falls together in time.
func run(p program, dir string, seed uint64, kills int) ([]event, error) {
	j := &journal{begin: time.Now()}
	b, err := newBroker(p, dir, j)
	if err != nil {
		return nil, err
	}
	w := &world{journal: j, broker: b, done: make(chan struct{})}
	c := &conductor{client: newClient(w, "probe", seed, 0)}
	c.version, c.secure = 4, false
	if err := b.start(); err != nil {
		return nil, err
	}
	var clients sync.WaitGroup
	for i := range subscribers {
		clients.Go(newSubscriber(w, seed, i).run)
	}
	for i := range publishers {
		p := &publisher{client: newClient(w, fmt.Sprintf("p%d", i), seed, 200+i), durable: i != publishers-1}
		clients.Go(p.run)
	}
	m := &willMaker{client: newClient(w, "", seed, 301)}
	clients.Go(m.run)

	c.conduct(kills)

	close(w.done)
	clients.Wait()
	b.stop()
	b.inspect()
	return j.snapshot(), nil
}

// newSubscriber gives the first two filters that stay, so that every message has
// a subscriber for each QoS; with the others some come and go.
func newSubscriber(w *world, seed uint64, i int) *subscriber {
	s := &subscriber{client: newClient(w, fmt.Sprintf("s%d", i), seed, 100+i)}
	for _, name := range []string{"c/a/+", "c/b/0", "c/b/1", "c/r/#", "c/w/#"} {
		f := &filter{name: name, qos: byte(2 - i%2), wanted: true}
		if i >= 2 {
			f.qos, f.comes = byte(1+s.rng.IntN(2)), s.chance(2)
			f.wanted = !f.comes || s.chance(2)
		}
		s.filters = append(s.filters, f)
	}
	return s
}

// conductor kills and restarts the broker, and looks at the retained messages.
type conductor struct {
	client
	failed bool // something was waited for in vain: no more patience is due
}

func (c *conductor) conduct(kills int) {
	c.ready()
	if kills == 0 {
		c.sleep(4 * time.Second)
	}
	for last := min(kills, 1); kills > last; {
		c.provoke()
		kills--
		for c.restart(); kills > last && c.chance(6); kills-- { // in the middle of its start
			c.sleep(c.between(0, 150))
			c.broker.signal(syscall.SIGKILL)
			c.restart()
		}
		c.ready()
	}
	c.calm.Store(true)
	c.drain()
	if kills > 0 { // what has been delivered must not come again
		c.broker.signal(syscall.SIGKILL)
		c.restart()
		c.ready()
		c.drain()
	}
	c.look()
}

// provoke waits for a random moment, or for a random acknowledgement, and kills.
func (c *conductor) provoke() {
	if c.chance(3) {
		c.sleep(c.between(50, 1200))
		c.broker.signal(syscall.SIGKILL)
		return
	}
	kinds := []struct {
		typ  packetType
		most int
	}{{tPuback, 200}, {tPubrec, 150}, {tPubcomp, 150}, {tPublish, 300}, {tPubrel, 200}, {tSuback, 8}, {tUnsuback, 2}, {tConnack, 15}}
	kind := kinds[c.rng.IntN(len(kinds))]
	c.trigger.arm(kind.typ, 1+c.rng.IntN(kind.most))
	select {
	case <-c.broker.process.Load().gone:
	case <-time.After(3 * time.Second):
		c.broker.signal(syscall.SIGKILL)
	}
	c.trigger.arm(0, 0)
}

// restart waits for the end of the broker that was killed and starts it again.
func (c *conductor) restart() {
	c.up.Store(false)
	<-c.broker.process.Load().gone
	if err := c.broker.start(); err != nil {
		c.journal.trouble("-", "start: %v", err)
	}
}

// ready waits until the broker serves, then lets the clients in. At times the
// retained messages are looked at before, while nobody changes them.
func (c *conductor) ready() {
	defer c.up.Store(true)
	for end := time.Now().Add(3 * patience); ; c.sleep(2 * time.Millisecond) {
		conn, err := c.broker.dial(c.secure)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			c.journal.trouble("-", "the broker does not serve: %v", err)
			return
		}
	}
	if c.chance(2) {
		c.look()
	}
}

// look subscribes to the retained messages and waits for all that must be there.
func (c *conductor) look() {
	l, _, ok := c.open(true, false, nil)
	if !ok {
		return
	}
	defer l.close()
	must := make(map[string]bool)
	for topic, v := range retainedIn(c.journal.snapshot()) {
		if !v.mayBeAbsent() {
			must[topic] = true
		}
	}
	c.journal.add(event{kind: probe, client: c.name, conn: l.n})
	l.write(encodeSubscribe(c.version, 1, "c/r/#", 0))
	wait := patience / 4
	for {
		if len(must) == 0 {
			wait = 50 * time.Millisecond // for what must not be there
		} else if c.failed {
			wait = 300 * time.Millisecond
		}
		select {
		case p, open := <-l.in:
			if open && p.typ == tPublish {
				delete(must, p.topic)
				m, _ := parseMessage(p.topic, p.payload)
				c.journal.add(event{kind: retained, client: c.name, conn: l.n, message: m.id, topic: p.topic, qos: m.qos})
			}
			if open {
				continue
			}
		case <-time.After(wait):
			c.failed = c.failed || len(must) > 0
			c.journal.add(event{kind: probeEnd, client: c.name, conn: l.n})
		}
		return
	}
}

// drain waits until everything has arrived that must, or nothing arrives any more.
func (c *conductor) drain() {
	const still = 2500 * time.Millisecond // longer than a will's delay
	var last int
	wait := 4 * still
	if c.failed {
		wait = still
	}
	for changed := time.Now(); time.Since(changed) < wait; c.sleep(still / 5) {
		events := c.journal.snapshot()
		if n := len(events); n != last {
			last, changed = n, time.Now()
		}
		lost := func(f fault) bool { return f.kind == lostMessage || f.kind == lostWill }
		if time.Since(changed) >= still && c.unfinished.Load() == 0 && !slices.ContainsFunc(check(events).faults, lost) {
			return
		}
	}
	c.failed = true
}
