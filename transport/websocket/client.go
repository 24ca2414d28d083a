package websocket

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// closeTimeout bounds how long Close waits to send its frame.
const closeTimeout = time.Second

// maskChunk is how much of a payload is masked at once, in bytes: one TLS
// record with its header.
const maskChunk = 16<<10 - MaxHeader

var errLongResponse = fmt.Errorf("head is longer than %d bytes", MaxHead)

// ClientOptions are what a client asks for. The zero value is right for MQTT
// 3.1.1 and 5.
type ClientOptions struct {
	// Protocol is the sub-protocol to ask for. Default: Protocol.
	Protocol string
	// Header holds fields to add to the request, such as Origin or
	// Authorization.
	Header http.Header
}

// NewClient upgrades nc, a connection to host (as in a URL, with the port
// unless it is the scheme's own), and returns it as a stream of bytes: what
// is written leaves as one binary message per Write, what arrives is read
// without its frames. Control frames are answered while Read is called. It
// blocks; the caller sets a deadline on nc. On an error nc is left open.
func NewClient(nc net.Conn, host, path string, o ClientOptions) (net.Conn, error) {
	if o.Protocol == "" {
		o.Protocol = Protocol
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		return nil, fmt.Errorf("websocket upgrade: host %q is not one", host)
	}
	u, err := url.ParseRequestURI(path)
	if err != nil || path[0] != '/' {
		return nil, fmt.Errorf("websocket upgrade: path %q is not one, such as /mqtt", path)
	}
	answer := &responseReader{nc: nc}
	d := ws.Dialer{Protocols: []string{o.Protocol}, Host: host, ReadBufferSize: MaxHead}
	if o.Header != nil {
		d.Header = ws.HandshakeHeaderHTTP(o.Header)
	}
	br, hs, err := d.Upgrade(memory{answer, nc}, u)
	if br != nil {
		ws.PutReader(br)
	}
	var status ws.StatusError
	switch {
	case answer.err != nil:
		return nil, fmt.Errorf("websocket upgrade: read answer: %w", answer.err)
	case errors.As(err, &status):
		return nil, fmt.Errorf("websocket upgrade: server answered %d %s%s", int(status), http.StatusText(int(status)), answer.reason())
	case err != nil:
		return nil, fmt.Errorf("websocket upgrade: %w", err)
	case hs.Protocol == "":
		return nil, fmt.Errorf("websocket upgrade: server does not speak the sub-protocol %s", o.Protocol)
	}
	return &client{Conn: nc, early: answer.rest, dec: Decoder{client: true}}, nil
}

// responseReader reads a response head, bounded, and nothing after it.
type responseReader struct {
	nc   net.Conn
	head []byte
	rest []byte
	read bool
	err  error
}

func (r *responseReader) Read(p []byte) (int, error) {
	if !r.read {
		r.read = true
		r.head, r.rest, r.err = readHead(r.nc, false)
	}
	if r.err != nil {
		return 0, r.err
	}
	if len(r.head) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.head)
	r.head = r.head[n:]
	return n, nil
}

// reason returns what came along of the body of a refusal.
func (r *responseReader) reason() string {
	b := bytes.TrimSpace(r.rest)
	if len(b) == 0 {
		return ""
	}
	return ": " + quote(string(b))
}

// client is the client's side of a connection.
//
// Locks: wmu before cmu.
type client struct {
	net.Conn
	early []byte // came with the answer
	dec   Decoder
	rerr  error // sticks

	wmu  sync.Mutex // writes to Conn
	out  []byte     // frames under way
	keys [64]byte   // random bytes for masks
	used int        // of keys, counted from their end: 0 is none left

	cmu    sync.Mutex
	answer []byte // payload of the last ping not answered, under cmu
	pinged bool   // answer is to be sent
	bye    uint16 // code of the close frame to send, 0 is none
	byed   bool   // a close frame was sent: nothing may follow
}

