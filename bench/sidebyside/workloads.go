package main

import (
	"crypto/tls"
	"fmt"
	"math"
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
	version uint16      // of TLS; 0: 1.3
	group   tls.CurveID // 0: as negotiated
	figures []figure
}

// figure is one number of a result.
type figure struct {
	name string
	unit string
	of   func(*bench.Result) float64 // NaN: not there
	more bool                        // more is better
	goal float64                     // of SealMQ's ratio to Mosquitto: at most, or with more at least; 0: none
}

func (w *workload) goals() bool {
	for _, f := range w.figures {
		if f.goal != 0 {
			return true
		}
	}
	return false
}

func cpu(goal float64) figure {
	return figure{name: "broker CPU a message", unit: "µs", goal: goal, of: func(r *bench.Result) float64 {
		if r.Broker == nil || r.Broker.PerMessage == 0 {
			return math.NaN()
		}
		return r.Broker.PerMessage
	}}
}

func rate(goal float64) figure {
	return figure{name: "messages received", unit: "/s", goal: goal, more: true, of: func(r *bench.Result) float64 {
		if r.Messages == nil {
			return math.NaN()
		}
		return r.Messages.ReceivedRate
	}}
}

func latency(name string, goal float64, of func(*bench.Latency) float64) figure {
	return figure{name: name + " latency", unit: "ms", goal: goal, of: func(r *bench.Result) float64 {
		if r.Latency == nil {
			return math.NaN()
		}
		return of(r.Latency)
	}}
}

func p50(goal float64) figure {
	return latency("p50", goal, func(l *bench.Latency) float64 { return l.P50 })
}

func p99(goal float64) figure {
	return latency("p99", goal, func(l *bench.Latency) float64 { return l.P99 })
}

func memory(goal float64) figure {
	return figure{name: "memory of a connection", unit: "bytes", goal: goal, of: func(r *bench.Result) float64 {
		if r.Broker == nil || r.Broker.BytesConnection == 0 {
			return math.NaN()
		}
		return r.Broker.BytesConnection
	}}
}

func connection(name, unit string, goal float64, more bool, of func(*bench.Connections) float64) figure {
	return figure{name: name, unit: unit, goal: goal, more: more, of: func(r *bench.Result) float64 {
		if r.Connections == nil || r.Connections.Opened == 0 {
			return math.NaN()
		}
		return of(r.Connections)
	}}
}

func connectCPU(goal float64) figure {
	return connection("broker CPU a connection", "ms", goal, false, func(c *bench.Connections) float64 { return c.CPU })
}

func connectRate(goal float64) figure {
	return connection("connections", "/s", goal, true, func(c *bench.Connections) float64 { return c.Rate })
}

// workloads are all of them; scale shrinks the numbers of clients.
func workloads(scale float64) []workload {
	n := func(clients int) int { return max(2, int(math.Round(float64(clients)*scale))) }
	paced := func(qos uint8) bench.Config {
		return bench.Config{Scenario: bench.Pairs, Clients: n(500), Rate: max(100, 10_000*min(scale, 1)), QoS: qos}
	}
	lost := figure{name: "lost", unit: "messages", of: func(r *bench.Result) float64 {
		if r.Messages == nil {
			return math.NaN()
		}
		return float64(r.Messages.Lost)
	}}
	all := []workload{
		{name: "paced", title: "500 pairs, 10,000 messages a second, QoS 0: every message comes alone",
			config: paced(0), figures: []figure{cpu(0.85), p50(1), p99(0)}},
		{name: "paced-q1", title: "the same with QoS 1",
			config: paced(1), figures: []figure{cpu(0.8), p50(1), p99(0)}},
		{name: "pairs", title: "100 pairs, as fast as it goes, QoS 0",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100)}, figures: []figure{cpu(1.0 / 25), rate(15)}},
		{name: "pairs-q1", title: "the same with QoS 1",
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

		{name: "v5", title: "100 pairs, as fast as it goes, MQTT 5 with two user properties",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Version: mqtt.V5, UserProperties: []string{"unit", "kelvin", "site", "north"}}, figures: []figure{cpu(0), rate(0)}},
		{name: "tls12", title: "100 pairs, as fast as it goes, TLS 1.2",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100)}, version: tls.VersionTLS12, figures: []figure{cpu(0), rate(0)}},
		{name: "shared", title: "100 publishers to 4 members of a shared subscription, MQTT 5",
			config: bench.Config{Scenario: bench.Shared, Clients: n(100), Version: mqtt.V5}, figures: []figure{cpu(0), rate(0)}},
		{name: "topics", title: "100 pairs with 100 topics each, wildcard subscriptions",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Topics: 100}, figures: []figure{cpu(0), rate(0)}},
		{name: "bursts", title: "100 pairs, 50,000 messages a second in bursts of 50",
			config: bench.Config{Scenario: bench.Pairs, Clients: n(100), Rate: max(500, 50_000*min(scale, 1)), Burst: 50}, figures: []figure{cpu(0), p50(0), p99(0), lost}},
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
	add(c.Parallel > 0, "--parallel %d", c.Parallel)
	for i := 0; i+1 < len(c.UserProperties); i += 2 {
		add(true, "--user-property %s=%s", c.UserProperties[i], c.UserProperties[i+1])
	}
	add(c.Version == mqtt.V311, "-V mqttv311")
	add(w.version == tls.VersionTLS12, "--tls-version tlsv1.2")
	add(w.group == tls.X25519, "--tls-group x25519")
	add(w.mtls, "--cert client.pem --key client.key")
	add(c.Messages() || c.Scenario == bench.Idle, "-d %v", o.duration)
	return s + " --pid PID --cafile ca.pem"
}

// brief is a run in a line.
func (w *workload) brief(r *round) string {
	var s []string
	if r.Result != nil {
		for _, f := range w.figures {
			if v := f.of(r.Result); !math.IsNaN(v) {
				s = append(s, fmt.Sprintf("%s %s", f.name, f.write(v)))
			}
		}
	}
	if r.Error != "" {
		s = append(s, "FAILED: "+r.Error)
	}
	return strings.Join(s, "  ")
}
