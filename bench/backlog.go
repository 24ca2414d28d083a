package bench

import (
	"strconv"
	"sync"
	"time"
)

// backlog is what waits for a client, spread over topics so that several connections can fill its queue in order.
func (t *traffic) backlog() streams {
	return streams{count: fillers, n: t.cfg.Backlog, topic: func(s int) string { return t.cfg.Topic + "/b/" + strconv.Itoa(s) }}
}

// leaveBacklog makes a session, whose client leaves, and fills its queue.
func (t *traffic) leaveBacklog() error {
	t.series.setPhase("filling")
	b := &BacklogResult{Messages: t.cfg.Backlog}
	t.result.Backlog = b
	l, err := t.begin(t.dial, 0, name(t.cfg.ClientID, "b", 0), 0)
	if err != nil {
		return err
	}
	err = l.subscribe(t.cfg.Topic+"/b/#", t.cfg.QoS)
	l.bye()
	if err != nil {
		return err
	}
	from := time.Now()
	err = t.fill(t.backlog(), &t.filled)
	b.FillRate = float64(t.filled.Load()) / time.Since(from).Seconds()
	return err
}

// comeBack lets the client have its messages.
func (t *traffic) comeBack() error {
	t.series.setPhase("coming back")
	b := t.result.Backlog
	stop := t.watchMemory()
	began := time.Now()
	l, err := t.open(t.ctx, t.dial, 0, name(t.cfg.ClientID, "b", 0), persistent, 64<<10)
	if err != nil {
		b.RSSBefore, b.RSSPeak = stop()
		return err
	}
	b.Present = l.present
	c := &collector{l: l, want: b.Messages, next: make([]uint32, fillers)}
	if l.present {
		err = c.run(t.cfg.Drain)
	}
	b.RSSBefore, b.RSSPeak = stop()
	l.bye()
	b.Received, b.Again = c.received, c.again
	b.Lost = b.Messages - (c.received - c.again)
	if c.received > 0 {
		b.First = ms(int64(c.began.Sub(began)))
	}
	if !c.ended.IsZero() {
		b.Seconds = c.ended.Sub(began).Seconds()
		b.Rate = float64(b.Messages) / b.Seconds
	}
	switch {
	case err != nil:
		return lost("the client that came back", err)
	case !b.Present:
		t.result.warn("the broker had not kept the session of the client that came back")
	case b.Lost > 0:
		t.result.warn("%d of %d messages that the broker had acknowledged did not come", b.Lost, b.Messages)
	}
	return nil
}

// memoryInterval is how often the broker's memory is looked at for its peak.
const memoryInterval = 20 * time.Millisecond

// watchMemory looks at the broker's memory until the function that it returns is called, which tells the first and the
// largest value.
func (r *run) watchMemory() func() (first, peak int64) {
	var (
		wg          sync.WaitGroup
		first, most int64
		done        = make(chan struct{})
		look        = func() {
			if pid := int(r.pid.Load()); pid != 0 {
				if n, err := processRSS(pid); err == nil {
					if first == 0 {
						first = n
					}
					most = max(most, n)
				}
			}
		}
	)
	look()
	wg.Go(func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				look()
			}
		}
	})
	return func() (int64, int64) {
		close(done)
		wg.Wait()
		look()
		return first, most
	}
}
