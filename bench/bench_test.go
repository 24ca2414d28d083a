package bench

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every message arrives once, by every scenario, version and QoS, paced and saturated.
func TestMessages(t *testing.T) {
	for _, scenario := range []Scenario{Pairs, Fanout, Fanin, Shared} {
		for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			for qos := range uint8(3) {
				for _, rate := range []float64{0, 1000} {
					cfg := quick(scenario, (&fakeBroker{}).start(t))
					cfg.Version, cfg.QoS, cfg.Rate = version, qos, rate
					cfg.Window, cfg.Duration = 20, 100*time.Millisecond
					cfg.Topics = 1 + int(qos)
					r := mustRun(t, cfg)
					m := r.Messages
					if m.Sent == 0 || m.Lost != 0 || m.Received != m.Expected || m.Doubled != 0 && scenario != Shared || m.Unsent != 0 {
						t.Errorf("%s v%d qos %d rate %v: %+v", scenario, version, qos, rate, *m)
					}
					if rate > 0 && (m.Sent < 98 || m.Sent > 102) {
						t.Errorf("%s qos %d: %d messages were due, want 100", scenario, qos, m.Sent)
					}
					if r.Latency == nil || r.Latency.Count != m.Received || r.Latency.P50 <= 0 {
						t.Errorf("%s: latency %+v", scenario, r.Latency)
					}
				}
			}
		}
	}
}

func TestWebSocket(t *testing.T) {
	d := (&fakeBroker{ws: true}).start(t)
	d.WebSocket = "/mqtt"
	cfg := quick(Pairs, d)
	cfg.QoS, cfg.Window = 1, 20
	if m := mustRun(t, cfg).Messages; m.Sent == 0 || m.Lost != 0 {
		t.Errorf("%+v", *m)
	}
}

// A broker that stands still for a while makes late all messages that were due meanwhile, not only the one it held: no
// coordinated omission.
func TestStallIsSeen(t *testing.T) {
	b := &fakeBroker{stall: make(chan struct{})}
	cfg := quick(Pairs, b.start(t))
	cfg.Clients, cfg.Rate, cfg.Duration = 1, 1000, 400*time.Millisecond
	time.AfterFunc(200*time.Millisecond, func() { close(b.stall) })
	r := mustRun(t, cfg)
	if r.Messages.Lost != 0 || r.Messages.Sent < 399 {
		t.Fatalf("%+v", *r.Messages)
	}
	// About half of the messages were due while it stood still, a quarter in the first 100 ms of that.
	if r.Latency.P90 < 90 {
		t.Errorf("90 %% latency %v ms: the stall is hidden", r.Latency.P90)
	}
}

// With QoS 1, a message that finds no room in the broker's Receive Maximum waits, and the wait counts.
func TestReceiveMaximum(t *testing.T) {
	b := &fakeBroker{mute: true}
	b.connack.Props.ReceiveMaximum = 5
	b.connack.Props.Set(mqtt.PropReceiveMaximum)
	cfg := quick(Pairs, b.start(t))
	cfg.Clients, cfg.Rate, cfg.QoS, cfg.Drain = 1, 100, 1, 50*time.Millisecond
	r := mustRun(t, cfg)
	if m := r.Messages; m.Sent != 5 || m.Unsent == 0 {
		t.Errorf("%d sent, %d unsent; want 5, and those due later", m.Sent, m.Unsent)
	}
	if len(r.Warnings) == 0 {
		t.Error("no word about unsent messages")
	}
}

func TestLossIsCounted(t *testing.T) {
	cfg := quick(Pairs, (&fakeBroker{drop: 10}).start(t))
	cfg.Rate, cfg.Drain = 1000, 50*time.Millisecond
	m := mustRun(t, cfg).Messages
	if m.Lost < m.Expected/10 { // more when the machine is too slow for the drain
		t.Errorf("%d lost of %d, want a tenth at least", m.Lost, m.Expected)
	}
}

// A closed loop goes on although the window has filled with messages that are lost.
func TestLossDoesNotStall(t *testing.T) {
	cfg := quick(Pairs, (&fakeBroker{drop: 2}).start(t))
	cfg.Window, cfg.Clients, cfg.Duration, cfg.Drain = 4, 1, 800*time.Millisecond, 50*time.Millisecond
	if m := mustRun(t, cfg).Messages; m.Sent < 12 {
		t.Errorf("only %d messages were sent", m.Sent)
	}
}

func TestRampIsNotMeasured(t *testing.T) {
	cfg := quick(Pairs, (&fakeBroker{}).start(t))
	cfg.Rate, cfg.Ramp, cfg.Duration = 1000, 100*time.Millisecond, 100*time.Millisecond
	if m := mustRun(t, cfg).Messages; m.Sent < 98 || m.Sent > 102 || m.Lost != 0 {
		t.Errorf("%+v", *m)
	}
}

