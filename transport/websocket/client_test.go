package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// echo serves one connection: it sends back what comes, as a broker would be
// written.
func echo(nc net.Conn, o Options) error {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	in, err := Upgrade(nc, o)
	if err != nil {
		return err
	}
	var d Decoder
	var out []byte
	buf := make([]byte, 4<<10)
	for {
		for len(in) > 0 {
			var ev Event
			var data []byte
			if ev, data, in, err = d.Next(in); err != nil {
				var e *CloseError
				errors.As(err, &e)
				nc.Write(AppendClose(nil, e.Code, e.Text))
				return err
			}
			if ev == Data {
				out = append(AppendHeader(out, OpBinary, len(data)), data...)
			} else {
				out = AppendAnswer(out, ev, data)
			}
			if ev == Close {
				_, err := nc.Write(out)
				return err
			}
		}
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		n, err := nc.Read(buf)
		if err != nil {
			return err
		}
		in = buf[:n]
	}
}

// loopback returns the two ends of a TCP connection.
func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return client, server
}

// connected returns a client and the raw connection of its server, upgraded;
// early was sent with the answer.
func connected(t testing.TB, early []byte) (client net.Conn, server net.Conn) {
	t.Helper()
	nc, server := loopback(t)
	done := make(chan error, 1)
	go func() {
		_, err := Upgrade(glued{server, early}, Options{})
		done <- err
	}()
	client, err := NewClient(nc, "localhost", "/mqtt", ClientOptions{})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// glued writes more behind its first Write.
type glued struct {
	net.Conn
	more []byte
}

func (g glued) Write(p []byte) (int, error) {
	_, err := g.Conn.Write(append(bytes.Clone(p), g.more...))
	return len(p), err
}

// events reads what a client sent, until n events came.
func events(t *testing.T, server net.Conn, n int) (all []string) {
	t.Helper()
	var d Decoder
	buf := make([]byte, 1024)
	for len(all) < n {
		m, err := server.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		for p := buf[:m]; len(p) > 0; {
			// Pongs make no event: look at the opcode.
			pong := d.n == 0 && !d.payload && p[0] == 0x80|byte(OpPong)
			var ev Event
			var data []byte
			if pong {
				p[0] = 0x80 | byte(OpPing)
			}
			if ev, data, p, err = d.Next(p); err != nil {
				t.Fatal(err)
			}
			switch {
			case pong:
				all = append(all, fmt.Sprintf("pong %q", data))
			case ev != None:
				all = append(all, fmt.Sprintf("%d %q", ev, data))
			}
		}
	}
	return all
}

// serverFrame is a frame as a server sends it.
func serverFrame(op Opcode, payload string) []byte {
	return append(AppendHeader(nil, op, len(payload)), payload...)
}

func TestClientEcho(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	rapid.Check(t, func(rt *rapid.T) {
		nc, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- echo(server, Options{}) }()
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		c, err := NewClient(nc, "localhost:9001", "/mqtt?x=y", ClientOptions{})
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(0, 5).Draw(rt, "messages") {
			size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(16000, 70000)).Draw(rt, "size")
			sent := make([]byte, size)
			for i := range sent {
				sent[i] = byte(i * 7)
			}
			before := bytes.Clone(sent)
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(sent)
				wrote <- err
			}()
			got := make([]byte, size)
			most := max(size/100, rapid.SampledFrom([]int{1, 5, 1000, 1 << 20}).Draw(rt, "most"))
			for n := 0; n < size; {
				m, err := c.Read(got[n:min(n+most, size)])
				if err != nil {
					rt.Fatal(err)
				}
				n += m
			}
			if err := <-wrote; err != nil {
				rt.Fatal(err)
			}
			if !bytes.Equal(got, before) || !bytes.Equal(sent, before) {
				rt.Fatal("not what was sent")
			}
		}
		// The echo ends by answering the close frame, whose reader is gone.
		c.Close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			rt.Fatal(err)
		}
	})
}

