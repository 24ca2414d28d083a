package bench

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// traffic is a run that sends messages.
type traffic struct {
	*run
	pubs   []*publisher
	subs   []*subscriber
	copies int64 // deliveries of each message
	events Schedule
	from   int64        // measured time begins, nanoseconds since the epoch
	stopAt atomic.Int64 // and ends: nothing is due from here on
	late   Histogram

	// From a message to its receivers, and back to its publisher. Several of each, so that subscribers on different processors seldom touch the same.
	lat, latWarm, ack [4]Histogram

	filled atomic.Int64 // Backlog: messages that wait

	readers sync.WaitGroup
	closing atomic.Bool
}

// never is a time to stop that is not known yet.
const never = int64(1) << 62

func (r *run) traffic() error {
	t := &traffic{run: r, copies: 1}
	cfg := &r.cfg
	if cfg.Scenario == Fanout || cfg.Scenario == Fanin {
		t.copies = int64(cfg.Subscribers)
	}
	t.events = Schedule{Rate: cfg.Rate / float64(cfg.Burst), Ramp: cfg.Ramp}
	t.stopAt.Store(never)
	t.series.phase, t.series.asked = "connecting", int64(cfg.Publishers+cfg.Subscribers)
	if cfg.Scenario == Storm {
		t.series.asked += int64(cfg.Storm)
	}
	for i := range cfg.Publishers {
		t.pubs = append(t.pubs, newPublisher(t, i))
	}
	for i := range cfg.Subscribers {
		t.subs = append(t.subs, t.newSubscriber(i))
	}
	defer t.close()
	t.watch(t.counts, t.latencies)
	defer t.unwatch()
	defer t.forgetAll()
	if cfg.Scenario == Backlog {
		if err := t.leaveBacklog(); err != nil {
			return err
		}
	}
	if err := t.join(); err != nil {
		return err
	}
	return t.measure()
}

// forgetAll ends what persistent sessions there are, once their connections have ended.
func (t *traffic) forgetAll() {
	cfg := &t.cfg
	t.close()
	if cfg.Persistent {
		t.forget("s", cfg.Subscribers)
	}
	if cfg.PersistentPublishers {
		t.forget("p", cfg.Publishers)
	}
	if cfg.Scenario == Backlog {
		t.forget("b", 1)
	}
}

// topic is where publisher i sends its message j, counted modulo Topics.
func (t *traffic) topic(i, j int) string {
	s := t.cfg.Topic + "/p/" + strconv.Itoa(i)
	if t.cfg.Topics > 1 {
		s += "/" + strconv.Itoa(j)
	}
	return s
}

// filter is what subscriber i asks for.
func (t *traffic) filter(i int) string {
	cfg := &t.cfg
	switch {
	case cfg.Scenario == Shared:
		return "$share/bench/" + cfg.Topic + "/p/#"
	case cfg.Scenario == Fanin, cfg.Scenario == Fanout && (cfg.Publishers > 1 || cfg.Topics > 1):
		return cfg.Topic + "/p/#"
	case cfg.Scenario == Fanout:
		return t.topic(0, 0)
	case cfg.Topics > 1:
		return cfg.Topic + "/p/" + strconv.Itoa(i) + "/#"
	}
	return t.topic(i, 0)
}

func (t *traffic) newSubscriber(i int) *subscriber {
	s := &subscriber{t: t}
	s.lat.to = &t.lat[i%len(t.lat)]
	s.latWarm.to = &t.latWarm[i%len(t.latWarm)]
	if t.cfg.Scenario == Offline {
		// How long a message waited for its receiver says nothing of the broker.
		s.lat.to = s.latWarm.to
	}
	switch t.cfg.Scenario {
	case Shared:
	case Fanout, Fanin:
		s.next = make([]uint32, t.cfg.Publishers)
	default:
		s.first, s.next = i, make([]uint32, 1)
	}
	return s
}

// buffer is what is read from the kernel at a time: more for fewer connections.
func buffer(connections int) int { return min(max(4<<20/connections, 4<<10), 64<<10) }

// join brings all clients in, subscribers first.
func (t *traffic) join() error {
	cfg := &t.cfg
	size := buffer(cfg.Subscribers)
	err := t.each(cfg.Subscribers, cfg.ConnectRate, func(i int) error {
		l, err := t.enter(sessionKind(cfg.Persistent), i, name(cfg.ClientID, "s", i), size)
		if err != nil {
			return err
		}
		if cfg.Scenario == Offline {
			defer l.bye()
		} else {
			t.subs[i].l = l
		}
		return l.subscribe(t.filter(i), cfg.QoS)
	})
	if err != nil {
		return err
	}
	return t.each(cfg.Publishers, cfg.ConnectRate, func(i int) error {
		l, err := t.enter(sessionKind(cfg.PersistentPublishers), cfg.Subscribers+i, name(cfg.ClientID, "p", i), 2<<10)
		if err != nil {
			return err
		}
		t.pubs[i].connected(l)
		return nil
	})
}

