package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
)

// Open reads the CONNECT from r, carries out the authentication that it asks for, takes over the session and answers.
// It blocks as long as r and the authenticator do; the caller bounds that with a deadline on r. When it fails, the
// refusal has been written and the link told to close.
func (c *Conn) Open(r io.Reader) error {
	if !c.b.enter(c) {
		c.link.Close(false)
		return errGone
	}
	defer c.b.leave(c)
	defer c.hold(0)
	err := c.open(r)
	if err != nil {
		w := c.b.worker()
		w.count(refused, 1)
		c.b.release(w)
	}
	return err
}

func (b *Broker) enter(c *Conn) bool {
	b.life.Lock()
	defer b.life.Unlock()
	if b.closed {
		return false
	}
	b.opening[c] = struct{}{}
	return true
}

// leave ends the opening of a connection and reports whether the broker still runs.
func (b *Broker) leave(c *Conn) bool {
	b.life.Lock()
	defer b.life.Unlock()
	delete(b.opening, c)
	return !b.closed
}

// preAuthFree is what each connection may hold before its CONNECT is accepted, whatever others hold: nearly every CONNECT is
// smaller. How many connections there are is bounded elsewhere.
const preAuthFree = 4 << 10

// hold accounts for n bytes held before CONNECT is accepted, and reports whether the budget allows them.
func (c *Conn) hold(n int64) bool {
	n = max(n-preAuthFree, 0)
	if c.b.preAuth.Add(n-c.held) > c.b.cfg.PreAuthMemory && n > c.held {
		c.b.preAuth.Add(c.held - n)
		return false
	}
	c.held = n
	return true
}

func (c *Conn) open(r io.Reader) error {
	h, err := c.read(r)
	if err != nil {
		return c.refuseRead(err)
	}
	if h.Type != mqtt.CONNECT { // [MQTT-3.1.0-1]
		return c.refuse(mqtt.ProtocolError, "the first packet is a "+h.Type.String()+", not a CONNECT")
	}
	var p mqtt.Connect
	err = p.Parse(0, h.Flags, c.partial[h.Size:h.Size+h.Length])
	c.version, c.bridge = p.Version, p.Bridge
	if err != nil {
		var e *mqtt.Error
		if !errors.As(err, &e) {
			e = &mqtt.Error{Code: mqtt.UnspecifiedError, Text: err.Error()}
		}
		return c.refuse(e.Code, e.Text)
	}
	if p.Version == mqtt.V5 {
		c.problems = !p.Props.Has(mqtt.PropRequestProblemInfo) || p.Props.RequestProblemInfo != 0
		if p.Props.Has(mqtt.PropMaximumPacketSize) {
			c.maxSend = min(int64(p.Props.MaximumPacketSize), mqtt.MaxPacketSize)
		}
	}
	if code, text := c.acceptable(&p); code != mqtt.Success {
		return c.refuse(code, text)
	}

	cred := auth.Credentials{
		Peer: c.peer, Version: p.Version, ClientID: string(p.ClientID),
		HasUsername: p.HasUsername, HasPassword: p.HasPassword, Username: string(p.Username), Password: p.Password,
	}
	principal, data, err := c.authenticate(r, &p, &cred, h.Size+h.Length)
	c.peer.Cert = nil
	if err != nil {
		return err
	}
	if principal.Method == anonymous && c.b.sheds(shedAnonymous) {
		w := c.b.worker()
		w.count(shedConnects, 1)
		c.b.release(w)
		return c.refuse(mqtt.ServerBusy, "the server is overloaded: clients without an identity are not let in at the moment")
	}
	if !principal.Until.IsZero() && !time.Now().Before(principal.Until) {
		return c.refuse(mqtt.NotAuthorized, pastUntil(principal))
	}
	id, code, text := identifier(&p, principal)
	if code != mqtt.Success {
		return c.refuse(code, text)
	}
	authorized := c.b.authorizations.Load() // as with reviews in accept
	if principal, err = c.b.authorize(id, &cred.Peer, principal, nil); err != nil {
		return c.refuseAuth(err)
	}
	if p.HasWill {
		if c.will, code, text = c.newWill(&p, id, principal); code != mqtt.Success {
			return c.refuse(code, text)
		}
	}
	if err := c.accept(&p, principal, id, data, h.Size+h.Length); err != nil {
		return err
	}
	if c.b.authorizations.Load() != authorized {
		c.b.reauthorizeOne(c.sess)
	}
	if c.b.accepted != nil && c.barred.Load() == nil {
		c.b.accepted(id, &cred.Peer, principal)
	}
	return nil
}

