package broker

import (
	"github.com/sealmq/sealmq/store"
)

// flight is one QoS 1 or 2 message between its first PUBLISH and the end of its handshake.
type flight struct {
	m      *store.Message // nil once a PUBREC has taken it over
	share  *group
	ids    *[]uint32
	place  *store.Placement // in a durable session's queue; nil in others
	qos    uint8
	retain bool
	state  flightState
	sent   bool // a PUBLISH has left, so the next one carries DUP [MQTT-3.3.1-1]
}

func (fl *flight) size() int64 {
	if fl.m == nil {
		return 0
	}
	return fl.m.Size()
}

type flightState uint8

const (
	done      flightState = iota // acknowledged; the slot waits for those before it
	published                    // waits for PUBACK or PUBREC
	released                     // waits for PUBCOMP
)

// maxIDs is how many packet identifiers there are [MQTT-2.2.1-4]. maxActive is how many of them may be under way at a
// time: the ring may be over four times as long as what is under way in it, and has each identifier once.
const (
	maxIDs    = 65535
	maxActive = 13000
)

// inflight holds the messages under way to one client in the order in which they were first sent.
//
// Packet identifiers are given out in sequence, so an identifier says its place in the ring. A message that its client
// does not acknowledge while it acknowledges many later ones moves to old, so that the ring stays short and identifiers
// can be used again. Places count through both: first old, then the ring.
type inflight struct {
	old  []oldFlight
	ring []flight // length a power of two
	head int
	n    int // slots of the ring in use, done ones among them

	first  uint16 // packet identifier of the slot at head
	resend int    // places before it have been sent on this connection
	active int    // of those, how many are not done
	bytes  int64  // of the messages held
}

type oldFlight struct {
	flight
	id uint16
}

// len is the number of places.
func (f *inflight) len() int { return len(f.old) + f.n }

func (f *inflight) slot(k int) *flight { return &f.ring[(f.head+k)&(len(f.ring)-1)] }

func (f *inflight) at(i int) *flight {
	if i < len(f.old) {
		return &f.old[i].flight
	}
	return f.slot(i - len(f.old))
}

// id returns the packet identifier of a place: 1 … 65535, then 1 again.
func (f *inflight) id(i int) uint16 {
	if i < len(f.old) {
		return f.old[i].id
	}
	return uint16((int(f.first)-1+i-len(f.old))%maxIDs) + 1
}

// find returns the place of a packet identifier, or -1 when it is not in use.
func (f *inflight) find(id uint16) int {
	if id == 0 {
		return -1
	}
	for i := range f.old {
		if f.old[i].id == id {
			return i
		}
	}
	if f.n == 0 {
		return -1
	}
	k := (int(id) - int(f.first) + maxIDs) % maxIDs
	if k >= f.n || f.slot(k).state == done {
		return -1
	}
	return len(f.old) + k
}

// room reports whether another message may be sent under the client's Receive Maximum and the bound in bytes.
func (f *inflight) room(window int, maxBytes int64) bool {
	return f.resend == f.len() && f.active < min(window, maxActive) && (f.bytes < maxBytes || f.active == 0)
}

// add takes a message that is being sent and returns its packet identifier.
func (f *inflight) add(fl flight) uint16 {
	if f.n > 4*f.active+64 {
		f.age()
	}
	if f.first == 0 {
		f.first = 1
	}
	for len(f.old) > 0 && f.isOld(uint16((int(f.first)-1+f.n)%maxIDs)+1) { // [MQTT-2.2.1-4]
		f.push(flight{})
		f.trim()
	}
	f.push(fl)
	f.active++
	f.bytes += fl.size()
	return f.id(f.len() - 1)
}

// addAs takes a message that is being sent under a packet identifier that is usable. Those left out between it and the
// one before are skipped.
func (f *inflight) addAs(fl flight, id uint16) {
	if f.n > 4*f.active+64 {
		f.age()
	}
	if f.n > 0 {
		skip := (int(id) - int(f.first) - f.n + 2*maxIDs) % maxIDs
		if skip > 64 {
			f.shelve()
		}
		for ; f.n > 0 && skip > 0; skip-- {
			f.push(flight{})
		}
	}
	if f.n == 0 {
		f.first = id
	}
	f.push(fl)
	f.active++
	f.bytes += fl.size()
}

// shelve moves everything to old. Everything has been sent when it is called.
func (f *inflight) shelve() {
	for f.n > 0 {
		if fl := f.slot(0); fl.state != done {
			f.old = append(f.old, oldFlight{*fl, f.first})
		}
		*f.slot(0) = flight{}
		f.drop()
	}
	f.resend = f.len()
}

// push appends a slot that counts as sent.
func (f *inflight) push(fl flight) {
	if f.n == len(f.ring) {
		grown := make([]flight, max(4, 2*len(f.ring)))
		for k := range f.n {
			grown[k] = *f.slot(k)
		}
		f.ring, f.head = grown, 0
	}
	f.n++
	*f.slot(f.n - 1) = fl
	f.resend++
}

func (f *inflight) isOld(id uint16) bool {
	for i := range f.old {
		if f.old[i].id == id {
			return true
		}
	}
	return false
}

// age moves the messages that hold up the ring to old. Everything has been sent when it is called.
func (f *inflight) age() {
	for f.n > 2*f.active+32 {
		fl := f.slot(0)
		f.old = append(f.old, oldFlight{*fl, f.first})
		*fl = flight{}
		f.drop()
		f.resend = f.len()
		f.trim()
	}
}

// drop takes the first slot, and trim every done one after it, off the ring. A place before resend goes with each.
func (f *inflight) drop() {
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.first = f.first%maxIDs + 1
	f.n--
}

func (f *inflight) trim() {
	for f.n > 0 && f.slot(0).state == done {
		f.drop()
		if f.resend > len(f.old) {
			f.resend--
		}
	}
}

// release drops the message of place i and waits for PUBCOMP [MQTT-4.3.3-6].
func (f *inflight) release(i int) {
	fl := f.at(i)
	f.bytes -= fl.m.Size()
	fl.m, fl.ids, fl.state = nil, nil, released
}

// finish ends the handshake of place i.
func (f *inflight) finish(i int) {
	fl := f.at(i)
	f.bytes -= fl.size()
	if i < f.resend {
		f.active--
	}
	if i < len(f.old) {
		if i < f.resend {
			f.resend--
		}
		f.old = append(f.old[:i], f.old[i+1:]...)
		if len(f.old) == 0 {
			f.old = nil
		}
		return
	}
	*fl = flight{}
	f.trim()
	if f.n == 0 && len(f.ring) > 32 {
		f.ring, f.head = nil, 0
	}
}

// unsend notes that first transmissions in items never left.
func (f *inflight) unsend(items []outItem) {
	for i := range items {
		if it := &items[i]; it.m != nil && it.id != 0 && it.flags&8 == 0 {
			if k := f.find(it.id); k >= 0 {
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
