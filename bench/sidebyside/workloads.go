package main

import (
	"crypto/tls"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/bench"
	"github.com/sealmq/sealmq/mqtt"
)

// workload is something to run against every broker.
type workload struct {
	name    string
	title   string
	config  bench.Config
	mtls    bool
	plain   bool        // no TLS; only for brokers that listen without
	rounds  int         // at most; 0: all
	always  bool        // also when nothing but those with a goal run
	version uint16      // of TLS; 0: 1.3
	group   tls.CurveID // 0: as negotiated
	figures []figure
}

// durable tells whether the broker has to keep sessions.
func (w *workload) durable() bool {
	c := &w.config
	switch c.Scenario {
	case bench.Offline, bench.Backlog, bench.Restart:
		return true
	}
	return c.Persistent || c.PersistentPublishers
}

func (w *workload) goals() bool {
	for _, f := range w.figures {
		if f.goal != 0 {
			return true
		}
	}
	return w.always
}

// workloads are all of them; scale shrinks the numbers of clients, messages waiting and sessions.
func workloads(scale float64, backlog, sessions int) []workload {
	n := func(clients int) int { return max(2, int(math.Round(float64(clients)*scale))) }
	paced := func(qos uint8) bench.Config {
		return bench.Config{Scenario: bench.Pairs, Clients: n(500), Rate: max(100, 10_000*min(scale, 1)), QoS: qos}
	}
	all := []workload{
		{name: "paced", title: "500 pairs, 10,000 messages a second, QoS 0: every message comes alone",
			config: paced(0), figures: []figure{cpu(0.85), p50(1), p99(0)}},
		{name: "paced-q1", title: "the same with QoS 1",
			config: paced(1), figures: []figure{cpu(0.8), p50(1), p99(0)}},
		{name: "pairs", title: "100 pairs, as fast as it goes, QoS 0",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100)}, figures: []figure{cpu(1.0 / 25), rate(15)}},
		{name: "pairs-q1", title: "100 pairs, as fast as it goes, QoS 1",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), QoS: 1, Window: 100}, figures: []figure{cpu(1.0 / 35), rate(25)}},
		{name: "fanout", title: "1 publisher to 200 subscribers, as fast as it goes",
			config: bench.Config{Scenario: bench.Fanout, Clients: n(200), Window: 400}, figures: []figure{cpu(1.0 / 40), rate(30)}},
		{name: "fanin", title: "200 publishers to 1 subscriber, as fast as it goes",
			config: bench.Config{Scenario: bench.Fanin, Clients: n(200), Window: 100}, figures: []figure{cpu(1.0 / 15), rate(12)}},
		{name: "pairs-1k", title: "50 pairs, 1 KiB, as fast as it goes",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(50), Payload: 1024}, figures: []figure{cpu(1 / 4.5), rate(4.5)}},
		{name: "idle", title: "9,000 idle connections with a QoS 1 subscription each, fresh process",
			config: bench.Config{Scenario: bench.Idle, Clients: n(9000), QoS: 1}, figures: []figure{memory(0.65)}},
		{name: "idle-mtls", title: "the same with client certificates",
			config: bench.Config{Scenario: bench.Idle, Clients: n(9000), QoS: 1}, mtls: true, figures: []figure{memory(0.75)}},
		{name: "connect", title: "3,000 connections opened and closed, key exchange X25519",
			config: bench.Config{Scenario: bench.Connect, Clients: n(3000), Parallel: 16}, group: tls.X25519, figures: []figure{connectCPU(1), connectRate(0)}},

		{name: "durable-offline", title: "100 publishers, QoS 1, each to the persistent session of a client that is away",
			config:  bench.Config{Scenario: bench.Offline, Clients: n(100), QoS: 1, Window: 100},
			figures: slices.Concat([]figure{ackRate(), ackBase(2.5), ackP50(), ackP99()}, onDisk(), []figure{collected(), lost()})},
		{name: "durable-online", title: "100 pairs, QoS 1, as fast as it goes, the receivers' sessions persistent",
			config:  bench.Config{Scenario: bench.Pairs, Clients: n(100), QoS: 1, Window: 100, Persistent: true},
			figures: slices.Concat([]figure{ackRate(), ackBase(5), ackP50(), ackP99(), p99(0)}, onDisk(), []figure{lost()})},
		{name: "durable-paced", title: "100 pairs, QoS 1, 1,000 messages a second, the receivers' sessions persistent", always: true,
			config:  bench.Config{Scenario: bench.Pairs, Clients: n(100), QoS: 1, Rate: 1000, Persistent: true},
			figures: slices.Concat([]figure{ackP50(), ackP99(), p50(0), p99(0)}, onDisk())},
		{name: "durable-paced-offline", title: "100 publishers, QoS 1, 1,000 messages a second to the persistent sessions of clients that are away", always: true,
			config:  bench.Config{Scenario: bench.Offline, Clients: n(100), QoS: 1, Rate: 1000},
			figures: slices.Concat([]figure{ackP50(), ackP99()}, onDisk(), []figure{lost()})},
		{name: "reconnect-backlog", title: fmt.Sprintf("a client comes back for %s messages, beside 100 pairs with 1,000 messages a second", thousands(n(backlog))), always: true, rounds: 3,
			config:  bench.Config{Scenario: bench.Backlog, Clients: n(100), QoS: 1, Rate: 1000, Backlog: n(backlog)},
			figures: backlogFigures()},
		{name: "restart", title: fmt.Sprintf("%s persistent sessions with %s messages waiting, kill -9 and start, no TLS, MQTT 5", thousands(n(sessions)), thousands(10*n(sessions))), always: true, rounds: 3, plain: true,
			config:  bench.Config{Scenario: bench.Restart, Clients: n(sessions), QoS: 1, Backlog: 10 * n(sessions), Parallel: 256, Version: mqtt.V5},
			figures: restartFigures()},

		{name: "v5", title: "100 pairs, as fast as it goes, MQTT 5 with two user properties",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Version: mqtt.V5, UserProperties: []string{"unit", "kelvin", "site", "north"}}, figures: []figure{cpu(0), rate(0)}},
		{name: "tls12", title: "100 pairs, as fast as it goes, TLS 1.2",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100)}, version: tls.VersionTLS12, figures: []figure{cpu(0), rate(0)}},
		{name: "shared", title: "100 publishers to 4 members of a shared subscription, MQTT 5",
			config: bench.Config{Scenario: bench.Shared, Clients: n(100), Version: mqtt.V5}, figures: []figure{cpu(0), rate(0)}},
		{name: "topics", title: "100 pairs with 100 topics each, wildcard subscriptions",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Topics: 100}, figures: []figure{cpu(0), rate(0)}},
		{name: "bursts", title: "100 pairs, 50,000 messages a second in bursts of 50",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Rate: max(500, 50_000*min(scale, 1)), Burst: 50}, figures: []figure{cpu(0), p50(0), p99(0), lost()}},
		{name: "fanout-paced", title: "1 publisher to 500 subscribers, 100 messages a second",
			config: bench.Config{Scenario: bench.Fanout, Clients: n(500), Rate: 100}, figures: []figure{cpu(0), p50(0), p99(0)}},
		{name: "storm", title: "50 pairs with 1,000 messages a second while 3,000 clients connect at once",
			config: bench.Config{Scenario: bench.Storm, Clients: n(50), Rate: 1000, Storm: n(3000)}, figures: []figure{
				{name: "p99 latency, times that before", unit: "", of: func(r *bench.Result) float64 {
					if r.Storm == nil || r.Storm.Ratio == 0 {
						return math.NaN()
					}
					return r.Storm.Ratio
				}}, connectRate(0)}},
		{name: "resume", title: "2,000 clients come back with a TLS ticket, key exchange X25519",
			config: bench.Config{Scenario: bench.Resume, Clients: n(2000), Parallel: 16}, group: tls.X25519, figures: []figure{connectCPU(0), connectRate(0)}},
	}
	for i := range all {
		if all[i].config.Version == 0 {
			all[i].config.Version = mqtt.V311
		}
	}
	return all
}

