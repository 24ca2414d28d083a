package crash

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// messageID names a message: the n-th of a publisher, counted from 1.
type messageID struct {
	publisher string
	n         int
}

func (id messageID) String() string { return fmt.Sprintf("%s#%d", id.publisher, id.n) }

// message is what a publisher sends. Its payload says what it is, so that a
// subscriber needs to know nothing else.
type message struct {
	id     messageID
	topic  string
	qos    byte
	retain bool
	clear  bool // empty: removes the retained message
	size   int  // of the filler at the payload's end
}

func (m *message) payload() []byte {
	if m.clear {
		return nil
	}
	head := fmt.Sprintf("%s %d %s %d ", m.id.publisher, m.id.n, m.topic, m.qos)
	b := append([]byte(head), bytes.Repeat([]byte{'a' + byte(m.id.n%26)}, m.size)...)
	return fmt.Appendf(b, " %08x", crc32.ChecksumIEEE(b))
}

// parseMessage reads a payload; ok is false when it is not what a publisher has
// sent to this topic.
func parseMessage(topic string, payload []byte) (m message, ok bool) {
	end := len(payload) - len(" 00000000")
	if end < 0 || string(payload[end:]) != fmt.Sprintf(" %08x", crc32.ChecksumIEEE(payload[:end])) {
		return m, false
	}
	_, err := fmt.Sscanf(string(payload[:min(end, 200)]), "%s %d %s %d", &m.id.publisher, &m.id.n, &m.topic, &m.qos)
	return m, err == nil && m.topic == topic
}
