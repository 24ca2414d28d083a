package bench

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ConnectError tells that some connections failed while others did not.
type ConnectError struct {
	Failed, Tried int64
	First         error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("%d of %d connections failed, the first: %v", e.Failed, e.Tried, e.First)
}
func (e *ConnectError) Unwrap() error { return e.First }

// comers opens connections and counts what becomes of them.
type comers struct {
	r       *run
	session session
	paced   bool               // connections have a time at which they are due
	filter  func(i int) string // subscribed to once connected; nil: nothing
	keep    []*link            // where connections stay; nil: they leave at once
	times   Histogram
	resumed atomic.Int64
	present atomic.Int64
	opened  atomic.Int64
	failed  atomic.Int64
	mu      sync.Mutex
	first   error
}

// come is connection i of all, with the identity of client id. due is when it should begin, zero for as soon as possible.
func (c *comers) come(i, id int, due time.Time) error {
	began := due
	if due.IsZero() {
		began = time.Now()
	}
	r := c.r
	l, err := r.open(r.ctx, r.dial, id, name(r.cfg.ClientID, "c", id), c.session, 0)
	if err == nil && c.filter != nil {
		err = l.subscribe(c.filter(id), r.cfg.QoS)
		if err != nil {
			l.Close()
		}
	}
	if err != nil {
		return c.fail(err)
	}
	took := int64(time.Since(began))
	c.times.Record(took)
	r.connected.Add(1)
	c.opened.Add(1)
	if l.resumed {
		c.resumed.Add(1)
	}
	if l.present {
		c.present.Add(1)
	}
	if c.keep != nil {
		c.keep[i] = l
		return nil
	}
	l.bye()
	return nil
}

// fail counts a failure. A broker that lets nobody in ends the run.
func (c *comers) fail(err error) error {
	if c.r.ctx.Err() != nil {
		return err
	}
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
	}
	if c.opened.Load() == 0 {
		return err
	}
	return nil
}

// err is nil when all connections were made.
func (c *comers) err() error {
	if c.first == nil {
		return nil
	}
	n := c.failed.Load()
	return &ConnectError{Failed: n, Tried: n + c.opened.Load(), First: c.first}
}

// tell is what was counted between two moments.
func (c *comers) tell(from, to usage) *Connections {
	s := &Snapshot{}
	c.times.AddTo(s)
	sec := (to.at - from.at).Seconds()
	n := c.opened.Load()
	basis := "begun"
	if c.paced {
		basis = "due"
	}
	t := &Connections{
		Opened: n, Failed: c.failed.Load(), Seconds: sec, Latency: newLatency(s, basis, true),
		Resumed: c.resumed.Load(), Present: c.present.Load(),
	}
	if c.first != nil {
		t.First = c.first.Error()
	}
	if sec > 0 && n > 0 {
		t.Rate = float64(n) / sec
		t.CPU = (to.broker - from.broker).Seconds() * 1e3 / float64(n)
	}
	return t
}

func noCounts() (c counts) { return c }

// connect opens connections and closes them again.
func (r *run) connect() error {
	c := &comers{r: r, session: sessionKind(r.cfg.Persistent), paced: r.cfg.Rate > 0}
	if r.cfg.Persistent {
		defer r.forget("c", r.cfg.Clients)
	}
	n := r.cfg.Clients
	r.series.phase, r.series.asked = "connecting", int64(n)
	if r.cfg.Timed {
		n = math.MaxInt32
		r.series.asked, r.series.total = 0, r.cfg.Duration
	}
	r.result.Started = time.Now()
	r.watch(noCounts, c.times.AddTo)
	defer r.unwatch()
	s := Schedule{Rate: r.cfg.Rate, Ramp: r.cfg.Ramp}
	from := r.usage()
	began := time.Now()
	end := began.Add(r.cfg.Duration)
	err := r.each(n, 0, func(i int) error {
		var due time.Time
		if r.cfg.Rate > 0 {
			due = began.Add(s.At(int64(i)))
			if !r.sleep(due.Sub(r.epoch)) {
				return r.cause()
			}
		}
		if r.cfg.Timed && time.Now().After(end) {
			return io.EOF
		}
		id := i
		if r.cfg.Persistent { // whose sessions are forgotten in the end
			id %= r.cfg.Clients
		}
		return c.come(i, id, due)
	})
	to := r.usage()
	r.result.Connections = c.tell(from, to)
	r.result.Seconds = (to.at - from.at).Seconds()
	r.result.Broker, r.result.Generator = r.used(from, to)
	if err != nil && err != io.EOF {
		return err
	}
	return c.err()
}

