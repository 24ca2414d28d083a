package broker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// Link is a connection's way out. Its driver implements it.
type Link interface {
	// Write takes all of p, copying what the network does not take at once, and never blocks. It fails only when the
	// connection is gone. The broker never calls it from two goroutines at a time.
	Write(p []byte) error
	// Backlog is how many bytes were taken and not yet given to the network.
	Backlog() int
	// Close ends the connection. With linger set, the backlog is flushed, the connection half-closed and what the peer
	// still sends drained for up to a second, so that the last packet arrives. It never blocks and may be called again.
	Close(linger bool)
}

// Conn is one client's connection. A driver makes it with NewConn, calls Open, and when that succeeds feeds it with
// Data and Flush until the end, which it tells with Closed. These are never called concurrently; Writable may be.
type Conn struct {
	b    *Broker
	link Link
	peer auth.Peer
	lim  *Limits // shared by the connections of a listener

	// Fixed when CONNECT has been accepted.
	sess       *session
	window     int   // QoS 1 and 2 messages under way to the client at a time
	maxSend    int64 // the client's Maximum Packet Size
	aliasMax   uint16
	version    mqtt.Version
	overrun    bool // guarded by the session's mu
	bridge     bool
	problems   bool // Request Problem Information
	authMethod string
	since      time.Duration

	// proc is held while packets of this connection are processed, so that whoever ends it from outside waits for them.
	proc    sync.Mutex
	gone    bool
	lost    bool   // by the network: what waits cannot be written
	partial []byte // an incomplete packet
	held    int64  // what it counts for in Broker.preAuth
	kept    int64  // of that, the CONNECT while an authentication exchange goes on
	aliasIn []string

	lane    store.Lane
	answers []*answer                 // that wait for the disk; guarded by the session's mu
	asked   map[*subscription]*replay // of those, the newest replay for each subscription
	unacked atomic.Int32              // QoS 1 publications among them
	expiry  uint32                    // session expiry asked for in CONNECT
	pace    pace
	meter   *meter // nil: there is no limit for what it measures

	unanswered int // QoS 2 publications of this connection that wait for their PUBREL
	progress   int // bytes of an incomplete packet not yet counted as a sign of life

	topicBuf []byte
	will     *store.Will
	reauth   *reauth

	w *worker // of the readable event under way

	flushing sync.Mutex // held by whoever writes to the link
	wake     atomic.Bool
	aliasOut map[string]uint16

	alive  keepAlive
	barred atomic.Pointer[Standing] // why the connection is about to be ended, and nothing goes in or out any more
	asking *[maxRequests]*ticket    // requests to the Service that may be without an answer; nil before the first
}

var errGone = errors.New("connection ended by the broker")

// NewConn prepares a connection that arrived from peer. lim's zero fields stand for the broker's own limits.
func (b *Broker) NewConn(l Link, peer auth.Peer, lim Limits) *Conn {
	c := &Conn{b: b, link: l, peer: peer, lim: b.limits(lim), maxSend: mqtt.MaxPacketSize, problems: true}
	if c.lim.MaxPublishRate > 0 || c.lim.MaxPublishBytes > 0 {
		c.meter = new(meter)
	}
	return c
}

// limits returns a listener's limits, complete with the broker's own. Connections share them.
func (b *Broker) limits(l Limits) *Limits {
	if known, ok := b.limitSets.Load(l); ok {
		return known.(*Limits)
	}
	full := l.over(b.cfg.Limits)
	known, _ := b.limitSets.LoadOrStore(l, &full)
	return known.(*Limits)
}

// Data takes bytes that the client sent. An error means that the connection has ended and the driver must stop reading;
// the link has been told to close.
func (c *Conn) Data(p []byte) error {
	c.proc.Lock()
	defer c.proc.Unlock()
	if c.gone {
		return errGone
	}
	if c.barred.Load() != nil {
		return c.dismiss()
	}
	if c.w == nil {
		c.w = c.b.worker()
	}
	if len(p) > 0 {
		c.w.count(bytesIn, uint64(len(p)))
		if c.progress += len(p); c.progress >= lifeBytes {
			c.progress = 0
			c.alive.seen(c.b.now())
		}
	}
	if len(c.partial) > 0 {
		var err error
		if p, err = c.join(p); err != nil {
			return err
		}
	}
	p, err := c.packets(p)
	if err != nil {
		return err
	}
	if len(p) > 0 {
		c.partial = append(c.partial, p...)
	}
	c.w.submit()
	if c.meter != nil && c.meter.messages > 0 {
		return c.charge()
	}
	return nil
}

