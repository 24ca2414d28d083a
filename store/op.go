package store

import (
	"sync/atomic"
	"time"
)

// SessionID names one life of a session. It is never used again, so that what was meant for an ended session cannot
// reach the next one of the same client.
type SessionID uint64

// Kind says what an Op changes.
type Kind uint8

// The kinds of ops, with the fields of Op that each uses besides Kind and Session.
const (
	Publish     Kind = iota + 1 // Message, Placements, Retained, PacketID, Will: one message into all its places at once
	PutSession                  // State: a session begins, is taken over or loses its connection
	EndSession                  // a session ends with all that is its own
	Subscribe                   // Subscriptions: added, or replaced where the filter is known
	Unsubscribe                 // Filters
	Acked                       // Positions: the client has them, or they were dropped
	Recorded                    // Positions: QoS 2 messages that the client has answered with PUBREC
	Released                    // PacketID: the client's PUBREL ends the life of a QoS 2 packet identifier
	PutRecord                   // Record: a small value that another part of the program keeps; no session
)

// Op is one durable change. Whoever submits it must not change it afterwards; its placements may be acknowledged.
type Op struct {
	Kind    Kind
	Session SessionID     // whose change it is; of a Publish: the publisher's, 0 when that is not durable
	Time    time.Duration // on the store's clock, see Handler

	Message    *Message
	Placements []*Placement // see Place
	// Retained makes Message the retained message of its topic, or clears that when its payload is empty.
	Retained bool
	// PacketID of a QoS 2 Publish from a durable session is remembered until it is Released, so that the same
	// message is not taken twice [MQTT-4.3.3-10]. 0: none.
	PacketID uint16
	// Will is the session whose will this message is; the will is taken out of its record with the same change. 0: none.
	Will SessionID

	State         *Session
	Subscriptions []Subscription
	Filters       []string
	Positions     []uint64
	Record        *Record

	// Linger is how long a Publish may wait for the acknowledgements of all its receivers, which make writing it
	// unnecessary. A later op of the same Lane ends the wait, since a lane's ops are made durable in their order.
	Linger time.Duration
	Lane   *Lane // nil: no order is asked for beyond that of Submit

	// Wait is the submitter's own; the store does not look at it, but may let ops wait for company that have none. The
	// broker, which is the Handler, sends what Committed tells of an op to a Wait that is a chan error: the channel must
	// have room, since the broker does not wait.
	Wait any

	open  atomic.Int32 // placements not acknowledged
	state atomic.Uint32
}

// Lane is a sequence of ops that must not become durable out of order, those of one connection. Its zero value is ready.
// What it holds belongs to the store.
type Lane struct {
	// Held is the store's number of the newest op of the lane that it holds back, 0: none; under the store's own lock.
	Held uint64
}

// States of an op and of a placement.
const (
	waiting uint32 = iota // not looked at by the store
	taken                 // the store writes it
	settled               // acknowledged before; it need not be written
)

// Place adds a placement. From then on it may be acknowledged.
func (op *Op) Place(p *Placement) {
	p.op = op
	op.Placements = append(op.Placements, p)
}

// Prepare is called between the last Place and Submit. It reports false when every receiver has acknowledged already, so
// that there is nothing to submit.
func (op *Op) Prepare() bool {
	left := op.open.Add(int32(len(op.Placements)))
	return left > 0 || op.Must() || !op.state.CompareAndSwap(waiting, settled)
}

// Must reports whether the op has to be written even when every receiver has acknowledged.
func (op *Op) Must() bool {
	return op.Kind != Publish || op.Retained || op.PacketID != 0 || op.Will != 0 || len(op.Placements) == 0
}

// Take is for stores: it begins the writing of op and reports false when that has become unnecessary. The submitter has
// then been told already.
func (op *Op) Take() bool { return op.state.CompareAndSwap(waiting, taken) }

// Outcome is what an acknowledgement means for the store.
type Outcome uint8

// The outcomes.
const (
	// Written: an Acked op must follow.
	Written Outcome = iota
	// Spared: this placement will not be written.
	Spared
	// Elided: and neither will anything else of the op. It has come to its end, and the store will not tell.
	Elided
)

// Placement is a message's place in the queue of one session.
type Placement struct {
	Session SessionID
	Pos     uint64   // grows by one with each message that is placed in the session's queue, beginning with 1
	Bytes   uint64   // size of all messages that were ever placed in the queue, this one included
	SubIDs  []uint32 // subscription identifiers to send along
	Share   string   // the "$share/…" filter that chose this session; "": none
	QoS     uint8
	Retain  bool // the RETAIN flag to send

	// Receiver is the submitter's own; the store does not look at it.
	Receiver any

	op    *Op // nil when it came out of the store
	state atomic.Uint32
}

// Acknowledge notes that the receiver has acknowledged the message, or that it was dropped for it. It is called once. What
// Elided says is said once for an op, and of an op that was not yet prepared by Prepare.
func (p *Placement) Acknowledge() Outcome {
	if p.op == nil || !p.state.CompareAndSwap(waiting, settled) {
		return Written
	}
	if p.op.open.Add(-1) == 0 && !p.op.Must() && p.op.state.CompareAndSwap(waiting, settled) {
		return Elided
	}
	return Spared
}

// Op is the op that placed the message, nil for one that came out of the store.
func (p *Placement) Op() *Op { return p.op }

// Take is for stores: it claims the placement for writing and reports false when it was acknowledged before.
func (p *Placement) Take() bool { return p.state.CompareAndSwap(waiting, taken) }

// Session is the durable part of a session.
type Session struct {
	ID       SessionID
	ClientID string
	Name     string // of its principal
	Method   string // of its principal
	Kind     string // of its principal
	Bound    bool   // of its principal
	Online   bool   // it has a connection
	Expiry   uint32 // seconds that it outlives its connection; math.MaxUint32: for ever
	// Sent is the position up to which messages have been sent at least once; while Online any may have been.
	Sent uint64
	// WillAt and ExpireAt are deadlines on the store's clock, 0 for none.
	WillAt, ExpireAt time.Duration
	Will             *Will // nil: none
}

// Will is the message published when a session's connection is lost.
type Will struct {
	Topic, Payload, Props []byte // Props as in Message
	Expiry                uint32 // seconds, counted from its publication
	HasExpiry             bool
	Delay                 uint32 // seconds
	QoS                   uint8
	Retain                bool
}

// Subscription is one subscription of a session.
type Subscription struct {
	Filter            string // as subscribed, "$share/…" included
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // subscription identifier, 0 for none
	// Replay: the retained messages of QoS 1 and 2 that it began with are not all in the queue yet.
	Replay bool
}

// Queued is a message that waits in a session's queue.
type Queued struct {
	Message  *Message // nil when Recorded
	Pos      uint64
	Bytes    uint64 // as in Placement
	SubIDs   []uint32
	Share    string
	QoS      uint8
	Retain   bool
	Recorded bool // the client has it; only PUBCOMP is missing
}

// QueueState is what a session's queue held when the store was opened.
type QueueState struct {
	First, Last           uint64 // positions of the oldest and the newest message; 0 when it is empty
	BytesBefore, BytesEnd uint64 // Placement.Bytes before the oldest and with the newest message
	Recorded              uint64 // position of the newest one that was Recorded; 0: none
}
