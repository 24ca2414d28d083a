package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/transport/websocket"
)

// eachSocket runs f with every driver, in the clear and over TLS.
func eachSocket(t *testing.T, f func(t *testing.T, k kind)) {
	for _, k := range kinds() {
		if k.ws {
			t.Run(k.String(), func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				f(t, k)
			})
		}
	}
}

const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

// raw is a client that makes its frames by hand.
type raw struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

// raw sends the request with more right behind it, and reads the answer.
func (s *server) raw(more ...byte) *raw {
	s.t.Helper()
	nc := s.wrapTLS(s.dialTCP())
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(append([]byte(upgradeRequest), more...)); err != nil {
		s.t.Fatal(err)
	}
	c := &raw{s.t, nc, bufio.NewReader(nc)}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		s.t.Fatalf("%v %v", resp, err)
	}
	return c
}

// frame is a client's frame; b0 holds the opcode and the bits before it.
func frame(b0 byte, payload []byte) []byte {
	b := websocket.AppendHeader(nil, 0, len(payload))
	b[0] = b0
	b[1] |= 0x80
	key := [4]byte{1, byte(len(payload)), 0xa5, 0xff}
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i%4])
	}
	return b
}

const (
	fin    = 0x80
	binMsg = fin | byte(websocket.OpBinary)
	ping   = fin | byte(websocket.OpPing)
	bye    = fin | byte(websocket.OpClose)
)

// next reads a frame, which must be whole, unmasked and a message of its own.
func (c *raw) next() (op websocket.Opcode, payload []byte, err error) {
	var h [8]byte
	if _, err := io.ReadFull(c.in, h[:2]); err != nil {
		return 0, nil, err
	}
	if h[0]&0xf0 != fin || h[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("frame begins with % x", h[:2])
	}
	op = websocket.Opcode(h[0] & 0x0f)
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(c.in, h[6:8])
		n = binary.BigEndian.Uint64(append(make([]byte, 6), h[6:8]...))
	case 127:
		_, err = io.ReadFull(c.in, h[:8])
		n = binary.BigEndian.Uint64(h[:8])
	}
	if err != nil || n > 1<<24 {
		return 0, nil, fmt.Errorf("length %d, %v", n, err)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.in, payload)
	return op, payload, err
}

// want reads a frame that must be this one.
func (c *raw) want(op websocket.Opcode, payload []byte) {
	c.t.Helper()
	gotOp, got, err := c.next()
	if err != nil || gotOp != op || !bytes.Equal(got, payload) {
		c.t.Fatalf("opcode %d with %.40q, %v; want %d with %.40q", gotOp, got, err, op, payload)
	}
}

// wantClose reads up to a close frame with this code, and the end after it.
func (c *raw) wantClose(code uint16) {
	c.t.Helper()
	for {
		op, payload, err := c.next()
		if err != nil {
			c.t.Fatalf("no close frame: %v", err)
		}
		if op != websocket.OpClose {
			continue
		}
		if got, reason := websocket.ParseClose(payload); got != code {
			c.t.Fatalf("closed with %d %q, want %d", got, reason, code)
		}
		break
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		c.t.Fatalf("after the close frame: %v", err)
	}
}

// A megabyte in frames of all lengths, empty ones and pings among them, sent
// in pieces that end anywhere, comes back as it was; so do the pongs.
func TestFramesCutAnywhere(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		s := startServer(t, k, Config{}, echo)
		c := s.raw()
		want := pattern(1_000_000)
		var stream []byte
		rng := rand.New(rand.NewSource(1))
		message := false
		for p := want; len(p) > 0; {
			n := min(len(p), []int{0, 1, 2, 125, 126, 1000, 65535, 65536}[rng.Intn(8)])
			b0 := byte(websocket.OpBinary)
			if message {
				b0 = byte(websocket.OpContinuation)
			}
			if message = rng.Intn(3) == 0 && n < len(p); !message {
				b0 |= fin
			}
			stream = append(stream, frame(b0, p[:n])...)
			p = p[n:]
			if rng.Intn(4) == 0 {
				stream = append(stream, frame(ping, pattern(rng.Intn(126)))...)
			}
		}
		last := []byte("the last ping")
		stream = append(stream, frame(ping, last)...)
		go func() {
			for p := stream; len(p) > 0; {
				n := min(len(p), 1+rng.Intn(rng.Intn(40_000)+1))
				if _, err := c.Write(p[:n]); err != nil {
					return
				}
				p = p[n:]
			}
		}()
		var got, pong []byte
		for len(got) < len(want) || !bytes.Equal(pong, last) {
			op, payload, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			switch op {
			case websocket.OpBinary:
				got = append(got, payload...)
			case websocket.OpPong:
				pong = payload
			default:
				t.Fatalf("opcode %d", op)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatal("other bytes came back")
		}
		c.Close()
		s.stop()
	})
}

