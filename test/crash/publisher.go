package crash

import (
	"fmt"
	"slices"
	"time"
)

// window is how many messages a publisher has in flight: fewer than the smallest
// Receive Maximum of the brokers.
const window = 16

// flight is a message on its way to the broker.
type flight struct {
	*message
	packet   uint16
	received bool // PUBREC has come, PUBREL must follow
}

// publisher publishes numbered messages with QoS 1 and 2 to topics that it shares
// with others, and retained ones to topics of its own.
type publisher struct {
	client
	durable bool
	number  int
	packet  uint16
	flights []*flight // in the order of their first sending
	mute    bool      // sends nothing until it reconnects
	ending  bool      // its session, as soon as the broker lets it
}

func (p *publisher) run() {
	for p.pause(p.between(0, 100)) {
		calm := p.calm.Load()
		if p.durable && !calm && p.chance(15) {
			p.ending = true
		}
		clean := p.ending || !p.durable
		if clean {
			p.abandon()
		}
		durable := p.durable && (!clean || p.version == 5)
		l, ack, ok := p.open(clean, durable, nil)
		if !ok {
			continue
		}
		p.link, p.ending = l, false
		p.resume(ack)
		p.serve(calm, !clean)
	}
}

// resume begins a connection: what is in flight is sent again [MQTT-4.4.0-1].
func (p *publisher) resume(ack packet) {
	p.mute = false
	if !ack.present {
		p.abandon()
	}
	for _, f := range p.flights {
		p.send(f, true)
	}
}

func (p *publisher) abandon() {
	for _, f := range p.flights {
		p.note(abandon, f)
	}
	p.unfinished.Add(-int64(len(p.flights)))
	p.flights = nil
}

// serve works until the connection ends. Before calm it ends by itself.
func (p *publisher) serve(calm, mayTakeOver bool) {
	end := time.After(p.between(50, 1500))
	if calm {
		end = nil
	}
	for pace := time.After(0); ; {
		select {
		case packet, ok := <-p.link.in:
			if !ok {
				p.ended()
				return
			}
			p.handle(packet)
		case <-pace:
			if p.calm.Load() && !calm { // behave from here on: reconnect
				p.cut()
				return
			}
			for n := p.rng.IntN(8); n > 0 && len(p.flights) < window && !calm && !p.mute; n-- {
				p.publish()
			}
			pace = time.After(p.between(5, 60))
		case <-end:
			switch p.rng.IntN(5) {
			case 0:
				p.leave()
				return
			case 1:
				p.half()
				return
			case 2:
				p.mute = true
				end = time.After(p.between(10, 200))
				continue
			case 3:
				if mayTakeOver {
					p.mute = true
					ack, ok := p.takeOver(p.handle)
					if !ok {
						return
					}
					p.resume(ack)
					end = time.After(p.between(50, 500))
					continue
				}
			}
			p.cut()
			return
		case <-p.done:
			p.leave()
			return
		}
	}
}

// publish sends the next message.
func (p *publisher) publish() {
	p.number++
	p.packet = p.packet%60000 + 1 // long free again, with so few in flight
	m := &message{id: messageID{p.name, p.number}, qos: byte(1 + p.rng.IntN(2)), size: p.rng.IntN(300)}
	switch n := p.rng.IntN(10); {
	case n < 3: // retained: always the same QoS, so that their order is certain
		m.topic = fmt.Sprintf("c/r/%s/%d", p.name, n)
		m.retain, m.qos, m.clear = true, byte(1+n%2), p.chance(4)
	case n < 7:
		m.topic = fmt.Sprintf("c/a/%d", n%2)
	default:
		m.topic = fmt.Sprintf("c/b/%d", n%2)
	}
	if p.chance(100) {
		m.size = 50_000
	}
	f := &flight{message: m, packet: p.packet}
	p.flights = append(p.flights, f)
	p.unfinished.Add(1)
	p.send(f, false)
}

func (p *publisher) send(f *flight, again bool) {
	if f.received {
		p.note(pubrel, f)
		p.link.write(encodeAck(tPubrel, f.packet))
		return
	}
	e := p.line(publish, f)
	e.dup, e.retain, e.clear = again, f.retain, f.clear
	p.journal.add(e)
	p.link.write(encodePublish(p.version, f.message, f.packet, again))
}

// half sends the first part of a message, cut somewhere.
func (p *publisher) half() {
	p.journal.add(event{kind: publish, client: p.name, conn: p.link.n, text: "cut short"})
	m := &message{id: messageID{"nobody", 1}, topic: "c/a/0", qos: 1}
	b := encodePublish(p.version, m, 60001, false)
	p.link.write(b[:1+p.rng.IntN(len(b)-1)])
	p.cut()
}

func (p *publisher) handle(in packet) {
	i := slices.IndexFunc(p.flights, func(f *flight) bool { return f.packet == in.id })
	if in.typ < tPuback || in.typ > tPubcomp || i < 0 {
		return // an ack for what was abandoned, or a DISCONNECT
	}
	f := p.flights[i]
	finished := func(k kind) {
		p.note(k, f)
		p.flights = slices.Delete(p.flights, i, i+1)
		p.unfinished.Add(-1)
	}
	switch {
	case in.code >= 0x80:
		finished(refused)
	case in.typ == tPuback && f.qos == 1:
		finished(puback)
	case in.typ == tPubrec && f.qos == 2:
		p.note(pubrec, f)
		f.received = true
		if !p.mute {
			p.send(f, false)
		}
	case in.typ == tPubcomp && f.received:
		finished(pubcomp)
	default:
		p.journal.trouble(p.name, "packet type %d for packet identifier %d with %v", in.typ, in.id, f.id)
	}
}

func (p *publisher) note(k kind, f *flight) { p.journal.add(p.line(k, f)) }

func (p *publisher) line(k kind, f *flight) event {
	return event{kind: k, client: p.name, conn: p.conns, packet: f.packet, message: f.id, topic: f.topic, qos: f.qos}
}
