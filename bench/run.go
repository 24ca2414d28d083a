package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// run is one Run under way.
type run struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	dial   DialFunc
	epoch  time.Time
	result *Result
	pid    atomic.Int64 // the broker's process; 0: not known, or not running

	connects  Histogram // time from the first packet of TCP to CONNACK
	connected atomic.Int64
	series    series
}

func newRun(ctx context.Context, cfg Config) *run {
	r := &run{cfg: cfg, dial: cfg.Dial, epoch: time.Now(), result: &Result{}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.pid.Store(int64(cfg.PID))
	return r
}

// now is the time since the epoch in nanoseconds.
func (r *run) now() int64 { return int64(time.Since(r.epoch)) }

// sleep waits until the time since the epoch is at, or the run ends; false then.
func (r *run) sleep(at time.Duration) bool {
	timer := time.NewTimer(at - time.Since(r.epoch))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// cause is why the run was ended early, nil when it was not.
func (r *run) cause() error {
	if r.ctx.Err() == nil {
		return nil
	}
	return context.Cause(r.ctx)
}

// each calls f for 0 to n-1, Parallel at a time and no more than rate a second, and stops at the first error.
func (r *run) each(n int, rate float64, f func(i int) error) error {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	began := time.Now()
	for range min(n, r.cfg.Parallel) {
		wg.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if rate > 0 {
					<-timer.C
					timer.Reset(time.Until(began.Add(Schedule{Rate: rate}.At(int64(i)))))
					select {
					case <-timer.C:
						timer.Reset(0)
					case <-ctx.Done():
						return
					}
				}
				if err := f(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// join opens a connection, with its time counted.
func (r *run) join(dial DialFunc, i int, id string, s session, buffer int) (*link, error) {
	began := time.Now()
	l, err := r.open(r.ctx, dial, i, id, s, buffer)
	if err != nil {
		return nil, err
	}
	r.connects.Record(int64(time.Since(began)))
	r.connected.Add(1)
	return l, nil
}

// keepAlive sends PINGREQ on links that promised to. It returns when the run ends.
func (r *run) keepAlive(links []*link) {
	shortest := uint16(0)
	for _, l := range links {
		if l.keepAlive > 0 && (shortest == 0 || l.keepAlive < shortest) {
			shortest = l.keepAlive
		}
	}
	if shortest == 0 {
		return
	}
	tick := time.NewTicker(time.Duration(shortest) * time.Second / 2)
	defer tick.Stop()
	ping := mqtt.AppendPingreq(nil)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
			for _, l := range links {
				l.Write(ping)
			}
		}
	}
}

// usage is what has been used up to a moment.
type usage struct {
	at      time.Duration
	broker  time.Duration // CPU
	rss     int64
	written int64         // bytes that the broker had the disk write; -1: not known
	flushes int64         // that the disk was asked for; -1: not known
	own     time.Duration // CPU
}

func (r *run) usage() usage {
	u := usage{own: ownCPU(), written: -1, flushes: -1}
	if pid := int(r.pid.Load()); pid != 0 {
		var err error
		if u.broker, err = processCPU(pid); err == nil {
			u.rss, err = processRSS(pid)
		}
		if err != nil && r.ctx.Err() == nil && r.pid.Load() == int64(pid) {
			r.cancel(fmt.Errorf("the broker has ended: %w", err))
		}
		// Of another user's process the kernel does not tell.
		if n, err := processWritten(pid); err == nil {
			u.written = n
		}
	}
	if r.cfg.Disk != "" {
		if n, err := diskFlushes(r.cfg.Disk); err == nil {
			u.flushes = n
		}
	}
	u.at = time.Since(r.epoch)
	return u
}

// lost is the end of a connection that was needed.
func lost(who string, err error) error {
	var server *ServerError
	if errors.As(err, &server) {
		return err
	}
	return fmt.Errorf("%s: %w: %w", who, ErrLost, err)
}