// anonymous is the Method of principals without an identity.
const anonymous = "anonymous"

// read fills partial until it begins with a whole packet, or with the header of one that is no CONNECT where one must be.
func (c *Conn) read(r io.Reader) (mqtt.Header, error) {
	size := 0 // of the packet, 0 while its header is incomplete
	for {
		if h, err := mqtt.ParseHeader(c.partial); err == nil {
			if h.Type != mqtt.CONNECT && c.authMethod == "" {
				return h, nil // whatever follows, it is refused
			}
			size = h.Size + h.Length
			if int64(size) > c.lim.MaxConnectSize {
				c.peekVersion(h)
				return h, &mqtt.Error{Code: mqtt.PacketTooLarge, Text: fmt.Sprintf("CONNECT of %d bytes, more than max_connect_size", size)}
			}
			if len(c.partial) >= size {
				return h, nil
			}
		} else if err != mqtt.ErrIncomplete {
			return h, err
		}
		if len(c.partial) == cap(c.partial) {
			// Doubling bounds what is held to twice what was sent.
			grown := max(512, 2*cap(c.partial))
			if size > 0 {
				grown = min(grown, max(size, 512))
			}
			if !c.hold(c.kept + int64(grown)) {
				return mqtt.Header{}, &mqtt.Error{Code: mqtt.ServerBusy, Text: "preauth_memory is used up by connections that have not been accepted"}
			}
			c.partial = append(make([]byte, 0, grown), c.partial...)
		}
		n, err := r.Read(c.partial[len(c.partial):cap(c.partial)])
		c.partial = c.partial[:len(c.partial)+n]
		if err != nil && n == 0 {
			return mqtt.Header{}, err
		}
	}
}

// peekVersion finds the version of a CONNECT that is too large to be read, so that the refusal has the right form.
func (c *Conn) peekVersion(h mqtt.Header) {
	b := c.partial[h.Size:]
	if h.Type == mqtt.CONNECT && len(b) >= 7 && string(b[:6]) == "\x00\x04MQTT" && b[6] == byte(mqtt.V5) {
		c.version = mqtt.V5
	}
}

// acceptable checks a CONNECT against the listener's limits.
func (c *Conn) acceptable(p *mqtt.Connect) (mqtt.ReasonCode, string) {
	switch {
	case len(p.ClientID) > c.lim.MaxClientID:
		return mqtt.ClientIDNotValid, "client identifier longer than max_client_id"
	case c.tooMany(&p.Props) || p.HasWill && c.tooMany(&p.Will.Props):
		return mqtt.QuotaExceeded, manyProperties
	case p.HasWill && int(p.Will.QoS) > c.lim.MaxQoS: // [MQTT-3.2.2-12]
		return mqtt.QoSNotSupported, "will QoS above max_qos"
	case p.HasWill && p.Will.Retain && c.lim.NoRetain: // [MQTT-3.2.2-13]
		return mqtt.RetainNotSupported, "retained messages are switched off here"
	}
	return mqtt.Success, ""
}

// identifier decides the client identifier: assigned if none was sent [MQTT-3.1.3-7], inside its principal's own names
// if that is bound.
func identifier(p *mqtt.Connect, principal *auth.Principal) (string, mqtt.ReasonCode, string) {
	id := string(p.ClientID)
	if id == "" {
		id = "auto-" + newUUID()
		if principal.Bound {
			id = principal.Name + "/" + id
		}
		return id, mqtt.Success, ""
	}
	if principal.Bound && id != principal.Name && !strings.HasPrefix(id, principal.Name+"/") {
		return "", mqtt.ClientIDNotValid, fmt.Sprintf("the certificate of %q may use the client identifiers %q and %q, not %q",
			principal.Name, principal.Name, principal.Name+"/…", id)
	}
	return id, mqtt.Success, ""
}