// lifeBytes is how much of an incomplete packet counts for keep alive as a packet does: a large one over a slow link
// takes its time [MQTT-3.1.2-22].
const lifeBytes = 1 << 10

// join completes a packet that began in an earlier event and returns the bytes after it.
func (c *Conn) join(p []byte) ([]byte, error) {
	for len(c.partial) > 0 {
		need, err := c.missing()
		if err != nil {
			return nil, err
		}
		if need <= 0 {
			rest, err := c.packets(c.partial)
			if err != nil {
				return nil, err
			}
			c.partial = keep(c.partial, rest)
			continue
		}
		if len(p) == 0 {
			return nil, nil
		}
		n := min(need, len(p))
		c.partial = append(c.partial, p[:n]...)
		p = p[n:]
	}
	return p, nil
}

// keep moves what is left of an incomplete packet to the front and gives the memory back when nothing is.
func keep(buf, rest []byte) []byte {
	if len(rest) == 0 {
		return nil
	}
	return buf[:copy(buf, rest)]
}

// missing is how many bytes the packet in partial lacks, at least one while its header is incomplete.
func (c *Conn) missing() (int, error) {
	h, err := mqtt.ParseHeader(c.partial)
	if err == mqtt.ErrIncomplete {
		return 1, nil
	}
	if err != nil {
		return 0, c.fail(err)
	}
	if err := c.fits(h); err != nil {
		return 0, err
	}
	return h.Size + h.Length - len(c.partial), nil
}

func (c *Conn) fits(h mqtt.Header) error {
	if int64(h.Size)+int64(h.Length) > c.lim.MaxPacketSize {
		return c.fail(&mqtt.Error{Code: mqtt.PacketTooLarge, Text: "packet larger than max_packet_size"})
	}
	return nil
}

// packets processes every complete packet of p and returns the rest.
func (c *Conn) packets(p []byte) ([]byte, error) {
	alive := false
	for len(p) > 0 {
		h, err := mqtt.ParseHeader(p)
		if err == mqtt.ErrIncomplete {
			return p, nil
		}
		if err != nil {
			return nil, c.fail(err)
		}
		if err := c.fits(h); err != nil {
			return nil, err
		}
		end := h.Size + h.Length
		if len(p) < end {
			return p, nil
		}
		if !alive {
			alive = true
			c.progress = 0
			c.alive.seen(c.b.now())
		}
		if err := c.packet(h, p[h.Size:end]); err != nil {
			return nil, err
		}
		p = p[end:]
	}
	return nil, nil
}

// Flush ends one readable event: everything that its packets caused is written.
func (c *Conn) Flush() {
	if w := c.w; w != nil {
		c.w = nil
		c.b.release(w)
	}
}

// Writable tells that the link's backlog has drained.
func (c *Conn) Writable() {
	if c.sess == nil {
		return
	}
	w := c.b.worker()
	c.flush(w)
	c.b.release(w)
}

// Closed tells that the connection is gone; err is nil when the peer closed it in order. It is the driver's last call.
func (c *Conn) Closed(err error) {
	c.proc.Lock()
	if !c.gone {
		c.b.log.Info("connection lost", c.attrs("error", errText(err))...)
		c.lost = true
		c.end(nil, true)
	}
	c.partial, c.aliasIn, c.topicBuf = nil, nil, nil
	c.proc.Unlock()
	c.Flush()
}

func errText(err error) string {
	if err == nil {
		return "closed by the client without DISCONNECT"
	}
	return err.Error()
}

// attrs are what every log line about a connection says.
func (c *Conn) attrs(more ...any) []any {
	a := []any{"peer", c.peer.Addr, "listener", c.peer.Listener}
	if c.sess != nil {
		a = append(a, "client", c.sess.id)
	}
	return append(a, more...)
}

// fail ends the connection for a fault of the client. The caller holds proc.
func (c *Conn) fail(err error) error {
	code := mqtt.UnspecifiedError
	var e *mqtt.Error
	if errors.As(err, &e) {
		code = e.Code
	}
	c.w.count(protocolFaults, 1)
	c.b.log.Warn("client disconnected for a fault", c.attrs("reason", code.String(), "error", err.Error())...)
	text := ""
	if e != nil {
		text = e.Text
	}
	c.w.submit()
	c.end(c.disconnect(code, text), true)
	return errGone
}

