package client

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the other end of a client, told packet by packet what to do.
type server struct {
	t    *testing.T
	v    mqtt.Version
	conn net.Conn
	in   reader
}

// pair makes a connection without a network: what Config.Dial needs, and the
// server that will be at its other end.
func pair(t *testing.T, v mqtt.Version) (func(context.Context) (net.Conn, error), *server) {
	a, b := net.Pipe()
	s := &server{t: t, v: v, conn: b}
	s.in.init(b, 0)
	t.Cleanup(func() { b.Close() })
	return func(context.Context) (net.Conn, error) { return a, nil }, s
}

type packet interface {
	Append([]byte, mqtt.Version) []byte
}

func (s *server) send(p packet) {
	s.t.Helper()
	if _, err := s.conn.Write(p.Append(nil, s.v)); err != nil {
		s.t.Errorf("server sends %T: %v", p, err)
	}
}

type parser interface {
	Parse(mqtt.Version, uint8, []byte) error
}

// want reads the next packet, which must be of type typ, into p.
func (s *server) want(typ mqtt.Type, p parser) {
	s.t.Helper()
	h, body, err := s.in.next()
	if err != nil {
		s.t.Fatalf("server waits for %v: %v", typ, err)
	}
	if h.Type != typ {
		s.t.Fatalf("server waits for %v, got %v % x", typ, h.Type, body)
	}
	if p == nil {
		return
	}
	if a, ok := p.(*mqtt.Ack); ok {
		a.Type = typ
	}
	if err := p.Parse(s.v, h.Flags, append([]byte{}, body...)); err != nil {
		s.t.Fatalf("server reads %v: %v", typ, err)
	}
}

func (s *server) wantEnd() {
	s.t.Helper()
	if h, _, err := s.in.next(); !errors.Is(err, io.EOF) {
		s.t.Fatalf("server waits for the end, got %v, %v", h.Type, err)
	}
}

// quiet asserts that nothing comes for a while of fake time.
func (s *server) quiet() {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(time.Second))
	if h, _, err := s.in.next(); err == nil {
		s.t.Fatalf("server wants silence, got %v", h.Type)
	}
	s.conn.SetReadDeadline(time.Time{})
}

// connect makes a client of cfg, with ack as the server's answer.
func connect(t *testing.T, cfg Config, ack mqtt.Connack) (*Client, *server) {
	t.Helper()
	v := cfg.Version
	if v == 0 {
		v = mqtt.V5
	}
	dial, s := pair(t, v)
	cfg.Dial = dial
	go func() {
		s.want(mqtt.CONNECT, new(mqtt.Connect))
		s.send(&ack)
	}()
	c, err := Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return c, s
}

// bubble runs f with fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
