// Package store is what outlives a connection: sessions with their subscriptions, queues and states of delivery, retained
// messages and wills. It declares what changes (Op) and the interface of a store; the implementations are in folders of
// their own, and storetest is the suite that each of them passes.
package store

import (
	"errors"
	"time"
)

// Store keeps what ops have changed, and gives it back when it is opened again. Its methods may be called from many
// goroutines, after Load.
type Store interface {
	// Load tells h everything that the store holds, and begins its work. It is called once, before everything else. It
	// returns the store's clock at this moment.
	Load(h Handler) (clock time.Duration, err error)

	// Submit takes ops, which are made durable and applied in this order. It never blocks on the disk and holds no lock
	// while it calls the handler.
	Submit(ops ...*Op)

	// Fetch appends to dst what waits in a session's queue at positions from … below-1, oldest first, until it has max
	// messages or their sizes reach maxBytes; at least one if there is any. It may block on the disk. Positions that
	// were never written, or are acknowledged, are left out. It fails when what is stored cannot be read or is damaged.
	Fetch(dst []Queued, s SessionID, from, below uint64, max int, maxBytes int64) ([]Queued, error)

	// Records calls fn with the records whose keys begin with prefix, in the order of their keys, until fn returns false.
	// Those of ops that were submitted and not committed may be among them. The value is valid until fn returns and must
	// not be changed; fn must not call the store. It may block on the disk, and fails as Fetch does.
	Records(prefix string, fn func(key string, value []byte) bool) error

	// Ready returns nil, or why ops are refused at present: an error that wraps ErrDegraded. It is cheap.
	Ready() error

	// Stats returns counts since the store was opened.
	Stats() Stats

	// Close makes what was submitted durable, tells the handler so, and releases the store.
	Close() error
}

// Handler is told what a store holds, and what has become of ops.
type Handler interface {
	// Session and Retained are called during Load only. Subscriptions, and the packet identifiers of QoS 2 messages that
	// were received and not Released, come with their session.
	Session(s *Session, subs []Subscription, received []uint16, queue QueueState)
	Retained(m *Message)

	// Committed tells that ops have become durable (err nil), or that none of them has changed anything and none will.
	// Every submitted op is reported once, except those that Acknowledge found Elided. Calls do not overlap. The
	// handler may call Submit, and must not keep the slice.
	Committed(ops []*Op, err error)
}

// ErrDegraded is wrapped by the errors of a store that refuses changes for the time being, or for good.
var ErrDegraded = errors.New("store refuses changes")

// Stats are counts since the store was opened, and a few levels.
type Stats struct {
	Messages     uint64 // Publish ops submitted
	Elided       uint64 // of those, not written since every receiver had acknowledged
	Commits      uint64 // batches made durable
	BytesWritten uint64 // to its files, by everything that the store does
	Sessions     int
	DiskBytes    int64 // size of its files
	FreeBytes    int64 // that its file system has left; -1: unknown
}
