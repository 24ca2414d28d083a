package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Sessions are kept where that was asked for, and none is left when the run has ended.
func TestPersistent(t *testing.T) {
	for _, scenario := range []Scenario{Pairs, Fanin, Shared, Connect, Idle, Resume, Storm} {
		for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			b := &fakeBroker{}
			most := 0
			cfg := quick(scenario, b.start(t))
			cfg.Version, cfg.QoS, cfg.Persistent, cfg.PersistentPublishers = version, 1, true, cfg.Messages()
			cfg.Window, cfg.Duration, cfg.Storm = 20, 100*time.Millisecond, 5
			cfg.Progress = func(Progress) { most = max(most, b.left()) }
			cfg.Interval = 5 * time.Millisecond
			r := mustRun(t, cfg)
			want := cfg.Clients // some of them, where connections come and go
			if cfg.Messages() {
				want = r.Publishers + r.Subscribers
				if r.Messages.Lost != 0 || r.Messages.Sent == 0 {
					t.Errorf("%s v%d: %+v", scenario, version, *r.Messages)
				}
			}
			if scenario != Connect && scenario != Resume && most != want {
				t.Errorf("%s v%d: %d sessions were kept, want %d", scenario, version, most, want)
			}
			if n := b.left(); n != 0 || strings.Contains(strings.Join(r.Warnings, ""), "left behind") {
				t.Errorf("%s v%d: %d sessions are left; %q", scenario, version, n, r.Warnings)
			}
		}
	}
}

// What an earlier run of the same client identifiers left in a session does not come.
func TestOldSessionsAreEmptied(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b := &fakeBroker{}
		cfg := quick(Pairs, b.start(t))
		cfg.Version, cfg.QoS, cfg.Persistent, cfg.ClientID, cfg.Rate = version, 1, true, "x", 100
		old := mqtt.Publish{QoS: 1, Topic: []byte("old"), Payload: make([]byte, 64)}
		b.sessions["x-s0"] = &fakeSession{filter: "old", queue: []mqtt.Publish{old, old}}
		if m := mustRun(t, cfg).Messages; m.Received != m.Sent || m.Doubled != 0 {
			t.Errorf("v%d: %+v", version, *m)
		}
	}
}

// Acknowledgements have latencies of their own, from when a message was due or sent.
func TestAckLatency(t *testing.T) {
	for _, scenario := range []Scenario{Pairs, Offline} {
		for _, rate := range []float64{0, 500} {
			for qos := range uint8(3) {
				cfg := quick(scenario, (&fakeBroker{}).start(t))
				cfg.QoS, cfg.Rate, cfg.Window = qos, rate, 10
				r := mustRun(t, cfg)
				l := r.AckLatency
				if r.QoS == 0 {
					if l != nil {
						t.Errorf("%s: acknowledgements of QoS 0: %+v", scenario, l)
					}
					continue
				}
				if l == nil || l.Count != r.Messages.Sent || l.P50 <= 0 || l.P50 > 1e4 {
					t.Errorf("%s qos %d rate %v: %+v, %d messages", scenario, qos, rate, l, r.Messages.Sent)
				}
			}
		}
	}
}

// A broker that acknowledges late, or more than it was sent, is not misread.
func TestAckLatencyCounts(t *testing.T) {
	r := newRun(context.Background(), quick(Pairs, &Dialer{}))
	r.cfg.QoS = 1
	r.cfg.fill()
	tr := &traffic{run: r, copies: 1, from: 100}
	p := newPublisher(tr, 0)
	p.connected(&link{sock: &socket{}, receiveMax: 10})
	copy(p.times, []int64{50, 100, 200})
	p.sent.Store(3)
	p.l.sock.at = 1000
	p.acknowledge(1_000_000)
	s := &Snapshot{}
	tr.ack[0].AddTo(s)
	if s.Count() != 2 || s.Max() != 900 {
		t.Errorf("%d latencies up to %d, want 2 up to 900", s.Count(), s.Max())
	}
}

func TestOffline(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b := &fakeBroker{}
		cfg := quick(Offline, b.start(t))
		cfg.Version, cfg.Window, cfg.Warmup, cfg.PID = version, 20, 50*time.Millisecond, os.Getpid()
		r := mustRun(t, cfg)
		m, c := r.Messages, r.Collected
		if r.QoS != 1 || !r.Persistent || m.Sent == 0 || m.Lost != 0 || m.Deliveries != 0 || m.Acknowledged == 0 {
			t.Errorf("v%d: %+v", version, *m)
		}
		if c == nil || c.Received != c.Messages || c.Messages <= m.Sent || c.Present != 4 || c.Rate <= 0 || b.left() != 0 {
			t.Errorf("v%d: collected %+v, %d sessions left", version, c, b.left())
		}
		if r.Latency != nil || r.Broker == nil || r.Broker.PerMessage == 0 {
			t.Errorf("v%d: latency %+v broker %+v", version, r.Latency, r.Broker)
		}
	}
}