// What comes with the request to upgrade, or before Run, is not lost.
func TestFramesBeforeRun(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) {
			buf := make([]byte, 3)
			if _, err := io.ReadFull(r.conn, buf); err != nil || string(buf) != "CON" {
				t.Errorf("%q %v", buf, err)
			}
			recs <- r
		})
		early := append(frame(binMsg, []byte("CONN")), frame(ping, []byte("?"))...)
		early = append(early, frame(binMsg, []byte("ECT"))...)
		half := frame(binMsg, []byte(" and more"))
		c := s.raw(append(early, half[:5]...)...)
		r := <-recs
		eventually(t, "what is there", func() bool { return r.text() == "NECT" })
		c.Write(half[5:])
		eventually(t, "the rest", func() bool { return r.text() == "NECT and more" })
		c.want(websocket.OpPong, []byte("?"))
		c.Close()
		wait(t, "closed", r.done)
		if r.err != nil || r.strayed != "" {
			t.Error(r.err, r.strayed)
		}
		s.stop()
	})
}

// A frame that breaks the rules ends the connection with the code for it; what
// came before it counts.
func TestFrameFaults(t *testing.T) {
	unmasked := append(websocket.AppendHeader(nil, websocket.OpBinary, 1), 'x')
	for _, tt := range []struct {
		name  string
		frame []byte
		code  uint16
	}{
		{"text", frame(fin|byte(websocket.OpText), []byte("x")), websocket.CloseUnsupported},
		{"unmasked", unmasked, websocket.CloseProtocol},
		{"long ping", frame(ping, make([]byte, 126)), websocket.CloseProtocol},
		{"long close", frame(bye, make([]byte, 200)), websocket.CloseProtocol},
		{"cut ping", frame(byte(websocket.OpPing), []byte("x")), websocket.CloseProtocol},
		{"continuation of nothing", frame(fin, []byte("x")), websocket.CloseProtocol},
		{"compressed", frame(binMsg|0x40, []byte("x")), websocket.CloseProtocol},
		{"reserved opcode", frame(fin|3, []byte("x")), websocket.CloseProtocol},
		{"half a code", frame(bye, []byte{3}), websocket.CloseProtocol},
		{"reason not UTF-8", frame(bye, []byte{3, 0xe8, 0xff}), websocket.CloseInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachSocket(t, func(t *testing.T, k kind) {
				for _, before := range []bool{true, false} {
					recs := make(chan *recorder, 1)
					s := startServer(t, k, Config{}, func(r *recorder) {
						if before {
							// As the broker does when CONNECT does not come.
							if _, err := r.conn.Read(make([]byte, 10)); err == nil {
								t.Error("read past the fault")
							}
							r.conn.Close(true)
						}
						recs <- r
					})
					var c *raw
					if before {
						c = s.raw(tt.frame...)
					} else {
						c = s.raw()
						c.Write(append(frame(binMsg, []byte("good")), append(tt.frame, frame(binMsg, []byte("late"))...)...))
					}
					c.wantClose(tt.code)
					c.Close()
					r := <-recs
					wait(t, "closed", r.done)
					if !before {
						var ce *websocket.CloseError
						if !errors.As(r.err, &ce) || ce.Code != tt.code || ce.Peer {
							t.Errorf("closed with %v", r.err)
						}
						if r.text() != "good" {
							t.Errorf("data %q", r.text())
						}
					}
					s.stop()
				}
			})
		})
	}
}

