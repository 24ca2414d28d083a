package differential

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// side is one broker with the three clients of a sequence.
type side struct {
	*broker
	patience time.Duration
	clients  [2]*client
	left     [2][]event // of connections that were replaced
	observer *client
	ids      map[string]bool // client identifiers that have been used
	markers  int
}

// watch connects the observer. It has a session that outlives its connection, so
// that a message with QoS 1 has it wait for all that was stored before.
func (s *side) watch() error {
	if s.observer != nil {
		s.observer.close()
	}
	c, err := dial(s.address, 5, s.patience)
	if err != nil {
		return err
	}
	s.observer = c
	c.write(new(writer).str("MQTT").u8(5).u8(2).u16(0).
		props(new(writer).prop32(pSessionExpiry, 1000)).str("observer").packet(tConnect << 4))
	return s.lookAgain()
}

// lookAgain subscribes the observer to everything, which brings all retained messages.
func (s *side) lookAgain() error {
	w := new(writer).u16(1).u8(0)
	for _, f := range []string{"#", "$x/#", "$marker"} {
		w.str(f).u8(2 | 8) // QoS 2, Retain As Published
	}
	s.observer.write(w.packet(tSubscribe<<4 | 2))
	if !s.observer.ping(s.patience) || s.observer.over() {
		return fmt.Errorf("%s does not answer the observer", s.name)
	}
	return nil
}

// play does a step, without waiting for all of its consequences.
func (s *side) play(st step) error {
	c := s.clients[st.client]
	switch st.kind {
	case open:
		old := c
		c, err := s.connect(st)
		if err != nil {
			return err
		}
		s.clients[st.client] = c
		defer s.replace(st.client, old)
		if err := s.write(st, c); err != nil {
			return err
		}
		if !c.greeted(s.patience) {
			c.mu.Lock()
			c.events = append(c.events, event{kind: "SILENT"})
			c.mu.Unlock()
		}
	case send:
		if c != nil && !c.over() {
			return s.write(st, c)
		}
	case acks:
		if c != nil && !c.over() {
			s.acknowledge(c, st)
		}
	case drop:
		s.leave(st.client)
	}
	return nil
}

// connect begins a connection as a step says.
func (s *side) connect(st step) (*client, error) {
	c, err := dial(s.address, protocol(st), s.patience)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.name, err)
	}
	c.manual, c.slow = st.manual, st.slow
	if id, ok := clientID(st.packet); ok {
		s.ids[id] = true
	}
	return c, nil
}

// write sends the step's packets, made whole. What cannot be made whole is the
// end of the connection, when all before it has been answered.
func (s *side) write(st step, c *client) error {
	packet, rest := complete(slices.Clone(st.packet))
	c.sent(packet)
	c.write(packet)
	if rest == nil {
		return nil
	}
	if len(packet) > 0 && s.observer != nil {
		if err := s.settle(); err != nil {
			return err
		}
	}
	c.write(rest)
	s.leave(st.client)
	return nil
}

// replace closes the connection that a client has given up for another one. The
// broker may have closed it before, if both are of the same session.
func (s *side) replace(i int, old *client) {
	if old == nil {
		return
	}
	old.close()
	s.left[i] = append(s.left[i], slices.DeleteFunc(old.events, func(e event) bool {
		return e.kind == "CLOSED" || e.kind == "DISCONNECT"
	})...)
	if old.assigned != "" {
		s.ids[old.assigned] = true
	}
}

// leave closes a client's connection.
func (s *side) leave(i int) {
	if c := s.clients[i]; c != nil {
		c.close()
		s.left[i] = append(s.left[i], c.events...)
		c.events = nil
		if c.assigned != "" {
			s.ids[c.assigned] = true
		}
		s.clients[i] = nil
	}
}

// protocol is the version that the first packet names, if it is one.
func protocol(st step) byte {
	_, size := header(st.packet)
	if b := st.packet[size:]; len(b) > 2 {
		if at := 2 + int(binary.BigEndian.Uint16(b)); at < len(b) && b[at]&0x7f >= 3 && b[at]&0x7f <= 5 {
			return b[at] & 0x7f
		}
	}
	return st.version
}

// acknowledge answers the nth of the messages that wait, counted by their texts,
// which are the same on both sides; the last step's nth answers all.
func (s *side) acknowledge(c *client, st step) {
	owed := c.owed()
	slices.Sort(owed)
	owed = slices.Compact(owed)
	if len(owed) == 0 {
		return
	}
	name := owed[min(st.nth, len(owed)-1)]
	c.acknowledge(st.code, func(m *inbox) bool { return st.nth == 3 || m.message == name })
}