// The client asks for what the server is there for [MQTT-6.0.0-3].
func TestClientRequest(t *testing.T) {
	nc, server := loopback(t)
	got := make(chan string, 1)
	go func() {
		head, _, _ := readHead(server, true)
		got <- string(head)
		server.Close()
	}()
	_, err := NewClient(nc, "broker.example:9001", "/a b?c", ClientOptions{Protocol: ProtocolV31, Header: http.Header{"Origin": {"https://o"}}})
	if !errors.Is(err, io.EOF) {
		t.Errorf("error %v", err)
	}
	head := <-got
	for _, want := range []string{"GET /a%20b?c HTTP/1.1\r\n", "Host: broker.example:9001\r\n", "Sec-WebSocket-Protocol: mqttv3.1\r\n", "Origin: https://o\r\n", "Sec-WebSocket-Version: 13\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("request %q lacks %q", head, want)
		}
	}
	for _, bad := range [][2]string{{"", "/"}, {"h\r\nA: b", "/"}, {"h", ""}, {"h", "mqtt"}, {"h", "/\r\n"}, {"h", "http://x/"}, {"a/b", "/"}} {
		if _, err := NewClient(nil, bad[0], bad[1], ClientOptions{}); err == nil {
			t.Errorf("no error for host %q, path %q", bad[0], bad[1])
		}
	}
}

func TestClientRefused(t *testing.T) {
	accept := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nno such\n", `server answered 404 Not Found: "no such"`},
		{"HTTP/1.1 502 Bad Gateway\r\n\r\n", "server answered 502 Bad Gateway"},
		{accept + "\r\n", "Accept"}, // the key was another
		{"HTTP/1.1 101 x\r\n\r\n", "Upgrade"},
		{"\x20\x02\x00\x00\n\n", "malformed"},
		{"HTTP/1.1 101 " + strings.Repeat("x", 2*MaxHead), "longer than 8192"},
		{"HTTP/1.1 101 ", "unexpected EOF"},
	} {
		nc, server := loopback(t)
		go func() {
			readHead(server, true)
			io.WriteString(server, c.answer)
			server.(*net.TCPConn).CloseWrite()
		}()
		if _, err := NewClient(nc, "h", "/", ClientOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("answer %.80q: error %v, want %s", c.answer, err, c.want)
		}
	}
	for _, c := range []struct{ edit, want string }{
		{"Sec-WebSocket-Protocol: mqtt\r\n", "does not speak the sub-protocol mqtt"},
		{"l: mqtt", "unexpected protocol"}, // becomes another
	} {
		nc, server := loopback(t)
		go func() {
			with := ""
			if strings.HasPrefix(c.edit, "l") {
				with = "l: chat"
			}
			Upgrade(edited{server, strings.NewReplacer(c.edit, with)}, Options{})
			server.(*net.TCPConn).CloseWrite()
		}()
		if _, err := NewClient(nc, "h", "/", ClientOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("without %q: error %v, want %s", c.edit, err, c.want)
		}
	}
}

// edited changes what is written.
type edited struct {
	net.Conn
	r *strings.Replacer
}

func (e edited) Write(p []byte) (int, error) {
	_, err := e.r.WriteString(e.Conn, string(p))
	return len(p), err
}

// What comes with the answer is not lost; pings are answered, and the last
// words too.
func TestClientEvents(t *testing.T) {
	early := join(serverFrame(OpBinary, "early "), serverFrame(OpPing, "p"), serverFrame(OpPong, "x"), serverFrame(OpBinary, "bird"))
	c, server := connected(t, early)
	got := make([]byte, 10)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "early bird" {
		t.Fatalf("%q, %v", got, err)
	}
	server.Write(join([]byte{byte(OpBinary), 1, 'a'}, serverFrame(OpPing, ""), []byte{0x80, 1, 'b'}, AppendClose(nil, CloseGoingAway, "restart")))
	rest, err := io.ReadAll(c)
	if err != nil || string(rest) != "ab" {
		t.Errorf("%q, %v", rest, err)
	}
	if got := fmt.Sprint(events(t, server, 3)); got != `[pong "p" pong "" 3 "\x03\xe9"]` {
		t.Errorf("server got %s", got)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the close frame: %v", err)
	}
	c.Close()
	if n, err := server.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("after the close frame: %d bytes, %v", n, err)
	}
}

func TestClientEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		server []byte
		code   uint16 // of the error
		peer   bool
		answer string
	}{
		{"text", serverFrame(OpText, "x"), CloseUnsupported, false, `3 "\x03\xeb"`},
		{"masked", frame(bin, []byte("x")), CloseProtocol, false, `3 "\x03\xea"`},
		{"compressed", []byte{bin | 0x40, 0}, CloseProtocol, false, `3 "\x03\xea"`},
		{"told off", AppendClose(nil, ClosePolicy, "no"), ClosePolicy, true, `3 "\x03\xf0"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := connected(t, nil)
			server.Write(join(serverFrame(OpBinary, "ok"), c.server))
			got, err := io.ReadAll(client)
			var e *CloseError
			if string(got) != "ok" || !errors.As(err, &e) || e.Code != c.code || e.Peer != c.peer {
				t.Errorf("%q, %v", got, err)
			}
			if got := events(t, server, 1); got[0] != c.answer {
				t.Errorf("answer %s", got[0])
			}
		})
	}
	client, server := connected(t, nil)
	server.Close()
	if _, err := client.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("gone without a close frame: %v", err)
	}
	client, server = connected(t, nil)
	client.Close()
	if got := events(t, server, 1); got[0] != `3 "\x03\xe8"` {
		t.Errorf("close: %s", got[0])
	}
}

// A read deadline may be moved, in the middle of a frame too.
func TestClientDeadline(t *testing.T) {
	c, server := connected(t, nil)
	b := make([]byte, 4)
	server.Write([]byte{bin, 4, 'a'})
	if n, err := c.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c.SetReadDeadline(time.Unix(1, 0))
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(n, err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	server.Write([]byte("bcd"))
	if _, err := io.ReadFull(c, b[:3]); err != nil || string(b[:3]) != "bcd" {
		t.Errorf("%q, %v", b, err)
	}
}

// A reader answers a ping although a writer is stuck: the writer sends the
// pong when it is free.
func TestClientPingWhileWriting(t *testing.T) {
	nc, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Upgrade(server, Options{})
		done <- err
	}()
	c, err := NewClient(nc, "h", "/", ClientOptions{})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer server.Close()
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("stuck"))
		wrote <- err
	}()
	one := make([]byte, 1)
	io.ReadFull(server, one) // the writer holds on to the rest
	go server.Write(join(serverFrame(OpPing, "1"), serverFrame(OpPing, "2"), serverFrame(OpBinary, "x")))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(events(t, glue(one, server), 2)); got != `[1 "stuck" pong "2"]` {
		t.Errorf("server got %s", got)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// glue puts back what was read.
func glue(b []byte, nc net.Conn) net.Conn { return unread{nc, io.MultiReader(bytes.NewReader(b), nc)} }

type unread struct {
	net.Conn
	r io.Reader
}

func (u unread) Read(p []byte) (int, error) { return u.r.Read(p) }

// Messages of several writers do not mix, though each needs several calls.
func TestClientWriters(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, server := connected(t, nil)
	var writers sync.WaitGroup
	const size, each, many = 20000, 5, 4
	for i := range many {
		writers.Go(func() {
			for range each {
				if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Go(func() {
		for range each {
			server.Write(join(serverFrame(OpPing, "now"), serverFrame(OpBinary, ".")))
		}
	})
	writers.Go(func() { io.ReadFull(c, make([]byte, each)) })
	var d Decoder
	var all []byte
	buf := make([]byte, 1000)
	for len(all) < size*each*many {
		n, err := server.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for p := buf[:n]; len(p) > 0; {
			var ev Event
			var data []byte
			if ev, data, p, err = d.Next(p); err != nil {
				t.Fatal(err)
			} else if ev == Data {
				all = append(all, data...)
			}
		}
	}
	writers.Wait()
	for ; len(all) > 0; all = all[size:] {
		if bytes.Count(all[:size], all[:1]) != size {
			t.Fatal("messages mix")
		}
	}
}

func TestClientAllocates(t *testing.T) {
	c, server := connected(t, nil)
	msg := make([]byte, 1000)
	in, out := make([]byte, 4096), join(serverFrame(OpBinary, string(msg)), serverFrame(OpPing, "p"))
	step := func() {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(server, in, len(msg)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, in[:len(msg)]); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
