package door

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
)

// fleet are clients that publish once a second each, and note how long each PUBACK took.
type fleet struct {
	stop chan struct{}
	all  sync.WaitGroup
	lost atomic.Int64

	mu    sync.Mutex
	times []time.Duration
}

func newFleet(t *testing.T, b *broker, n int) *fleet {
	t.Helper()
	f := &fleet{stop: make(chan struct{})}
	cfg := b.tls(t)
	var connected sync.WaitGroup
	few := make(chan struct{}, 8)
	for i := range n {
		connected.Add(1)
		f.all.Go(func() {
			few <- struct{}{}
			nc, err := b.dial("127.0.0.1", "open")
			var c *client
			if err == nil {
				defer nc.Close()
				c, err = connect(tls.Client(nc, cfg), fmt.Sprint("fleet-", i))
			}
			<-few
			connected.Done()
			if err != nil {
				t.Error(err)
				f.lost.Add(1)
				return
			}
			time.Sleep(time.Duration(i) * time.Second / time.Duration(n)) // evenly over the second
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for number := uint16(1); ; number = max(number+1, 1) {
				begin := time.Now()
				if err := c.publish("dt/fleet", number, "a reading of a sensor"); err != nil {
					f.lost.Add(1)
					t.Errorf("client %d: %v", i, err)
					return
				}
				f.mu.Lock()
				f.times = append(f.times, time.Since(begin))
				f.mu.Unlock()
				select {
				case <-tick.C:
				case <-f.stop:
					return
				}
			}
		})
	}
	connected.Wait()
	return f
}

// measure forgets what was measured, waits until there are n times, and returns the median and the 99th of a hundred.
func (f *fleet) measure(t *testing.T, n int) (p50, p99 time.Duration) {
	t.Helper()
	f.mu.Lock()
	f.times = nil
	f.mu.Unlock()
	var times []time.Duration
	eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.times) < n && f.lost.Load() == 0 {
			return fmt.Errorf("%d of %d messages are acknowledged", len(f.times), n)
		}
		times = slices.Clone(f.times)
		return nil
	})
	slices.Sort(times)
	if len(times) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	return times[len(times)/2], times[len(times)*99/100]
}

func (f *fleet) end() { close(f.stop); f.all.Wait() }

// recorded is what a client says first: a ClientHello.
type recorded struct {
	net.Conn
	said bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) { return r.said.Write(p) }
func (r *recorded) Read([]byte) (int, error)    { return 0, io.EOF }

func (r *recorded) SetDeadline(time.Time) error      { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }
func (r *recorded) Close() error                     { return nil }

func clientHello(version uint16) []byte {
	r := &recorded{}
	tls.Client(r, &tls.Config{ServerName: "localhost", MinVersion: min(version, tls.VersionTLS12), MaxVersion: version}).Handshake()
	return r.said.Bytes()
}

// storm is a flood of connections from many addresses.
type storm struct {
	b    *broker
	stop chan struct{}
	all  sync.WaitGroup

	slow                      atomic.Int64 // half-open, at the moment
	shaken, closed, turnedOff atomic.Int64 // handshakes that came to an answer, were closed without one, could not connect
}

// address is one of 2,000 in 20 networks, none the fleet's.
func address(i int) string { return fmt.Sprintf("127.66.%d.%d", 10+i%20, 1+i/20%100) }

// slowly keeps n connections in the handshake, each saying a byte of its ClientHello a second, and opens another one for each
// that is closed.
func (s *storm) slowly(n int) {
	hello := clientHello(tls.VersionTLS13)
	for part := range 10 {
		s.all.Go(func() {
			type half struct {
				nc *net.TCPConn
				at int
			}
			open := make([]half, 0, n/10)
			const turns = 20 // a second, each for some of them
			tick := time.NewTicker(time.Second / turns)
			defer tick.Stop()
			for next, turn := part, 0; ; turn++ {
				for len(open) < n/10 && !s.over() {
					nc, err := s.b.dial(address(next), "open")
					next += 10
					if err != nil {
						break
					}
					s.slow.Add(1)
					open = append(open, half{nc: nc})
				}
				select {
				case <-s.stop:
					for _, h := range open {
						h.nc.Close()
					}
					return
				case <-tick.C:
				}
				for i := turn % turns; i < len(open); i += turns {
					h := &open[i]
					if _, err := h.nc.Write(hello[h.at : h.at+1]); err == nil {
						h.at++
						continue
					}
					h.nc.Close() // the broker has: its time is over
					h.nc = nil
					s.slow.Add(-1)
				}
				open = slices.DeleteFunc(open, func(h half) bool { return h.nc == nil })
			}
		})
	}
}

func (s *storm) over() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// rejected begins so many handshakes a second: half of them the broker refuses, the others are left by the client when the
// broker has done its work.
func (s *storm) rejected(rate int) {
	hellos := [][]byte{clientHello(tls.VersionTLS11), clientHello(tls.VersionTLS13)}
	const workers = 20
	for w := range workers {
		s.all.Go(func() {
			tick := time.NewTicker(time.Second * workers / time.Duration(rate))
			defer tick.Stop()
			buf := make([]byte, 4096)
			for i := w; ; i += workers {
				select {
				case <-s.stop:
					return
				case <-tick.C:
				}
				nc, err := s.b.dial(address(i), "open")
				if err != nil {
					s.turnedOff.Add(1)
					continue
				}
				nc.SetDeadline(time.Now().Add(5 * time.Second))
				nc.Write(hellos[i/workers%2])
				if n, _ := nc.Read(buf); n > 0 {
					s.shaken.Add(1)
				} else {
					s.closed.Add(1)
				}
				nc.SetLinger(0)
				nc.Close()
			}
		})
	}
}