// settle waits until the broker is quiet: nothing that it does for the steps
// before is still under way.
func (s *side) settle() error {
	for range 20 {
		for i, c := range s.clients {
			if c != nil && !c.ping(s.patience) {
				c.mu.Lock()
				c.events = append(c.events, event{kind: "SILENT"})
				c.mu.Unlock()
				s.leave(i)
			}
		}
		more, err := s.mark()
		if err != nil {
			return err
		}
		for _, c := range s.clients {
			if c != nil && !c.over() {
				c.ping(s.patience)
				if c.goOn() {
					more = true
				}
			}
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("%s is never quiet", s.name)
}

// mark has the observer send itself a message, and waits for it and for its
// acknowledgement. Meanwhile it acknowledges all others, so that this one is not
// kept behind a full window, and reports whether there were any.
func (s *side) mark() (more bool, err error) {
	s.markers++
	text := fmt.Sprintf("m%d", s.markers)
	o := s.observer
	o.write(new(writer).str("$marker").u16(2).u8(0).raw([]byte(text)).packet(tPublish<<4 | 2))
	arrived := func(events []event) bool {
		got, acked := false, false
		for _, e := range events {
			got = got || e.kind == "PUBLISH" && e.more == fmt.Sprintf("%q %q", "$marker", text)
			acked = acked || e.kind == "PUBACK"
		}
		return got && acked
	}
	isMarker := func(m *inbox) bool { return strings.HasPrefix(m.message, `"$marker"`) }
	waiting := func() (any bool) {
		for _, m := range o.wait {
			any = any || !m.answered && !isMarker(m)
		}
		return any
	}
	for done := false; !done; {
		o.until(s.patience, func() bool { return o.closed || arrived(o.events) || waiting() })
		if o.acknowledge(0, func(m *inbox) bool { return !isMarker(m) }) {
			more = true
			continue
		}
		o.mu.Lock()
		done = arrived(o.events)
		ended := o.closed
		o.mu.Unlock()
		if !done {
			return more, fmt.Errorf("%s does not answer the observer (connection ended: %t, process ended: %t)", s.name, ended, s.dead())
		}
	}
	o.acknowledge(0, isMarker)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = slices.DeleteFunc(o.events, func(e event) bool {
		return e.kind == "PUBACK" || e.kind == "PUBLISH" && strings.HasPrefix(e.more, `"$marker"`) || isHandshake(e)
	})
	return more, nil
}

// isHandshake tells the observer's own packets, which nobody compares.
func isHandshake(e event) bool {
	return e.kind == "PUBREL" || e.kind == "CONNACK" || e.kind == "SUBACK"
}

// seen is what each client and the observer have received since forget.
func (s *side) seen() (all [3][]event) {
	for i, c := range s.clients {
		all[i] = slices.Clone(s.left[i])
		if c != nil {
			c.mu.Lock()
			all[i] = append(all[i], c.events...)
			c.mu.Unlock()
		}
		all[i] = comparable(all[i])
	}
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	all[2] = comparable(s.observer.events)
	return all
}

func (s *side) forget() {
	for i, c := range s.clients {
		s.left[i] = nil
		if c != nil {
			c.mu.Lock()
			c.events = nil
			c.mu.Unlock()
		}
	}
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	s.observer.events = nil
}

// end ends all sessions of a sequence, and has the observer ask for all retained
// messages.
func (s *side) end() error {
	for i := range s.clients {
		s.leave(i)
	}
	for id := range s.ids {
		c, err := dial(s.address, 4, s.patience)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", s.name, err)
		}
		c.write(new(writer).str("MQTT").u8(4).u8(2).u16(0).str(id).packet(tConnect << 4))
		ok := c.greeted(s.patience)
		c.write(frame(tDisconnect<<4, nil))
		ok = ok && c.until(s.patience, func() bool { return c.closed })
		c.close()
		if !ok {
			return fmt.Errorf("%s does not end the session %q", s.name, id)
		}
	}
	clear(s.ids)
	if err := s.settle(); err != nil {
		return err
	}
	s.forget()
	return s.lookAgain()
}

// wipe takes away all retained messages that the observer has got.
func (s *side) wipe() error {
	s.observer.mu.Lock()
	topics := s.observer.topics
	s.observer.topics = nil
	s.observer.mu.Unlock()
	for topic := range topics {
		s.observer.write(new(writer).str(topic).u8(0).packet(tPublish<<4 | 1))
	}
	if err := s.settle(); err != nil {
		return err
	}
	return s.ready() // with a session of its own, as Mosquitto's windows shrink with time
}