// A peer that pings without end and reads nothing makes no backlog of pongs.
// The latest ping is answered once there is room.
func TestPingFlood(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
		c := s.raw()
		r := <-recs
		if err := r.conn.Write(pattern(8_000_000)); err != nil {
			t.Fatal(err)
		}
		full := r.conn.Backlog()
		if full == 0 {
			t.Fatal("no backlog")
		}
		flood := bytes.Repeat(frame(ping, pattern(125)), 1000)
		for range 50 {
			c.Write(flood)
		}
		last := []byte("the last")
		c.Write(append(frame(ping, last), frame(binMsg, []byte("done"))...))
		eventually(t, "all pings taken", func() bool { return r.text() == "done" })
		if n := r.conn.Backlog(); n > full {
			t.Errorf("backlog grew from %d to %d", full, n)
		}
		pongs := 0
		for {
			op, payload, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if op == websocket.OpPong {
				if pongs++; bytes.Equal(payload, last) {
					break
				}
			}
		}
		if pongs > 50 {
			t.Errorf("%d pongs", pongs)
		}
		// Not one too many, and the connection is as good as before.
		r.conn.Write([]byte("more"))
		c.want(websocket.OpBinary, []byte("more"))
		c.Close()
		wait(t, "closed", r.done)
		s.stop()
	})
}

// Pongs that the reader sends never break into a frame that another goroutine
// writes.
func TestPongsBetweenFrames(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		recs := make(chan *recorder, 1)
		s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
		c := s.raw()
		r := <-recs
		var wg sync.WaitGroup
		const rounds = 300
		wg.Go(func() {
			for i := range rounds {
				if err := r.conn.Write(bytes.Repeat([]byte{byte(i)}, 1+i*211)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		stop := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					c.Write(frame(ping, []byte("are you there?")))
				}
			}
		})
		for i := 0; i < rounds; {
			op, payload, err := c.next()
			switch {
			case err != nil:
				t.Fatal(err)
			case op == websocket.OpPong && string(payload) == "are you there?":
			case op == websocket.OpBinary && bytes.Equal(payload, bytes.Repeat([]byte{byte(i)}, 1+i*211)):
				i++
			default:
				t.Fatalf("opcode %d with %d bytes, %d frames in", op, len(payload), i)
			}
		}
		close(stop)
		go io.Copy(io.Discard, c)
		wg.Wait()
		c.Close()
		wait(t, "closed", r.done)
		s.stop()
	})
}

func TestCloseHandshake(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		for _, tt := range []struct {
			payload string
			code    uint16
			fault   bool
		}{
			{"", websocket.CloseNoStatus, false},
			{"\x03\xe8bye", websocket.CloseNormal, false},
			{"\x03\xe9", websocket.CloseGoingAway, false},
			{"\x0f\xa0out of memory", 4000, true},
		} {
			recs := make(chan *recorder, 1)
			s := startServer(t, k, Config{}, func(r *recorder) {
				if err := r.conn.Write([]byte("hello")); err != nil {
					t.Error(err)
				}
				recs <- r
			})
			c := s.raw()
			c.want(websocket.OpBinary, []byte("hello"))
			// Cut, and with a ping behind it that nobody may answer.
			b := append(frame(bye, []byte(tt.payload)), frame(ping, nil)...)
			c.Write(b[:1])
			c.Write(b[1:])
			c.wantClose(tt.code)
			c.Close()
			r := <-recs
			wait(t, "closed", r.done)
			var ce *websocket.CloseError
			if fault := errors.As(r.err, &ce) && ce.Peer; fault != tt.fault || !fault && r.err != nil {
				t.Errorf("%q: closed with %v", tt.payload, r.err)
			}
			if err := r.conn.Write([]byte("late")); err == nil {
				t.Error("write after the end")
			}
			s.stop()
		}
		for _, shutdown := range []bool{false, true} {
			recs := make(chan *recorder, 1)
			s := startServer(t, k, Config{}, func(r *recorder) { recs <- r })
			c := s.raw()
			r := <-recs
			want := websocket.CloseNormal
			if shutdown {
				s.ln.Close()
				want = websocket.CloseGoingAway
			}
			r.conn.Write(pattern(100))
			r.conn.Close(true)
			c.want(websocket.OpBinary, pattern(100))
			c.wantClose(want)
			c.Close()
			wait(t, "closed", r.done)
			s.stop()
		}
	})
}

