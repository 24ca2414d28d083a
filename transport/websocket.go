package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sealmq/sealmq/transport/websocket"
)

// webSocket is what a connection has more when its stream is carried in
// frames. The frames that arrive belong to whoever reads; what is sent, to mu.
//
// mu comes before all locks of conn. It keeps frames whole: held across a
// frame's records, which never wait for the peer.
type webSocket struct {
	dec   websocket.Decoder
	early []byte // frames that came with the request to upgrade
	err   error  // the end of the stream; io.EOF after a close frame in order

	mu     sync.Mutex
	pong   []byte // answer to the latest ping
	pinged bool   // pong waits for the end of the backlog
	code   uint16 // of the close frame to send; 0: nothing was wrong
	reason string
	byed   bool // the close frame was sent: nothing may follow it
}

// frameBuffers hold a frame's header and the payload that shares its record.
var frameBuffers = sync.Pool{New: func() any { return new([maxPlaintext]byte) }}

// upgrade reads the request to switch to WebSocket and answers it.
func (c *conn) upgrade(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.Close(false) })
	defer stop()
	c.readUntil(time.Now().Add(c.g.cfg.ConnectTimeout))
	rw := &upgradeStream{c: c}
	early, err := websocket.Upgrade(rw, c.g.ws)
	if err == nil {
		c.readUntil(noDeadline)
		c.mu.Lock()
		c.ws = &webSocket{early: early}
		if c.closing.Load() != open {
			err = net.ErrClosed
		}
		c.mu.Unlock()
	}
	if err == nil {
		return nil
	}
	e := c.diagnoseUpgrade(err, rw.got)
	c.Close(true)
	return e
}

func (c *conn) readUntil(t time.Time) {
	c.mu.Lock()
	if c.closing.Load() == open {
		c.nc.SetReadDeadline(t)
	}
	c.mu.Unlock()
}

// framed is ws != nil for those who may run beside the handshake.
func (c *conn) framed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws != nil
}

// upgradeStream is a connection before it has frames.
type upgradeStream struct {
	c   *conn
	got int
}

func (s *upgradeStream) Read(p []byte) (int, error) {
	n, err := s.c.readStream(p)
	s.got += n
	return n, err
}