// What was acknowledged and does not come is lost.
func TestOfflineLoss(t *testing.T) {
	b := &fakeBroker{spill: 10}
	cfg := quick(Offline, b.start(t))
	cfg.Rate, cfg.Drain = 500, 100*time.Millisecond
	if m := mustRun(t, cfg).Messages; m.Lost < m.Sent/20 {
		t.Errorf("%d lost of %d, want about a tenth", m.Lost, m.Sent)
	}
}

func TestBacklog(t *testing.T) {
	for _, qos := range []uint8{1, 2} {
		b := &fakeBroker{}
		cfg := quick(Backlog, b.start(t))
		cfg.Rate, cfg.Backlog, cfg.QoS, cfg.PID = 200, 2000, qos, os.Getpid()
		r := mustRun(t, cfg)
		l := r.Backlog
		if l == nil || !l.Present || l.Received != 2000 || l.Lost != 0 || l.Again != 0 || l.Seconds <= 0 || l.Rate <= 0 || l.FillRate <= 0 {
			t.Fatalf("%+v", l)
		}
		if l.Pairs == nil || l.Pairs.Before == nil || r.Messages.Lost != 0 || b.left() != 0 {
			t.Errorf("%+v %+v, %d sessions left", l.Pairs, r.Messages, b.left())
		}
		if runtime.GOOS == "linux" && (l.RSSBefore == 0 || l.RSSPeak < l.RSSBefore) {
			t.Errorf("memory %d, at most %d", l.RSSBefore, l.RSSPeak)
		}
	}
}

func TestBacklogLoss(t *testing.T) {
	b := &fakeBroker{spill: 100}
	cfg := quick(Backlog, b.start(t))
	cfg.Rate, cfg.Backlog, cfg.Drain = 200, 2000, 300*time.Millisecond
	r := mustRun(t, cfg)
	if l := r.Backlog; l.Lost == 0 || l.Lost > 20 || len(r.Warnings) == 0 {
		t.Errorf("%d lost, want 20 or, when the client left late, fewer; %q", l.Lost, r.Warnings)
	}
}

func TestRestart(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b := &fakeBroker{}
		cfg := quick(Restart, b.start(t))
		cfg.Version, cfg.Clients, cfg.Backlog, cfg.Restart = version, 40, 101, b.restart
		r := mustRun(t, cfg)
		x := r.Restart
		if x == nil || x.Sessions != 40 || x.Present != 40 || x.Received != 101 || x.Lost != 0 || x.Again != 0 {
			t.Fatalf("v%d: %+v", version, x)
		}
		if x.AcceptSeconds <= 0 || x.ServedSeconds < x.AcceptSeconds || x.SubscribeSeconds <= 0 || x.FillSeconds <= 0 {
			t.Errorf("v%d: %+v", version, x)
		}
		// The last DISCONNECT may still be on its way.
		for deadline := time.Now().Add(10 * time.Second); b.left() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("v%d: %d sessions left", version, b.left())
			}
		}
	}
}

// A broker that comes back without its sessions has lost what waited in them.
func TestRestartLoss(t *testing.T) {
	b := &fakeBroker{amnesia: true}
	cfg := quick(Restart, b.start(t))
	cfg.Clients, cfg.Restart = 10, b.restart
	r := mustRun(t, cfg)
	if x := r.Restart; x.Present != 0 || x.Lost != 100 || len(r.Warnings) != 2 {
		t.Errorf("%+v %q", x, r.Warnings)
	}
	b = &fakeBroker{spill: 10}
	cfg = quick(Restart, b.start(t))
	cfg.Clients, cfg.Restart, cfg.Drain = 10, b.restart, 300*time.Millisecond
	if x := mustRun(t, cfg).Restart; x.Present != 10 || x.Lost == 0 || x.Lost > 10 {
		t.Errorf("%+v", x)
	}
	failed := errors.New("no such program")
	cfg.Restart = func(context.Context) (int, error) { return 0, failed }
	if _, err := Run(context.Background(), cfg); !errors.Is(err, failed) {
		t.Errorf("restart: %v", err)
	}
}

// An interrupted run cleans up, too, and one whose broker has gone says what is left.
func TestInterruptedCleansUp(t *testing.T) {
	b := &fakeBroker{}
	cfg := quick(Pairs, b.start(t))
	cfg.Persistent, cfg.Rate, cfg.Duration = true, 100, time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Progress = func(p Progress) {
		if p.Phase == "measuring" {
			cancel()
		}
	}
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := b.left(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	r := newRun(context.Background(), cfg)
	r.cfg.fill()
	r.dial = (&Dialer{Address: "127.0.0.1:1"}).Dial
	r.forget("s", 5)
	if len(r.result.Warnings) != 1 || !strings.Contains(r.result.Warnings[0], "5 sessions") {
		t.Errorf("%q", r.result.Warnings)
	}
}

// The kernel's count of what a process wrote is there, and grows by what is written.
func TestDiskUse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	before, err := processWritten(os.Getpid())
	if err != nil {
		t.Skip(err) // some containers hide it
	}
	if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if after, err := processWritten(os.Getpid()); err != nil || after < before {
		t.Errorf("%d bytes before and %d after writing: %v", before, after, err)
	}
	if _, err := diskFlushes(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("flushes of a folder that is not there")
	}
}
