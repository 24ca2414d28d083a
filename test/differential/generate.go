package differential

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// kind says what a step does.
type kind byte

const (
	open kind = iota // a new connection, whose first packet is packet
	send             // packet on the connection there is
	acks             // acknowledge what has come and was not acknowledged
	drop             // close the connection without a DISCONNECT
)

// step is one thing that one of the two clients does.
type step struct {
	client  int // 0 or 1
	kind    kind
	packet  []byte
	version byte   // of the client's protocol, 3 to 5
	manual  bool   // open: the client acknowledges in steps of their own
	slow    bool   // open: the client releases its QoS 2 messages in steps of their own
	nth     int    // acks: which of those that wait, see player.acknowledge
	code    byte   // acks: the reason code, in version 5
	label   string // what was made, and what was broken about it
	valid   bool   // nothing was broken on purpose
}

func (s step) String() string {
	name := []string{"open", "send", "acks", "drop"}[s.kind]
	return fmt.Sprintf("%c %s v%d %s", 'a'+byte(s.client), name, s.version, s.label)
}

// generator makes sequences. It knows of the clients only what it has made them
// do, so that the same seed makes the same sequence whatever the brokers answer.
type generator struct {
	*rand.Rand
	clients [2]struct {
		version  byte
		lastID   uint16
		released []uint16        // QoS 2 packet identifiers used and not yet released
		filters  map[string]bool // of its subscriptions
	}
	number int // of the step
	broken int // per cent of the packets that are broken on purpose
}

// sequence makes the steps of a seed.
func sequence(seed uint64) []step {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x5ea1))}
	g.broken = []int{0, 3, 10}[g.IntN(3)]
	var steps []step
	for i := range g.clients {
		steps = append(steps, g.open(i))
	}
	for range 6 + g.IntN(20) {
		g.number++
		c := g.IntN(2)
		switch n := g.IntN(100); {
		case n < 10:
			steps = append(steps, g.open(c))
		case n < 14:
			steps = append(steps, step{client: c, kind: drop, version: g.clients[c].version, label: "drop", valid: true})
		case n < 22:
			s := step{client: c, kind: acks, version: g.clients[c].version, nth: g.IntN(4), valid: true}
			if g.chance(10) {
				s.code = pick[byte](g, 0x10, 0x80, 0x83, 0x97)
			}
			s.label = fmt.Sprintf("acks nth=%d code=%#x", s.nth, s.code)
			steps = append(steps, s)
		default:
			steps = append(steps, g.send(c))
		}
	}
	return steps
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// odd tells whether something that is not allowed may be put into a packet.
func (g *generator) odd() bool { return g.chance(g.broken) }

// one is mostly one of the good values, and in sequences that break things now
// and then a bad one.
func one[T any](g *generator, good, bad []T) T {
	if g.odd() {
		return pick(g, bad...)
	}
	return pick(g, good...)
}

// labels gathers what is worth knowing of a packet.
type labels []string

