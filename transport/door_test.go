package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// porter is a door that counts, and does what a test wants.
type porter struct {
	mu         sync.Mutex
	refuse     bool // at the door
	refuseFrom bool // by the header
	refuseLate bool // after the handshake
	proxied    bool

	entered, open, handshaken, connected, left int
	addrs                                      []netip.Addr
	strayed                                    []string
}

type pass struct {
	d     *porter
	stage string
}

func (d *porter) Enter(a netip.Addr) Pass {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs = append(d.addrs, a)
	if d.refuse {
		return nil
	}
	d.entered++
	d.open++
	return &pass{d, "entered"}
}

func (p *pass) to(stage string, after ...string) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	for _, a := range after {
		if p.stage == a {
			p.stage = stage
			return
		}
	}
	p.d.strayed = append(p.d.strayed, p.stage+" to "+stage)
	p.stage = stage
}

func (p *pass) Proxied() bool { return p.d.proxied }

// From reads a line with an address.
func (p *pass) From(r io.Reader) (netip.AddrPort, error) {
	p.to("announced", "entered")
	line := make([]byte, 0, 64)
	for b := make([]byte, 1); ; {
		if _, err := r.Read(b); err != nil {
			return netip.AddrPort{}, err
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	if p.d.refuseFrom {
		return netip.AddrPort{}, ErrRefused
	}
	if len(line) == 0 {
		return netip.AddrPort{}, nil
	}
	return netip.ParseAddrPort(string(line))
}

func (p *pass) Handshaken() bool {
	p.to("handshaken", "entered", "announced")
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.handshaken++
	return !p.d.refuseLate
}

func (p *pass) Connected() {
	p.to("connected", "handshaken")
	p.d.mu.Lock()
	p.d.connected++
	p.d.mu.Unlock()
}

func (p *pass) Leave() {
	p.to("left", "entered", "announced", "handshaken", "connected")
	p.d.mu.Lock()
	p.d.left++
	p.d.open--
	p.d.mu.Unlock()
}

// check waits until all have left, each once and in order.
func (d *porter) check(t *testing.T) {
	t.Helper()
	eventually(t, "everybody has left", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.open == 0 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left != d.entered || len(d.strayed) > 0 {
		t.Errorf("%d entered, %d left; %q", d.entered, d.left, d.strayed)
	}
}

// behind starts a server behind a door. serve is what happens after a handshake, with its result.
func behind(t *testing.T, k kind, d *porter, cfg Config, serve func(Conn, error)) *server {
	t.Helper()
	s := startWith(t, k, Config{}, func(Conn) {})
	s.stop()
	cfg = s.ln.(*listener).g.cfg.over(cfg)
	ln, err := ListenBehind(d, cfg, s.ca, nil)
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
			s.wg.Go(func() { serve(c, c.Handshake(context.Background())) })
		}
	})
	return s
}

// over is a configuration with what a test sets in another.
func (c Config) over(o Config) Config {
	if o.HandshakeTimeout != 0 {
		c.HandshakeTimeout = o.HandshakeTimeout
	}
	c.MaxConnections = o.MaxConnections
	return c
}

// However a connection dies, its pass is given back, once.
func TestPassesAreGivenBack(t *testing.T) {
	deaths := map[string]func(s *server){
		"client leaves at once": func(s *server) { s.dialTCP().Close() },
		"client resets": func(s *server) {
			nc := s.dialTCP()
			nc.(*net.TCPConn).SetLinger(0)
			nc.Close()
		},
		"garbage": func(s *server) {
			nc := s.dialTCP()
			io.WriteString(nc, strings.Repeat("garbage", 20)+"\r\n\r\n")
			nc.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, nc)
			nc.Close()
		},
		"client closes":       func(s *server) { c := s.dial(); io.WriteString(c, "hello"); c.Close() },
		"handler refuses":     func(s *server) { c := s.dial(); io.WriteString(c, "error"); io.Copy(io.Discard, c); c.Close() },
		"closed with linger":  func(s *server) { c := s.dial(); io.WriteString(c, "linger"); io.Copy(io.Discard, c); c.Close() },
		"closed hard":         func(s *server) { c := s.dial(); io.WriteString(c, "hard"); io.Copy(io.Discard, c); c.Close() },
		"refused before run":  func(s *server) { c := s.dial(); io.WriteString(c, "never"); io.Copy(io.Discard, c); c.Close() },
		"closed before run":   func(s *server) { c := s.dial(); io.WriteString(c, "close"); io.Copy(io.Discard, c); c.Close() },
		"never says anything": func(s *server) { c := s.dial(); io.Copy(io.Discard, c); c.Close() },
	}
	eachKind(t, func(t *testing.T, k kind) {
		d := &porter{}
		s := behind(t, k, d, Config{}, func(c Conn, err error) {
			if err != nil {
				return
			}
			word := make([]byte, 5)
			c.SetReadDeadline(time.Now().Add(time.Second / 10))
			if _, err := io.ReadFull(c, word); err != nil {
				c.Close(true)
				return
			}
			r := newRecorder(c)
			switch string(word) {
			case "error":
				r.onData = func([]byte) error { c.Close(true); return errors.New("refused") }
			case "linge":
				r.onFlush = func() { c.Close(true) }
			case "hard":
				r.onFlush = func() { c.Close(false) }
			case "never":
				c.Close(true)
				return
			case "close":
				c.Close(false)
			}
			c.Run(r)
		})
		var wg sync.WaitGroup
		for _, die := range deaths {
			wg.Go(func() { die(s) })
		}
		wg.Wait()
		s.ln.Close()
		d.check(t)
		s.stop()
		if d.entered != len(deaths) || d.connected == 0 {
			t.Errorf("%d entered, %d connected", d.entered, d.connected)
		}
	})
}

