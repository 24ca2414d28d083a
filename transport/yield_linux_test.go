package transport

import (
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// A loop that sleeps is run by who yields, although the only processor never
// looks for packets meanwhile.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	recs := make(chan *recorder, 1)
	s := startServer(t, kind{driver: "epoll"}, Config{}, func(r *recorder) { recs <- r })
	c := s.dialTCP()
	rc, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r := <-recs
	eventually(t, "to run", func() bool { return running([]*recorder{r}) })
	l := r.conn.(*conn).io.(*epollLink).loop.Load()
	const tries = 50
	for n := 1; ; n++ {
		eventually(t, "sleep", l.asleep.Load)
		rc.Control(func(fd uintptr) { syscall.Write(int(fd), []byte("x")) })
		l.p.yield()
		if r.received() == n {
			break
		}
		// Preempted, or the packet was on its way still.
		if n == tries {
			t.Fatalf("%d times the loop did not run", n)
		}
		eventually(t, "arrive", func() bool { return r.received() == n })
	}
	c.Close()
	wait(t, "closed", r.done)
	s.stop()
}

// However often and at whatever moment it is roused, a loop loses nothing.
func TestYieldOften(t *testing.T) {
	s := startServer(t, kind{driver: "epoll"}, Config{}, echo)
	c := s.dial()
	stop := yieldOften(s)
	p := make([]byte, 1)
	for i := range bulk(2000) {
		p[0] = byte(i)
		c.Write(p)
		if _, err := io.ReadFull(c, p); err != nil || p[0] != byte(i) {
			t.Fatalf("%d: %d, %v", i, p[0], err)
		}
	}
	stop()
	c.Close()
	s.stop()
}

// yieldOften yields, from two goroutines, until stop.
func yieldOften(s *server) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					s.ln.(*listener).g.yield()
					runtime.Gosched()
				}
			}
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}