func (l *labels) add(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

func (g *generator) open(c int) step {
	state := &g.clients[c]
	state.version = pick[byte](g, 3, 4, 4, 4, 5, 5, 5, 5)
	state.lastID, state.released = 0, nil
	s := step{client: c, kind: open, version: state.version, manual: g.chance(35), slow: g.chance(8), valid: true}
	s.packet, s.label = g.connect(c)
	g.mutate(&s)
	return s
}

func (g *generator) connect(c int) ([]byte, string) {
	var l labels
	l.add("CONNECT")
	v := g.clients[c].version
	w := &writer{}
	if v == 3 {
		w.str("MQIsdp")
	} else {
		w.str("MQTT")
	}
	id := fmt.Sprintf("client-%c", 'a'+byte(c))
	switch n := g.IntN(100); {
	case n < 12:
		id = "both"
	case n < 17:
		id = ""
	case n < 20:
		id = pick(g, "#", "a/b", "$x", "ä", "id with blanks", strings.Repeat("long", 20))
	}
	l.add("id=%q", id)
	flags, will := byte(0), false
	if g.chance(50) {
		flags |= 2
		l.add("clean")
	}
	if g.chance(40) {
		will = true
		qos := g.IntN(3)
		flags |= 4 | byte(qos)<<3
		l.add("will=%d", qos)
		if g.chance(25) {
			flags |= 0x20
			l.add("retained")
		}
	}
	user := g.odd()
	if user {
		flags |= 0x80
		l.add("user")
		if g.chance(50) {
			flags |= 0x40
			l.add("password")
		}
	} else if g.odd() && g.chance(30) {
		flags |= 0x40
		l.add("password without user")
	}
	w.u8(v).u8(flags).u16(pick[uint16](g, 0, 60, 60, 65535))
	if v == 5 {
		w.props(g.connectProperties(&l))
	}
	w.str(id)
	if will {
		if v == 5 {
			w.props(g.willProperties(&l))
		}
		topic := g.topic(&l)
		w.str(topic).str(fmt.Sprintf("w%d", g.number))
	}
	if user {
		w.str("user")
	}
	if flags&0x40 != 0 {
		w.str("password")
	}
	return w.packet(tConnect << 4), strings.Join(l, " ")
}

func (g *generator) connectProperties(l *labels) *writer {
	p := &writer{}
	if g.chance(60) {
		expiry := pick[uint32](g, 0, 1000, 1000, 0xffffffff)
		p.prop32(pSessionExpiry, expiry)
		l.add("expiry=%d", expiry)
	}
	if g.chance(20) {
		n := one(g, []uint16{1, 1, 2, 2, 65535}, []uint16{0})
		p.prop16(pReceiveMaximum, n)
		l.add("receive-maximum=%d", n)
	}
	if g.chance(10) {
		n := one(g, []uint32{10, 40, 200, 0xffffffff}, []uint32{0})
		p.prop32(pMaximumPacket, n)
		l.add("maximum-packet=%d", n)
	}
	if g.chance(30) {
		n := pick[uint16](g, 0, 1, 5, 65535)
		p.prop16(pAliasMaximum, n)
		l.add("alias-maximum=%d", n)
	}
	if g.chance(10) {
		n := one(g, []byte{0, 1}, []byte{2})
		p.prop8(pRequestProblem, n)
		l.add("request-problem=%d", n)
	}
	if g.chance(10) {
		n := one(g, []byte{0, 1}, []byte{2})
		p.prop8(pRequestResponse, n)
		l.add("request-response=%d", n)
	}
	if g.chance(10) {
		p.pair("k", "v")
	}
	if g.odd() && g.chance(30) {
		p.propStr(pAuthMethod, "NO-SUCH-METHOD")
		l.add("auth-method")
	} else if g.odd() && g.chance(30) {
		p.propStr(pAuthData, "data")
		l.add("auth-data without method")
	}
	return p
}

func (g *generator) willProperties(l *labels) *writer {
	p := &writer{}
	if g.chance(30) {
		delay := pick[uint32](g, 0, 3600)
		p.prop32(pWillDelay, delay)
		l.add("will-delay=%d", delay)
	}
	g.messageProperties(p, l)
	return p
}

// messageProperties are those of a will and of a PUBLISH.
func (g *generator) messageProperties(p *writer, l *labels) {
	if g.chance(15) {
		n := one(g, []byte{0, 1, 1}, []byte{2})
		p.prop8(pPayloadFormat, n)
		l.add("payload-format=%d", n)
	}
	if g.chance(20) {
		p.prop32(pMessageExpiry, 5000)
		l.add("message-expiry")
	}
	if g.chance(15) {
		p.propStr(pContentType, "text")
		l.add("content-type")
	}
	if g.chance(15) {
		topic := one(g, []string{"reply", "re/ply"}, []string{"", "reply/#", "+"})
		p.propStr(pResponseTopic, topic)
		l.add("response-topic=%q", topic)
	}
	if g.chance(10) {
		p.propStr(pCorrelation, "correlation")
		l.add("correlation")
	}
	if g.chance(15) {
		p.pair("k", "v")
		if g.chance(30) {
			p.pair("k", "v2").pair("", "")
		}
		l.add("user-property")
	}
}

// topic is a topic name, hardly ever one that is not allowed.
func (g *generator) topic(l *labels) string {
	t := pick(g, "a", "a", "a/b", "a/b", "a/b/c", "b", "/", "a/", "//", "/a", "$x/y")
	if g.odd() {
		t = pick(g, "a/#", "+", "a/+/b", "", "a\x00b", "a\xffb", "\xed\xa0\x80", "\xc0\xaf", "a\x01b", "\ufeffa", "\uffff", "a#",
			strings.Repeat("/", 190), strings.Repeat("/", 201), "$share/g/a", "$SYS/x", "ü", "a b", "$")
		l.add("topic=%+q", short(t))
	} else if t[0] == '$' {
		l.add("topic=%q", t)
	}
	return t
}

// short bounds a text for people.
func short(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%s… %d bytes", s[:20], len(s))
	}
	return s
}