// What the door refuses is closed before anything else exists, and while it lets nobody in the listener goes on.
func TestRefusedAtTheDoor(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		d := &porter{refuse: true}
		s := behind(t, k, d, Config{}, func(c Conn, err error) { t.Error("came through") })
		for range 3 {
			nc, err := net.Dial("tcp", s.ln.Addr().String())
			if err != nil {
				continue // the reset was faster
			}
			if _, err := nc.Read(make([]byte, 1)); err == nil {
				t.Error("something was read")
			}
			nc.Close()
		}
		eventually(t, "all were judged", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.addrs) == 3 })
		s.stop()
		if d.addrs[0] != netip.MustParseAddr("127.0.0.1") || d.entered != 0 {
			t.Errorf("asked about %v, %d entered", d.addrs, d.entered)
		}
	})
}

// A listener that is full gives the pass back.
func TestPassOfFullListener(t *testing.T) {
	d := &porter{}
	held := make(chan Conn, 1)
	s := behind(t, kind{driver: testDrivers()[0]}, d, Config{MaxConnections: 1}, func(c Conn, err error) { held <- c })
	first := s.dialTCP()
	defer first.Close()
	c := <-held
	second := s.dialTCP()
	io.Copy(io.Discard, second)
	second.Close()
	eventually(t, "one is left", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.entered == 2 && d.left == 1 })
	c.Close(false)
	d.check(t)
	s.stop()
}

func TestRefusedAfterHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		d := &porter{refuseLate: true}
		got := make(chan error, 1)
		s := behind(t, k, d, Config{}, func(c Conn, err error) { got <- err })
		nc := s.dialTCP()
		if k.tls != 0 {
			go tls.Client(nc, s.ca.clientConfig()).Handshake()
		}
		if err := <-got; err != ErrRefused {
			t.Errorf("handshake: %v", err)
		}
		d.check(t)
		nc.Close()
		s.stop()
	})
}

// The address that a load balancer tells is the peer's everywhere.
func TestAddressFromLoadBalancer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		d := &porter{proxied: true}
		peers := make(chan string, 1)
		s := behind(t, k, d, Config{}, func(c Conn, err error) {
			if err != nil {
				t.Error(err)
				peers <- ""
				return
			}
			peers <- c.Peer().Addr
			r := newRecorder(c)
			echo(r)
			c.Run(r)
		})
		for header, want := range map[string]string{"203.0.113.9:4711\n": "203.0.113.9:4711", "\n": "127.0.0.1:"} {
			nc := s.dialTCP()
			io.WriteString(nc, header)
			c := s.wrap(nc)
			if got := <-peers; !strings.HasPrefix(got, want) {
				t.Errorf("peer %s, want %s", got, want)
			}
			io.WriteString(c, "echo\n")
			if line, err := bufio.NewReader(c).ReadString('\n'); line != "echo\n" {
				t.Errorf("%q, %v", line, err)
			}
			c.Close()
		}
		d.check(t)
		s.stop()
	})
}

func TestNoAddressFromLoadBalancer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for sent, want := range map[string]Cause{"\x16\x03\x01\x00\n": CauseProxy, "": CauseNothingSent, "cut off": CauseProxy} {
			d := &porter{proxied: true}
			got := make(chan error, 1)
			s := behind(t, k, d, Config{}, func(c Conn, err error) { got <- err })
			nc := s.dialTCP()
			io.WriteString(nc, sent)
			nc.(*net.TCPConn).CloseWrite()
			var he *HandshakeError
			if err := <-got; !errors.As(err, &he) || he.Cause != want && want == CauseNothingSent || he.Code() == "" {
				t.Errorf("%q: %v", sent, err)
			}
			nc.Close()
			d.check(t)
			s.stop()
		}
	})
}

// A header that does not come does not hold a connection longer than the handshake may last.
func TestHeaderDeadline(t *testing.T) {
	d := &porter{proxied: true}
	got := make(chan error, 1)
	s := behind(t, kind{driver: testDrivers()[0]}, d, Config{HandshakeTimeout: time.Second}, func(c Conn, err error) { got <- err })
	nc := s.dialTCP()
	defer nc.Close()
	var he *HandshakeError
	if err := <-got; !errors.As(err, &he) || he.Cause != CauseProxy {
		t.Error(err)
	}
	d.check(t)
	d.mu.Lock()
	d.refuseFrom = true
	d.mu.Unlock()
	nc = s.dialTCP()
	defer nc.Close()
	fmt.Fprintln(nc, "203.0.113.9:4711")
	if err := <-got; err != ErrRefused {
		t.Error(err)
	}
	d.check(t)
	s.stop()
}