// resume lets each client connect and leave, and then all of them come back. Config.Dial keeps their TLS tickets.
func (r *run) resume() error {
	cfg := &r.cfg
	r.series.phase, r.series.asked = "connecting", 2*int64(cfg.Clients)
	pass := func(filter func(int) string) (*comers, usage, usage, error) {
		c := &comers{r: r, session: sessionKind(cfg.Persistent), filter: filter}
		from := r.usage()
		err := r.each(cfg.Clients, cfg.Rate, func(i int) error { return c.come(i, i, time.Time{}) })
		if err == nil {
			err = c.err()
		}
		return c, from, r.usage(), err
	}
	r.result.Started = time.Now()
	r.watch(noCounts, func(*Snapshot) {})
	defer r.unwatch()
	if cfg.Persistent {
		defer r.forget("c", cfg.Clients)
	}
	var filter func(int) string
	if cfg.Persistent {
		filter = func(i int) string { return cfg.Topic + "/c/" + strconv.Itoa(i) }
	}
	c, from, to, err := pass(filter)
	r.result.First = c.tell(from, to)
	if err != nil {
		return err
	}
	r.series.setPhase("coming back")
	c, from, to, err = pass(nil)
	r.result.Connections = c.tell(from, to)
	r.result.Seconds = (to.at - from.at).Seconds()
	r.result.Broker, r.result.Generator = r.used(from, to)
	if cfg.Persistent {
		if n := r.result.Connections.Present; n < int64(cfg.Clients) && err == nil {
			r.result.warn("the broker kept the session of %d clients out of %d", n, cfg.Clients)
		}
	} else if r.result.Connections.Resumed == 0 {
		r.result.warn("no connection came back with a TLS session ticket: they were all made anew")
	}
	return err
}

// idle opens connections with a subscription each and keeps them for Duration.
func (r *run) idle() error {
	cfg := &r.cfg
	c := &comers{r: r, session: sessionKind(cfg.Persistent), keep: make([]*link, cfg.Clients)}
	if cfg.Persistent {
		defer r.forget("c", cfg.Clients)
	}
	c.filter = func(i int) string { return cfg.Topic + "/dev/" + strconv.Itoa(i) + "/cmd" }
	r.series.phase, r.series.asked = "connecting", int64(cfg.Clients)
	r.result.Started = time.Now()
	r.watch(noCounts, func(*Snapshot) {})
	defer r.unwatch()
	var readers sync.WaitGroup
	var ended atomic.Int64
	defer func() {
		r.cancel(errDone)
		r.leave(c.keep)
		readers.Wait()
	}()
	began := r.usage()
	err := r.each(cfg.Clients, cfg.Rate, func(i int) error { return c.come(i, i, time.Time{}) })
	if err == nil {
		err = c.err()
	}
	connected := r.usage()
	r.result.Connections = c.tell(began, connected)
	if err != nil {
		return err
	}
	runtime.GC()
	for _, l := range c.keep {
		readers.Go(func() {
			l.discard()
			if r.ctx.Err() == nil {
				ended.Add(1)
			}
		})
	}
	readers.Go(func() { r.keepAlive(c.keep) })
	r.series.setPhase("settling")
	r.sleep(connected.at + cfg.Warmup)
	r.series.setPhase("idle")
	from := r.usage()
	r.sleep(from.at + cfg.Duration)
	to := r.usage()
	r.result.Seconds = (to.at - from.at).Seconds()
	r.result.Broker, r.result.Generator = r.used(from, to)
	if b := r.result.Broker; b != nil {
		b.RSSBefore = began.rss
		b.BytesConnection = float64(to.rss-began.rss) / float64(cfg.Clients)
	}
	if n := ended.Load(); n > 0 && r.ctx.Err() == nil {
		return fmt.Errorf("%d of %d idle connections: %w", n, cfg.Clients, ErrLost)
	}
	return r.cause()
}

// leave ends connections, Parallel at a time.
func (r *run) leave(links []*link) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range r.cfg.Parallel {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(links) {
					return
				}
				if links[i] != nil {
					links[i].bye()
				}
			}
		})
	}
	wg.Wait()
}
