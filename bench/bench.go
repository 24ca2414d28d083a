// Package bench drives any MQTT broker and tells what it did and what it cost: rates, latencies, losses, and the
// broker's processor time and memory when it runs on this machine.
//
// A paced load is an open loop: every message has a time at which it is due, and its latency counts from then, so a
// stall of the broker, or of this generator, shows in the latencies of all messages that were due meanwhile. Without a
// rate the load is a closed loop: each publisher keeps a window of messages on their way.
//
// What the generator itself costs matters, because it shares the machine with the broker: messages are copied from a
// pattern and patched, written and read many at a time, nothing is allocated for them, and what a batch of messages
// has in common (the clock, counters, acknowledgements) is done once for it.
//
// Run starts a goroutine per connection and a few more, and has stopped them all when it returns. Subpackage sidebyside
// is a command that runs the same workloads against several brokers.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Scenario is what the clients do.
type Scenario string

// The scenarios.
const (
	Pairs   Scenario = "pairs"   // each publisher has a subscriber of its own
	Fanout  Scenario = "fanout"  // every subscriber receives everything that a few publishers send
	Fanin   Scenario = "fanin"   // many publishers, a few subscribers that each receive everything
	Shared  Scenario = "shared"  // many publishers, subscribers that share one subscription
	Connect Scenario = "connect" // connections opened and closed
	Idle    Scenario = "idle"    // connections with one subscription each, and silence
	Storm   Scenario = "storm"   // paced pairs, and then many clients connect at once
	Resume  Scenario = "resume"  // clients come back, with a TLS ticket or an MQTT session
	Offline Scenario = "offline" // pairs whose subscribers are away and come back at the end for what waits
	Backlog Scenario = "backlog" // paced pairs, and then a client comes back for a long queue
	Restart Scenario = "restart" // sessions with messages waiting; the broker is killed and started again
)

// Scenarios are all of them, in the order of the documentation.
var Scenarios = []Scenario{Pairs, Fanout, Fanin, Shared, Connect, Idle, Storm, Resume, Offline, Backlog, Restart}

// DialFunc opens connection i to the broker, ready for CONNECT. It lays under(socket) in place of the socket beneath TLS
// or anything else, so that reads come in large batches; it may also leave that out.
type DialFunc func(ctx context.Context, i int, under func(net.Conn) net.Conn) (net.Conn, error)

// Config says what to run. Zero fields have the defaults named, which Run fills in. It must not be modified once given
// to Run.
type Config struct {
	Scenario Scenario
	Dial     DialFunc

	Version   mqtt.Version // default 5
	Username  string
	Password  []byte
	ClientID  string // prefix of the client identifiers; default bench- and something random
	Topic     string // prefix of all topics; default bench/ and something random
	KeepAlive uint16 // s; default 0: none, unless a broker of version 5 wants one

	Clients     int // pairs, publishers, subscribers, connections or sessions; default 100
	Publishers  int // default: Clients, and 1 for Fanout
	Subscribers int // default: Clients, 1 for Fanin, 4 for Shared
	Topics      int // for each publisher; default 1

	// Persistent keeps the sessions of subscribers (where there are only clients: theirs) when a connection ends: clean
	// session 0, or a Session Expiry Interval. Always so with Offline and Restart. Run ends them when it is done.
	Persistent           bool
	PersistentPublishers bool // likewise those of publishers

	QoS            uint8    // of messages and subscriptions; Offline, Backlog and Restart: at least 1
	Payload        int      // bytes, at least 16: default 64
	UserProperties []string // pairs of key and value in every message, version 5 only

	Rate   float64       // messages a second, of all publishers together (Connect, Idle, Resume: connections a second); 0: as fast as Window (there: Parallel) allows
	Window int           // messages on their way for each publisher: default 200. With a Rate and QoS 1 or 2: unacknowledged ones, default 65,535
	Burst  int           // messages due at the same moment from one publisher; default 1
	Ramp   time.Duration // the rate rises during it, which is not measured

	Parallel    int           // connections being opened at a time; default 32
	ConnectRate float64       // connections a second while the clients of a message scenario come in; 0: no bound
	Warmup      time.Duration // after Ramp, not measured; default 2 s; negative: none
	Duration    time.Duration // measured; default 10 s. Connect and Resume end after Clients connections unless Timed
	Timed       bool          // Connect: go on for Duration, whatever Clients says; Clients is how many identifiers are used
	Drain       time.Duration // wait for messages on their way without progress; default 2 s
	Storm       int           // connections of the storm; default 1,000
	Backlog     int           // Backlog, Restart: messages waiting; default 200,000, Restart: 10 for each session
	// Restart kills the broker and starts it again; it returns the new process as soon as that runs. Scenario Restart
	// cannot do without.
	Restart func(context.Context) (pid int, err error)

	PID      int            // the broker's process, on this machine; 0: not known
	Disk     string         // a folder on the disk whose flushes are counted, those that others ask for as well; optional
	Progress func(Progress) // called a few times a second; optional
	Interval time.Duration  // of Result.Series; default a second, less in a short run
}

