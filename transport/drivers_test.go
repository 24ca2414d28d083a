package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/transport/websocket"
)

func echo(r *recorder) {
	r.onData = func(p []byte) error { return r.conn.Write(p) }
}

func TestEcho(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := startServer(t, k, Config{}, echo)
		for _, size := range []int{1, 100, 16384, 16385, 100_000, bulk(3_000_000)} {
			c := s.dial()
			want := pattern(size)
			go c.Write(want)
			got := make([]byte, size)
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatalf("%d: %v", size, err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes came back different", size)
			}
			c.Close()
		}
		s.stop()
	})
}

// The kernel may stop anywhere inside a record, and inside its header.
func TestByteByByte(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := startServer(t, k, Config{}, echo)
		c := s.wrap(slow{s.dialTCP()})
		for i := range 20 {
			want := pattern(1 + 37*i)
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		c.Close()
		s.stop()
	})
}

// Bytes that come with the end of the handshake, or that the blocking reader
// leaves in crypto/tls, reach the handler.
func TestPipelinedBeforeRun(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var r *recorder
		started := make(chan struct{})
		sent := make(chan struct{})
		s := startServer(t, k, Config{}, func(rec *recorder) {
			<-sent
			buf := make([]byte, 3)
			rec.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(rec.conn, buf); err != nil || string(buf) != "CON" {
				t.Errorf("%q %v", buf, err)
			}
			r = rec
			close(started)
		})
		c := s.dial()
		for _, m := range []string{"CONN", "ECT", " and", " more"} {
			c.Write([]byte(m))
		}
		close(sent)
		wait(t, "started", started)
		eventually(t, "the rest", func() bool { return r.text() == "NECT and more" })
		c.Close()
		wait(t, "closed", r.done)
		if r.err != nil || r.strayed != "" {
			t.Error(r.err, r.strayed)
		}
		s.stop()
	})
}

// A peer that does not read costs the writer nothing but memory, and gets all
// in order when it reads again.
func TestStalledPeer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
		c := s.dial()
		r := <-recs
		want := pattern(10_000_000)
		for p := want; len(p) > 0; {
			n := min(len(p), 1+rand.Intn(100_000))
			if err := r.conn.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		if r.conn.Backlog() < 1_000_000 {
			t.Errorf("backlog of %d", r.conn.Backlog())
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("bytes are lost or mixed: %v", err)
		}
		eventually(t, "writable", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.writable > 0 })
		if n := r.conn.Backlog(); n != 0 {
			t.Errorf("backlog of %d remains", n)
		}
		// The connection is as good as before.
		r.conn.Write([]byte("more"))
		if _, err := io.ReadFull(c, got[:4]); err != nil {
			t.Fatal(err)
		}
		c.Close()
		s.stop()
	})
}

func TestBacklogBound(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{MaxBacklog: 256 << 10}, func(r *recorder) { recs <- r })
		c := s.dial()
		defer c.Close()
		r := <-recs
		p := pattern(50_000)
		var err error
		for range 1000 {
			if err = r.conn.Write(p); err != nil {
				break
			}
			if n := r.conn.Backlog(); n > 256<<10 {
				t.Fatalf("backlog of %d", n)
			}
		}
		if !errors.Is(err, ErrBacklog) {
			t.Fatalf("got %v", err)
		}
		wait(t, "closed", r.done)
		if !errors.Is(r.err, ErrBacklog) {
			t.Errorf("closed with %v", r.err)
		}
		eventually(t, "empty", func() bool { return r.conn.Backlog() == 0 })
		s.stop()
	})
}

// A client that shuts its side still gets what was written to it.
func TestHalfClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		want := pattern(5_000_000)
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) {
			r.onData = func(p []byte) error {
				if len(p) == 0 {
					return nil
				}
				return r.conn.Write(want)
			}
			recs <- r
		})
		c := s.dial()
		c.Write([]byte("x"))
		r := <-recs
		eventually(t, "backlog", func() bool { return r.conn.Backlog() > 0 })
		c.(interface{ CloseWrite() error }).CloseWrite()
		wait(t, "closed", r.done)
		if r.err != nil {
			t.Errorf("closed with %v", r.err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		c.Close()
		s.stop()
	})
}

