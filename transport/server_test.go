package transport

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/transport/websocket"
)

// kind is a driver and a protocol: every test of this file runs on all of them.
type kind struct {
	driver string
	tls    uint16 // 0: plain
	ws     bool
}

func (k kind) String() string {
	name := "plain"
	if k.tls != 0 {
		name = tls.VersionName(k.tls)
	}
	if k.ws {
		name = "WebSocket " + name
	}
	return k.driver + "/" + name
}

func kinds() []kind {
	var ks []kind
	for _, d := range testDrivers() {
		for _, v := range []uint16{0, tls.VersionTLS12, tls.VersionTLS13} {
			ks = append(ks, kind{driver: d, tls: v})
		}
		for _, v := range []uint16{0, tls.VersionTLS13} {
			ks = append(ks, kind{driver: d, tls: v, ws: true})
		}
	}
	return ks
}

// server is a listener whose connections run handlers made by a function.
type server struct {
	t  testing.TB
	k  kind
	ca *testCA
	ln Listener
	wg sync.WaitGroup
}

// startServer accepts connections and runs each with the recorder that handler
// sets up.
func startServer(t testing.TB, k kind, cfg Config, handler func(*recorder)) *server {
	t.Helper()
	return startWith(t, k, cfg, func(c Conn) {
		r := newRecorder(c)
		handler(r)
		c.Run(r)
	})
}

func startWith(t testing.TB, k kind, cfg Config, serve func(Conn)) *server {
	t.Helper()
	s := &server{t: t, k: k, ca: newTestCA(t)}
	cfg.Name, cfg.Address, cfg.Plain, cfg.WebSocket = "test", "127.0.0.1:0", k.tls == 0, k.ws
	switch k.driver {
	case "epoll":
		cfg.Poller = PollerEpoll
	case "goroutine":
		cfg.Poller = PollerGoroutine
	}
	ln, err := Listen(cfg, s.ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	if k.driver == "stream" {
		ln.(*listener).newLink = newStreamLink
	}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				if c.Handshake(context.Background()) == nil {
					serve(c)
				}
			})
		}
	})
	return s
}

// stop closes everything and checks that nothing is left.
func (s *server) stop() {
	s.t.Helper()
	s.ln.Close()
	s.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.ln.Wait(ctx); err != nil {
		s.t.Errorf("connections left: %v", err)
	}
}

// slow writes a byte at a time.
type slow struct{ net.Conn }

func (s slow) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (s *server) dialTCP() net.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	return nc
}

// wrap makes a client of a TCP connection.
func (s *server) wrap(nc net.Conn) net.Conn {
	s.t.Helper()
	nc = s.wrapTLS(nc)
	if !s.k.ws {
		return nc
	}
	c, err := websocket.NewClient(nc, "localhost", "/mqtt", websocket.ClientOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return framed{c, nc}
}

func (s *server) wrapTLS(nc net.Conn) net.Conn {
	s.t.Helper()
	if s.k.tls == 0 {
		return nc
	}
	cfg := s.ca.clientConfig()
	cfg.MaxVersion = s.k.tls
	tc := tls.Client(nc, cfg)
	if err := tc.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return tc
}

// framed is a WebSocket client that can shut its side below the frames.
type framed struct {
	net.Conn
	below net.Conn
}

func (f framed) CloseWrite() error { return f.below.(interface{ CloseWrite() error }).CloseWrite() }

func (s *server) dial() net.Conn { s.t.Helper(); return s.wrap(s.dialTCP()) }

// bulk is an amount that only has to be large; the race detector makes bytes dear.
func bulk(n int) int {
	if raceEnabled {
		return n / 4
	}
	return n
}

// pattern is n bytes in which nothing repeats, the same for each n.
func pattern(n int) []byte {
	b := make([]byte, n)
	key := binary.BigEndian.AppendUint64(make([]byte, 8), uint64(n))
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	cipher.NewCTR(block, key).XORKeyStream(b, b)
	return b
}

func eachKind(t *testing.T, f func(t *testing.T, k kind)) {
	for _, k := range kinds() {
		t.Run(k.String(), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			f(t, k)
		})
	}
}