// One Write is one frame, and its header shares the first record: a small
// message costs one record, a large one as many as fill up.
func TestFramePerWrite(t *testing.T) {
	for _, driver := range testDrivers() {
		for _, limit := range []int{256, 4096, maxPlaintext} {
			sizes := []int{1, 100, 125, 126, limit - 4, limit, 5 * limit, 100_000}
			hold := make(chan struct{})
			s := startServer(t, kind{driver: driver, tls: tls.VersionTLS13, ws: true}, Config{MaxRecord: limit}, func(r *recorder) {
				<-hold
				for _, n := range sizes {
					r.conn.Write(pattern(n))
				}
			})
			nc := s.dialTCP()
			seen := &recordWatch{Conn: nc}
			c := s.wrapTLS(seen)
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, upgradeRequest)
			r := &raw{t, c, bufio.NewReaderSize(c, 1)}
			if _, err := http.ReadResponse(r.in, nil); err != nil {
				t.Fatal(err)
			}
			seen.count, seen.largest = 0, 0
			close(hold)
			records := 0
			for _, n := range sizes {
				r.want(websocket.OpBinary, pattern(n))
				records += (websocket.HeaderLen(n) + n + limit - 1) / limit
			}
			if seen.count != records {
				t.Errorf("%s, %d bytes a record: %d records, want %d", driver, limit, seen.count, records)
			}
			if seen.largest > limit+64 {
				t.Errorf("%s: record of %d bytes", driver, seen.largest)
			}
			c.Close()
			s.stop()
		}
	}
}

func TestUpgradeCauses(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ca := newTestCA(t)
	send := func(s string) func(net.Conn) {
		return func(nc net.Conn) { io.WriteString(nc, s); io.Copy(io.Discard, nc) }
	}
	change := func(old, new string) func(net.Conn) { return send(strings.Replace(upgradeRequest, old, new, 1)) }
	origin := func(o string) func(net.Conn) { return change("\r\nUpgrade", "\r\nOrigin: "+o+"\r\nUpgrade") }
	soon := Config{ConnectTimeout: 100 * time.Millisecond}
	for _, tt := range []struct {
		name   string
		cfg    Config
		client func(net.Conn)
		want   Cause // empty: accepted
	}{
		{name: "good", client: change("", "")},
		{name: "root", client: change("/mqtt", "/")},
		{name: "same origin", client: origin("https://localhost:3000")},
		{name: "origin listed", cfg: Config{WebSocketOrigins: []string{"https://ui.example"}}, client: origin("https://ui.example")},
		{name: "path listed", cfg: Config{WebSocketPaths: []string{"/broker"}}, client: change("/mqtt", "/broker")},
		{name: "path", client: change("/mqtt", "/other"), want: CausePath},
		{name: "path no longer", cfg: Config{WebSocketPaths: []string{"/broker"}}, client: change("", ""), want: CausePath},
		{name: "origin", client: origin("https://evil.example"), want: CauseOrigin},
		{name: "origin not listed", cfg: Config{WebSocketOrigins: []string{"https://ui.example"}}, client: origin("https://localhost"), want: CauseOrigin},
		{name: "sub-protocol", client: change("mqtt\r\n\r\n", "chat\r\n\r\n"), want: CauseSubprotocol},
		{name: "version", client: change("Version: 13", "Version: 8"), want: CauseUpgradeVersion},
		{name: "HTTP", client: send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), want: CauseNotUpgrade},
		{name: "malformed", client: send("GET /mqtt\r\n\r\n"), want: CauseRequest},
		{name: "endless", client: send("GET /mqtt HTTP/1.1\r\nHost: " + strings.Repeat("x", 10_000)), want: CauseRequest},
		{name: "MQTT", client: send("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"), want: CauseMQTTOnWebSocket},
		{name: "noise", client: send("\x00\xff\xff\xff"), want: CauseNotHTTP},
		{name: "TLS", client: send("\x16\x03\x01\x02\x00\x01"), want: CauseTLSOnPlain},
		{name: "nothing", client: func(net.Conn) {}, want: CauseNothingSent},
		{name: "half", client: func(nc net.Conn) { io.WriteString(nc, "GET ") }, want: CauseOther},
		{name: "silent", cfg: soon, client: send(""), want: CauseTimeout},
		{name: "slow", cfg: soon, want: CauseTimeout, client: func(nc net.Conn) {
			go func() { io.Copy(io.Discard, nc); nc.Close() }()
			for _, b := range []byte(upgradeRequest) {
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", tt.name, secure), func(t *testing.T) {
				cfg, client := tt.cfg, tt.client
				cfg.WebSocket, cfg.Plain = true, !secure
				if secure {
					client = func(nc net.Conn) {
						tc := tls.Client(nc, ca.clientConfig())
						if tc.Handshake() == nil {
							tt.client(tc)
							tc.CloseWrite()
						}
					}
				}
				p, err := handshake(t, ca, cfg, client)
				var he *HandshakeError
				if tt.want == "" {
					want := map[bool]string{false: "ws", true: "wss"}[secure]
					if err != nil || p.Transport != want || p.Secure != secure {
						t.Errorf("%+v, %v", p, err)
					}
					return
				}
				if secure && tt.want == CauseNothingSent {
					tt.want = CauseLeft // it has shown a certificate
				}
				if !errors.As(err, &he) || he.Cause != tt.want {
					t.Fatalf("want %s: %v", tt.want, err)
				}
				if he.Cause != CauseTLSOnPlain && he.Cause != CauseLeft && (!he.Upgrade || !strings.HasPrefix(err.Error(), "websocket upgrade with ")) {
					t.Errorf("%v", err)
				}
				if secure && he.Cause == CausePath && he.ServerName != "localhost" {
					t.Errorf("server name %q", he.ServerName)
				}
			})
		}
	}
}