// The last words arrive although the peer has sent much that nobody read.
func TestLinger(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, where := range []string{"start", "data", "flush", "elsewhere"} {
			words := pattern(300_000)
			recs := make(chan *recorder, 1)
			s := startServer(t, k, Config{}, func(r *recorder) {
				r.onData = func(p []byte) error {
					if len(p) > 0 && where == "data" || p == nil && where == "start" {
						r.conn.Write(words)
						r.conn.Close(true)
						return errors.New("refused")
					}
					return nil
				}
				r.onFlush = func() {
					if r.flushes == 2 && where == "flush" {
						r.conn.Write(words)
						r.conn.Close(true)
					}
				}
				recs <- r
			})
			c := s.dial()
			go func() {
				p := pattern(100_000)
				for range 10 {
					if _, err := c.Write(p); err != nil {
						return
					}
				}
			}()
			r := <-recs
			if where == "elsewhere" {
				r.conn.Write(words)
				r.conn.Close(true)
				if err := r.conn.Write([]byte("late")); err == nil {
					t.Error("write after close")
				}
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, words) {
				t.Fatalf("%s: %d bytes, %v", where, len(got), err)
			}
			c.Close()
			wait(t, "closed", r.done)
			if !errors.Is(r.err, net.ErrClosed) || r.closed != 1 || r.strayed != "" {
				t.Errorf("%s: closed %d times with %v; %s", where, r.closed, r.err, r.strayed)
			}
			s.stop()
		}
	})
}

// A peer that neither reads nor closes cannot hold a lingering connection.
func TestLingerEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	// All linger at once.
	var wg sync.WaitGroup
	for _, k := range kinds() {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
		c := s.dial()
		defer c.Close()
		r := <-recs
		r.conn.Write([]byte("bye"))
		start := time.Now()
		r.conn.Close(true)
		wg.Go(func() {
			s.stop()
			if d := time.Since(start); d < lingerDrain/2 || d > lingerFlush {
				t.Errorf("%s lingered for %v", k, d)
			}
		})
	}
	wg.Wait()
}

func TestCloseBeforeRun(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, linger := range []bool{true, false} {
			recs := make(chan *recorder, 1)
			dialed := make(chan struct{})
			s := startServer(t, k, Config{}, func(r *recorder) {
				<-dialed // what the handshake sent is not to be lost
				r.conn.Write([]byte("no"))
				r.conn.Close(linger)
				recs <- r
			})
			c := s.dial()
			close(dialed)
			got, err := io.ReadAll(c)
			if linger && (err != nil || string(got) != "no") {
				t.Errorf("%q %v", got, err)
			}
			c.Close()
			r := <-recs
			wait(t, "closed", r.done)
			if !errors.Is(r.err, net.ErrClosed) || r.first {
				t.Errorf("%v, data %v", r.err, r.first)
			}
			s.stop()
		}
	})
}

// Close at once, from many sides, while data flows both ways.
func TestCloseRace(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 100)
		s := startServer(t, k, Config{}, func(r *recorder) { echo(r); recs <- r })
		for i := range bulk(20) {
			c := s.dial()
			go func() { c.Write(pattern(200_000)) }()
			go io.Copy(io.Discard, c)
			r := <-recs
			var wg sync.WaitGroup
			for j := range 4 {
				wg.Go(func() { r.conn.Close((i+j)%2 == 0) })
			}
			wg.Wait()
			wait(t, "closed", r.done)
			c.Close()
			if r.closed != 1 || r.strayed != "" {
				t.Errorf("closed %d times; %s", r.closed, r.strayed)
			}
		}
		s.stop()
	})
}

// One event gives no more than its budget, so that others have their turn.
func TestBudget(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		if k.driver == "stream" {
			t.Skip("blocking reads are small")
		}
		size := bulk(8_000_000)
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) {
			event, total := 0, 0
			r.onData = func(p []byte) error { event += len(p); total += len(p); return nil }
			r.onFlush = func() {
				if event > readBudget+2*maxPlaintext {
					t.Errorf("%d bytes in one event", event)
				}
				event = 0
				if total == size {
					r.conn.Write([]byte("!"))
				}
			}
			recs <- r
		})
		c := s.dial()
		go c.Write(pattern(size))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		r := <-recs
		r.mu.Lock()
		if r.flushes < size/(readBudget+2*maxPlaintext) {
			t.Errorf("%d events", r.flushes)
		}
		r.mu.Unlock()
		c.Close()
		s.stop()
	})
}

