package broker

import (
	"github.com/sealmq/sealmq/store"
)

// flight is one QoS 1 or 2 message between its first PUBLISH and the end of its handshake.
type flight struct {
	m      *store.Message // nil once a PUBREC has taken it over
	share  *group
	ids    *[]uint32
	qos    uint8
	retain bool
	state  flightState
	sent   bool // a PUBLISH has left, so the next one carries DUP [MQTT-3.3.1-1]
}

type flightState uint8

const (
	done      flightState = iota // acknowledged; the slot waits for those before it
	published                    // waits for PUBACK or PUBREC
	released                     // waits for PUBCOMP
)

// maxIDs is how many packet identifiers there are [MQTT-2.2.1-4].
const maxIDs = 65535

// inflight holds the messages under way to one client in the order in which they were first sent. Packet identifiers are
// given out in sequence, so an identifier says its place in the ring.
type inflight struct {
	ring   []flight // length a power of two
	head   int
	n      int    // slots in use, done ones among them
	first  uint16 // packet identifier of the slot at head
	resend int    // slots before it have been sent on this connection
	active int    // of those, how many are not done
	bytes  int64  // of the messages held
}

func (f *inflight) at(i int) *flight { return &f.ring[(f.head+i)&(len(f.ring)-1)] }

// id returns the packet identifier of slot i: 1 … 65535, then 1 again.
func (f *inflight) id(i int) uint16 { return uint16((int(f.first)-1+i)%maxIDs) + 1 }

// slot returns the place of a packet identifier, or -1 when it is not in use.
func (f *inflight) slot(id uint16) int {
	if id == 0 || f.n == 0 {
		return -1
	}
	i := (int(id) - int(f.first) + maxIDs) % maxIDs
	if i >= f.n || f.at(i).state == done {
		return -1
	}
	return i
}

// room reports whether another message may be sent under the client's Receive Maximum and the bound in bytes.
func (f *inflight) room(window int, maxBytes int64) bool {
	return f.resend == f.n && f.active < window && f.n < maxIDs && (f.bytes < maxBytes || f.active == 0)
}

// add takes a message that is being sent and returns its packet identifier.
func (f *inflight) add(fl flight) uint16 {
	if f.n == len(f.ring) {
		grown := make([]flight, max(4, 2*len(f.ring)))
		for i := range f.n {
			grown[i] = *f.at(i)
		}
		f.ring, f.head = grown, 0
	}
	if f.first == 0 {
		f.first = 1
	}
	f.n++
	*f.at(f.n - 1) = fl
	f.resend++
	f.active++
	f.bytes += fl.m.Size()
	return f.id(f.n - 1)
}

// release drops the message of slot i and waits for PUBCOMP [MQTT-4.3.3-6].
func (f *inflight) release(i int) {
	fl := f.at(i)
	f.bytes -= fl.m.Size()
	fl.m, fl.ids, fl.state = nil, nil, released
}

// finish ends the handshake of slot i.
func (f *inflight) finish(i int) {
	fl := f.at(i)
	if fl.m != nil {
		f.bytes -= fl.m.Size()
	}
	*fl = flight{}
	if i < f.resend {
		f.active--
	}
	for f.n > 0 && f.at(0).state == done {
		f.head = (f.head + 1) & (len(f.ring) - 1)
		f.first = f.first%maxIDs + 1
		f.n--
		if f.resend > 0 {
			f.resend--
		}
	}
	if f.n == 0 && len(f.ring) > 32 {
		f.ring, f.head = nil, 0
	}
}

// unsend notes that first transmissions in items never left.
func (f *inflight) unsend(items []outItem) {
	for i := range items {
		if it := &items[i]; it.m != nil && it.id != 0 && it.flags&8 == 0 {
			if k := f.slot(it.id); k >= 0 {
				f.at(k).sent = false
			}
		}
	}
}

// rewind prepares for a new connection: everything is to be sent again, in order [MQTT-4.4.0-1].
func (f *inflight) rewind() { f.resend, f.active = 0, 0 }

// idle gives the ring back while nothing is under way.
func (f *inflight) idle() {
	if f.n == 0 {
		f.ring, f.head = nil, 0
	}
}