// measure lets the messages flow.
func (t *traffic) measure() error {
	cfg := &t.cfg
	links := make([]*link, 0, len(t.subs)+len(t.pubs))
	runtime.GC() // what connecting left behind
	t.result.Started = time.Now()
	begin := time.Since(t.epoch) + 20*time.Millisecond
	from := begin + cfg.Ramp + cfg.Warmup
	t.from = int64(from)
	if !cfg.disturbed() {
		t.stopAt.Store(int64(from + cfg.Duration))
		t.series.mu.Lock()
		t.series.total = from + cfg.Duration
		t.series.mu.Unlock()
	}
	for _, s := range t.subs {
		if s.l != nil {
			t.receive(s)
			links = append(links, s.l)
		}
	}
	for i, p := range t.pubs {
		p.l.sock.epoch = t.epoch
		t.read("publisher "+strconv.Itoa(i), p.run)
		links = append(links, p.l)
	}
	t.readers.Go(func() { t.keepAlive(links) })

	var senders sync.WaitGroup
	ctx, stopSending := context.WithCancel(t.ctx)
	defer stopSending()
	if cfg.Rate > 0 {
		pacers := min(runtime.GOMAXPROCS(0), len(t.pubs))
		for w := range pacers {
			senders.Go(func() { t.failed("pace", t.pace(int64(begin), w, pacers)) })
		}
	} else {
		for i, p := range t.pubs {
			senders.Go(func() { t.failed("publisher "+strconv.Itoa(i), p.saturate(ctx)) })
		}
		t.readers.Go(t.forgive)
	}
	t.series.setPhase("warming up")
	t.sleep(from)
	t.series.setPhase("measuring")
	before, c0 := t.usage(), t.counts()
	var disturbed *disturbance
	if cfg.disturbed() {
		disturbed = t.disturb(from + cfg.Duration)
	} else {
		t.sleep(from + cfg.Duration)
	}
	after, c1 := t.usage(), t.counts()
	t.series.setPhase("draining")
	t.drain(&senders, stopSending)
	if cfg.Scenario == Offline && t.ctx.Err() == nil {
		if err := t.collect(); err != nil {
			t.cancel(err)
		}
	}
	t.tell(before, after, c0, c1)
	if disturbed != nil {
		t.tellDisturbance(disturbed)
	}
	err := t.cause()
	// A writer that the broker keeps waiting ends with its connection.
	t.close()
	senders.Wait()
	if err == nil {
		err = t.refusals()
	}
	if err == nil && disturbed != nil {
		err = disturbed.err
	}
	return err
}

// receive begins to read for a subscriber.
func (t *traffic) receive(s *subscriber) {
	s.l.sock.epoch, s.l.sock.before = t.epoch, s.settle
	t.read("a subscriber", s.run)
}

// expected is how many deliveries the messages of the measured time shall have.
func (t *traffic) expected() (n uint64) {
	for _, p := range t.pubs {
		n += uint64(p.measured.Load() * p.copies)
	}
	return n
}

// read runs a reader until its connection ends.
func (t *traffic) read(who string, f func() error) {
	t.readers.Go(func() { t.failed(who, f()) })
}

// failed ends the run unless it is at its end anyway.
func (t *traffic) failed(who string, err error) {
	if err != nil && !t.closing.Load() {
		t.cancel(lost(who, err))
	}
}

// pace tells every publisher w, w+step, w+2·step… when its messages are due. begin is when the schedule starts.
func (t *traffic) pace(begin int64, w, step int) error {
	s, err := newSleeper()
	if err != nil {
		return err
	}
	defer s.close()
	all := int64(len(t.pubs))
	due := make([]int64, all)
	waiting := make([]*publisher, 0, all)
	round, i := int64(0), int64(w)
	for t.ctx.Err() == nil {
		now, stop := t.now(), t.stopAt.Load()
		var at int64
		for n := 0; n < 4096; n++ {
			at = begin + int64(t.events.At(round*all+i))
			if at > now || at >= stop {
				break
			}
			if due[i] == 0 {
				waiting = append(waiting, t.pubs[i])
			}
			due[i] += int64(t.cfg.Burst)
			if i += int64(step); i >= all {
				round, i = round+1, int64(w)
			}
		}
		for _, p := range waiting {
			if err := p.pace(due[p.i]); err != nil {
				return err
			}
			due[p.i] = 0
		}
		waiting = waiting[:0]
		if at >= stop {
			return nil
		}
		// Not longer, so that a stop is noticed.
		s.sleep(min(time.Duration(at-t.now()), 50*time.Millisecond))
	}
	return nil
}

// dueAt is when message number n of publisher i is due, nanoseconds since the epoch.
func (t *traffic) dueAt(i int, n int64) int64 {
	begin := t.from - int64(t.cfg.Ramp) - int64(t.cfg.Warmup)
	return begin + int64(t.events.At(n/int64(t.cfg.Burst)*int64(len(t.pubs))+int64(i)))
}

