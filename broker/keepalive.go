package broker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
)

// wheel ends connections that were silent for too long, and those whose principal's time has come. A connection is looked
// at when its limit could have run out at the earliest, and every four minutes, so that a wall clock that was set counts:
// traffic costs one store and an idle connection no timer.
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
	farAway    = 100 * 365 * 24 * time.Hour // as good as never
)

// keepAlive is a connection's place in the wheel.
type keepAlive struct {
	last       atomic.Int64  // when the client was last heard of, on the broker's clock
	limit      time.Duration // one and a half times the keep alive; 0: none
	until      int64         // Principal.Until in nanoseconds since 1970; 0: never
	prev, next *Conn
	slot       int32
	listed     bool
}

func (k *keepAlive) seen(now time.Duration) { k.last.Store(int64(now)) }

func (w *wheel) init(b *Broker) { w.b = b }

// add starts to watch a connection that is to be heard of once in every limit and ends at a time; zero values set no end.
func (w *wheel) add(c *Conn, limit time.Duration, until time.Time) {
	c.alive.seen(w.b.now())
	at := int64(0)
	if !until.IsZero() && time.Until(until) < farAway {
		at = until.UnixNano()
	}
	if limit == 0 && at == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return
	}
	c.alive.limit, c.alive.until = limit, at
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
	end := time.Duration(math.MaxInt64)
	if k.limit != 0 {
		end = time.Duration(k.last.Load()) + k.limit
	}
	if k.until != 0 {
		end = min(end, w.b.now()+time.Duration(k.until-time.Now().UnixNano()))
	}
	due := int64(end/wheelTick) + 1
	k.slot = int32(max(due, w.at+1) % wheelSlots)
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
	var late, over []*Conn
	w.mu.Lock()
	now, wall := w.b.now(), time.Now().UnixNano()
	for end := int64(now / wheelTick); w.at < end; {
		w.at++
		for c := w.slots[w.at%wheelSlots]; c != nil; {
			k := &c.alive
			next := k.next
			w.take(c)
			switch {
			case k.until != 0 && wall >= k.until:
				w.n--
				over = append(over, c)
			case k.limit != 0 && now-time.Duration(k.last.Load()) >= k.limit && !c.isPaused():
				w.n--
				late = append(late, c)
			default:
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
	w.b.share(len(over), func(i int) { over[i].kick(mqtt.MaximumConnectTime, over[i].whyOver()) })
}

// whyOver tells a client whose identity has ended what it can do.
func (c *Conn) whyOver() string {
	return pastUntil(c.sess.rights.Load().Principal)
}

func pastUntil(p *auth.Principal) string {
	at := p.Until.UTC().Format(time.RFC3339)
	if p.Cert.Serial == "" {
		return "the identity was valid until " + at
	}
	return "the client certificate was valid until " + at +
		": ask for a new one with $pki/renew/request on a listener for enrolment, or sealmq device renew ID"
}

func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
