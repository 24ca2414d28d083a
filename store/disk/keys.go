package disk

import (
	"encoding/binary"

	"github.com/sealmq/sealmq/store"
)

// The first byte of a key says what its value is. Numbers follow as 8 bytes, the most significant first, so that keys sort
// as the numbers do.
const (
	kindMeta     = '!' // name: format, applied
	kindSession  = 's' // session: its record, without the will
	kindWill     = 'w' // session: its will
	kindFilter   = 'f' // session, filter: a subscription
	kindReceived = 'i' // session, packet identifier in 2 bytes: a QoS 2 message that was received and not released
	kindQueue    = 'q' // session, position: a message in its queue, or a reference to one
	kindRecorded = 'p' // session, position: the message there was answered with PUBREC
	kindMessage  = 'm' // number: a message that several queues refer to
	kindRetained = 'r' // topic: its retained message
	kindPurge    = 'x' // session: it has ended, and is being removed
	kindRecord   = 'k' // key of a record: its value
)

const (
	metaFormat  = "!format"
	metaApplied = "!applied"
)

// kindName is what an error calls a value.
func kindName(kind byte) string {
	switch kind {
	case kindMeta:
		return "state of the store"
	case kindSession:
		return "session"
	case kindWill:
		return "will"
	case kindFilter:
		return "subscription"
	case kindReceived:
		return "received packet identifier"
	case kindQueue:
		return "queue entry"
	case kindRecorded:
		return "mark of delivery"
	case kindMessage:
		return "message"
	case kindRetained:
		return "retained message"
	case kindPurge:
		return "ended session"
	case kindRecord:
		return "record"
	}
	return "unknown value"
}

// appendKey appends the key of a kind and a number: a session's or a message's.
func appendKey(b []byte, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), n)
}

// appendPos appends the key of a position in a session's queue.
func appendPos(b []byte, kind byte, id store.SessionID, pos uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, kind, uint64(id)), pos)
}

// appendEnd appends the first key after all that belong to a session.
func appendEnd(b []byte, kind byte, id store.SessionID) []byte {
	if id == 1<<64-1 {
		return append(b, kind+1)
	}
	return appendKey(b, kind, uint64(id)+1)
}

// keySession reads the session, or the number, out of a key.
func keySession(key []byte) (id store.SessionID, rest []byte, ok bool) {
	if len(key) < 9 {
		return 0, nil, false
	}
	return store.SessionID(binary.BigEndian.Uint64(key[1:])), key[9:], true
}

// keyPos reads session and position out of a key.
func keyPos(key []byte) (id store.SessionID, pos uint64, ok bool) {
	id, rest, ok := keySession(key)
	if !ok || len(rest) != 8 {
		return 0, 0, false
	}
	return id, binary.BigEndian.Uint64(rest), true
}
