package transport

import (
	"runtime"
	"testing"
	"time"
)

// Connections that linger cost the loop a place in a line, and nobody a
// goroutine; the time of each is over when it should be.
func TestFadeTogether(t *testing.T) {
	const n = 50
	recs := make(chan *recorder, n)
	s := startServer(t, kind{driver: "epoll"}, Config{}, func(r *recorder) { recs <- r })
	var all []*recorder
	for range n {
		c := s.dial()
		defer c.Close()
		all = append(all, <-recs)
	}
	eventually(t, "all to run", func() bool { return running(all) })
	before := runtime.NumGoroutine()
	start := time.Now()
	for _, r := range all {
		r.conn.Close(true)
	}
	for _, r := range all {
		wait(t, "closed", r.done)
	}
	during, g := runtime.NumGoroutine(), s.ln.(*listener).g
	g.mu.Lock()
	left := g.conns
	g.mu.Unlock()
	if time.Since(start) < lingerDrain/2 && (during > before || left != n) {
		t.Errorf("%d goroutines before, %d while %d of %d connections linger", before, during, left, n)
	}
	stop := yieldOften(s) // must not take the loop's alarm away
	s.stop()
	stop()
	if d := time.Since(start); d < lingerDrain {
		t.Errorf("lingered for %v only", d)
	}
}

func running(all []*recorder) bool {
	for _, r := range all {
		c := r.conn.(*conn)
		c.mu.Lock()
		k, ok := c.io.(*epollLink)
		ok = ok && k.added
		c.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// However many connections a loop is to look at, it polls in between.
func TestPostedInBatches(t *testing.T) {
	l, err := newLoop(&poller{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.free()
	k := &epollLink{c: &conn{}}
	k.loop.Store(l)
	for range 3*postBatch - 1 {
		l.post(k)
	}
	l.post(nil)
	for i := range 3 {
		if !l.ask(0) {
			t.Fatalf("sleeps after %d batches", i)
		}
		if l.runPosted() != (i < 2) {
			t.Errorf("batch %d: stop came at the wrong place", i)
		}
	}
	if l.ask(0) {
		t.Error("does not sleep")
	}
}

// A line keeps the order of time and forgets who has ended earlier.
func TestExpire(t *testing.T) {
	l, err := newLoop(&poller{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.free()
	l.born = time.Now().Add(-time.Hour)
	add := func(fd int32, until time.Duration) {
		k := &epollLink{c: &conn{}, until: until}
		k.loop.Store(l)
		l.p.table.set(int(fd), k)
		l.drains = append(l.drains, fading{fd, until})
	}
	add(5, 2*time.Hour)
	add(6, 3*time.Hour)
	l.flushes = fadeLine{{fd: 7, until: 90 * time.Minute}} // gone
	l.expire()
	if l.alarm != 2*time.Hour || len(l.flushes) != 0 || len(l.drains) != 2 {
		t.Errorf("alarm at %v, lines %v %v", l.alarm, l.flushes, l.drains)
	}
	l.p.table.set(5, nil) // its descriptor is free
	l.expire()
	if l.alarm != 2*time.Hour || len(l.drains) != 1 {
		t.Errorf("alarm at %v, line %v; want the alarm to stay", l.alarm, l.drains)
	}
	add(5, 4*time.Hour) // taken again
	l.p.table.set(6, nil)
	l.alarm = time.Minute // gone off
	l.expire()
	if l.alarm != 4*time.Hour || len(l.drains) != 1 {
		t.Errorf("alarm at %v, line %v", l.alarm, l.drains)
	}
	l.p.table.set(5, nil)
	l.alarm = time.Minute
	l.expire()
	if l.alarm != 0 || l.drains != nil {
		t.Errorf("alarm at %v, line %v; want none", l.alarm, l.drains)
	}
}
