package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// session is what becomes of a session when its connection ends.
type session uint8

const (
	transient  session = iota // it ends too, and an older one had ended before: clean session 1
	persistent                // it stays, for the next connection: clean session 0; version 5: Session Expiry Interval
)

// sessionExpiry is the Session Expiry Interval of persistent sessions in seconds: what a generator that was killed leaves
// behind goes after it.
const sessionExpiry = 3600

// forgetTime bounds the clean-up, so that an interrupted run ends soon.
const forgetTime = 10 * time.Second

func sessionKind(keep bool) session {
	if keep {
		return persistent
	}
	return transient
}

// begin joins with a persistent session that nothing is left in from an earlier run of the same client identifiers.
func (r *run) begin(dial DialFunc, i int, id string, buffer int) (*link, error) {
	l, err := r.join(dial, i, id, persistent, buffer)
	if err != nil || !l.present {
		return l, err
	}
	l.bye()
	if l, err = r.join(dial, i, id, transient, 0); err != nil {
		return nil, err
	}
	l.bye()
	return r.join(dial, i, id, persistent, buffer)
}

// enter joins with a session of either kind.
func (r *run) enter(s session, i int, id string, buffer int) (*link, error) {
	if s == persistent {
		return r.begin(r.dial, i, id, buffer)
	}
	return r.join(r.dial, i, id, s, buffer)
}

// forget ends the persistent sessions of clients 0 to n-1 of a kind, also when the run was interrupted.
func (r *run) forget(kind string, n int) {
	r.series.setPhase("cleaning up")
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	defer cancel()
	if r.ctx.Err() != nil && context.Cause(r.ctx) != errDone {
		defer time.AfterFunc(forgetTime, cancel).Stop()
	}
	var (
		wg         sync.WaitGroup
		next, done atomic.Int64
		once       sync.Once
		first      error
	)
	for range min(n, r.cfg.Parallel) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				l, err := r.open(ctx, r.dial, i, name(r.cfg.ClientID, kind, i), transient, 0)
				if err != nil {
					// A broker that has gone is not asked for every one of them.
					once.Do(func() { first = err })
					cancel()
					return
				}
				l.bye()
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if left := int64(n) - done.Load(); left > 0 {
		cause := first
		if cause == nil {
			cause = context.DeadlineExceeded
		}
		r.result.warn("%d sessions whose client identifiers begin with %s are left behind: %v", left, r.cfg.ClientID, cause)
	}
}

// end ends a connection and, in version 5, its session.
func (l *link) end() {
	d := mqtt.Disconnect{}
	if l.version == mqtt.V5 {
		d.Props.SessionExpiry = 0
		d.Props.Set(mqtt.PropSessionExpiry)
	}
	l.SetWriteDeadline(time.Now().Add(time.Second))
	l.Write(d.Append(nil, l.version))
	l.Close()
}
