package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrBacklog is the end of a connection whose peer did not read while more
// than Config.MaxBacklog bytes were written to it.
var ErrBacklog = errors.New("peer does not read: backlog is full")

// conn is the state machine that every driver feeds.
//
// Locks: the TLS locks first, then mu, then those of the kernel's descriptor.
// Nothing under mu waits for the peer.
type conn struct {
	g   *group
	nc  net.Conn  // the epoll driver closes its copy and keeps the descriptor
	tls *tls.Conn // nil: plain
	io  link
	h   Handler
	tap *tap       // until the handshake is over
	was *tap       // what it saw, until the first byte after the handshake
	ws  *webSocket // not nil: the stream is carried in frames

	pass Pass            // nil: there is no door
	from *netip.AddrPort // of the peer, if a load balancer said it; under mu

	in      []byte // read from the kernel, not yet taken by tls
	frames  framer // where records begin and end in what tls took
	cap     uint16 // largest record payload the peer takes
	eof     bool   // the peer has shut its side
	begun   bool   // plain: the first bytes have been looked at
	shaken  bool   // the handshake is over
	entered bool   // and the door has agreed
	live    bool   // reads come from in and never block

	closing atomic.Uint32 // open, lingering or closed; set under mu
	large   atomic.Uint32 // noLarge, sentLarge or tookLarge
	backlog atomic.Int64  // q.size, for readers without mu

	mu       sync.Mutex
	q        queue
	corked   bool          // collect writes in q, the writer sends them
	draining bool          // q is sent when the peer reads
	running  bool          // a driver feeds h
	ended    bool          // Closed has been called; under hmu, and here to save room
	cause    error         // first fatal error
	drained  chan struct{} // closed when draining ends
	gate     chan struct{} // not nil while paused; closed when reading may go on

	hmu sync.Mutex // Writable ends before Closed begins
}

// States of conn.closing.
const (
	open uint32 = iota
	lingering
	closed
)

// link is what a driver does for one connection. All but kill and run are
// called with conn.mu held.
type link interface {
	// write gives p to the kernel without blocking and returns how much it took.
	write(p []byte) (int, error)
	// startDrain arranges that the queue is sent when the peer reads.
	startDrain()
	// interrupt makes blocked calls notice that conn.closing has changed; unless
	// hard, a drain goes on.
	interrupt(hard bool)
	// kill closes the descriptor, without conn.mu.
	kill()
	// run feeds conn.h; it returns early if the driver goes on by itself.
	run()
}

// sock is the side of a conn that crypto/tls sees as its network.
type sock conn

// wouldBlock is temporary: crypto/tls keeps what it has and resumes.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "operation would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

// NewStream drives any blocking net.Conn: one goroutine reads it, another
// writes while there is backlog. tc nil means plain. Of cfg the bounds, the
// name and the time-outs count.
func NewStream(nc net.Conn, tc *tls.Config, cfg Config) Conn {
	g := newGroup(cfg.WithDefaults(), tc)
	g.enter()
	return newConn(g, nc, newStreamLink)
}

func newConn(g *group, nc net.Conn, newLink func(*conn) link) *conn {
	c := &conn{g: g, nc: nc, cap: uint16(g.cfg.MaxRecord), shaken: true}
	c.io = newLink(c)
	if g.tls != nil {
		c.shaken = false
		c.tap = &tap{}
		c.tls = tls.Server((*sock)(c), g.tls)
	}
	return c
}

func (c *conn) Read(p []byte) (int, error) {
	if c.ws != nil {
		return c.readFrames(p)
	}
	return c.readStream(p)
}

func (c *conn) readStream(p []byte) (int, error) {
	if c.tls != nil {
		n, err := c.tls.Read(p)
		if c.was != nil {
			err = c.firstBytes(n, err)
		}
		return n, err
	}
	return (*sock)(c).Read(p)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() != open || c.running {
		return net.ErrClosed
	}
	return c.nc.SetReadDeadline(t)
}

func (c *conn) Peer() Peer {
	p := Peer{
		Addr:      c.remote(),
		Listener:  c.g.cfg.Name,
		Transport: "tcp",
	}
	if c.g.cfg.WebSocket {
		p.Transport = "ws"
	}
	if c.tls == nil {
		return p
	}
	p.Secure = true
	if p.Transport = "tls"; c.g.cfg.WebSocket {
		p.Transport = "wss"
	}
	s := c.tls.ConnectionState()
	p.SNI, p.ALPN = s.ServerName, s.NegotiatedProtocol
	p.TLSVersion, p.CipherSuite, p.Group = s.Version, s.CipherSuite, s.CurveID
	p.Unverified = len(s.VerifiedChains) == 0 && c.g.cfg.ClientCertificates == Any
	if len(s.VerifiedChains) > 0 || p.Unverified && len(s.PeerCertificates) > 0 {
		p.Cert = s.PeerCertificates[0]
	}
	return p
}

// remote is the peer's address.
func (c *conn) remote() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from != nil {
		return c.from.String()
	}
	if c.nc != nil {
		return c.nc.RemoteAddr().String()
	}
	return c.io.(interface{ remote() string }).remote()
}

func (c *conn) Backlog() int { return int(c.backlog.Load()) }

func (c *conn) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.closing.Load() != open {
		return c.gone()
	}
	if c.ws != nil {
		return c.writeFrame(p)
	}
	return c.writeStream(p)
}

