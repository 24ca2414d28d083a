package sealmq_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport/websocket"
)

// webSocketServer has a listener of each kind: wss and tls, ws and plain.
func webSocketServer(t *testing.T) *running {
	t.Helper()
	wss, ws := tlsListener("wss"), plainListener("ws")
	wss.WebSocket, ws.WebSocket = true, true
	return start(t, sealmq.Config{
		Data:      filepath.Join(t.TempDir(), "data"),
		Listeners: []sealmq.Listener{wss, tlsListener("tls"), ws, plainListener("plain")},
	})
}

func upgrade(conn net.Conn) (net.Conn, error) {
	return websocket.NewClient(conn, "localhost", "/mqtt", websocket.ClientOptions{})
}

// Messages go from every kind of listener to every other, in every version.
//
// clauses: MQTT5 [MQTT-6.0.0-3] [MQTT-6.0.0-4] MQTT311 [MQTT-6.0.0-3] [MQTT-6.0.0-4]
func TestWebSocket(t *testing.T) {
	testkit.NoLeaks(t)
	s := webSocketServer(t)
	dialer := func(listener string) *client.Dialer {
		d := s.dialer(listener, nil, nil)
		if strings.HasSuffix(listener, "s") {
			d.Upgrade = upgrade
		}
		if listener == "wss" || listener == "tls" {
			d = s.dialer(listener, s.operator(), s.Folder().CA())
			if listener == "wss" {
				d.Upgrade = upgrade
			}
		}
		return d
	}
	listeners := []string{"wss", "tls", "ws", "plain"}
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		got := map[string]chan *client.Message{}
		clients := map[string]*client.Client{}
		for _, name := range listeners {
			ch := make(chan *client.Message, 8)
			got[name] = ch
			clients[name] = connect(t, dialer(name), client.Config{
				ClientID: v.String() + "-" + name, Version: v, OnMessage: func(m *client.Message) { ch <- m },
			})
			if _, err := clients[name].Subscribe(t.Context(), client.Subscription{Filter: "all", QoS: 2}); err != nil {
				t.Fatal(err)
			}
		}
		for i, from := range listeners {
			payload := bytes.Repeat([]byte(from), 1+i*50_000)
			if _, err := clients[from].Publish(t.Context(), &client.Message{Topic: "all", Payload: payload, QoS: uint8(i % 3)}); err != nil {
				t.Fatal(err)
			}
			for _, to := range listeners {
				select {
				case m := <-got[to]:
					if !bytes.Equal(m.Payload, payload) {
						t.Errorf("%v from %s to %s: %d bytes, want %d", v, from, to, len(m.Payload), len(payload))
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("%v: nothing from %s to %s", v, from, to)
				}
			}
		}
	}
	s.await("client connected", "listener=wss", "principal=operator")
}

// What is not WebSocket, or not for this port, is refused and logged.
func TestWebSocketRefusals(t *testing.T) {
	testkit.NoLeaks(t)
	s := webSocketServer(t)
	for _, name := range []string{"ws", "wss"} {
		d := s.dialer(name, nil, nil)
		if name == "wss" {
			d = s.dialer(name, s.operator(), s.Folder().CA())
		}
		refused(t, d, client.Config{})
		s.await("level=WARN", "websocket upgrade refused", "listener="+name, "cause=mqtt_on_websocket")
		d.Upgrade = func(conn net.Conn) (net.Conn, error) {
			return websocket.NewClient(conn, "localhost", "/other", websocket.ClientOptions{})
		}
		var upgrade *client.UpgradeError
		if err := refused(t, d, client.Config{}); !errors.As(err, &upgrade) || !strings.Contains(err.Error(), "404") {
			t.Error(err)
		}
		s.await("websocket upgrade refused", "listener="+name, "cause=websocket_path")
	}
}

// rawSocket is an upgraded connection without frames of its own.
func rawSocket(t *testing.T, s *running) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr("ws").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := upgrade(nc); err != nil {
		t.Fatal(err)
	}
	return nc
}

// maskedFrame is a client's frame under the key 0, which changes nothing.
func maskedFrame(b0 byte, payload []byte) []byte {
	b := websocket.AppendHeader(nil, 0, len(payload))
	b[0] = b0
	b[1] |= 0x80
	return append(append(b, 0, 0, 0, 0), payload...)
}

