package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"time"
)

const (
	// handshakeInput bounds what a client may send before its handshake is over.
	handshakeInput = 32 << 10
	// reframe is the largest record in which crypto/tls is given the
	// ClientHello. Record boundaries are not part of what the handshake
	// authenticates, and its input buffer then stays at 576 bytes for the life
	// of the connection.
	reframe = 500
)

var errHandshakeTooLong = errors.New("handshake input over 32 KiB")

// tap stands between crypto/tls and the network while the handshake lasts. It
// keeps the ClientHello and the last bytes for the diagnosis.
type tap struct {
	hello   hello
	parsed  bool
	buf     []byte  // the ClientHello in records of ours, then what followed it
	first   []byte  // first bytes received, at most 16
	last    [7]byte // last bytes received: room for an alert in the clear
	got     int     // bytes received
	sent    int     // bytes sent
	started bool
	slot    bool             // of those that compute, it has one
	shown   *tls.Certificate // ours, as it was chosen for this client
}

func (c *conn) tapRead(p []byte) (int, error) {
	t := c.tap
	if !t.started {
		t.started = true
		if err := t.readHello(c); err != nil && len(t.buf) == 0 {
			return 0, err
		}
	}
	var n int
	var err error
	if len(t.buf) > 0 {
		n = copy(p, t.buf)
		if recordHeader <= len(t.buf) && t.parsed {
			// One record a Read.
			n = min(n, recordHeader+int(t.buf[3])<<8+int(t.buf[4]))
		}
		t.buf = t.buf[n:]
		if len(t.buf) == 0 && c.shaken {
			c.tap = nil
		}
	} else {
		n, err = t.read(c, p)
	}
	c.frames.advance(p[:n])
	return n, err
}

// work waits for a slot, in which the handshake computes.
func (t *tap) work(c *conn) {
	if !t.slot {
		c.g.slots.acquire(t.hello.resumes)
		t.slot = true
	}
	c.giveWay()
}

// giveWay is called between the steps of a handshake that compute.
func (c *conn) giveWay() {
	if c.g.yield != nil {
		c.g.yield()
	}
}

// rest gives the slot back.
func (t *tap) rest(c *conn) {
	if t.slot {
		t.slot = false
		c.g.slots.release()
		c.giveWay()
	}
}

// read reads from the network, without a slot, and goes on with one. After an
// error there is nothing to compute.
func (t *tap) read(c *conn, p []byte) (int, error) {
	t.rest(c)
	n, err := t.receive(c, p)
	if err == nil {
		t.work(c)
	}
	return n, err
}

// receive reads from the network and takes notes.
func (t *tap) receive(c *conn, p []byte) (int, error) {
	if t.got >= handshakeInput {
		return 0, errHandshakeTooLong
	}
	n, err := c.nc.Read(p[:min(len(p), handshakeInput-t.got)])
	t.got += n
	if k := min(n, 16-len(t.first)); k > 0 {
		t.first = append(t.first, p[:k]...)
	}
	if n >= len(t.last) {
		copy(t.last[:], p[n-len(t.last):n])
	} else {
		copy(t.last[:], t.last[n:])
		copy(t.last[len(t.last)-n:], p[:n])
	}
	return n, err
}

// readHello reads until the ClientHello is complete, or is none. It needs no
// slot: who dribbles is in nobody's way.
func (t *tap) readHello(c *conn) error {
	raw := make([]byte, 0, 2048)
	for {
		if len(raw) == cap(raw) {
			raw = append(raw, 0)[:len(raw)]
		}
		n, err := t.receive(c, raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		msg, rest, state := assemble(raw)
		if state == helloMore && err == nil {
			continue
		}
		t.buf = raw
		if state == helloWhole {
			if t.hello, t.parsed = parseHello(msg); t.parsed {
				t.buf = split(msg, raw[1], raw[2], rest)
			}
		}
		if err == nil {
			t.work(c)
		}
		return err
	}
}

const (
	helloMore  = iota // not all there yet
	helloWhole        // complete
	helloNone         // something else
)

// assemble takes the first handshake message out of its records.
func assemble(raw []byte) (msg, rest []byte, state int) {
	for len(raw) >= recordHeader {
		if raw[0] != 22 || raw[1] != 3 {
			return nil, nil, helloNone
		}
		n := int(raw[3])<<8 | int(raw[4])
		if n == 0 || n > maxPlaintext {
			return nil, nil, helloNone
		}
		if len(raw) < recordHeader+n {
			return nil, nil, helloMore
		}
		msg = append(msg, raw[recordHeader:recordHeader+n]...)
		raw = raw[recordHeader+n:]
		if len(msg) >= 4 {
			size := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
			if len(msg) > size || size > handshakeInput {
				return nil, nil, helloNone
			}
			if len(msg) == size {
				return msg, raw, helloWhole
			}
		}
	}
	if len(raw) > 0 && raw[0] != 22 {
		return nil, nil, helloNone
	}
	return nil, nil, helloMore
}

// split puts msg in records of at most reframe bytes, and rest behind them.
func split(msg []byte, major, minor byte, rest []byte) []byte {
	out := make([]byte, 0, len(msg)+len(rest)+recordHeader*(len(msg)/reframe+1))
	for len(msg) > 0 {
		n := min(reframe, len(msg))
		out = append(out, 22, major, minor, byte(n>>8), byte(n))
		out = append(out, msg[:n]...)
		msg = msg[n:]
	}
	return append(out, rest...)
}

func (c *conn) tapWrite(p []byte) (int, error) {
	n, err := c.nc.Write(p)
	c.tap.sent += n
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// alert decodes an alert in the clear at the end of what was received. OpenSSL
// answers a certificate that it rejects so, and crypto/tls takes it for a
// broken record.
func (t *tap) alert() (code uint8, ok bool) {
	l := t.last
	if t.got >= len(l) && l[0] == 21 && l[1] == 3 && l[3] == 0 && l[4] == 2 && (l[5] == 1 || l[5] == 2) {
		return l[6], true
	}
	return 0, false
}

var noDeadline time.Time
