package main

import (
	"fmt"
	"math"

	"github.com/sealmq/sealmq/bench"
)

// figure is one number of a result.
type figure struct {
	name string
	unit string
	of   func(*bench.Result) float64 // NaN: not there
	more bool                        // more is better
	goal float64                     // of SealMQ's ratio to Mosquitto: at most, or with more at least; 0: none

	// The others' figure is that of another workload, named here, in the same round.
	base   string
	baseOf func(*bench.Result) float64

	// What SealMQ's own figure may be at most.
	limited bool
	limit   float64
}

// from is where the figure of a broker comes from: SealMQ's from the workload, the others' from the base if there is one.
func (f *figure) from(w *workload, ours bool) (workload string, of func(*bench.Result) float64) {
	if f.base == "" || ours {
		return w.name, f.of
	}
	return f.base, f.baseOf
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

func lost() figure {
	return figure{name: "lost", unit: "messages", of: func(r *bench.Result) float64 {
		if r.Messages == nil {
			return math.NaN()
		}
		return float64(r.Messages.Lost)
	}}
}

func acknowledged(r *bench.Result) float64 {
	if r.Messages == nil {
		return math.NaN()
	}
	return r.Messages.AckedRate
}

func ackRate() figure {
	return figure{name: "messages acknowledged", unit: "/s", more: true, of: acknowledged}
}

// ackBase compares with what the other brokers do for QoS 1 when no session is kept.
func ackBase(goal float64) figure {
	return figure{
		name: "messages acknowledged, to others without persistent sessions (`pairs-q1`)", unit: "/s", more: true, goal: goal,
		of: acknowledged, base: "pairs-q1", baseOf: acknowledged,
	}
}

func ackLatency(name string, of func(*bench.Latency) float64) figure {
	return figure{name: name + " to PUBACK", unit: "ms", of: func(r *bench.Result) float64 {
		if r.AckLatency == nil {
			return math.NaN()
		}
		return of(r.AckLatency)
	}}
}

func ackP50() figure { return ackLatency("p50", func(l *bench.Latency) float64 { return l.P50 }) }
func ackP99() figure { return ackLatency("p99", func(l *bench.Latency) float64 { return l.P99 }) }

// onDisk is what durability costs.
func onDisk() []figure {
	disk := func(name, unit string, of func(*bench.Result, *bench.Disk) float64) figure {
		return figure{name: name, unit: unit, of: func(r *bench.Result) float64 {
			if r.Broker == nil || r.Broker.Disk == nil || r.Messages == nil {
				return math.NaN()
			}
			return of(r, r.Broker.Disk)
		}}
	}
	return []figure{
		cpu(0),
		disk("written to disk a message", "bytes", func(_ *bench.Result, d *bench.Disk) float64 { return d.PerMessage }),
		disk("flushes of the disk", "/s", func(r *bench.Result, d *bench.Disk) float64 { return float64(d.Flushes) / r.Seconds }),
	}
}

func collected() figure {
	return figure{name: "received when they come back", unit: "/s", more: true, of: func(r *bench.Result) float64 {
		if r.Collected == nil {
			return math.NaN()
		}
		return r.Collected.Rate
	}}
}

const mib = 1 << 20

func backlogFigures() []figure {
	of := func(name, unit string, more bool, f func(*bench.BacklogResult) float64) figure {
		return figure{name: name, unit: unit, more: more, of: func(r *bench.Result) float64 {
			if r.Backlog == nil {
				return math.NaN()
			}
			return f(r.Backlog)
		}}
	}
	// Nothing that did not come whole has a time.
	whole := func(f func(*bench.BacklogResult) float64) func(*bench.BacklogResult) float64 {
		return func(b *bench.BacklogResult) float64 {
			if b.Seconds == 0 {
				return math.NaN()
			}
			return f(b)
		}
	}
	pairs := func(f func(*bench.Disturbed) *bench.Latency) func(*bench.BacklogResult) float64 {
		return func(b *bench.BacklogResult) float64 {
			if b.Pairs == nil || f(b.Pairs) == nil {
				return math.NaN()
			}
			return f(b.Pairs).P99
		}
	}
	return []figure{
		of("time until it has them", "s", false, whole(func(b *bench.BacklogResult) float64 { return b.Seconds })),
		of("received", "/s", true, whole(func(b *bench.BacklogResult) float64 { return b.Rate })),
		of("p99 latency of the pairs before", "ms", false, pairs(func(d *bench.Disturbed) *bench.Latency { return d.Before })),
		of("and meanwhile", "ms", false, pairs(func(d *bench.Disturbed) *bench.Latency { return d.During })),
		of("memory before", "MiB", false, func(b *bench.BacklogResult) float64 { return float64(b.RSSBefore) / mib }),
		of("and at most", "MiB", false, func(b *bench.BacklogResult) float64 { return float64(b.RSSPeak) / mib }),
		of("lost", "messages", false, func(b *bench.BacklogResult) float64 { return float64(b.Lost) }).atMost(0),
	}
}

func restartFigures() []figure {
	of := func(name, unit string, f func(*bench.RestartResult) float64) figure {
		return figure{name: name, unit: unit, of: func(r *bench.Result) float64 {
			if r.Restart == nil || r.Restart.ServedSeconds == 0 {
				return math.NaN()
			}
			return f(r.Restart)
		}}
	}
	return []figure{
		of("time until a client is let in", "s", func(t *bench.RestartResult) float64 { return t.AcceptSeconds }).atMost(5),
		of("time until the last session is served", "s", func(t *bench.RestartResult) float64 {
			if t.Present < int64(t.Sessions) || t.Lost > 0 {
				return math.NaN()
			}
			return t.ServedSeconds
		}),
		of("sessions gone", "sessions", func(t *bench.RestartResult) float64 { return float64(int64(t.Sessions) - t.Present) }).atMost(0),
		of("lost", "messages", func(t *bench.RestartResult) float64 { return float64(t.Lost) }).atMost(0),
		of("memory when it lets the first client in", "MiB", func(t *bench.RestartResult) float64 { return float64(t.RSSAccept) / mib }),
		of("and at most", "MiB", func(t *bench.RestartResult) float64 { return float64(t.RSSPeak) / mib }),
	}
}

// atMost is the figure with a bound for SealMQ.
func (f figure) atMost(limit float64) figure {
	f.limited, f.limit = true, limit
	return f
}

// thousands writes a count for people.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