// writeStream writes what the kernel is to have, but for TLS.
func (c *conn) writeStream(p []byte) error {
	if c.tls == nil {
		return c.send(p)
	}
	limit := int(c.cap)
	if min(len(p), limit) > smallRecord && c.large.Load() == noLarge {
		c.large.Store(sentLarge)
	}
	if len(p) <= limit {
		_, err := c.tls.Write(p)
		return err
	}
	// Several records: one system call for all of them.
	c.cork()
	var err error
	if limit == maxPlaintext {
		_, err = c.tls.Write(p)
	} else {
		for len(p) > 0 && err == nil {
			n := min(limit, len(p))
			_, err = c.tls.Write(p[:n])
			p = p[n:]
		}
	}
	return c.uncork(err)
}

// cork collects what is written until uncork, which sends it unless err says
// that writing failed.
func (c *conn) cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

func (c *conn) uncork(err error) error {
	c.mu.Lock()
	c.corked = false
	ferr := c.flush()
	c.mu.Unlock()
	return c.check(errors.Join(err, ferr))
}

// Write takes a record from crypto/tls. It never writes short: an error would
// stick to the tls.Conn.
func (s *sock) Write(p []byte) (int, error) {
	c := (*conn)(s)
	if !c.shaken {
		return c.tapWrite(p)
	}
	if err := c.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send gives p to the kernel, or to the queue.
func (c *conn) send(p []byte) error {
	c.mu.Lock()
	err := c.sendLocked(p)
	c.mu.Unlock()
	return c.check(err)
}

func (c *conn) sendLocked(p []byte) error {
	if c.cause != nil {
		return c.cause
	}
	if c.closing.Load() == closed {
		return net.ErrClosed
	}
	if c.q.size == 0 && !c.corked {
		n, err := c.io.write(p)
		if err != nil {
			return err
		}
		p = p[n:]
		if len(p) == 0 {
			return nil
		}
	}
	if c.q.size+len(p) > c.g.cfg.MaxBacklog {
		return ErrBacklog
	}
	c.q.push(p)
	c.backlog.Store(int64(c.q.size))
	if c.corked {
		// A bounded pile is enough to save system calls.
		if c.q.size >= largeChunk {
			return c.flush()
		}
		return nil
	}
	c.drainLater()
	return nil
}

// flush sends what it can of the queue and leaves the rest to the drain. mu
// is held.
func (c *conn) flush() error {
	if c.draining || c.cause != nil {
		return c.cause
	}
	if err := c.sendQueue(); err != nil {
		return err
	}
	if c.q.size > 0 {
		c.drainLater()
	}
	return nil
}

// sendQueue writes until the queue is empty or the kernel full. mu is held.
func (c *conn) sendQueue() error {
	for c.q.size > 0 {
		b := c.q.front()
		n, err := c.io.write(b)
		if n > 0 {
			c.q.pop(n)
			c.backlog.Store(int64(c.q.size))
		}
		if err != nil || n < len(b) {
			return err
		}
	}
	return nil
}

func (c *conn) drainLater() {
	if !c.draining {
		c.draining = true
		c.drained = make(chan struct{})
		c.io.startDrain()
	}
}

// stopDraining says that the queue is empty or will never be sent. mu is held.
func (c *conn) stopDraining() {
	if c.draining {
		c.draining = false
		close(c.drained)
		c.drained = nil
	}
}

// afterDrain tells the handler, or everyone, how the drain ended.
func (c *conn) afterDrain(err error) {
	if c.check(err) != nil {
		return
	}
	if c.framed() {
		c.sendPong()
	}
	c.hmu.Lock()
	if c.h != nil && !c.ended && c.closing.Load() == open {
		c.h.Writable()
	}
	c.hmu.Unlock()
}

// check closes the connection when err, of writing, is not nil, and returns
// it. After a reset the reader ends it instead: the kernel still has what the
// peer sent before, a DISCONNECT perhaps, and then tells the end by itself.
func (c *conn) check(err error) error {
	switch {
	case err == nil:
	case isReset(err) && c.mute(err):
	default:
		c.shut(closed, err)
	}
	return err
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// mute has all writes fail from here on, and reports whether reading goes on.
func (c *conn) mute(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() != open {
		return false
	}
	if c.cause == nil {
		c.cause = err
	}
	if !c.draining {
		c.clearQueue()
	}
	return true
}

// gone is the error of a call that came after the end.
func (c *conn) gone() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	return net.ErrClosed
}

// Read gives crypto/tls what the driver has read, or blocks before Run.
func (s *sock) Read(p []byte) (int, error) {
	c := (*conn)(s)
	switch {
	case c.tap != nil:
		return c.tapRead(p)
	case !c.live:
		return c.blockingRead(p)
	case len(c.in) > 0:
		n := c.frames.cut(c.in, len(p))
		copy(p, c.in[:n])
		c.in = c.in[n:]
		return n, nil
	case c.eof:
		return 0, io.EOF
	}
	return 0, errWouldBlock
}

func (c *conn) blockingRead(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if c.closing.Load() != open {
		return 0, c.gone()
	}
	if c.tls != nil {
		c.frames.advance(p[:n])
		return n, err
	}
	if !c.begun && n > 0 {
		c.begun = true
		if terr := c.checkPlain(p[:n]); terr != nil {
			return 0, terr
		}
	}
	return n, err
}

// The rest of net.Conn, for crypto/tls: it sets deadlines around the last
// alert only, which must not disturb a queue.

func (s *sock) Close() error                     { return nil }
func (s *sock) LocalAddr() net.Addr              { return nil }
func (s *sock) RemoteAddr() net.Addr             { return nil }
func (s *sock) SetDeadline(time.Time) error      { return nil }
func (s *sock) SetReadDeadline(time.Time) error  { return nil }
func (s *sock) SetWriteDeadline(time.Time) error { return nil }

func (c *conn) Run(h Handler) {
	if c.begin(h) {
		if c.pass != nil {
			c.pass.Connected()
		}
		c.io.run()
	}
}