func (s *upgradeStream) Write(p []byte) (int, error) {
	if err := s.c.writeStream(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *conn) diagnoseUpgrade(err error, got int) *HandshakeError {
	var he *HandshakeError
	if errors.As(err, &he) {
		return he // TLS on a plain listener
	}
	e := c.failure(err)
	e.Cause, e.Upgrade, e.Received = CauseOther, true, got
	if c.tls != nil {
		e.ServerName = c.tls.ConnectionState().ServerName
	}
	var refused *websocket.UpgradeError
	switch {
	case c.closing.Load() != open:
		e.Cause = CauseClosed
	case errors.As(err, &refused):
		e.Cause = upgradeCauses[refused.Cause]
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Cause, e.Via = CauseTimeout, ViaSilence
	case got == 0:
		e.Cause, e.Via = CauseNothingSent, ViaSilence
	}
	return e
}

var upgradeCauses = map[websocket.Cause]Cause{
	websocket.CauseMQTT:        CauseMQTTOnWebSocket,
	websocket.CauseTLS:         CauseTLSOnPlain,
	websocket.CauseNotHTTP:     CauseNotHTTP,
	websocket.CauseTooLong:     CauseRequest,
	websocket.CauseMalformed:   CauseRequest,
	websocket.CauseNotUpgrade:  CauseNotUpgrade,
	websocket.CauseVersion:     CauseUpgradeVersion,
	websocket.CausePath:        CausePath,
	websocket.CauseOrigin:      CauseOrigin,
	websocket.CauseSubprotocol: CauseSubprotocol,
}

// readFrames is Read: payloads only.
func (c *conn) readFrames(p []byte) (int, error) {
	w := c.ws
	for len(p) > 0 && w.err == nil {
		var n int
		var err error
		if len(w.early) > 0 {
			n = copy(p, w.early)
			if w.early = w.early[n:]; len(w.early) == 0 {
				w.early = nil
			}
		} else {
			n, err = c.readStream(p)
		}
		if data := c.unframe(p[:n]); len(data) > 0 {
			// The first payload lies behind its header.
			return copy(p, data), nil
		}
		if err != nil && w.err == nil {
			return 0, err
		}
	}
	return 0, w.err
}

// unframe takes the frames of p apart and returns their payloads, put together
// in place. Pings are answered, the latest of p for all. The end of the stream
// is left in ws.err.
func (c *conn) unframe(p []byte) (data []byte) {
	w := c.ws
	pinged := false
	for len(p) > 0 && w.err == nil {
		ev, b, rest, err := w.dec.Next(p)
		p = rest
		switch {
		case err != nil:
			fault := err.(*websocket.CloseError)
			w.end(err, fault.Code, fault.Text)
		case ev == websocket.Data && data == nil:
			data = b
		case ev == websocket.Data:
			// Behind the payload before it there is room for this one: its header.
			data = append(data, b...)
		case ev == websocket.Ping:
			w.ping(b)
			pinged = true
		case ev == websocket.Close:
			code, reason := websocket.ParseClose(b)
			switch code {
			case websocket.CloseNormal, websocket.CloseGoingAway, websocket.CloseNoStatus:
				err = io.EOF
			default:
				err = &websocket.CloseError{Code: code, Text: string(reason), Peer: true}
			}
			w.end(err, code, "")
		}
	}
	if pinged {
		c.sendPong()
	}
	return data
}

// deliverFrames is deliver for the frames in p. A fault leaves the connection
// open, so that the driver ends it in order, with the close frame.
func (c *conn) deliverFrames(p []byte) (over bool, err error) {
	if data := c.unframe(p); len(data) > 0 {
		if over, err = c.deliverData(data); over {
			return over, err
		}
	}
	if err = c.ws.err; err == nil {
		return false, nil
	}
	if err == io.EOF {
		err = nil
	}
	return true, err
}

// end notes why the stream is over and what is to be said about it.
func (w *webSocket) end(err error, code uint16, reason string) {
	w.err = err
	w.mu.Lock()
	w.code, w.reason = code, reason
	w.mu.Unlock()
}

func (w *webSocket) ping(payload []byte) {
	w.mu.Lock()
	w.pong, w.pinged = websocket.AppendAnswer(w.pong[:0], websocket.Ping, payload), true
	w.mu.Unlock()
}

// sendPong answers the latest ping, unless the peer does not read: then the
// end of the drain does, so that pings cannot pile up answers.
func (c *conn) sendPong() {
	w := c.ws
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pinged && !w.byed && c.backlog.Load() == 0 && c.closing.Load() == open {
		w.pinged = false
		// An error has closed the connection.
		_ = c.writeStream(w.pong)
	}
}

// writeFrame is Write: p leaves as one binary message, whose header shares the
// first record.
func (c *conn) writeFrame(p []byte) error {
	w := c.ws
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byed {
		return c.gone()
	}
	buf := frameBuffers.Get().(*[maxPlaintext]byte)
	defer frameBuffers.Put(buf)
	first := websocket.AppendHeader(buf[:0], websocket.OpBinary, len(p))
	n := min(len(p), int(c.cap)-len(first))
	first = append(first, p[:n]...)
	if n == len(p) {
		return c.writeStream(first)
	}
	c.cork()
	err := c.writeStream(first)
	if err == nil {
		err = c.writeStream(p[n:])
	}
	return c.uncork(err)
}

// sendClose sends the close frame, once.
func (c *conn) sendClose() {
	w := c.ws
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byed {
		return
	}
	w.byed = true
	code := w.code
	if code == 0 {
		code = websocket.CloseNormal
		if c.g.leaving.Load() {
			code = websocket.CloseGoingAway
		}
	}
	// The connection ends whether or not the frame can be sent.
	_ = c.writeStream(websocket.AppendClose(nil, code, w.reason))
}
