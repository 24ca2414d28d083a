package faults

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
)

const dir = "store"

// config makes files small, so that there are many.
var config = disk.Config{Cache: 1 << 20, WriteBuffer: 1 << 20}

// seen is a store.Handler that keeps what it is told.
type seen struct {
	sessions []*store.Session
	text     map[store.SessionID]func(*strings.Builder)
	last     map[store.SessionID]uint64
	retained []string

	count *atomic.Int64 // of committed ops; nil: nobody wants to know

	mu       sync.Mutex
	cond     sync.Cond
	reported []*store.Op
	errs     []error
}

func newSeen() *seen {
	h := &seen{text: make(map[store.SessionID]func(*strings.Builder)), last: make(map[store.SessionID]uint64)}
	h.cond.L = &h.mu
	return h
}

func (h *seen) Session(s *store.Session, subs []store.Subscription, received []uint16, q store.QueueState) {
	h.sessions = append(h.sessions, s)
	h.last[s.ID] = q.Last
	h.text[s.ID] = func(b *strings.Builder) {
		var texts []string
		for _, sub := range subs {
			texts = append(texts, fmt.Sprintf("%+v", sub))
		}
		slices.Sort(texts)
		slices.Sort(received)
		writeSession(b, sessionText(s), willText(s.Will), texts, received, q)
	}
}

func (h *seen) Retained(m *store.Message) { h.retained = append(h.retained, messageText(m)) }

func (h *seen) Committed(ops []*store.Op, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range ops {
		h.reported = append(h.reported, op)
		h.errs = append(h.errs, err)
		if err == nil && h.count != nil {
			h.count.Add(1)
		}
	}
	h.cond.Broadcast()
}

// await waits until n ops are reported.
func (h *seen) await(n int) error {
	t := time.AfterFunc(time.Minute, h.cond.Broadcast)
	defer t.Stop()
	end := time.Now().Add(time.Minute)
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.reported) < n {
		if !time.Now().Before(end) {
			return fmt.Errorf("%d of %d ops are reported after a minute", len(h.reported), n)
		}
		h.cond.Wait()
	}
	return nil
}

// all reads everything out of a store that was loaded.
func (h *seen) all(s store.Store) (string, error) {
	var b strings.Builder
	slices.SortFunc(h.sessions, func(x, y *store.Session) int { return int(x.ID) - int(y.ID) })
	for _, record := range h.sessions {
		h.text[record.ID](&b)
		last := h.last[record.ID]
		var queued []store.Queued
		for from := uint64(1); from <= last; {
			var err error
			queued, err = s.Fetch(queued[:0], record.ID, from, last+1, 7, 1<<20)
			if err != nil {
				return "", fmt.Errorf("fetch: %w", err)
			}
			if len(queued) == 0 {
				break
			}
			for i := range queued {
				b.WriteString(queuedText(&queued[i]))
			}
			from = queued[len(queued)-1].Pos + 1
		}
	}
	slices.Sort(h.retained)
	for _, r := range h.retained {
		b.WriteString("retained " + r)
	}
	return b.String(), nil
}

// outcome is what came of a script.
type outcome struct {
	openErr  error
	closeErr error
	ops      []*store.Op // submitted, in their order
	errs     []error     // how each was reported
	fatal    []error
	stuck    error

	committed atomic.Int64 // ops so far
	serving   atomic.Bool  // a store is open, and not being closed
}

// opened is a store with what it needs.
type opened struct {
	*disk.Store
	h *seen

	mu    sync.Mutex
	fatal []error
}

// fatals is how often Fatal was called.
func (o *opened) fatals() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.fatal)
}

func open(fs vfs.FS, log *slog.Logger) (*opened, error) {
	o := &opened{h: newSeen()}
	s, err := disk.Open(dir, config, disk.Options{FS: fs, Log: log, Fatal: func(err error) {
		o.mu.Lock()
		o.fatal = append(o.fatal, err)
		o.mu.Unlock()
	}})
	if err != nil {
		return nil, err
	}
	o.Store = s
	if _, err := s.Load(o.h); err != nil {
		s.Close()
		return nil, err
	}
	return o, nil
}

var errHangs = errors.New("the store does not open, nor fail")

// openSoon opens a store, or fails when that takes too long.
func openSoon(fs vfs.FS, log *slog.Logger) (s *opened, err error) {
	done := make(chan bool)
	go func() {
		s, err = open(fs, log)
		close(done)
	}()
	select {
	case <-done:
		return s, err
	case <-time.After(20 * time.Second):
		return nil, errHangs
	}
}

