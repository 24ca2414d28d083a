package bench

import "time"

// storm is what was seen of the messages before the storm, and of the connections in it.
type storm struct {
	before      *Snapshot
	connections *Connections
	err         error
}

// storm lets the pairs have peace until calm, then brings in many clients at once, and ends the sending when all are in.
func (t *traffic) storm(calm time.Duration) *storm {
	s := &storm{before: &Snapshot{}}
	t.sleep(calm)
	for i := range t.lat {
		t.lat[i].AddTo(s.before)
	}
	t.series.setPhase("storm")
	c := &comers{r: t.run, clean: true, keep: make([]*link, t.cfg.Storm)}
	from := t.usage()
	s.err = t.each(t.cfg.Storm, 0, func(i int) error { return c.come(i, i, time.Time{}) })
	to := t.usage()
	t.stopAt.Store(t.now())
	if s.err == nil {
		s.err = c.err()
	}
	s.connections = c.tell(from, to)
	// In the clear by now: leaving is not part of the storm.
	t.readers.Go(func() {
		<-t.ctx.Done()
		t.leave(c.keep)
	})
	return s
}

// tellStorm compares the latencies before the storm with those from its beginning to the last message.
func (t *traffic) tellStorm(s *storm) {
	during := &Snapshot{}
	for i := range t.lat {
		t.lat[i].AddTo(during)
	}
	during.Sub(s.before)
	r := &StormResult{Before: newLatency(s.before, t.basis(), true), During: newLatency(during, t.basis(), true)}
	if r.Before != nil && r.During != nil && r.Before.P99 > 0 {
		r.Ratio = r.During.P99 / r.Before.P99
	}
	t.result.Storm = r
	t.result.Connections = s.connections
}