// A flood of handshakes, slow ones and failed ones, neither disconnects nor holds up clients that are connected, and costs a
// bounded amount of memory. In full size it prints what was measured.
func TestFlood(t *testing.T) {
	if !*long { // nothing is to disturb what is measured
		t.Parallel()
	}
	for name, gate := range map[string]string{"bans": "", "no bans": "ban_after = 0\n"} {
		if gate != "" && !*long {
			continue
		}
		t.Run(name, func(t *testing.T) {
			clients, slow, rate, seconds := size(40, 500), size(200, 5000), size(100, 2000), size(1, 30)
			h := newHome(t, "[gate]\nexempt = [\"none\"]\n"+gate)
			b := h.start(t)
			f := newFleet(t, b, clients)
			h.awaitEmpty(t, int64(clients))
			begin, worked := time.Now(), b.worked(t)
			quiet50, quiet99 := f.measure(t, clients*seconds)
			quietCPU := (b.worked(t) - worked) / time.Since(begin).Seconds()
			before := b.resident(t)

			s := &storm{b: b, stop: make(chan struct{})}
			s.slowly(slow)
			eventually(t, func() error {
				if n := s.slow.Load(); n < int64(slow/10*10) {
					return fmt.Errorf("%d half-open connections of %d", n, slow)
				}
				return nil
			})
			s.rejected(rate)
			peak := int64(0)
			watch := make(chan struct{})
			go func() {
				defer close(watch)
				for !s.over() {
					peak = max(peak, b.resident(t))
					time.Sleep(100 * time.Millisecond)
				}
			}()
			begin, worked = time.Now(), b.worked(t)
			flood50, flood99 := f.measure(t, clients*seconds)
			d := time.Since(begin).Seconds()
			floodCPU := (b.worked(t) - worked) / d
			during := h.figures(t)
			halfOpen := during.Handshakes
			close(s.stop)
			s.all.Wait()
			<-watch

			h.awaitEmpty(t, int64(clients))
			if n := f.lost.Load(); n > 0 {
				t.Errorf("%d clients were disconnected", n)
			}
			f.end()
			h.awaitEmpty(t, 0)
			if grown := peak - before; grown > 250<<20 && !built.Race {
				t.Errorf("the memory has grown by %d MiB, 250 allowed", grown>>20)
			}
			if during.Handshakes > 10_000 || during.Failures["tls_version"] == 0 {
				t.Errorf("%d in the handshake, failures %v", during.Handshakes, during.Failures)
			}
			t.Logf("%d half-open, %.0f rejected handshakes/s (%d answered, %d closed, %d turned off in %.0f s), %d bans, while %d clients publish: p50 %v to %v, p99 %v to %v, RSS %d MiB + %d MiB, %.2f to %.2f processors",
				halfOpen, float64(s.shaken.Load())/d, s.shaken.Load(), s.closed.Load(), s.turnedOff.Load(), d, during.Bans, clients,
				quiet50, flood50, quiet99, flood99, before>>20, (peak-before)>>20, quietCPU, floodCPU)
		})
	}
}

// A CONNECT that announces 268,435,455 bytes, and one that is as large as allowed, both sent a byte at a time, cost less than
// 64 KiB each.
func TestHugeConnects(t *testing.T) {
	if !*long {
		t.Parallel()
	}
	h := newHome(t, "[gate]\nexempt = [\"none\"]\nban_after = 0\n")
	b := h.start(t)
	n := size(200, 2000)
	first := connectPacket("huge")
	for what, packet := range map[string][]byte{
		"largest of MQTT": append([]byte{0x10, 0xff, 0xff, 0xff, 0x7f}, first[2:]...),
		"60 KiB":          append([]byte{0x10, 0x80, 0xe0, 0x03}, first[2:]...),
	} {
		t.Run(what, func(t *testing.T) {
			before := b.resident(t)
			conns := make([]*net.TCPConn, 0, n)
			for i := range n {
				nc, err := b.dial(address(i), "plain")
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				conns = append(conns, nc)
			}
			for i := range packet {
				for _, nc := range conns {
					nc.Write(packet[i : i+1])
				}
			}
			if grown := b.resident(t) - before; grown > int64(n)*64<<10 && !built.Race {
				t.Errorf("%d connections have cost %d KiB each", n, grown/int64(n)>>10)
			} else if *long {
				t.Logf("%d connections have cost %d KiB each", n, grown/int64(n)>>10)
			}
			if what != "60 KiB" {
				for _, nc := range conns {
					if !isOut(t, nc) {
						t.Fatal("a CONNECT of that size is waited for")
					}
				}
			}
			for _, nc := range conns {
				nc.Close()
			}
			h.awaitEmpty(t, 0)
		})
	}
}