// run submits a script to a store, which is closed and opened again at half time. It ends early when the store fails.
func run(fs vfs.FS, steps []step, log *slog.Logger) *outcome {
	out := new(outcome)
	out.submit(fs, steps, log)
	return out
}

func (out *outcome) submit(fs vfs.FS, steps []step, log *slog.Logger) {
	half := len(steps) / 2
	out.session(fs, steps[:half], log)
	if out.openErr == nil && out.closeErr == nil && len(out.fatal) == 0 && out.stuck == nil {
		out.session(fs, steps[half:], log)
	}
}

// session opens a store, submits ops and closes it.
func (out *outcome) session(fs vfs.FS, steps []step, log *slog.Logger) {
	s, err := openSoon(fs, log)
	if err != nil {
		out.openErr = err
		if errors.Is(err, errHangs) {
			out.stuck = err
		}
		return
	}
	s.h.count = &out.committed
	out.serving.Store(true)
	before := len(out.ops)
	for _, st := range steps {
		out.ops = append(out.ops, st.ops...)
		s.Submit(st.ops...)
		if st.wait {
			if out.stuck = s.h.await(len(out.ops) - before); out.stuck != nil {
				break
			}
		}
	}
	out.serving.Store(false)
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case out.closeErr = <-done:
	case <-time.After(time.Minute):
		out.stuck = errors.New("the store does not close")
		return
	}
	submitted := out.ops[before:]
	if out.stuck == nil && len(s.h.reported) != len(submitted) {
		out.stuck = fmt.Errorf("%d ops are reported when the store is closed, %d were submitted", len(s.h.reported), len(submitted))
	}
	for i, op := range s.h.reported {
		if i < len(submitted) && op != submitted[i] && out.stuck == nil {
			out.stuck = fmt.Errorf("op %d was reported out of order", i)
		}
	}
	out.errs = append(out.errs, s.h.errs...)
	if out.closeErr != nil && out.failed() > 0 {
		// Fatal is called from another goroutine.
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && s.fatals() == 0; time.Sleep(time.Millisecond) {
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.fatal = append(out.fatal, s.fatal...)
}

// failed counts the ops that were not committed.
func (o *outcome) failed() (n int) {
	for _, err := range o.errs {
		if err != nil {
			n++
		}
	}
	return n
}

// verify opens what a run has left and compares it with the model. It returns what is wrong.
func (o *outcome) verify(fs vfs.FS) error {
	if o.stuck != nil {
		return o.stuck
	}
	if len(o.fatal) > 1 {
		return fmt.Errorf("fatal was called %d times: %v", len(o.fatal), o.fatal)
	}
	for i, err := range o.errs {
		if err != nil && !errors.Is(err, store.ErrDegraded) {
			return fmt.Errorf("op %d was refused with an error that is not ErrDegraded: %w", i, err)
		}
	}
	s, err := open(fs, nil)
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	got, err := s.h.all(s)
	if err2 := s.Close(); err == nil && err2 != nil {
		err = fmt.Errorf("close again: %w", err2)
	}
	if err != nil {
		return err
	}
	return o.explains(got)
}

// explains compares what a store holds with what it may hold. Ops that were refused before one that was committed have
// changed nothing; of those after the last that was committed any number may have come to the disk, in their order, but
// only when the store has failed.
func (o *outcome) explains(got string) error {
	m := newModel()
	committed := 0
	for i, err := range o.errs {
		if err == nil {
			committed = i + 1
		}
	}
	for i := range committed {
		if o.errs[i] == nil {
			m.apply(o.ops[i])
		}
	}
	first := m.String()
	if got == first {
		return nil
	}
	if len(o.fatal) > 0 {
		for i, op := range o.ops[committed:] {
			if strings.Contains(o.errs[committed+i].Error(), ".sst") {
				continue // refused while Pebble could not write tables
			}
			m.apply(op)
			if m.String() == got {
				return nil
			}
		}
	}
	return fmt.Errorf("after %d of %d ops, %d refused, the store does not hold what it must:\n%s", committed, len(o.ops), o.failed(), difference(first, got))
}

// difference shows the lines that are in one of two texts only.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "missing: %.200s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "unexpected: %.200s\n", l)
		}
	}
	return b.String()
}

// TestModel: without faults, what is submitted is there when the store is opened again.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewMem()
		out := run(fs, script(seed, 60, 64<<10), nil)
		if out.openErr != nil || out.closeErr != nil || out.failed() != 0 || len(out.fatal) != 0 {
			t.Fatal(out.openErr, out.closeErr, out.failed(), out.fatal)
		}
		if err := out.verify(fs); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