// kick ends the connection from outside, after the packets under way have been processed.
func (c *Conn) kick(code mqtt.ReasonCode, text string) {
	c.proc.Lock()
	defer c.proc.Unlock()
	if c.gone {
		return
	}
	c.b.log.Info("client disconnected by the broker", c.attrs("reason", code.String(), "text", text)...)
	c.end(c.disconnect(code, text), true)
}

// disconnect encodes the DISCONNECT that tells an MQTT 5 client why; earlier versions have none from the server.
func (c *Conn) disconnect(code mqtt.ReasonCode, text string) []byte {
	if c.version != mqtt.V5 {
		return nil
	}
	d := mqtt.Disconnect{Code: code}
	if text != "" {
		d.Props.ReasonString = []byte(text)
		d.Props.Set(mqtt.PropReasonString)
		if int64(d.Size(mqtt.V5)) > c.maxSend { // [MQTT-3.14.2-3]
			d.Props.Reset()
		}
	}
	if int64(d.Size(mqtt.V5)) > c.maxSend {
		return nil
	}
	return d.Append(nil, mqtt.V5)
}

// end takes the connection off its session, writes what is left and final, and closes the link. abnormal says that the
// will is due. The caller holds proc.
func (c *Conn) end(final []byte, abnormal bool) {
	c.gone = true
	c.b.wheel.remove(c)
	c.letGo()
	wl := c.will
	c.will = nil
	if !abnormal || c.barred.Load() != nil {
		wl = nil // [MQTT-3.14.4-3]
	}
	w := c.b.worker()
	defer c.b.release(w)

	c.flushing.Lock() // for good: nothing is written after the last packet [MQTT-3.14.4-1]
	items, after := c.sess.detach(w, c, wl)
	if !c.lost {
		if _, drops := c.write(w, items); len(drops) > 0 {
			c.sess.drop(w, drops)
		}
		if final != nil {
			c.link.Write(final)
		}
	}
	c.link.Close(!c.lost)
	after()
	w.submit()
	c.sess.left(c)
}

// left tells that the end of a connection has been submitted to the store.
func (s *session) left(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == c {
		s.leaving = nil
		s.unload()
	}
}

// detach takes the connection off the session. It returns the packets not yet written, which the caller writes, and what
// is to be done after that.
func (s *session) detach(w *worker, c *Conn, wl *store.Will) (items []outItem, after func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	after = func() {}
	if s.conn != c {
		return nil, after
	}
	s.conn, s.leaving = nil, c
	s.b.online.Add(-1)
	items = s.out
	s.hold(w, -s.outBytes)
	s.out, s.outBytes = nil, 0
	barred := c.barred.Load() != nil
	if c.lost || barred {
		s.inflight.unsend(items)
	}
	if barred {
		items = slices.DeleteFunc(items, func(it outItem) bool { return it.m != nil || it.kind == mqtt.PUBLISH })
	}
	s.inflight.rewind()
	s.inflight.idle()
	ends := s.expiry == 0
	if !ends {
		s.keepReplays(w)
		s.pay(w)
		for _, sub := range s.subs {
			if sub.share != nil {
				sub.share.move(sub, false)
			}
		}
	}
	for _, r := range s.replays {
		r.sub.replay = nil
	}
	s.replays = nil
	now := s.b.now()
	var publish func()
	if wl != nil {
		if wl.Delay == 0 || ends {
			publish = func() { s.publishWill(w, wl) }
		} else {
			s.will = wl
			s.willAt = now + time.Duration(wl.Delay)*time.Second
		}
	}
	var over func()
	if ends {
		over = s.end(w)
	} else {
		if s.expiry != forever {
			s.expireAt = now + time.Duration(s.expiry)*time.Second
		}
		s.leave(w)
		rec := s.record()
		over = func() {
			w.alter(nil, &change{Op: store.Op{Kind: store.PutSession, Session: s.dur.id, State: rec}}, outItem{})
			w.submit() // before the timer publishes the will, which takes it out of the record
			s.mu.Lock()
			if s.conn == nil && !s.dead {
				s.schedule()
			}
			s.mu.Unlock()
		}
	}
	return items, func() {
		if publish != nil {
			publish()
		}
		if over != nil {
			over()
		}
	}
}