func TestConnections(t *testing.T) {
	d := (&fakeBroker{}).start(t)
	for _, scenario := range []Scenario{Connect, Idle, Resume} {
		cfg := quick(scenario, d)
		cfg.Clients, cfg.Duration, cfg.PID = 20, 50*time.Millisecond, os.Getpid()
		r := mustRun(t, cfg)
		if c := r.Connections; c.Opened != 20 || c.Failed != 0 || c.Latency.Count != 20 {
			t.Errorf("%s: %+v", scenario, *c)
		}
		if r.Broker == nil || r.Broker.CPUSeconds < 0 || r.Broker.RSS == 0 {
			t.Errorf("%s: broker %+v", scenario, r.Broker)
		}
	}
	cfg := quick(Connect, d)
	cfg.Timed, cfg.Rate, cfg.Duration = true, 200, 100*time.Millisecond
	if c := mustRun(t, cfg).Connections; c.Opened < 18 || c.Opened > 22 {
		t.Errorf("%d connections at 200 a second in 0.1 s", c.Opened)
	}
}

func TestStorm(t *testing.T) {
	cfg := quick(Storm, (&fakeBroker{}).start(t))
	cfg.Storm, cfg.Rate = 50, 500
	r := mustRun(t, cfg)
	if r.Connections.Opened != 50 || r.Storm == nil || r.Storm.Before == nil || r.Messages.Lost != 0 {
		t.Errorf("%+v %+v %+v", r.Connections, r.Storm, r.Messages)
	}
}

// What the broker refuses ends the run with an error that says so.
func TestRefusals(t *testing.T) {
	var server *ServerError
	no := (&fakeBroker{connack: mqtt.Connack{Code: mqtt.NotAuthorized}}).start(t)
	for _, scenario := range Scenarios {
		cfg := quick(scenario, no)
		cfg.Restart = func(context.Context) (int, error) { return os.Getpid(), nil }
		_, err := Run(context.Background(), cfg)
		if !errors.As(err, &server) || server.Code != mqtt.NotAuthorized {
			t.Errorf("%s: %v", scenario, err)
		}
	}
	var sub *SubscribeError
	_, err := Run(context.Background(), quick(Pairs, (&fakeBroker{suback: mqtt.QuotaExceeded}).start(t)))
	if !errors.As(err, &sub) || sub.Code != mqtt.QuotaExceeded {
		t.Errorf("subscribe: %v", err)
	}
	var pub *PublishError
	cfg := quick(Pairs, (&fakeBroker{puback: mqtt.QuotaExceeded}).start(t))
	cfg.QoS, cfg.Rate = 1, 100
	r, err := Run(context.Background(), cfg)
	if !errors.As(err, &pub) || pub.Code != mqtt.QuotaExceeded || r == nil || r.Messages.Refused != pub.Count {
		t.Errorf("publish: %v", err)
	}
	cfg = quick(Pairs, (&fakeBroker{hangUp: true}).start(t))
	cfg.Rate = 100
	if _, err := Run(context.Background(), cfg); !errors.Is(err, ErrLost) {
		t.Errorf("hang up: %v", err)
	}
	cfg.Dial = (&Dialer{Address: "127.0.0.1:1"}).Dial
	if _, err := Run(context.Background(), cfg); err == nil {
		t.Error("nothing listens, and no error")
	}
}

func TestCancel(t *testing.T) {
	for _, scenario := range Scenarios {
		b := &fakeBroker{}
		cfg := quick(scenario, b.start(t))
		cfg.Restart, cfg.Backlog = b.restart, 10_000_000
		cfg.Duration, cfg.Timed, cfg.Storm, cfg.Parallel = time.Hour, true, 5000, 2
		if scenario == Resume {
			cfg.Clients = 5000
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := Run(ctx, cfg)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", scenario, err)
		}
	}
}

func TestValidate(t *testing.T) {
	dial := (&Dialer{}).Dial
	for want, cfg := range map[string]Config{
		`scenario "x"`:    {Scenario: "x", Dial: dial},
		"dial:":           {Scenario: Pairs},
		"qos 3":           {Scenario: Pairs, Dial: dial, QoS: 3},
		"payload 8 bytes": {Scenario: Pairs, Dial: dial, Payload: 8},
		"window":          {Scenario: Pairs, Dial: dial, Window: 70_000},
		"ramp":            {Scenario: Pairs, Dial: dial, Ramp: time.Second},
		"burst":           {Scenario: Pairs, Dial: dial, Burst: 5},
		"user properties": {Scenario: Pairs, Dial: dial, Version: mqtt.V311, UserProperties: []string{"a", "b"}},
		"backlog":         {Scenario: Backlog, Dial: dial, Backlog: 1 << 40},
		"restart":         {Scenario: Restart, Dial: dial},
		"version 9":       {Scenario: Pairs, Dial: dial, Version: 9},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
