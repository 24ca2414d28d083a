package interop

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// version is a protocol version as CONNECT tells it.
type version byte

const (
	v31  version = 3
	v311 version = 4
	v5   version = 5
)

func (v version) String() string {
	return map[version]string{v31: "v3.1", v311: "v3.1.1", v5: "v5"}[v]
}

// client is one MQTT implementation as the scenarios see it.
type client interface {
	// start readies the client until the end of the test. The reason is why it
	// cannot be: a package that is not installed.
	start(t *testing.T) (missing string)
	versions() []version
	// listen connects, subscribes, and returns after the SUBACK.
	listen(t *testing.T, s session, subs ...subscription) (*listener, error)
	// publish connects, sends the messages in order, and disconnects after
	// the last acknowledgement.
	publish(t *testing.T, s session, msgs ...message) error
}

// session is a connection to be made.
type session struct {
	Server     endpoint
	Version    version
	ID         string
	Persistent bool // clean session off; in MQTT 5 clean start off and an hour of session expiry
	Will       *message
}

const sessionExpiry = 3600 // seconds, of a persistent session

type subscription struct {
	Filter string
	QoS    byte
}

// message is a PUBLISH, or a will. The fields from ContentType on are MQTT 5's.
type message struct {
	Topic         string
	Payload       []byte
	QoS           byte
	Retain        bool
	ContentType   string
	ResponseTopic string
	Correlation   []byte
	UTF8          bool     // payload format indicator
	Expiry        uint32   // seconds; 0 is none
	User          []string // "key:value", in order
}

// String tells a message apart from every other one, but for its expiry, which
// counts down.
func (m message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s q%d", m.Topic, m.QoS)
	if m.Retain {
		b.WriteString(" retained")
	}
	if len(m.Payload) <= 64 {
		fmt.Fprintf(&b, " %q", m.Payload)
	} else {
		fmt.Fprintf(&b, " (%d bytes, sha256 %.8x)", len(m.Payload), sha256.Sum256(m.Payload))
	}
	if m.ContentType != "" || m.ResponseTopic != "" || m.Correlation != nil || m.UTF8 || m.User != nil {
		fmt.Fprintf(&b, " type=%q response=%q correlation=%q utf8=%t user=%q", m.ContentType, m.ResponseTopic, m.Correlation, m.UTF8, m.User)
	}
	return b.String()
}

// listener is a connected client with its subscriptions. An adapter makes it
// with newListener and feeds it with got, then closed.
type listener struct {
	stop func() // DISCONNECT, then the end of the connection
	kill func() // the end of the connection without DISCONNECT

	mu      sync.Mutex
	pending []message
	arrived chan struct{} // holds one token after a message has arrived
	ended   chan struct{}
	once    sync.Once
}

func newListener(t *testing.T) *listener {
	l := &listener{arrived: make(chan struct{}, 1), ended: make(chan struct{})}
	t.Cleanup(func() {
		if l.stop != nil {
			l.stop()
		}
	})
	return l
}

func (l *listener) got(m message) {
	l.mu.Lock()
	l.pending = append(l.pending, m)
	l.mu.Unlock()
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

// closed is called when nothing more can arrive, once or more often.
func (l *listener) closed() { l.once.Do(func() { close(l.ended) }) }

// gone waits until the connection has ended on the client's side.
func (l *listener) gone(t *testing.T) {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(patience):
		t.Fatalf("the connection has not ended after %v", patience)
	}
}

// take returns the next message without waiting.
func (l *listener) take() (message, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return message{}, false
	}
	m := l.pending[0]
	l.pending = l.pending[1:]
	return m, true
}

// next waits for a message.
func (l *listener) next(t *testing.T) message {
	t.Helper()
	late := time.After(patience)
	for {
		if m, ok := l.take(); ok {
			return m
		}
		select {
		case <-l.arrived:
		case <-l.ended:
			if m, ok := l.take(); ok {
				return m
			}
			t.Fatal("the connection ended while a message was awaited")
		case <-late:
			t.Fatalf("no message after %v", patience)
		}
	}
}

// want fails the test unless exactly these messages come next, in this order.
func (l *listener) want(t *testing.T, msgs ...message) {
	t.Helper()
	for i, want := range msgs {
		got := l.next(t)
		if got.String() != want.String() {
			t.Fatalf("message %d of %d:\n got %v\nwant %v", i+1, len(msgs), got, want)
		}
		if got.Expiry > want.Expiry || want.Expiry > 0 && got.Expiry == 0 {
			t.Fatalf("message expiry is %d s, want at most %d and some", got.Expiry, want.Expiry)
		}
	}
}
