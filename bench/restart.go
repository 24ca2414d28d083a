package bench

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

const (
	startTime     = 5 * time.Minute // the longest that a broker may take until it lets a client in
	maxIncomplete = 1000            // sessions that may lack messages before no more are asked
)

// restart is a run that makes sessions with messages waiting, kills the broker, and has it serve them all.
type restart struct {
	*run
	queues           streams
	filled, received atomic.Int64
	present, again   atomic.Int64
	incomplete       atomic.Int64 // sessions that were there and lacked messages
}

func (r *run) restart() error {
	cfg := &r.cfg
	t := &restart{run: r, queues: streams{
		count: cfg.Clients, n: cfg.Backlog, topic: func(s int) string { return cfg.Topic + "/s/" + strconv.Itoa(s) },
	}}
	r.series.phase, r.series.asked = "starting", 2*int64(cfg.Clients)
	r.result.Started = time.Now()
	r.watch(t.counts, func(*Snapshot) {})
	defer r.unwatch()
	if cfg.PID == 0 {
		if _, err := t.start(); err != nil {
			return err
		}
	}
	err := t.cycle()
	if err != nil || cfg.Version != mqtt.V5 {
		r.forget("s", cfg.Clients)
	}
	return err
}

func (t *restart) counts() counts {
	return counts{sent: uint64(t.filled.Load()), received: uint64(t.received.Load())}
}

// cycle is everything that is measured. With version 5 it leaves no session behind.
func (t *restart) cycle() error {
	cfg := &t.cfg
	res := &RestartResult{Sessions: cfg.Clients, Messages: cfg.Backlog}
	t.result.Restart = res
	t.series.setPhase("subscribing")
	began := time.Now()
	if err := t.each(cfg.Clients, cfg.ConnectRate, t.subscribe); err != nil {
		return err
	}
	res.SubscribeSeconds = time.Since(began).Seconds()

	t.series.setPhase("filling")
	began = time.Now()
	if err := t.fill(t.queues, &t.filled); err != nil {
		return err
	}
	res.FillSeconds = time.Since(began).Seconds()

	t.series.setPhase("restarting")
	began, err := t.start()
	if err != nil {
		return err
	}
	res.AcceptSeconds = time.Since(began).Seconds()
	t.series.setPhase("serving")
	accepted := t.usage()
	stop := t.watchMemory()
	err = t.each(cfg.Clients, cfg.ConnectRate, t.serve)
	served := t.usage()
	res.RSSAccept, res.RSSPeak = stop()
	res.ServedSeconds = time.Since(began).Seconds()
	res.Present, res.Received, res.Again = t.present.Load(), t.received.Load(), t.again.Load()
	res.Lost = int64(res.Messages) - (res.Received - res.Again)
	t.result.Seconds = (served.at - accepted.at).Seconds()
	t.result.Broker, t.result.Generator = t.used(accepted, served)
	if gone := int64(cfg.Clients) - res.Present; gone > 0 {
		t.result.warn("%d of %d sessions were gone after the restart", gone, cfg.Clients)
	}
	if res.Lost > 0 {
		t.result.warn("%d of %d messages that the broker had acknowledged did not come", res.Lost, res.Messages)
	}
	return err
}

// start kills the broker, has it start again, and waits until it lets a client in; the time is that of the start.
func (t *restart) start() (time.Time, error) {
	t.pid.Store(0)
	pid, err := t.cfg.Restart(t.ctx)
	began := time.Now()
	if err != nil {
		return began, fmt.Errorf("restart broker: %w", err)
	}
	t.pid.Store(int64(pid))
	for {
		l, err := t.open(t.ctx, t.dial, 0, t.cfg.ClientID+"-first", transient, 0)
		if err == nil {
			l.bye()
			return began, nil
		}
		var no *ServerError
		switch {
		case t.ctx.Err() != nil:
			return began, t.cause()
		case errors.As(err, &no) || time.Since(began) > startTime:
			return began, fmt.Errorf("the broker was started and lets nobody in: %w", err)
		}
		if !t.sleep(time.Since(t.epoch) + 2*time.Millisecond) {
			return began, t.cause()
		}
	}
}

// subscribe makes session i.
func (t *restart) subscribe(i int) error {
	l, err := t.begin(t.dial, i, name(t.cfg.ClientID, "s", i), 0)
	if err != nil {
		return err
	}
	defer l.bye()
	return l.subscribe(t.queues.topic(i), t.cfg.QoS)
}

// serve lets the client of session i have what waits.
func (t *restart) serve(i int) error {
	l, err := t.join(t.dial, i, name(t.cfg.ClientID, "s", i), persistent, 4<<10)
	if err != nil {
		return err
	}
	defer l.end()
	if !l.present {
		return nil
	}
	t.present.Add(1)
	idle := t.cfg.Drain
	if t.incomplete.Load() > int64(t.cfg.Parallel) {
		// A broker that loses messages shall not cost hours.
		idle = min(idle, 100*time.Millisecond)
	}
	c := &collector{l: l, want: t.queues.of(i), first: i, next: make([]uint32, 1)}
	err = c.run(idle)
	t.received.Add(int64(c.received))
	t.again.Add(int64(c.again))
	if err != nil {
		return lost(fmt.Sprintf("client %d", i), err)
	}
	if c.received-c.again < c.want && t.incomplete.Add(1) > maxIncomplete {
		return fmt.Errorf("more than %d sessions lack messages", maxIncomplete)
	}
	return nil
}