func (g *generator) filter(c int, l *labels) string {
	f := pick(g, "#", "+", "a/#", "a/#", "a/+", "+/b", "/+", "a/b", "a", "b", "+/+/#", "$x/#", "a/b/#", "//")
	if g.chance(10) {
		// Each client has a group of its own: which member gets a message is the broker's choice.
		f = fmt.Sprintf("$share/%c/", 'g'+byte(c)) + f
		if g.chance(10) {
			f = "$share/both/a/b"
		}
	}
	if g.odd() {
		f = pick(g, "", "a#", "a/#/b", "+a", "a/b+", "##", "$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/a#/a",
			"a\x00b", "a\xffb", "\xed\xa0\x80", "\xc0\xaf", "a\x01", "\uffff", strings.Repeat("/", 190), strings.Repeat("+/", 150), strings.Repeat("+/", 250),
			"$SYS/x", "$x", "$share/g/$x/#", "$", "$+/y", "$SHARE/g/a")
	}
	if f[:min(1, len(f))] == "$" || len(f) == 0 || strings.ContainsFunc(f, func(r rune) bool { return r < ' ' || r > '~' }) || strings.ContainsAny(f, "#+") {
		l.add("filter=%+q", short(f))
	}
	return f
}

func (g *generator) packetID(c int, l *labels) uint16 {
	state := &g.clients[c]
	if g.odd() && g.chance(20) {
		l.add("id=0")
		return 0
	}
	if g.chance(5) {
		l.add("id again")
		return max(state.lastID, 1)
	}
	state.lastID++
	return state.lastID
}

// send makes one packet of a connection that is open.
func (g *generator) send(c int) step {
	s := step{client: c, kind: send, version: g.clients[c].version, valid: true}
	n := g.IntN(95)
	if g.odd() && g.chance(50) {
		n = 95 + g.IntN(5)
	}
	switch {
	case n < 45:
		s.packet, s.label = g.publish(c)
	case n < 68:
		s.packet, s.label = g.subscribe(c)
	case n < 76:
		s.packet, s.label = g.unsubscribe(c)
	case n < 88:
		s.packet, s.label = g.pubrel(c)
	case n < 91:
		s.packet, s.label = frame(tPingreq<<4, nil), "PINGREQ"
	case n < 95:
		s.packet, s.label = g.disconnect(c)
	case n < 97:
		kind := pick[byte](g, tPuback, tPubrec, tPubcomp)
		s.packet, s.label = ack(kind, s.version, 60000, 0), fmt.Sprintf("%s of nothing", packetName(kind))
	case n < 98:
		s.packet, s.label = g.connect(c)
		s.label = "second " + s.label
	default:
		kind := pick[byte](g, 0, tConnack, tSuback, tUnsuback, tPingresp, tAuth)
		s.packet, s.label = frame(kind<<4, pick(g, nil, []byte{0, 0}, []byte{0, 1, 0})), packetName(kind)+" from a client"
	}
	g.mutate(&s)
	return s
}

func (g *generator) publish(c int) ([]byte, string) {
	var l labels
	state := &g.clients[c]
	qos := byte(g.IntN(3))
	first := byte(tPublish)<<4 | qos<<1
	l.add("PUBLISH q%d", qos)
	if g.chance(20) {
		first |= 1
		l.add("retained")
	}
	if qos > 0 && g.chance(4) || g.odd() && g.chance(20) {
		first |= 8
		l.add("dup")
	}
	topic := g.topic(&l)
	p := &writer{}
	if state.version == 5 {
		if g.chance(25) {
			alias := pick[uint16](g, 1, 1, 2, 3, 10)
			if g.odd() {
				alias = pick[uint16](g, 0, 11, 65535)
			}
			p.prop16(pAlias, alias)
			l.add("alias=%d", alias)
			if g.chance(40) {
				topic = ""
				l.add("topic by alias")
			}
		}
		g.messageProperties(p, &l)
		if g.odd() && g.chance(20) {
			p.u8(pSubscriptionID).varint(7)
			l.add("subscription-id")
		}
	}
	w := new(writer).str(topic)
	if qos > 0 {
		id := g.packetID(c, &l)
		w.u16(id)
		if qos == 2 {
			state.released = append(state.released, id)
		}
	}
	if state.version == 5 {
		w.props(p)
	}
	payload := fmt.Sprintf("p%d", g.number)
	switch n := g.IntN(100); {
	case n < 5 && first&1 != 0:
		payload = ""
		l.add("no payload")
	case n < 8:
		payload += strings.Repeat("x", 300)
		l.add("long")
	case n < 11:
		payload += "\xff"
		l.add("not UTF-8")
	}
	return w.raw([]byte(payload)).packet(first), strings.Join(l, " ")
}

