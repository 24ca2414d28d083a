package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// wheel ends connections that were silent for too long. A connection is looked at when its limit could have run out at
// the earliest, so traffic costs one store and an idle connection no timer.
type wheel struct {
	b *Broker

	mu    sync.Mutex
	slots [wheelSlots]*Conn // heads of doubly linked lists
	at    int64             // the tick reached
	n     int
	timer *time.Timer // nil while nothing is watched
	off   bool
}

const (
	wheelTick  = 500 * time.Millisecond
	wheelSlots = 512
)

// keepAlive is a connection's place in the wheel.
type keepAlive struct {
	last       atomic.Int64  // when the client was last heard of, on the broker's clock
	limit      time.Duration // one and a half times the keep alive; 0: none
	prev, next *Conn
	slot       int
	listed     bool
}

func (k *keepAlive) seen(now time.Duration) { k.last.Store(int64(now)) }

func (w *wheel) init(b *Broker) { w.b = b }

// add starts to watch a connection that is to be heard of once in every limit.
func (w *wheel) add(c *Conn, limit time.Duration) {
	c.alive.seen(w.b.now())
	if limit == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return
	}
	c.alive.limit = limit
	if w.timer == nil {
		w.at = int64(w.b.now() / wheelTick)
		w.timer = time.AfterFunc(wheelTick, w.tick)
	}
	w.n++
	w.put(c)
}

// put lists a connection for the tick after its limit. The caller holds mu.
func (w *wheel) put(c *Conn) {
	k := &c.alive
	due := int64((time.Duration(k.last.Load())+k.limit)/wheelTick) + 1
	k.slot = int(max(due, w.at+1) % wheelSlots)
	k.prev, k.next, k.listed = nil, w.slots[k.slot], true
	if k.next != nil {
		k.next.alive.prev = c
	}
	w.slots[k.slot] = c
}

func (w *wheel) take(c *Conn) {
	k := &c.alive
	if k.prev != nil {
		k.prev.alive.next = k.next
	} else {
		w.slots[k.slot] = k.next
	}
	if k.next != nil {
		k.next.alive.prev = k.prev
	}
	k.prev, k.next, k.listed = nil, nil, false
}

// remove stops watching a connection.
func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.alive.listed {
		w.take(c)
		w.n--
	}
}

// tick looks at the connections of the slots that have come due.
func (w *wheel) tick() {
	var late []*Conn
	w.mu.Lock()
	now := w.b.now()
	for end := int64(now / wheelTick); w.at < end; {
		w.at++
		for c := w.slots[w.at%wheelSlots]; c != nil; {
			next := c.alive.next
			w.take(c)
			if now-time.Duration(c.alive.last.Load()) >= c.alive.limit && !c.isPaused() {
				w.n--
				late = append(late, c)
			} else {
				w.put(c)
			}
			c = next
		}
	}
	w.timer = nil
	if w.n > 0 && !w.off {
		w.timer = time.AfterFunc(wheelTick, w.tick)
	}
	w.mu.Unlock()
	for _, c := range late {
		w.b.spawn(func() {
			wk := w.b.worker()
			wk.count(keepAliveTimeout, 1)
			w.b.release(wk)
			c.kick(mqtt.KeepAliveTimeout, "nothing was received for one and a half times the keep alive") // [MQTT-3.1.2-22]
		})
	}
}

func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