// newUUID returns a random UUID, RFC 9562 version 4.
func newUUID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// accept puts the connection on its session and answers with CONNACK.
func (c *Conn) accept(p *mqtt.Connect, principal *auth.Principal, id string, data []byte, used int) error {
	b := c.b
	c.since = b.now()
	c.window = c.lim.MaxInflight
	keepAlive := time.Duration(p.KeepAlive) * time.Second
	if c.lim.MaxKeepAlive > 0 && (keepAlive == 0 || keepAlive > c.lim.MaxKeepAlive) {
		keepAlive = c.lim.MaxKeepAlive
	}
	c.expiry = 0
	if p.Version == mqtt.V5 {
		c.expiry = p.Props.SessionExpiry
		if p.Props.Has(mqtt.PropReceiveMaximum) {
			c.window = min(c.window, int(p.Props.ReceiveMaximum)) // [MQTT-3.3.4-9]
		}
		c.aliasMax = uint16(min(int(p.Props.TopicAliasMaximum), c.lim.TopicAliasMaximumSend)) // [MQTT-3.1.2-26]
	} else if !p.CleanStart {
		c.expiry = forever
	}
	c.expiry = c.capExpiry(c.expiry)
	if principal.Transient {
		c.expiry = 0
	}
	// Whatever may speak against the client comes before the session of another connection is touched.
	ack := c.connack(p, id, keepAlive, data)
	if int64(ack.Size(p.Version)) > c.maxSend {
		ack.Props.Unset(mqtt.PropResponseInfo) // which is optional, section 3.2.2.3.15
	}
	if int64(ack.Size(p.Version)) > c.maxSend {
		return c.refuse(mqtt.PacketTooLarge, "")
	}
	if !b.leave(c) {
		return c.refuse(mqtt.ServerShuttingDown, "")
	}

	reviews := b.reviews.Load() // before Standing is asked: a later review finds the connection or changes this
	if b.standing != nil {
		if st := b.standing(principal); st.Refused != mqtt.Success {
			b.reviewClient(id)
			if !st.Refused.ValidFor(mqtt.CONNACK) {
				st.Refused = mqtt.NotAuthorized
			}
			return c.refuse(st.Refused, st.Text)
		}
	}

	w := b.worker()
	defer b.release(w)
	s, err := c.claim(id, principal)
	if err != nil {
		return c.refuseAuth(err)
	}
	for p.CleanStart && !s.fresh { // again if another connection was faster [MQTT-3.1.2-4]
		s.mu.Lock()
		if s.dur != nil {
			s.ended = make(chan error, 1)
		}
		after, ended := s.end(w), s.ended
		s.mu.Unlock()
		after()
		s.claim.Unlock()
		if ended != nil { // after a crash it must not come back
			w.submit()
			if err := <-ended; err != nil {
				b.unended.Store(id, s.dur.id)
				return c.refuseStored(err)
			}
		}
		if s, err = c.claim(id, principal); err != nil {
			return c.refuseAuth(err)
		}
	}
	if err := c.keep(w, s); err != nil {
		if s.fresh {
			s.mu.Lock()
			after := s.end(w)
			s.mu.Unlock()
			after()
		}
		s.claim.Unlock()
		return c.refuseStored(err)
	}
	if m := c.meter; m != nil {
		m.key = b.debtor(id, principal)
		m.debt = b.debts.owed(m.key)
	}
	r := newRights(principal)
	if !s.fresh {
		b.withdrawn(s, s.withdraw(w, r, s.lost(r)))
	}
	r.settle()
	ack.SessionPresent = !s.fresh
	s.fresh = false
	s.epoch++
	c.sess = s
	// From here on the CONNECT's own bytes are not needed; what the client has sent after it waits for the first Data.
	c.partial = append([]byte(nil), c.partial[used:]...)

	replays := s.owedReplays()
	s.mu.Lock()
	b.wheel.add(c, keepAlive+keepAlive/2, principal.Until) // before anybody can find the connection and end it
	if old := s.rights.Load().owner; old != r.owner {      // its kind was not known, or the session of one that is passing
		b.uses.hand(old, r.owner)
	}
	s.rights.Store(r)
	if b.reviews.Load() == reviews {
		s.freeze(w, false)
	}
	s.conn, s.lim = c, c.lim
	b.online.Add(1)
	s.expiry = c.expiry
	s.will = nil // [MQTT-3.1.3-9]
	s.clearTimer()
	for _, sub := range s.subs {
		if sub.share != nil {
			sub.share.move(sub, true)
		}
	}
	s.emit(w, encoded(ack.Append(nil, p.Version))) // before anything else [MQTT-3.2.0-1]
	s.replay(w, replays)
	s.fill(w)
	s.mu.Unlock()
	w.count(connected, 1)
	s.claim.Unlock()
	if b.reviews.Load() != reviews {
		b.reviewOne(s)
	}
	if !b.running() { // Shutdown may have looked for connections before this one was on its session
		c.kick(mqtt.ServerShuttingDown, shuttingDown)
	}
	b.log.Info("client connected", c.attrs("principal", principal.Name, "method", principal.Method, "version", p.Version.String(),
		"clean_start", p.CleanStart, "session_present", ack.SessionPresent, "keep_alive", p.KeepAlive, "session_expiry", c.expiry)...)
	return nil
}

