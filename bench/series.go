package bench

import (
	"sync"
	"time"
)

// Progress is where a run stands.
type Progress struct {
	Phase   string // connecting, warming up, measuring, draining, storm
	Elapsed time.Duration
	Total   time.Duration // expected; 0: not known
	Open    int64         // connections made so far
	Asked   int64         // connections to make
	Last    Sample
}

// counts are the sums over all clients at one moment.
type counts struct {
	sent, received, acked uint64
}

// series samples the run at intervals.
type series struct {
	mu      sync.Mutex
	phase   string
	asked   int64
	total   time.Duration
	samples []Sample
	done    chan struct{}
	stopped sync.WaitGroup
}

// maxSamples bounds the series of a run of hours: beyond it two neighbours become one.
const maxSamples = 4000

func (s *series) setPhase(phase string) {
	s.mu.Lock()
	s.phase = phase
	s.mu.Unlock()
}

// watch samples until unwatch. count and latency give cumulative values; latency may be nil.
func (r *run) watch(count func() counts, latency func(*Snapshot)) {
	s := &r.series
	s.done = make(chan struct{})
	s.stopped.Go(func() {
		tick := time.NewTicker(r.cfg.Interval)
		defer tick.Stop()
		last, lastUse, lastConnected := count(), r.usage(), r.connected.Load()
		before, after := &Snapshot{}, &Snapshot{}
		latency(before)
		for {
			select {
			case <-s.done:
				return
			case <-tick.C:
			}
			c, u, connected := count(), r.usage(), r.connected.Load()
			*after = Snapshot{}
			latency(after)
			diff := *after
			diff.Sub(before)
			sec := (u.at - lastUse.at).Seconds()
			if sec <= 0 {
				continue
			}
			p := Sample{
				At:   u.at.Seconds(),
				Sent: float64(c.sent-last.sent) / sec, Received: float64(c.received-last.received) / sec,
				Connects: float64(connected-lastConnected) / sec,
				P50:      ms(diff.Quantile(0.5)), P99: ms(diff.Quantile(0.99)), Max: ms(diff.Max()),
				Broker: max(u.broker-lastUse.broker, 0).Seconds() / sec, RSS: u.rss, Own: (u.own - lastUse.own).Seconds() / sec,
			}
			last, lastUse, lastConnected = c, u, connected
			before, after = after, before
			s.mu.Lock()
			s.samples = append(s.samples, p)
			if len(s.samples) > maxSamples {
				s.halve()
			}
			progress := Progress{Phase: s.phase, Elapsed: u.at, Total: s.total, Open: connected, Asked: s.asked, Last: p}
			s.mu.Unlock()
			if r.cfg.Progress != nil {
				r.cfg.Progress(progress)
			}
		}
	})
}

// halve keeps the series short: of two neighbours the rates are averaged and the latencies are the worse ones.
func (s *series) halve() {
	half := s.samples[:0]
	for i := 0; i+1 < len(s.samples); i += 2 {
		a, b := s.samples[i], s.samples[i+1]
		b.Sent, b.Received, b.Connects = (a.Sent+b.Sent)/2, (a.Received+b.Received)/2, (a.Connects+b.Connects)/2
		b.Broker, b.Own = (a.Broker+b.Broker)/2, (a.Own+b.Own)/2
		b.P50, b.P99, b.Max = max(a.P50, b.P50), max(a.P99, b.P99), max(a.Max, b.Max)
		half = append(half, b)
	}
	s.samples = half
}

// unwatch ends the sampling and hands the series over.
func (r *run) unwatch() {
	close(r.series.done)
	r.series.stopped.Wait()
	r.result.Series = r.series.samples
}