// Read may be called by one goroutine at a time, beside Write.
func (c *client) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.rerr == nil {
		var n int
		var err error
		if len(c.early) > 0 {
			n = copy(p, c.early)
			if c.early = c.early[n:]; len(c.early) == 0 {
				c.early = nil
			}
		} else {
			n, err = c.Conn.Read(p)
		}
		// Payloads move together to the front of p.
		got := 0
		for rest := p[:n]; len(rest) > 0 && c.rerr == nil; {
			var ev Event
			var data []byte
			var derr error
			ev, data, rest, derr = c.dec.Next(rest)
			if derr != nil {
				c.rerr = derr
				c.sendControl(func() { c.bye = derr.(*CloseError).Code })
				break
			}
			switch ev {
			case Data:
				got += copy(p[got:], data)
			case Ping:
				c.sendControl(func() { c.answer, c.pinged = append(c.answer[:0], data...), true })
			case Close:
				code, reason := ParseClose(data)
				c.rerr = closeCause(code, reason)
				c.sendControl(func() { c.bye = code })
			}
		}
		if got > 0 {
			return got, nil
		}
		if err != nil {
			if c.rerr == nil && err == io.EOF {
				// The peer went without a close frame.
				c.rerr = io.ErrUnexpectedEOF
				return 0, c.rerr
			}
			if c.rerr == nil {
				return 0, err // a deadline may be moved
			}
		}
	}
	return 0, c.rerr
}

func closeCause(code uint16, reason []byte) error {
	switch code {
	case CloseNormal, CloseGoingAway, CloseNoStatus:
		return io.EOF
	}
	return &CloseError{Code: code, Text: string(reason), Peer: true}
}

// Write sends p as one message. p is not changed.
func (c *client) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.wmu.Lock()
	defer c.unlock()
	c.cmu.Lock()
	byed := c.byed
	c.cmu.Unlock()
	if byed {
		return 0, net.ErrClosed
	}
	var key uint32
	c.out, key = c.appendHeader(c.out[:0], OpBinary, len(p))
	sent := 0
	for sent < len(p) {
		n := min(len(p)-sent, maskChunk)
		at := len(c.out)
		c.out = append(c.out, p[sent:sent+n]...)
		key = mask(c.out[at:], key)
		if _, err := c.Conn.Write(c.out); err != nil {
			// The frame is cut: nothing may follow it.
			c.cmu.Lock()
			c.byed = true
			c.cmu.Unlock()
			return sent, err
		}
		sent += n
		c.out = c.out[:0]
	}
	return sent, nil
}

// appendHeader appends a masked header and returns its key. wmu is held.
func (c *client) appendHeader(dst []byte, op Opcode, n int) ([]byte, uint32) {
	at := len(dst)
	dst = AppendHeader(dst, op, n)
	dst[at+1] |= 0x80
	if c.used == 0 {
		rand.Read(c.keys[:]) // never fails
		c.used = len(c.keys)
	}
	key := c.keys[c.used-4 : c.used]
	c.used -= 4
	return append(dst, key...), binary.LittleEndian.Uint32(key)
}

// sendControl notes what is to be sent, and sends it now or leaves it to the
// writer that is at work: a reader must not wait for it.
func (c *client) sendControl(note func()) {
	c.cmu.Lock()
	note()
	c.cmu.Unlock()
	if c.wmu.TryLock() {
		c.unlock()
	}
}

// unlock lets go of wmu after sending the control frames that are due.
func (c *client) unlock() {
	for {
		c.flushControl()
		c.wmu.Unlock()
		c.cmu.Lock()
		due := !c.byed && (c.pinged || c.bye != 0)
		c.cmu.Unlock()
		if !due || !c.wmu.TryLock() {
			return
		}
	}
}

// flushControl sends them. wmu is held.
func (c *client) flushControl() {
	c.cmu.Lock()
	b := c.out[:0]
	if c.pinged && !c.byed {
		b = c.appendControl(b, OpPong, c.answer)
	}
	if c.bye != 0 && !c.byed {
		var code []byte
		if c.bye != CloseNoStatus {
			code = binary.BigEndian.AppendUint16(make([]byte, 0, 2), c.bye)
		}
		b = c.appendControl(b, OpClose, code)
		c.byed = true
	}
	c.pinged, c.bye = false, 0
	c.cmu.Unlock()
	if len(b) > 0 {
		c.out = b[:0]
		// Read and Write see the error themselves.
		_, _ = c.Conn.Write(b)
	}
}

func (c *client) appendControl(dst []byte, op Opcode, payload []byte) []byte {
	dst, key := c.appendHeader(dst, op, len(payload))
	at := len(dst)
	dst = append(dst, payload...)
	mask(dst[at:], key)
	return dst
}

// Close sends a close frame, if no Write is under way, and closes the
// connection without waiting for the peer's.
func (c *client) Close() error {
	if c.wmu.TryLock() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		c.cmu.Lock()
		c.bye = CloseNormal
		c.cmu.Unlock()
		c.flushControl()
		c.wmu.Unlock()
	}
	return c.Conn.Close()
}