// forgive opens the window of publishers again whose messages the broker has dropped.
func (t *traffic) forgive() {
	seen := make([]int64, len(t.pubs))
	tick := time.NewTicker(min(t.cfg.Drain, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		for i, p := range t.pubs {
			progress := p.sent.Load() + p.delivered.Load() + p.acked.Load()
			missing := p.sent.Load()*p.copies - p.delivered.Load() - p.forgiven.Load()
			if progress == seen[i] && missing > 0 {
				p.forgiven.Add(missing)
				p.rouse()
			}
			seen[i] = progress
		}
	}
}

// drain waits for what is on its way, until nothing has moved for Drain.
func (t *traffic) drain(senders *sync.WaitGroup, stopSending func()) {
	if t.cfg.Rate == 0 {
		stopSending()
	}
	var sending atomic.Bool // all that was due has not been looked at yet
	sending.Store(true)
	t.readers.Go(func() {
		senders.Wait()
		sending.Store(false)
	})
	for last, since := uint64(0), time.Now(); t.ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		done := !sending.Load()
		var got, unacked, moved uint64
		for _, p := range t.pubs {
			acked := uint64(p.acked.Load())
			moved += acked
			if t.cfg.QoS > 0 {
				unacked += uint64(p.sent.Load()) - acked
			}
		}
		for _, s := range t.subs {
			got += s.measured.Load() - s.doubled.Load()
			moved += s.received.Load()
		}
		if done && (got >= t.expected() || t.cfg.Scenario == Offline) && unacked == 0 && !t.owing() {
			return
		}
		if moved != last {
			last, since = moved, time.Now()
		} else if time.Since(since) > t.cfg.Drain {
			return
		}
	}
}

// owing tells whether a publisher has not sent all that was due.
func (t *traffic) owing() bool {
	for _, p := range t.pubs {
		if p.behind.Load() {
			return true
		}
	}
	return false
}

func (t *traffic) counts() (c counts) {
	for _, p := range t.pubs {
		c.sent += uint64(p.sent.Load())
		c.acked += uint64(p.acked.Load())
	}
	for _, s := range t.subs {
		c.received += s.received.Load()
	}
	c.sent += uint64(t.filled.Load())
	return c
}

// latencies of all messages so far, measured or not; of those that nobody receives yet the acknowledgements'.
func (t *traffic) latencies(s *Snapshot) {
	for i := range t.lat {
		if t.cfg.Scenario == Offline {
			t.ack[i].AddTo(s)
			continue
		}
		t.lat[i].AddTo(s)
		t.latWarm[i].AddTo(s)
	}
}

// basis is what latencies count from.
func (t *traffic) basis() string {
	if t.cfg.Rate > 0 {
		return "due"
	}
	return "sent"
}

// tell fills in the result.
func (t *traffic) tell(before, after usage, c0, c1 counts) {
	r := t.result
	sec := (after.at - before.at).Seconds()
	if sec <= 0 {
		return
	}
	m := &Messages{
		Deliveries: c1.received - c0.received, Acknowledged: c1.acked - c0.acked,
		SentRate: float64(c1.sent-c0.sent) / sec, ReceivedRate: float64(c1.received-c0.received) / sec, AckedRate: float64(c1.acked-c0.acked) / sec,
	}
	for _, p := range t.pubs {
		m.Sent += uint64(p.measured.Load())
		m.Refused += p.refused.Load()
		p.mu.Lock()
		m.Unsent += uint64(max(p.due-p.sent.Load(), 0))
		p.mu.Unlock()
	}
	m.Expected = m.Sent * uint64(t.copies)
	for _, s := range t.subs {
		m.Received += s.measured.Load()
		m.Doubled += s.doubled.Load()
	}
	r.Seconds, r.Messages = sec, m
	lat, ack, late := &Snapshot{}, &Snapshot{}, &Snapshot{}
	for i := range t.lat {
		t.lat[i].AddTo(lat)
		t.ack[i].AddTo(ack)
	}
	t.late.AddTo(late)
	r.Latency, r.SentLate = newLatency(lat, t.basis(), true), newLatency(late, "due", false)
	r.AckLatency = newLatency(ack, t.basis(), true)
	r.Broker, r.Generator = t.used(before, after)
	connects := &Snapshot{}
	t.connects.AddTo(connects)
	r.Connections = &Connections{Opened: t.connected.Load(), Latency: newLatency(connects, "begun", false)}
}

// refusals is an error when the broker refused messages.
func (t *traffic) refusals() error {
	var e PublishError
	for _, p := range t.pubs {
		if n := p.refused.Load(); n > 0 {
			e.Count += n
			e.Code = mqtt.ReasonCode(p.refusal.Load())
		}
	}
	if e.Count == 0 {
		return nil
	}
	return &e
}

// errDone ends the run's own goroutines.
var errDone = errors.New("done")

// close ends all connections and waits for their readers.
func (t *traffic) close() {
	if t.closing.Swap(true) {
		return
	}
	t.cancel(errDone)
	defer t.readers.Wait()
	var wg sync.WaitGroup
	for _, p := range t.pubs {
		if p.l != nil {
			wg.Go(p.l.bye)
		}
	}
	for _, s := range t.subs {
		if s.l != nil {
			wg.Go(s.l.bye)
		}
	}
	wg.Wait()
}