// command is how the workload is run by hand.
func (w *workload) command(o *options) string {
	c := &w.config
	s := fmt.Sprintf("sealmq bench %s -n %d", c.Scenario, c.Clients)
	add := func(given bool, format string, a ...any) {
		if given {
			s += " " + fmt.Sprintf(format, a...)
		}
	}
	add(c.Rate > 0, "--rate %g", c.Rate)
	add(c.Burst > 1, "--burst %d", c.Burst)
	add(c.Window > 0, "--window %d", c.Window)
	add(c.Payload > 0, "--size %d", c.Payload)
	add(c.QoS > 0, "-q %d", c.QoS)
	add(c.Topics > 1, "--topics %d", c.Topics)
	add(c.Storm > 0, "--storm %d", c.Storm)
	add(c.Backlog > 0, "--backlog %d", c.Backlog)
	add(c.Persistent, "--persistent")
	add(c.PersistentPublishers, "--persistent-publishers")
	add(c.Parallel > 0, "--parallel %d", c.Parallel)
	for i := 0; i+1 < len(c.UserProperties); i += 2 {
		add(true, "--user-property %s=%s", c.UserProperties[i], c.UserProperties[i+1])
	}
	add(c.Version == mqtt.V311, "-V mqttv311")
	add(w.version == tls.VersionTLS12, "--tls-version tlsv1.2")
	add(w.group == tls.X25519, "--tls-group x25519")
	add(w.mtls, "--cert client.pem --key client.key")
	add(c.Messages() || c.Scenario == bench.Idle, "-d %v", o.duration)
	if c.Scenario == bench.Restart {
		s += " --broker COMMAND"
	} else {
		s += " --pid PID"
	}
	add(w.durable() && c.Scenario != bench.Restart, "--disk DATA")
	if w.plain {
		return s + " mqtt://localhost"
	}
	return s + " --cafile ca.pem"
}

// brief is a run in a line.
func (w *workload) brief(r *round) string {
	var s []string
	if r.Result != nil {
		for _, f := range w.figures {
			if v := f.of(r.Result); f.base == "" && !math.IsNaN(v) {
				s = append(s, fmt.Sprintf("%s %s", f.name, f.write(v)))
			}
		}
	}
	if r.Error != "" {
		s = append(s, "FAILED: "+r.Error)
	}
	return strings.Join(s, "  ")
}