// A refusal is an answer in HTTP, and arrives although the client goes on.
func TestUpgradeRefusedInHTTP(t *testing.T) {
	eachSocket(t, func(t *testing.T, k kind) {
		s := startWith(t, k, Config{}, func(Conn) { t.Error("accepted") })
		c := s.wrapTLS(s.dialTCP())
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"+strings.Repeat("more", 20_000))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusUpgradeRequired {
			t.Fatalf("%v %v", resp, err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		c.Close()
		s.stop()
	})
}

// Every cause of the codec has a name here, and each its own or a shared one.
func TestUpgradeCausesAreNamed(t *testing.T) {
	for c, named := range upgradeCauses {
		if named == "" {
			t.Errorf("%s has no name", c)
		}
	}
	if n := len(upgradeCauses); n != 10 {
		t.Errorf("%d causes", n)
	}
}

// Browsers offer http/1.1 by ALPN; only a WebSocket listener takes it.
func TestUpgradeALPN(t *testing.T) {
	ca := newTestCA(t)
	for _, ws := range []bool{true, false} {
		p, err := handshake(t, ca, Config{WebSocket: ws}, func(nc net.Conn) {
			cfg := ca.clientConfig()
			cfg.NextProtos = []string{"h2", "http/1.1"}
			tc := tls.Client(nc, cfg)
			io.WriteString(tc, upgradeRequest)
			io.Copy(io.Discard, tc)
		})
		var he *HandshakeError
		if ws && (err != nil || p.ALPN != "http/1.1") || !ws && (!errors.As(err, &he) || he.Cause != CauseALPN) {
			t.Errorf("WebSocket %v: %+v, %v", ws, p, err)
		}
	}
}

func TestStreamWebSocket(t *testing.T) {
	a, b := net.Pipe()
	c := NewStream(a, nil, Config{Name: "pipe", WebSocket: true})
	done := make(chan error, 1)
	go func() { done <- c.Handshake(t.Context()) }()
	b.SetDeadline(time.Now().Add(20 * time.Second))
	ws, err := websocket.NewClient(b, "localhost", "/", websocket.ClientOptions{})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(c)
	r.onData = func(p []byte) error { return c.Write(p) }
	c.Run(r)
	go ws.Write([]byte("hello"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(ws, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("%q, %v", buf, err)
	}
	c.Close(true)
	if _, err := ws.Read(buf); err != io.EOF {
		t.Error(err)
	}
	ws.Close()
	wait(t, "closed", r.done)
}

func TestWebSocketConfig(t *testing.T) {
	good := Config{WebSocketPaths: []string{"/", "/mqtt", "*"}, WebSocketOrigins: []string{"*", "null", "https://a.example", "http://[::1]:8080"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range []string{"", "mqtt", "/a b", "/a?b", "/\n"} {
		if err := (Config{WebSocketPaths: []string{p}}).Validate(); err == nil || !strings.Contains(err.Error(), "websocket_paths") {
			t.Errorf("path %q: %v", p, err)
		}
	}
	for _, o := range []string{"", "a.example", "https://", "https://a/", "https://a/b", "https://u@a", "https://a?b"} {
		if err := (Config{WebSocketOrigins: []string{o}}).Validate(); err == nil || !strings.Contains(err.Error(), "websocket_origins") {
			t.Errorf("origin %q: %v", o, err)
		}
	}
}
