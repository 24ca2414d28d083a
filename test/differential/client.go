package differential

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"
)

// client is one connection to one broker, from the side that may misbehave.
type client struct {
	conn    net.Conn
	version byte
	manual  bool // acknowledges when it is told to
	slow    bool // releases when it is told to

	mu       sync.Mutex
	change   *sync.Cond
	events   []event           // received and not yet compared
	wait     map[uint16]*inbox // by the broker's packet identifier
	release  []uint16          // QoS 2 messages of the client that the broker has received
	pongs    int
	pings    int // sent
	closed   bool
	first    bool              // the first packet, or the end, has come
	aliases  map[uint16]string // of the broker
	topics   map[string]bool   // of retained messages received
	assigned string            // client identifier that the broker chose
}

// inbox is a message from the broker whose handshake the client has not ended.
type inbox struct {
	message  string // what the comparison knows it by
	qos      byte
	released bool // PUBREL has come
	answered bool // nothing is owed until the broker's next packet
}

func dial(address string, version byte, patience time.Duration) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, version: version, wait: make(map[uint16]*inbox)}
	c.change = sync.NewCond(&c.mu)
	go c.read()
	return c, nil
}

// read gathers what comes, until the connection ends.
func (c *client) read() {
	r := bufio.NewReader(c.conn)
	for {
		first, body, err := readPacket(r)
		c.mu.Lock()
		if err != nil {
			c.closed, c.first = true, true
			c.events = append(c.events, event{kind: "CLOSED"})
			c.change.Broadcast()
			c.mu.Unlock()
			return
		}
		if first>>4 == tPingresp && len(body) == 0 {
			c.pongs++
		} else {
			c.first = true
			c.events = append(c.events, c.observe(first, body))
		}
		c.change.Broadcast()
		c.mu.Unlock()
	}
}

func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil || shift > 21 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// write sends bytes; a connection that has ended shows when it is read.
func (c *client) write(b []byte) {
	c.conn.SetWriteDeadline(time.Now().Add(writePatience))
	c.conn.Write(b)
}

const writePatience = 20 * time.Second

// until waits for a condition, under the lock, and reports whether it came true
// within patience.
func (c *client) until(patience time.Duration, ok func() bool) bool {
	timer := time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change.Broadcast()
	})
	defer timer.Stop()
	end := time.Now().Add(patience)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !ok() {
		if time.Now().After(end) {
			return false
		}
		c.change.Wait()
	}
	return true
}

// greeted waits for the answer to the connection's first packet.
func (c *client) greeted(patience time.Duration) bool {
	return c.until(patience, func() bool { return c.first })
}

// ping waits for the answer to a PINGREQ, or the end of the connection.
func (c *client) ping(patience time.Duration) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return true
	}
	c.pings++
	want := c.pings
	c.mu.Unlock()
	c.write(frame(tPingreq<<4, nil))
	return c.until(patience, func() bool { return c.closed || c.pongs >= want })
}

// sent counts the PINGREQs that are among what a step has sent.
func (c *client) sent(packet []byte) {
	for len(packet) >= 2 {
		length, size := header(packet)
		if size == 0 || size+length > len(packet) {
			return
		}
		if packet[0] == tPingreq<<4 && length == 0 {
			c.mu.Lock()
			c.pings++
			c.mu.Unlock()
		}
		packet = packet[size+length:]
	}
}

// close ends the connection and waits for its reader, so that no event is added
// later; what it had to say of the end itself is taken back.
func (c *client) close() {
	c.mu.Lock()
	already := c.closed
	c.mu.Unlock()
	c.conn.Close()
	c.until(writePatience, func() bool { return c.closed })
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.events); !already && n > 0 {
		c.events = c.events[:n-1]
	}
}

func (c *client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// acknowledge answers all messages that wait, or with a filter those that it
// chooses, and reports whether anything was sent.
func (c *client) acknowledge(code byte, choose func(*inbox) bool) bool {
	c.mu.Lock()
	var out []byte
	for id, m := range c.wait {
		if m.answered || choose != nil && !choose(m) {
			continue
		}
		kind := byte(tPuback)
		switch {
		case m.qos == 2 && m.released:
			kind = tPubcomp
		case m.qos == 2:
			kind = tPubrec
		}
		reason := code
		if kind == tPubcomp {
			reason = 0
		}
		out = append(out, ack(kind, c.version, id, reason)...)
		if kind == tPubrec && (c.version != 5 || reason < 0x80) {
			m.answered = true
		} else {
			delete(c.wait, id)
		}
	}
	c.mu.Unlock()
	if len(out) > 0 {
		c.write(out)
	}
	return len(out) > 0
}

// goOn sends what the client owes by itself, and reports whether that was anything.
func (c *client) goOn() bool {
	c.mu.Lock()
	var out []byte
	for _, id := range c.release {
		if !c.slow {
			out = append(out, ack(tPubrel, c.version, id, 0)...)
		}
	}
	c.release = nil
	c.mu.Unlock()
	if len(out) > 0 {
		c.write(out)
	}
	return !c.manual && c.acknowledge(0, nil) || len(out) > 0
}

// owed lists the messages that wait for an answer.
func (c *client) owed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, m := range c.wait {
		if !m.answered {
			all = append(all, m.message)
		}
	}
	return all
}
