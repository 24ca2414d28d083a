package storetest

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Loaded is a session as a store told of it.
type Loaded struct {
	State    *store.Session
	Subs     []store.Subscription
	Received []uint16
	Queue    store.QueueState
}

// Report is what a store told of an op.
type Report struct {
	Op  *store.Op
	Err error
}

// Recorder is a store.Handler that keeps what it is told.
type Recorder struct {
	// OnCommitted is called, if not nil, with every batch after it was noted. It must be set before Load.
	OnCommitted func(ops []*store.Op, err error)

	mu       sync.Mutex
	told     *sync.Cond
	sessions map[store.SessionID]*Loaded
	retained map[string]*store.Message
	reports  []Report
	times    map[*store.Op]int
	inside   bool
	faults   []string
}

// NewRecorder returns a recorder that was told nothing.
func NewRecorder() *Recorder {
	r := &Recorder{sessions: map[store.SessionID]*Loaded{}, retained: map[string]*store.Message{}, times: map[*store.Op]int{}}
	r.told = sync.NewCond(&r.mu)
	return r
}

// Session implements store.Handler.
func (r *Recorder) Session(s *store.Session, subs []store.Subscription, received []uint16, queue store.QueueState) {
	if r.sessions[s.ID] != nil {
		r.faults = append(r.faults, "a session was told twice")
	}
	r.sessions[s.ID] = &Loaded{s, subs, received, queue}
}

// Retained implements store.Handler.
func (r *Recorder) Retained(m *store.Message) {
	if r.retained[m.Topic] != nil {
		r.faults = append(r.faults, "a retained message was told twice")
	}
	r.retained[m.Topic] = m
}

// Committed implements store.Handler.
func (r *Recorder) Committed(ops []*store.Op, err error) {
	r.mu.Lock()
	if r.inside {
		r.faults = append(r.faults, "calls of Committed overlap")
	}
	r.inside = true
	for _, op := range ops {
		if r.times[op]++; r.times[op] > 1 {
			r.faults = append(r.faults, "an op was reported twice")
		}
		r.reports = append(r.reports, Report{op, err})
	}
	r.mu.Unlock()
	if r.OnCommitted != nil {
		r.OnCommitted(ops, err)
	}
	r.mu.Lock()
	r.inside = false
	r.told.Broadcast()
	r.mu.Unlock()
}

// Wait returns when all ops were reported, with the first error. It reports false after a minute.
func (r *Recorder) Wait(ops ...*store.Op) (error, bool) {
	timer := time.AfterFunc(time.Minute, func() { r.told.Broadcast() })
	defer timer.Stop()
	end := time.Now().Add(time.Minute)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range ops {
		for r.times[op] == 0 || r.inside {
			if !time.Now().Before(end) {
				return nil, false
			}
			r.told.Wait()
		}
	}
	for _, rep := range r.reports {
		if rep.Err != nil {
			for _, op := range ops {
				if rep.Op == op {
					return rep.Err, true
				}
			}
		}
	}
	return nil, true
}

// Reports returns what was reported so far, in order.
func (r *Recorder) Reports() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Report(nil), r.reports...)
}

// Faults returns in words what the store did that no store may do.
func (r *Recorder) Faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.faults...)
}

// Sessions returns what was told during Load.
func (r *Recorder) Sessions() map[store.SessionID]*Loaded { return r.sessions }

// RetainedMessages returns what was told during Load, by topic.
func (r *Recorder) RetainedMessages() map[string]*store.Message { return r.retained }
