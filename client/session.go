package client

import (
	"errors"
	"sync"

	"github.com/sealmq/sealmq/mqtt"
)

// Session is the client's half of an MQTT session: outgoing messages not fully
// acknowledged and the packet ids of incoming QoS 2 messages not yet released
// [MQTT-4.1.0-1]. The zero value is an empty session. It belongs to one client
// id and protocol version, and to one connection at a time.
type Session struct {
	mu       sync.Mutex
	owner    *Client
	out      []*outgoing          // in the order first sent; nil where one has ended
	ended    int                  // nils in out
	byID     map[uint16]*outgoing // the same by packet id
	lastID   uint16
	received map[uint16]struct{} // QoS 2: delivered, PUBREL not seen yet
}

// outgoing is one PUBLISH with QoS 1 or 2 on its way through the handshake.
type outgoing struct {
	packet   []byte // as encoded, without topic alias; nil after PUBREC
	id       uint16
	qos      uint8
	released bool // PUBREC has come: from here on it is PUBREL that is repeated
	unsent   bool // waits for send quota after a reconnect
	done     func(mqtt.ReasonCode, error)
	index    int
}

var errSessionInUse = errors.New("session is in use by another connection")

// Pending is the number of outgoing messages not fully acknowledged.
func (s *Session) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out) - s.ended
}

// Abandon forgets everything; waiting publishers get err. Call it when there
// will be no further connection.
func (s *Session) Abandon(err error) {
	s.mu.Lock()
	out := s.take()
	s.mu.Unlock()
	for _, o := range out {
		o.done(0, err)
	}
}

// take empties the session and returns what was outgoing, in order.
func (s *Session) take() []*outgoing {
	var out []*outgoing
	for _, o := range s.out {
		if o != nil {
			out = append(out, o)
		}
	}
	s.out, s.ended, s.byID, s.received = nil, 0, nil, nil
	return out
}

func (s *Session) add(o *outgoing) {
	if s.byID == nil {
		s.byID = make(map[uint16]*outgoing)
	}
	o.index = len(s.out)
	s.out = append(s.out, o)
	s.byID[o.id] = o
}

// remove is O(1) over time: holes are squeezed out when they are the majority.
func (s *Session) remove(o *outgoing) {
	delete(s.byID, o.id)
	s.out[o.index] = nil
	s.ended++
	if s.ended <= len(s.out)/2 {
		return
	}
	keep := s.out[:0]
	for _, o := range s.out {
		if o != nil {
			o.index = len(keep)
			keep = append(keep, o)
		}
	}
	clear(s.out[len(keep):])
	s.out, s.ended = keep, 0
}

// nextID is a packet id that neither a message nor a pending request of the
// connection uses [MQTT-2.2.1-3]; 0 when all 65,535 are taken.
func (s *Session) nextID(alsoUsed func(uint16) bool) uint16 {
	for range 65535 {
		s.lastID++
		if s.lastID == 0 {
			s.lastID = 1
		}
		if _, used := s.byID[s.lastID]; !used && !alsoUsed(s.lastID) {
			return s.lastID
		}
	}
	return 0
}

// claim makes c the one connection of the session.
func (s *Session) claim(c *Client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		return false
	}
	s.owner = c
	return true
}

func (s *Session) release() {
	s.mu.Lock()
	s.owner = nil
	s.mu.Unlock()
}

// restore sends again, in the first order, what a resumed session holds
// [MQTT-4.4.0-1]: PUBREL where PUBREC has come, else PUBLISH with DUP. It
// returns what ended because the server has no session [MQTT-3.2.2-5].
func (c *Client) restore() (lost []*outgoing) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.server.SessionPresent {
		return c.s.take()
	}
	for _, o := range c.s.out {
		if o == nil {
			continue
		}
		o.unsent = true
		c.resume = append(c.resume, o)
	}
	for len(c.resume) > 0 {
		select {
		case c.slots <- struct{}{}:
			c.resend()
			continue
		default:
		}
		break
	}
	return nil
}

// resend repeats the first message that waits for quota; s.mu is held.
func (c *Client) resend() {
	o := c.resume[0]
	c.resume = c.resume[1:]
	o.unsent = false
	if o.released {
		c.ack(mqtt.PUBREL, o.id, mqtt.Success)
		return
	}
	o.packet[0] |= 0x08 // DUP [MQTT-3.3.1-1]
	c.out.queue(o.packet)
}

// freeSlot ends one message's use of the receive maximum; s.mu is held.
func (c *Client) freeSlot() {
	if len(c.resume) > 0 {
		c.resend()
		return
	}
	<-c.slots
}