func (g *generator) pubrel(c int) ([]byte, string) {
	state := &g.clients[c]
	var l labels
	l.add("PUBREL")
	id := uint16(60001)
	if n := len(state.released); n > 0 && g.chance(90) {
		i := g.IntN(n)
		id = state.released[i]
		if g.chance(80) {
			state.released = append(state.released[:i], state.released[i+1:]...)
		}
	} else {
		l.add("of nothing")
	}
	code := byte(0)
	if state.version == 5 && g.chance(8) {
		code = pick[byte](g, 0x92, 0x80)
		l.add("code=%#x", code)
	}
	return ack(tPubrel, state.version, id, code), strings.Join(l, " ")
}

func (g *generator) subscribe(c int) ([]byte, string) {
	var l labels
	l.add("SUBSCRIBE")
	version := g.clients[c].version
	w := new(writer).u16(g.packetID(c, &l))
	if version == 5 {
		p := &writer{}
		if g.chance(25) {
			id := pick(g, 1, 1, 2, 300, 268435455)
			if g.odd() {
				id = 0
			}
			p.u8(pSubscriptionID).varint(id)
			l.add("subscription-id=%d", id)
		}
		if g.chance(10) {
			p.pair("k", "v")
		}
		w.props(p)
	}
	filters := pick(g, 1, 1, 1, 1, 2, 2, 3)
	if g.odd() && g.chance(30) {
		filters = 0
		l.add("no filters")
	}
	for range filters {
		f := g.filter(c, &l)
		shared := strings.HasPrefix(f, "$share/")
		options := byte(g.IntN(3))
		l.add("q%d", options)
		if version == 5 {
			if g.chance(15) && (!shared || g.odd()) {
				options |= 4
				l.add("no-local")
			}
			if g.chance(25) {
				options |= 8
				l.add("as-published")
			}
			if g.chance(25) {
				h := byte(1 + g.IntN(2))
				options |= h << 4
				l.add("handling=%d", h)
			}
		}
		if g.odd() && g.chance(30) {
			options = pick[byte](g, 3, 0x30, 0x40, 0x80, 0xff, 4)
			l.add("options=%#x", options)
		}
		if state := &g.clients[c]; state.filters[f] {
			l.add("filter again")
		} else if state.filters == nil {
			state.filters = map[string]bool{f: true}
		} else {
			state.filters[f] = true
		}
		w.str(f).u8(options)
	}
	return w.packet(tSubscribe<<4 | 2), strings.Join(l, " ")
}

func (g *generator) unsubscribe(c int) ([]byte, string) {
	var l labels
	l.add("UNSUBSCRIBE")
	w := new(writer).u16(g.packetID(c, &l))
	if g.clients[c].version == 5 {
		p := &writer{}
		if g.chance(10) {
			p.pair("k", "v")
		}
		w.props(p)
	}
	filters := pick(g, 1, 1, 1, 2, 3)
	if g.odd() && g.chance(30) {
		filters = 0
		l.add("no filters")
	}
	for range filters {
		w.str(g.filter(c, &l))
	}
	return w.packet(tUnsubscribe<<4 | 2), strings.Join(l, " ")
}

func (g *generator) disconnect(c int) ([]byte, string) {
	if g.clients[c].version != 5 || g.chance(30) {
		return frame(tDisconnect<<4, nil), "DISCONNECT"
	}
	code := pick[byte](g, 0, 4, 0x80, 0x82, 0x98)
	l := labels{fmt.Sprintf("DISCONNECT code=%#x", code)}
	p := &writer{}
	if g.chance(40) {
		expiry := pick[uint32](g, 0, 1000, 0xffffffff)
		p.prop32(pSessionExpiry, expiry)
		l.add("expiry=%d", expiry)
	}
	if g.chance(20) {
		p.propStr(pReasonString, "why")
	}
	return new(writer).u8(code).props(p).packet(tDisconnect << 4), strings.Join(l, " ")
}

func packetName(kind byte) string {
	return [16]string{"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
		"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}[kind&15]
}