// A connection that floods does not keep another from being served.
func TestFloodDoesNotStarve(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := startServer(t, k, Config{}, func(r *recorder) {
			r.onData = func(p []byte) error {
				if len(p) > 0 && len(p) < 10 {
					return r.conn.Write(p)
				}
				return nil
			}
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		floods, rounds := 4, 20
		if raceEnabled {
			floods, rounds = 2, 3
		}
		for range floods {
			c := s.dial()
			wg.Go(func() {
				p := pattern(64 << 10)
				for {
					select {
					case <-stop:
						c.Close()
						return
					default:
						c.Write(p)
					}
				}
			})
		}
		c := s.dial()
		for range rounds {
			c.Write([]byte("ping"))
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		wg.Wait()
		c.Close()
		s.stop()
	})
}

// Descriptors are reused at once by the kernel: while connections come and go
// and everybody writes to everybody, no client may receive a byte of another.
func TestDescriptorReuse(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var mu sync.Mutex
		conns := map[byte]Conn{}
		s := startServer(t, k, Config{}, func(r *recorder) {
			var me byte
			r.onData = func(p []byte) error {
				if len(p) == 0 {
					return nil
				}
				if me == 0 {
					me = p[0]
					mu.Lock()
					conns[me] = r.conn
					mu.Unlock()
				}
				return nil
			}
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		// Writers that do not care whether a connection has gone, one per
		// connection number.
		for id := byte(1); id <= 12; id++ {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					mu.Lock()
					c := conns[id]
					mu.Unlock()
					if c != nil && c.Backlog() < 1<<20 {
						err := c.Write(bytes.Repeat([]byte{id}, 1+n%3000))
						if n%50 == 49 {
							c.Close(n%100 == 99)
						}
						if err == nil {
							continue
						}
					}
					time.Sleep(100 * time.Microsecond)
				}
			})
		}
		var clients sync.WaitGroup
		rounds := 12
		if testing.Short() || raceEnabled {
			rounds = 5
		}
		for id := byte(1); id <= 12; id++ {
			clients.Go(func() {
				buf := make([]byte, 4096)
				for round := range rounds {
					nc, err := net.Dial("tcp", s.ln.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					c := nc
					if k.tls != 0 {
						cfg := s.ca.clientConfig()
						cfg.MaxVersion = k.tls
						c = tls.Client(nc, cfg)
					}
					c.SetDeadline(time.Now().Add(10 * time.Second))
					if k.ws {
						if c, err = websocket.NewClient(c, "localhost", "/mqtt", websocket.ClientOptions{}); err != nil {
							t.Error(err)
							return
						}
					}
					c.Write([]byte{id})
					for total := 0; total < 20_000; {
						n, err := c.Read(buf)
						for _, b := range buf[:n] {
							if b != id {
								t.Errorf("client %d received a byte of %d", id, b)
								return
							}
						}
						total += n
						if err != nil {
							var ne net.Error
							if k.tls != 0 && err != io.EOF && !errors.As(err, &ne) && !errors.Is(err, io.ErrUnexpectedEOF) {
								t.Errorf("client %d: broken stream: %v", id, err)
							}
							break
						}
					}
					if round%2 == 0 {
						nc.(*net.TCPConn).SetLinger(0)
					}
					nc.Close()
				}
			})
		}
		clients.Wait()
		close(stop)
		wg.Wait()
		mu.Lock()
		for _, c := range conns {
			c.Close(false)
		}
		mu.Unlock()
		s.stop()
	})
}

// Many small writes from elsewhere while the peer sends: nothing is lost.
func TestBothWays(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		n := bulk(5_000)
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
		c := s.dial()
		r := <-recs
		go func() {
			for i := range n {
				if _, err := fmt.Fprintf(c, "%08d", i); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		go func() {
			for i := range n {
				if err := r.conn.Write(fmt.Appendf(nil, "%08d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		buf := make([]byte, 8)
		for i := range n {
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != fmt.Sprintf("%08d", i) {
				t.Fatalf("%d: %q %v", i, buf, err)
			}
		}
		eventually(t, "all data", func() bool { return r.received() == 8*n })
		all := r.text()
		for i := range n {
			if got := all[8*i : 8*i+8]; got != fmt.Sprintf("%08d", i) {
				t.Fatalf("%d: %q", i, got)
			}
		}
		c.Close()
		wait(t, "closed", r.done)
		s.stop()
	})
}
