package transport

import (
	"bytes"
	"crypto/tls"
	"io"
	"sync"
	"testing"
)

func TestPace(t *testing.T) {
	var p pace
	windows := func(n int, busy float64) {
		for range n {
			p.decide(busy)
		}
	}
	for _, step := range []struct {
		windows int
		busy    float64
		spread  bool
	}{
		{100, 0.6, false},
		{1, 0.71, true},
		{calmWindows - 1, 0.1, true},
		{1, 0.6, true}, // between the bounds: counts from the start
		{calmWindows - 1, 0.5, true},
		{1, 0.5, false},
		{1, 2, true},
	} {
		if windows(step.windows, step.busy); p.spread.Load() != step.spread {
			t.Fatalf("after %d windows of %v: spread %v", step.windows, step.busy, p.spread.Load())
		}
	}
}

// Connections change their loops in the middle of traffic, with and without
// backlog, and when they are closed: no byte is lost, doubled or mixed.
func TestMove(t *testing.T) {
	for _, k := range []kind{{driver: "epoll"}, {driver: "epoll", tls: tls.VersionTLS13}} {
		t.Run(k.String(), func(t *testing.T) {
			links := make(chan *epollLink, 100)
			s := startServer(t, k, Config{}, func(r *recorder) {
				first := true
				r.onData = func(p []byte) error {
					if c := r.conn.(*conn); first && len(p) > 0 {
						first = false
						c.mu.Lock()
						links <- c.io.(*epollLink)
						c.mu.Unlock()
					}
					return r.conn.Write(p)
				}
			})
			const clients, rounds = 6, 60
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					c := s.dial()
					defer c.Close()
					for round := range rounds {
						size := 1 + 50*i
						if round%20 == 19 {
							size = 3_000_000 // more than the kernel takes
						}
						want := pattern(size)
						sent := make(chan struct{})
						go func() { c.Write(want); close(sent) }()
						got := make([]byte, size)
						if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
							t.Errorf("client %d, round %d: %v", i, round, err)
						}
						<-sent
					}
				})
			}
			p := &(<-links).home.p.pace
			p.mu.Lock() // it takes no samples
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			for on := true; ; on = !on {
				p.spread.Store(on)
				select {
				case <-done:
				default:
					c := s.dial()
					c.Write([]byte("x"))
					io.ReadFull(c, make([]byte, 1))
					c.Close()
					select {
					case <-links:
					default:
					}
					continue
				}
				break
			}
			p.mu.Unlock()
			s.stop()
		})
	}
}