// keep makes a session that is to outlive its connection durable, with the connection's will, and waits until it is.
func (c *Conn) keep(w *worker, s *session) error {
	if old, ok := c.b.unended.LoadAndDelete(s.id); ok { // its end was refused
		done := make(chan error, 1)
		w.alter(nil, &change{Op: store.Op{Kind: store.EndSession, Session: old.(store.SessionID), Wait: done}}, outItem{})
		w.submit()
		if err := <-done; err != nil {
			c.b.unended.Store(s.id, old)
			return err
		}
	}
	if s.dur == nil {
		if !s.fresh || c.expiry == 0 && (c.will == nil || !c.b.cfg.DurableWills || s.rights.Load().Transient) {
			return nil
		}
		d := newDurable(store.SessionID(c.b.nextSession.Add(1)))
		s.mu.Lock()
		s.dur = d
		s.mu.Unlock()
	}
	s.mu.Lock()
	rec := s.record()
	s.mu.Unlock()
	rec.Online, rec.Expiry, rec.Will, rec.WillAt, rec.ExpireAt = true, c.expiry, c.will, 0, 0
	done := make(chan error, 1)
	w.alter(nil, &change{Op: store.Op{Kind: store.PutSession, Session: rec.ID, State: rec, Wait: done}}, outItem{})
	w.submit()
	return <-done
}

// capExpiry applies max_session_expiry.
func (c *Conn) capExpiry(seconds uint32) uint32 {
	if m := c.lim.MaxSessionExpiry; m > 0 {
		return min(seconds, uint32(min(m/time.Second, math.MaxUint32-1)))
	}
	return seconds
}

// connack prepares the acceptance, with what differs from the standard's defaults or from what the client asked for.
func (c *Conn) connack(p *mqtt.Connect, id string, keepAlive time.Duration, data []byte) mqtt.Connack {
	var a mqtt.Connack
	if p.Version != mqtt.V5 {
		return a
	}
	q := &a.Props
	set := func(when bool, prop mqtt.Property) {
		if when {
			q.Set(prop)
		}
	}
	lim := c.lim
	q.SessionExpiry = c.expiry
	set(c.expiry != p.Props.SessionExpiry, mqtt.PropSessionExpiry)
	q.ReceiveMaximum = uint16(lim.ReceiveMaximum)
	set(lim.ReceiveMaximum != 65535, mqtt.PropReceiveMaximum)
	q.MaximumQoS = byte(lim.MaxQoS)
	set(lim.MaxQoS < 2, mqtt.PropMaximumQoS)
	set(lim.NoRetain, mqtt.PropRetainAvailable)
	q.MaximumPacketSize = uint32(lim.MaxPacketSize)
	set(true, mqtt.PropMaximumPacketSize)
	q.AssignedClientID = []byte(id)
	set(len(p.ClientID) == 0, mqtt.PropAssignedClientID)
	q.TopicAliasMaximum = uint16(lim.TopicAliasMaximum)
	set(lim.TopicAliasMaximum > 0, mqtt.PropTopicAliasMaximum)
	set(lim.NoWildcards, mqtt.PropWildcardAvailable)
	set(lim.NoSubscriptionIDs, mqtt.PropSubscriptionIDAvailable)
	set(lim.NoShared, mqtt.PropSharedAvailable)
	q.ServerKeepAlive = uint16(keepAlive / time.Second)
	set(keepAlive != time.Duration(p.KeepAlive)*time.Second, mqtt.PropServerKeepAlive)
	info := "response/" + id
	if p.Props.RequestResponseInfo == 1 && !strings.ContainsAny(id, "+#") && len(info) <= 65535 { // [MQTT-3.1.2-28]
		q.ResponseInfo = []byte(info)
		q.Set(mqtt.PropResponseInfo)
	}
	if c.authMethod != "" { // [MQTT-4.12.0-5]
		q.AuthMethod = []byte(c.authMethod)
		q.Set(mqtt.PropAuthMethod)
		if data != nil {
			q.AuthData = data
			q.Set(mqtt.PropAuthData)
		}
	}
	return a
}
