package bench

import (
	"sync/atomic"
	"time"
)

// collect lets the subscribers that were away have what waits for them.
func (t *traffic) collect() error {
	cfg := &t.cfg
	t.series.setPhase("collecting")
	var absent atomic.Int64
	size := buffer(cfg.Subscribers)
	began := time.Now()
	err := t.each(cfg.Subscribers, cfg.ConnectRate, func(i int) error {
		l, err := t.run.join(t.dial, i, name(cfg.ClientID, "s", i), persistent, size)
		if err != nil {
			return err
		}
		if !l.present {
			absent.Add(1)
		}
		t.subs[i].l = l
		t.receive(t.subs[i])
		return nil
	})
	if err != nil {
		return err
	}
	var waited uint64
	for _, p := range t.pubs {
		waited += uint64(p.sent.Load())
	}
	ended := began
	for last, since := uint64(0), time.Now(); t.ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		var got, distinct uint64
		for _, s := range t.subs {
			got += s.received.Load()
		}
		if got != last {
			last, since, ended = got, time.Now(), time.Now()
		}
		for _, s := range t.subs {
			distinct += s.measured.Load() - s.doubled.Load()
		}
		if got >= waited && distinct >= t.expected() || time.Since(since) > cfg.Drain {
			break
		}
	}
	c := &Collected{Messages: waited, Received: t.counts().received, Seconds: ended.Sub(began).Seconds(), Present: int64(cfg.Subscribers) - absent.Load()}
	if c.Seconds > 0 {
		c.Rate = float64(c.Received) / c.Seconds
	}
	t.result.Collected = c
	if n := absent.Load(); n > 0 {
		t.result.warn("the broker had not kept the session of %d subscribers out of %d", n, cfg.Subscribers)
	}
	return t.cause()
}
