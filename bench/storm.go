package bench

import "time"

// disturbance is what befell the pairs, and their messages until then.
type disturbance struct {
	before      *Snapshot
	connections *Connections // Storm
	err         error
}

// disturb lets the pairs have peace until calm, lets come what the scenario is about, and ends the sending when that is
// over.
func (t *traffic) disturb(calm time.Duration) *disturbance {
	d := &disturbance{before: &Snapshot{}}
	t.sleep(calm)
	for i := range t.lat {
		t.lat[i].AddTo(d.before)
	}
	if t.cfg.Scenario == Storm {
		t.storm(d)
	} else {
		d.err = t.comeBack()
	}
	t.stopAt.Store(t.now())
	return d
}

// storm brings in many clients at once.
func (t *traffic) storm(d *disturbance) {
	t.series.setPhase("storm")
	c := &comers{r: t.run, keep: make([]*link, t.cfg.Storm)}
	from := t.usage()
	d.err = t.each(t.cfg.Storm, 0, func(i int) error { return c.come(i, i, time.Time{}) })
	to := t.usage()
	if d.err == nil {
		d.err = c.err()
	}
	d.connections = c.tell(from, to)
	// In the clear by now: leaving is not part of the storm.
	t.readers.Go(func() {
		<-t.ctx.Done()
		t.leave(c.keep)
	})
}

// tellDisturbance compares the latencies before it with those from its beginning to the last message.
func (t *traffic) tellDisturbance(d *disturbance) {
	during := &Snapshot{}
	for i := range t.lat {
		t.lat[i].AddTo(during)
	}
	during.Sub(d.before)
	r := &Disturbed{Before: newLatency(d.before, t.basis(), true), During: newLatency(during, t.basis(), true)}
	if r.Before != nil && r.During != nil && r.Before.P99 > 0 {
		r.Ratio = r.During.P99 / r.Before.P99
	}
	if t.cfg.Scenario == Storm {
		t.result.Storm = r
		t.result.Connections = d.connections
	} else if t.result.Backlog != nil {
		t.result.Backlog.Pairs = r
	}
}
