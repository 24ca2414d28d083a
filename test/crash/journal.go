package crash

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind says what happened. What a client sends is noted before it is written,
// what it receives after it was read: if the receipt of one thing stands before
// the sending of another, it was so in the world.
type kind string

const (
	kill     kind = "KILL -9" // noted before the signal is sent
	start    kind = "start"
	connect  kind = "> CONNECT"
	connack  kind = "< CONNACK"
	closed   kind = "connection closed" // noted when the client cuts it, or sees its end
	publish  kind = "> PUBLISH"
	puback   kind = "< PUBACK"
	pubrec   kind = "< PUBREC"
	pubrel   kind = "> PUBREL"
	pubcomp  kind = "< PUBCOMP"
	refused  kind = "refused" // an ack with an error code
	abandon  kind = "abandon" // the publisher ends its session with this message in flight
	deliver  kind = "< PUBLISH"
	repeated kind = "< PUBLISH again" // QoS 2, with a packet identifier that is in use: not a delivery
	answer   kind = "> PUBACK or PUBREC"
	release  kind = "< PUBREL" // ends the use of a packet identifier
	subscrib kind = "> SUBSCRIBE"
	suback   kind = "< SUBACK"
	unsub    kind = "> UNSUBSCRIBE"
	unsuback kind = "< UNSUBACK"
	probe    kind = "> SUBSCRIBE, retained" // while nobody publishes
	retained kind = "< PUBLISH, retained"
	probeEnd kind = "retained messages all here"
	alone    kind = "gone for good" // a client that leaves its will behind
	trouble  kind = "TROUBLE"       // a fault that a client or the conductor has seen
)

// event is a line of the journal.
type event struct {
	at      time.Duration // since the run began
	kind    kind
	client  string
	conn    int // the client's n-th connection
	packet  uint16
	message messageID
	topic   string // or filter
	qos     byte
	dup     bool
	retain  bool // as sent; the RETAIN flag of what is delivered
	clear   bool // the message has no payload
	clean   bool // CONNECT
	durable bool // CONNECT
	present bool // CONNACK: session present
	text    string
}

func (e event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.6f s  %-8s %s", e.at.Seconds(), e.client, e.kind)
	if e.conn > 0 {
		fmt.Fprintf(&b, " conn=%d", e.conn)
	}
	if e.packet > 0 {
		fmt.Fprintf(&b, " id=%d", e.packet)
	}
	if e.message.n > 0 {
		fmt.Fprintf(&b, " message=%v qos=%d", e.message, e.qos)
	}
	if e.topic != "" {
		fmt.Fprintf(&b, " topic=%s", e.topic)
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{e.dup, "dup"}, {e.retain, "retain"}, {e.clear, "empty"}, {e.clean, "clean"}, {e.durable, "durable"}, {e.present, "present"}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	if e.text != "" {
		b.WriteString(" " + e.text)
	}
	return b.String()
}

// journal is the order in which things happened, for all clients together.
type journal struct {
	begin time.Time

	mu     sync.Mutex
	events []event
}

func (j *journal) add(e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.at = time.Since(j.begin)
	j.events = append(j.events, e)
}

// trouble notes a fault that needs no check.
func (j *journal) trouble(client, format string, args ...any) {
	j.add(event{kind: trouble, client: client, text: fmt.Sprintf(format, args...)})
}

// snapshot returns the journal up to this moment.
func (j *journal) snapshot() []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.events)
}

// excerpt is what the journal has about a fault: the lines of its message, the
// connections of its client and the subscriptions that concern it, and the kills.
func excerpt(events []event, f fault) string {
	const before, after = 12, 36 // lines
	topic := events[f.at].topic
	var lines []string
	begun := false
	for i, e := range events {
		about := i == f.at || f.message.n > 0 && e.message == f.message &&
			(e.client == f.client || e.client == f.message.publisher)
		switch {
		case about:
		case e.kind == kill || e.kind == start:
		case e.client != f.client:
			continue
		case e.kind == connect || e.kind == connack || e.kind == closed:
		case e.topic != "" && e.message.n == 0 && matches(e.topic, topic):
		default:
			continue
		}
		if about && !begun {
			begun = true
			lines = lines[max(0, len(lines)-before):]
		}
		if lines = append(lines, e.String()); begun && i > f.at && len(lines) > before+after {
			return strings.Join(append(lines, "…"), "\n")
		}
	}
	return strings.Join(lines, "\n")
}
