package transport

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// echoHandler answers without locks or memory of its own.
type echoHandler struct{ c Conn }

func (e echoHandler) Data(p []byte) error { return e.c.Write(p) }
func (e echoHandler) Flush()              {}
func (e echoHandler) Writable()           {}
func (e echoHandler) Closed(error)        {}

// sinkHandler answers a byte for every MiB.
type sinkHandler struct {
	c   Conn
	got *int
}

func (s sinkHandler) Data(p []byte) error {
	*s.got += len(p)
	if *s.got >= 1<<20 {
		*s.got -= 1 << 20
		return s.c.Write([]byte{1})
	}
	return nil
}
func (s sinkHandler) Flush()       {}
func (s sinkHandler) Writable()    {}
func (s sinkHandler) Closed(error) {}

func benchKinds(b *testing.B, f func(b *testing.B, k kind)) {
	for _, d := range testDrivers() {
		for _, v := range []uint16{0, tls.VersionTLS13} {
			for _, ws := range []bool{false, true} {
				k := kind{driver: d, tls: v, ws: ws}
				b.Run(k.String(), func(b *testing.B) { f(b, k) })
			}
		}
	}
}

func startBench(b *testing.B, k kind, h func(Conn) Handler) *server {
	return startWith(b, k, Config{}, func(c Conn) { c.Run(h(c)) })
}

// BenchmarkEcho is a lone small message and its answer.
func BenchmarkEcho(b *testing.B) {
	benchKinds(b, func(b *testing.B, k kind) {
		s := startBench(b, k, func(c Conn) Handler { return echoHandler{c} })
		c := s.dial()
		p := make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			c.Write(p)
			if _, err := io.ReadFull(c, p); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
		s.stop()
	})
}

// BenchmarkUpload is a saturated stream, a MiB an operation.
func BenchmarkUpload(b *testing.B) {
	benchKinds(b, func(b *testing.B, k kind) {
		s := startBench(b, k, func(c Conn) Handler { return sinkHandler{c, new(int)} })
		c := s.dial()
		p := make([]byte, 1<<20)
		b.SetBytes(1 << 20)
		b.ReportAllocs()
		for b.Loop() {
			c.Write(p)
			if _, err := io.ReadFull(c, p[:1]); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
		s.stop()
	})
}

// BenchmarkWrite is what one flush of n bytes costs the broker.
func BenchmarkWrite(b *testing.B) {
	benchKinds(b, func(b *testing.B, k kind) {
		for _, size := range []int{100, 16 << 10, 60 << 10} {
			b.Run(map[int]string{100: "100B", 16 << 10: "16KiB", 60 << 10: "60KiB"}[size], func(b *testing.B) {
				conns := make(chan Conn, 1)
				s := startBench(b, k, func(c Conn) Handler { conns <- c; return echoHandler{c} })
				nc := s.dialTCP()
				go func() { s.wrap(nc); io.Copy(io.Discard, nc) }()
				c := <-conns
				p := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					for c.Backlog() > 1<<20 {
						runtime.Gosched()
					}
					if err := c.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				nc.Close()
				s.stop()
			})
		}
	})
}

// TestNoAllocation: an event of a plain connection, its answer included, leaves
// no garbage. TLS adds one small object per record batch, in crypto/tls.
func TestNoAllocation(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		if k.driver == "stream" || raceEnabled {
			t.Skip("not the hot path")
		}
		s := startWith(t, k, Config{}, func(c Conn) { c.Run(echoHandler{c}) })
		c := s.dial()
		p := make([]byte, 64)
		round := func() {
			c.Write(p)
			io.ReadFull(c, p)
		}
		for range 100 {
			round()
		}
		// The client's own reads cost what the server's do.
		limit := 0.5
		if k.tls != 0 {
			limit = 6
		}
		if n := testing.AllocsPerRun(500, round); n > limit {
			t.Errorf("%v allocations a message", n)
		}
		c.Close()
		s.stop()
	})
}

// TestIdleMemory prints what an idle connection costs, and holds a bound.
func TestIdleMemory(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("sizes differ")
	}
	eachKind(t, func(t *testing.T, k kind) {
		const n = 300
		hold := make(chan Handler, n)
		s := startWith(t, k, Config{ClientCertificates: None}, func(c Conn) {
			h := echoHandler{c}
			hold <- h
			c.Run(h)
		})
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = s.dialTCP()
		}
		measure := func() (heap, stack uint64) {
			var m runtime.MemStats
			for range 3 {
				runtime.GC()
			}
			runtime.ReadMemStats(&m)
			return m.HeapAlloc, m.StackInuse
		}
		if k.tls != 0 || k.ws {
			for i := range conns {
				conns[i] = s.wrap(conns[i])
				conns[i].Write([]byte("x"))
				io.ReadFull(conns[i], make([]byte, 1))
			}
		} else {
			eventually(t, "accepted", func() bool { return len(hold) == n })
		}
		time.Sleep(50 * time.Millisecond)
		heap, stack := measure()
		for range n {
			(<-hold).(echoHandler).c.Close(false)
		}
		for _, c := range conns {
			io.Copy(io.Discard, c)
		}
		ctx := t.Context()
		s.ln.Close()
		s.wg.Wait()
		s.ln.Wait(ctx)
		heap2, stack2 := measure()
		t.Logf("%v: heap %d, stack %d bytes a connection", k, (heap-heap2)/n, int64(stack-stack2)/n)
		for _, c := range conns {
			c.Close()
		}
	})
}