// fill gives zero fields their defaults.
func (c *Config) fill() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Version == 0 {
		c.Version = mqtt.V5
	}
	def(&c.Clients, 100)
	switch c.Scenario {
	case Fanout:
		def(&c.Publishers, 1)
	case Fanin:
		def(&c.Subscribers, 1)
	case Shared:
		def(&c.Subscribers, 4)
	}
	def(&c.Publishers, c.Clients)
	def(&c.Subscribers, c.Clients)
	if c.private() {
		c.Subscribers = c.Publishers
	}
	def(&c.Topics, 1)
	def(&c.Payload, 64)
	def(&c.Burst, 1)
	def(&c.Parallel, 32)
	def(&c.Storm, 1000)
	if c.disturbed() && c.Rate == 0 {
		c.Rate = 1000
	}
	switch c.Scenario {
	case Restart:
		def(&c.Backlog, 10*c.Clients)
	case Backlog:
		def(&c.Backlog, 200_000)
	}
	if c.waiting() {
		c.Persistent = c.Persistent || c.Scenario != Backlog // there it is the one client's
		c.QoS = max(c.QoS, 1)
	}
	if c.Window == 0 {
		c.Window = 200
		if c.Rate > 0 {
			c.Window = maxInflight
		}
	}
	if c.Warmup == 0 {
		c.Warmup = 2 * time.Second
	}
	c.Warmup = max(c.Warmup, 0)
	if c.Duration == 0 {
		c.Duration = 10 * time.Second
	}
	if c.Drain == 0 {
		c.Drain = 2 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = min(max(c.Duration/20, 50*time.Millisecond), time.Second)
	}
	name := randomName()
	if c.ClientID == "" {
		c.ClientID = "bench-" + name
	}
	if c.Topic == "" {
		c.Topic = "bench/" + name
	}
}

// maxInflight leaves packet identifiers free for the client's own use.
const maxInflight = 65_535