// packets returns the payloads of the frames that come, up to the end or the
// close frame, whose code it returns.
func packets(t *testing.T, nc net.Conn, enough int) (got []byte, code uint16) {
	t.Helper()
	var h [2]byte
	for len(got) < enough {
		if _, err := io.ReadFull(nc, h[:]); err != nil {
			t.Fatalf("after % x: %v", got, err)
		}
		p := make([]byte, h[1])
		if _, err := io.ReadFull(nc, p); err != nil {
			t.Fatal(err)
		}
		switch h[0] {
		case 0x82:
			got = append(got, p...)
		case 0x88:
			code, _ = websocket.ParseClose(p)
			return got, code
		default:
			t.Fatalf("frame % x", h)
		}
	}
	return got, 0
}

// Control packets and frames begin and end where they like.
//
// clauses: MQTT5 [MQTT-6.0.0-2] MQTT311 [MQTT-6.0.0-2] BAD [14]
func TestWebSocketFramesAndPackets(t *testing.T) {
	testkit.NoLeaks(t)
	s := webSocketServer(t)
	connectPacket := (&mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("f")}).Append(nil, mqtt.V311)
	subscribe := (&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Subscription{{Filter: []byte("a")}}}).Append(nil, mqtt.V311)
	publish := (&mqtt.Publish{Topic: []byte("a"), Payload: []byte("payload")}).Append(nil, mqtt.V311)
	all := append(append(append([]byte{}, connectPacket...), subscribe...), publish...)
	want := append([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0}, publish...)
	for _, size := range []int{1, 2, 3, 5, 8, 13, 21, len(all)} {
		nc := rawSocket(t, s)
		var stream []byte
		for p := all; len(p) > 0; {
			n := min(size, len(p))
			stream = append(stream, maskedFrame(0x82, p[:n])...)
			if size < 5 {
				stream = append(stream, maskedFrame(0x82, nil)...) // empty
			}
			p = p[n:]
		}
		if _, err := nc.Write(stream); err != nil {
			t.Fatal(err)
		}
		if got, _ := packets(t, nc, len(want)); !bytes.Equal(got, want) {
			t.Errorf("frames of %d bytes: got % x\nwant % x", size, got, want)
		}
		nc.Write(maskedFrame(0x82, []byte{0xe0, 0})) // DISCONNECT
		if got, code := packets(t, nc, 1); len(got) > 0 || code != websocket.CloseNormal {
			t.Errorf("closed with %d, % x", code, got)
		}
	}
	// A frame that ends within a packet, and the connection with it.
	nc := rawSocket(t, s)
	nc.Write(maskedFrame(0x82, append(append([]byte{}, connectPacket...), publish[:4]...)))
	packets(t, nc, 4)
	nc.Close()
	s.await("connection lost", "client=f")
}

// Data frames other than binary, and frames that break the rules, end the
// connection.
//
// clauses: MQTT5 [MQTT-6.0.0-1] MQTT311 [MQTT-6.0.0-1] BAD [14]
func TestWebSocketBadFrames(t *testing.T) {
	testkit.NoLeaks(t)
	s := webSocketServer(t)
	hello := (&mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("b")}).Append(nil, mqtt.V5)
	for name, tt := range map[string]struct {
		frame []byte
		code  uint16
	}{
		"text":          {maskedFrame(0x81, []byte("\xc0\x00")), websocket.CloseUnsupported},
		"unmasked":      {[]byte{0x82, 2, 0xc0, 0}, websocket.CloseProtocol},
		"long ping":     {maskedFrame(0x89, make([]byte, 126)), websocket.CloseProtocol},
		"fragmented":    {maskedFrame(0x09, nil), websocket.CloseProtocol},
		"reserved bits": {maskedFrame(0xc2, []byte{0xc0, 0}), websocket.CloseProtocol},
	} {
		for _, first := range []bool{true, false} {
			nc := rawSocket(t, s)
			if !first {
				nc.Write(maskedFrame(0x82, hello))
				packets(t, nc, 5)
			}
			nc.Write(tt.frame)
			if _, code := packets(t, nc, 1<<20); code != tt.code {
				t.Errorf("%s, first %v: closed with %d, want %d", name, first, code, tt.code)
			}
			if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s, first %v: %v after the close frame", name, first, err)
			}
		}
	}
	s.await("connection lost", "client=b", "text frame")
}

// Pings are no CONNECT: a flood of them does not move its deadline.
//
// clauses: BAD [14]
func TestWebSocketPingsInsteadOfConnect(t *testing.T) {
	testkit.NoLeaks(t)
	ws := plainListener("ws")
	ws.WebSocket, ws.ConnectTimeout = true, time.Second
	s := start(t, sealmq.Config{Data: filepath.Join(t.TempDir(), "data"), Listeners: []sealmq.Listener{ws}})
	nc := rawSocket(t, s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, nc)
	}()
	flood := bytes.Repeat(maskedFrame(0x89, make([]byte, 125)), 100)
	for {
		if _, err := nc.Write(flood); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	<-ended
}
