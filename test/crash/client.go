package crash

import (
	"bufio"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"time"
)

// patience bounds every single wait. It is only ever used up by a failure.
const patience = 20 * time.Second

// client is what publishers, subscribers and will makers have in common. One
// goroutine drives each; only the link's reader is another.
type client struct {
	*world
	name    string // its client identifier is this behind that of the device
	version byte   // 4 or 5
	secure  bool   // over TLS, where the broker has it
	rng     *rand.Rand
	conns   int   // connections made
	link    *link // nil: none
}

func newClient(w *world, name string, seed uint64, i int) client {
	return client{
		world: w, name: name, version: byte(4 + i%2), secure: i/2%2 == 0,
		rng: rand.New(rand.NewPCG(seed, uint64(i))),
	}
}

// link is one connection. Its in is closed when the broker has ended it.
type link struct {
	n      int // the client's n-th
	conn   net.Conn
	in     chan packet
	quit   chan struct{} // closed by close
	served *process      // at the other end, or the one before it
}

// pause waits, and until clients may connect. It reports false when the run is over.
func (c *client) pause(d time.Duration) bool {
	on := c.sleep(d)
	for on && !c.up.Load() {
		on = c.sleep(5 * time.Millisecond)
	}
	return on
}

// open connects. ok is false when that failed, as it does when the broker is
// killed meanwhile.
func (c *client) open(clean, durable bool, w *will) (l *link, ack packet, ok bool) {
	served := c.broker.process.Load()
	conn, err := c.broker.dial(c.secure)
	if err != nil {
		c.sleep(c.between(5, 50))
		return nil, ack, false
	}
	c.conns++
	l = &link{n: c.conns, conn: conn, in: make(chan packet, 1024), quit: make(chan struct{}), served: served}
	c.journal.add(event{kind: connect, client: c.name, conn: c.conns, clean: clean, durable: durable})
	if err := l.write(encodeConnect(c.version, device+"/"+c.name, clean, durable, w)); err != nil {
		l.close()
		return nil, ack, false
	}
	go c.read(l)
	select {
	case ack, ok = <-l.in:
	case <-time.After(patience):
		c.journal.trouble(c.name, "no CONNACK after %v", patience)
	}
	if !ok || ack.typ != tConnack || ack.code != 0 {
		if ok {
			c.journal.trouble(c.name, "CONNECT was answered with packet type %d, code %#x", ack.typ, ack.code)
		}
		l.close()
		return nil, ack, false
	}
	return l, ack, true
}

// read passes on what arrives. It is here that the receipt of a packet kills the
// broker, as soon as possible after it was sent.
func (c *client) read(l *link) {
	defer close(l.in)
	in := bufio.NewReader(l.conn)
	for {
		p, err := readPacket(in, c.version)
		if err != nil {
			if errors.Is(err, errMalformed) {
				c.journal.trouble(c.name, "%v", err)
			}
			return
		}
		c.trigger.saw(p.typ, c.broker)
		if p.typ == tDisconnect && p.code != 0x8e && p.code != 0x8b { // taken over, shutting down
			c.journal.trouble(c.name, "DISCONNECT with code %#x", p.code)
		}
		if p.typ == tConnack { // noted here, since the take-over of a session looks at it later
			c.journal.add(event{kind: connack, client: c.name, conn: l.n, present: p.present})
		}
		select {
		case l.in <- p:
		case <-l.quit:
			return
		}
	}
}

func (l *link) write(b []byte) error {
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := l.conn.Write(b)
	return err
}

func (l *link) close() {
	close(l.quit)
	l.conn.Close()
}

// cut ends the connection without a DISCONNECT, at times with a reset.
func (c *client) cut() {
	c.journal.add(event{kind: closed, client: c.name, conn: c.link.n})
	conn := c.link.conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok && c.rng.IntN(2) == 0 {
		t.SetLinger(0)
	}
	conn.Close() // before link.close, so that TLS says nothing
	c.link.close()
	c.link = nil
}

// ended cleans up after the broker's end of the connection, which only its own end excuses.
func (c *client) ended() {
	if !c.link.served.told() {
		c.journal.trouble(c.name, "the broker closed connection %d", c.link.n)
	}
	c.cut()
}

// leave ends the connection with a DISCONNECT.
func (c *client) leave() {
	c.journal.add(event{kind: closed, client: c.name, conn: c.link.n, text: "by DISCONNECT"})
	c.link.write(encodeDisconnect())
	c.link.close()
	c.link = nil
}

// takeOver opens a second connection while the first is in use. What the first
// still brings is given to handle before anything of the second.
func (c *client) takeOver(handle func(packet)) (ack packet, ok bool) {
	old := c.link
	l, ack, ok := c.open(false, true, nil)
	if !ok {
		c.cut()
		return ack, false
	}
	for open := true; open; {
		var p packet
		select {
		case p, open = <-old.in:
			if open {
				handle(p)
			}
		case <-time.After(patience):
			c.journal.trouble(c.name, "the connection that was taken over is still open after %v", patience)
			open = false
		}
	}
	c.journal.add(event{kind: closed, client: c.name, conn: old.n, text: "taken over"})
	old.close()
	c.link = l
	return ack, true
}

// sleep waits and reports false when the run is over.
func (c *client) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-c.done:
		return false
	}
}

// between is a random duration in milliseconds.
func (c *client) between(least, most int) time.Duration {
	return time.Duration(least+c.rng.IntN(most-least+1)) * time.Millisecond
}

// chance is true once in n times.
func (c *client) chance(n int) bool { return c.rng.IntN(n) == 0 }