// Validate tells what cannot be run, by the name of the field.
func (c *Config) Validate() error {
	known := false
	for _, s := range Scenarios {
		known = known || c.Scenario == s
	}
	messages := c.Messages()
	switch {
	case !known:
		return fmt.Errorf("scenario %q: there is none of that name", c.Scenario)
	case c.Dial == nil:
		return errors.New("dial: not given")
	case c.Version != 0 && c.Version != mqtt.V31 && c.Version != mqtt.V311 && c.Version != mqtt.V5:
		return fmt.Errorf("version %d: not one of 3, 4 and 5", c.Version)
	case c.QoS > 2:
		return fmt.Errorf("qos %d: not 0, 1 or 2", c.QoS)
	case c.Payload != 0 && (c.Payload < minPayload || c.Payload > mqtt.MaxRemaining-70_000):
		return fmt.Errorf("payload %d bytes: not between %d and %d", c.Payload, minPayload, mqtt.MaxRemaining-70_000)
	case c.Clients < 0 || c.Publishers < 0 || c.Subscribers < 0 || c.Topics < 0 || c.Burst < 0 || c.Parallel < 0 || c.Storm < 0 || c.Backlog < 0:
		return errors.New("clients, publishers, subscribers, topics, burst, parallel, storm, backlog: none can be negative")
	case c.Backlog > math.MaxInt32:
		return fmt.Errorf("backlog %d: more than 2,147,483,647", c.Backlog)
	case c.Scenario == Restart && c.Restart == nil:
		return errors.New("restart: not told how")
	case c.Window < 0 || c.Window > maxInflight:
		return fmt.Errorf("window %d: not between 1 and %d", c.Window, maxInflight)
	case c.Rate < 0 || c.Rate > 1e9 || c.ConnectRate < 0:
		return fmt.Errorf("rate %v: not between 0 and 1e9 a second", c.Rate)
	case c.Ramp < 0 || c.Duration < 0 || c.Drain < 0 || c.Interval < 0:
		return errors.New("ramp, duration, drain, interval: none can be negative")
	case c.Ramp > 0 && c.Rate == 0:
		return errors.New("ramp: only with a rate")
	case c.Burst > 1 && (c.Rate == 0 || !messages):
		return errors.New("burst: only with a rate of messages")
	case len(c.UserProperties)%2 != 0:
		return errors.New("user properties: a key without a value")
	case len(c.UserProperties) > 0 && c.Version != 0 && c.Version != mqtt.V5:
		return errors.New("user properties: only in version 5")
	case len(c.Topic) > 60_000:
		return errors.New("topic: longer than 60,000 bytes")
	}
	return nil
}

// Messages tells whether the scenario sends messages.
func (c *Config) Messages() bool {
	switch c.Scenario {
	case Pairs, Fanout, Fanin, Shared, Storm, Offline, Backlog:
		return true
	}
	return false
}

// private tells whether each publisher has a subscriber of its own.
func (c *Config) private() bool {
	switch c.Scenario {
	case Pairs, Storm, Offline, Backlog:
		return true
	}
	return false
}

// disturbed tells whether something befalls the pairs that are measured.
func (c *Config) disturbed() bool { return c.Scenario == Storm || c.Scenario == Backlog }

// waiting tells whether messages wait in sessions.
func (c *Config) waiting() bool {
	switch c.Scenario {
	case Offline, Backlog, Restart:
		return true
	}
	return false
}

// connections is how many are open at a time at most.
func (c *Config) connections() int {
	switch c.Scenario {
	case Connect:
		return c.Parallel
	case Resume:
		return c.Parallel
	case Restart:
		return max(c.Parallel, fillers)
	case Backlog:
		return c.Publishers + c.Subscribers + fillers
	case Idle:
		return c.Clients
	case Storm:
		return c.Publishers + c.Subscribers + c.Storm
	}
	return c.Publishers + c.Subscribers
}

// Run carries out the scenario. When it fails after clients have connected, the result holds what was measured until
// then beside the error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.fill()
	if have, need := maxDescriptors(), cfg.connections()+50; have < need {
		return nil, &LimitError{Need: need, Have: have}
	}
	r := newRun(ctx, cfg)
	defer r.cancel(nil)
	if cfg.PID != 0 {
		if _, err := processCPU(cfg.PID); err != nil {
			return nil, err
		}
	}
	var err error
	switch cfg.Scenario {
	case Connect:
		err = r.connect()
	case Resume:
		err = r.resume()
	case Idle:
		err = r.idle()
	case Restart:
		err = r.restart()
	default:
		err = r.traffic()
	}
	if r.result.Started.IsZero() {
		return nil, err
	}
	r.result.finish(&r.cfg)
	return r.result, err
}

// LimitError is a limit of this machine on open files that is too low.
type LimitError struct{ Need, Have int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d open files are needed, and %d allowed", e.Need, e.Have)
}
