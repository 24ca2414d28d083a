package crash

import "time"

// filter is a topic filter of a subscriber, always with the same QoS. No two
// filters of a subscriber match the same topic, so that every message comes once.
type filter struct {
	name   string
	qos    byte
	comes  bool // and goes
	wanted bool
	sure   bool // the broker has confirmed what is wanted
}

// subscriber has a durable session. It counts QoS 2 messages as the standard says
// (4.3.3): a packet identifier is in use from PUBLISH to PUBREL, across
// connections, and what arrives with one in use is not a message.
type subscriber struct {
	client
	filters []*filter
	inUse   map[uint16]messageID
	asked   map[uint16]*filter // SUBSCRIBE and UNSUBSCRIBE without an answer
	packet  uint16
	mute    bool // acknowledges nothing until it reconnects
}

func (s *subscriber) run() {
	for s.pause(s.between(0, 20)) {
		calm := s.calm.Load()
		l, ack, ok := s.open(false, true, nil)
		if !ok {
			continue
		}
		s.link = l
		s.resume(ack)
		s.serve(calm)
		if !calm && !s.sleep(s.between(0, 700)) {
			return
		}
	}
}

// resume begins a connection. What the broker may not know is asked for again.
func (s *subscriber) resume(ack packet) {
	s.mute = false
	s.asked = make(map[uint16]*filter)
	if !ack.present || s.inUse == nil { // the first CONNACK may be lost, its session not
		s.inUse = make(map[uint16]messageID)
	}
	for _, f := range s.filters {
		if !ack.present {
			f.sure = !f.wanted
		}
		if !f.sure {
			s.ask(f)
		}
	}
}

// ask subscribes or unsubscribes, as is wanted.
func (s *subscriber) ask(f *filter) {
	s.packet = s.packet%60000 + 1
	s.asked[s.packet] = f
	f.sure = false
	e := event{kind: subscrib, client: s.name, conn: s.link.n, packet: s.packet, topic: f.name, qos: f.qos}
	b := encodeSubscribe(s.version, s.packet, f.name, f.qos)
	if !f.wanted {
		e.kind = unsub
		b = encodeUnsubscribe(s.version, s.packet, f.name)
	}
	s.journal.add(e)
	s.link.write(b)
}

// serve works until the connection ends. Before calm it ends by itself.
func (s *subscriber) serve(calm bool) {
	end := time.After(s.between(20, 2000))
	if calm {
		end = nil
	}
	for turn := time.After(s.between(20, 300)); ; {
		select {
		case packet, ok := <-s.link.in:
			if !ok {
				s.ended()
				return
			}
			s.handle(packet)
		case <-turn:
			if s.calm.Load() && !calm { // behave from here on: reconnect
				s.cut()
				return
			}
			if f := s.filters[s.rng.IntN(len(s.filters))]; f.sure && !calm {
				if f.comes {
					f.wanted = !f.wanted
				}
				s.ask(f) // else once more, which must change nothing
			}
			turn = time.After(s.between(50, 600))
		case <-end:
			switch s.rng.IntN(4) {
			case 0:
				s.leave()
			case 1:
				s.cut()
			case 2:
				s.mute = true
				end = time.After(s.between(10, 400))
				continue
			case 3:
				ack, ok := s.takeOver(s.handle)
				if ok {
					s.resume(ack)
					end = time.After(s.between(20, 500))
					continue
				}
			}
			return
		case <-s.done:
			s.leave()
			return
		}
	}
}

func (s *subscriber) handle(in packet) {
	switch in.typ {
	case tPublish:
		s.deliver(in)
	case tPubrel:
		s.journal.add(event{kind: release, client: s.name, conn: s.link.n, packet: in.id, message: s.inUse[in.id], qos: 2})
		delete(s.inUse, in.id)
		if !s.mute {
			s.link.write(encodeAck(tPubcomp, in.id))
		}
	case tSuback, tUnsuback:
		f := s.asked[in.id]
		if f == nil {
			s.journal.trouble(s.name, "answer to packet identifier %d, which nobody asked with", in.id)
			return
		}
		delete(s.asked, in.id)
		f.sure = true
		e := event{kind: suback, client: s.name, conn: s.link.n, packet: in.id, topic: f.name, qos: in.code}
		if in.typ == tUnsuback {
			e.kind, e.qos = unsuback, 0
		} else if in.code != f.qos {
			s.journal.trouble(s.name, "subscription to %s with QoS %d was answered with %#x", f.name, f.qos, in.code)
		}
		s.journal.add(e)
	}
}

func (s *subscriber) deliver(in packet) {
	m, ok := parseMessage(in.topic, in.payload)
	if !ok && len(in.payload) > 0 {
		s.journal.trouble(s.name, "damaged message on %q: %.200q", in.topic, in.payload)
	}
	e := event{kind: deliver, client: s.name, conn: s.link.n, packet: in.id, message: m.id, topic: in.topic, qos: in.qos,
		dup: in.dup, retain: in.retain}
	answerWith := tPuback
	if in.qos == 2 {
		answerWith = tPubrec
		if _, known := s.inUse[in.id]; known {
			e.kind = repeated
		}
		s.inUse[in.id] = m.id
	}
	if ok {
		s.journal.add(e)
	}
	if in.qos == 0 || s.mute {
		return
	}
	if e.kind = answer; ok {
		s.journal.add(e)
	}
	s.link.write(encodeAck(answerWith, in.id))
}
