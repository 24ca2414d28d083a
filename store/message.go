package store

// Message is one application message as the broker holds it. It is shared by all its receivers and immutable.
type Message struct {
	Topic   string
	Payload []byte
	Props   []byte     // encoded MQTT 5 properties that every receiver gets unaltered
	Expires int64      // nanoseconds on the broker's clock after which it must not be sent; 0: never
	Seq     uint64     // order of retained messages; 0 for others
	From    *Publisher // of a retained message; nil if it was none of the clients, and for others
	QoS     uint8
	Retain  bool // the publisher's RETAIN flag
}

// Publisher is who has published a retained message. It is shared by its messages and immutable.
type Publisher struct {
	ClientID string
	Owner    uint64 // a number that its principal has for good; 0: not known
}

// Size is what the message counts for in a bound given in bytes.
func (m *Message) Size() int64 {
	return int64(len(m.Topic)+len(m.Payload)+len(m.Props)) + messageOverhead
}

// messageOverhead is about what a Message costs beyond its text.
const messageOverhead = 96

// NewMessage returns a message with copies of payload and props. A short one is a single allocation, whose size is one
// of the allocator's own classes.
func NewMessage(topic string, payload, props []byte) *Message {
	m, data := newMessage(len(payload) + len(props))
	m.Topic = topic
	data = append(data, payload...)
	m.Payload = data[:len(payload):len(payload)]
	if len(props) > 0 {
		m.Props = append(data, props...)[len(payload):]
	}
	return m
}

// newMessage returns a message and an empty slice with room for n bytes that lives and dies with it.
func newMessage(n int) (*Message, []byte) {
	switch {
	case n == 0:
		return new(Message), nil
	case n <= 16:
		x := new(struct {
			m Message
			b [16]byte
		})
		return &x.m, x.b[:0]
	case n <= 64:
		x := new(struct {
			m Message
			b [64]byte
		})
		return &x.m, x.b[:0]
	case n <= 160:
		x := new(struct {
			m Message
			b [160]byte
		})
		return &x.m, x.b[:0]
	case n <= 416:
		x := new(struct {
			m Message
			b [416]byte
		})
		return &x.m, x.b[:0]
	}
	return new(Message), make([]byte, 0, n)
}
