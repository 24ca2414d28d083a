// Package store is what outlives a connection: retained messages and the queues of sessions. It declares the interface;
// the implementations are in folders of their own, and storetest is the suite that each of them passes.
package store

// Item is a message on its way to one session.
type Item struct {
	Message *Message
	Share   any      // the shared subscription that chose this session, nil otherwise
	SubIDs  []uint32 // subscription identifiers to send along
	QoS     uint8
	Retain  bool
}

// Store keeps what outlives a connection. Its methods may be called from many goroutines.
type Store interface {
	// SetRetained makes m the retained message of its topic.
	SetRetained(m *Message) error
	// ClearRetained removes the retained message of a topic, if any.
	ClearRetained(topic string) error
	// Retained calls fn for every retained message whose topic matches the filter until fn returns false. What is set
	// or cleared meanwhile may or may not be seen. fn must not call the store.
	Retained(filter string, fn func(*Message) bool) error
	// RetainedMessage returns the retained message of a topic, nil if there is none.
	RetainedMessage(topic string) (*Message, error)
	// RetainedCount returns how many topics have a retained message.
	RetainedCount() int
	// OpenQueue returns the queue of a session, empty when it is opened for the first time.
	OpenQueue(clientID string) (Queue, error)
	// DropQueue deletes the queue of a session that has ended.
	DropQueue(clientID string) error
	// Close releases what the store holds. No method may be called afterwards.
	Close() error
}

// Queue holds the messages that wait for one session, in order. It is used under its session's lock.
type Queue interface {
	Push(Item) error
	// Front returns the oldest item; ok is false when the queue is empty.
	Front() (it Item, ok bool)
	// Pop removes the oldest item.
	Pop()
	// Len and Bytes tell how much waits.
	Len() int
	Bytes() int64
}
