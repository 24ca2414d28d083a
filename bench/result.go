package bench

import (
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// Result is what a run found; its JSON form is an interface for scripts. Times ending in MS are milliseconds.
type Result struct {
	Scenario             Scenario  `json:"scenario"`
	Target               string    `json:"target,omitempty"`
	Started              time.Time `json:"started"`
	Seconds              float64   `json:"seconds"` // measured
	MQTT                 string    `json:"mqtt"`
	TLS                  *TLSInfo  `json:"tls,omitempty"`
	Publishers           int       `json:"publishers,omitempty"`
	Subscribers          int       `json:"subscribers,omitempty"`
	Topics               int       `json:"topics,omitempty"` // in all
	QoS                  uint8     `json:"qos"`
	Persistent           bool      `json:"persistent,omitempty"` // sessions of subscribers, or of clients where there is but one kind
	PersistentPublishers bool      `json:"persistent_publishers,omitempty"`
	Payload              int       `json:"payload_bytes,omitempty"`
	Rate                 float64   `json:"rate_asked,omitempty"` // a second; absent: closed loop
	Window               int       `json:"window,omitempty"`
	Burst                int       `json:"burst,omitempty"`

	Messages    *Messages      `json:"messages,omitempty"`
	Latency     *Latency       `json:"latency,omitempty"`
	AckLatency  *Latency       `json:"acknowledgement,omitempty"` // QoS 1 and 2: to PUBACK or PUBCOMP
	SentLate    *Latency       `json:"sent_late,omitempty"`       // how long after it was due a message left the generator; part of Latency
	Connections *Connections   `json:"connections,omitempty"`
	First       *Connections   `json:"first_connections,omitempty"` // Resume: those without a ticket or session
	Storm       *Disturbed     `json:"storm,omitempty"`
	Collected   *Collected     `json:"collected,omitempty"` // Offline
	Backlog     *BacklogResult `json:"backlog,omitempty"`
	Restart     *RestartResult `json:"restart,omitempty"`
	Broker      *Usage         `json:"broker,omitempty"`
	Generator   *Usage         `json:"generator,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"`
	Series      []Sample       `json:"series,omitempty"`
}

// TLSInfo is what the handshake settled on.
type TLSInfo struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group"`
}

// Messages counts PUBLISH packets. Sent, Expected, Received, Lost and Doubled speak of the messages that were due (in a
// closed loop: sent) in the measured time; the rates and Deliveries of what passed during it.
type Messages struct {
	Sent         uint64  `json:"sent"`
	Expected     uint64  `json:"expected"` // deliveries
	Received     uint64  `json:"received"`
	Lost         uint64  `json:"lost"`
	Doubled      uint64  `json:"doubled"` // delivered again or overtaken by a later one
	Unsent       uint64  `json:"unsent"`  // due, but the broker left no room for them
	Refused      uint64  `json:"refused"` // by a reason code
	SentRate     float64 `json:"sent_per_s"`
	ReceivedRate float64 `json:"received_per_s"`
	AckedRate    float64 `json:"acked_per_s,omitempty"`
	Deliveries   uint64  `json:"deliveries"`             // during the measured time
	Acknowledged uint64  `json:"acknowledged,omitempty"` // likewise
}

// Connections counts connections and how long each took from its first packet to CONNACK.
type Connections struct {
	Opened  int64    `json:"opened"`
	Failed  int64    `json:"failed"`
	Rate    float64  `json:"per_s"`
	Seconds float64  `json:"seconds"`
	CPU     float64  `json:"broker_cpu_ms_each,omitempty"` // milliseconds
	Latency *Latency `json:"latency,omitempty"`
	Resumed int64    `json:"tls_resumed"`     // with a TLS session ticket
	Present int64    `json:"session_present"` // the broker kept the session
	First   string   `json:"first_failure,omitempty"`
}

// Disturbed compares message latency before and during what befalls the pairs.
type Disturbed struct {
	Before *Latency `json:"before"`
	During *Latency `json:"during"`
	Ratio  float64  `json:"p99_ratio"`
}

// Collected is what subscribers that had been away received, of all messages, the measured ones and those before.
type Collected struct {
	Messages uint64  `json:"messages"` // that waited
	Received uint64  `json:"received"`
	Seconds  float64 `json:"seconds"` // from the first connection to the last message
	Rate     float64 `json:"received_per_s"`
	Present  int64   `json:"session_present"` // the broker kept the session
}

// BacklogResult is a client that came back for a long queue.
type BacklogResult struct {
	Messages  int     `json:"messages"` // that waited
	FillRate  float64 `json:"filled_per_s"`
	Present   bool    `json:"session_present"`
	Received  int     `json:"received"`
	Again     int     `json:"again"` // received before, or overtaken
	Lost      int     `json:"lost"`
	First     float64 `json:"first_ms"` // from the first packet to the first message
	Seconds   float64 `json:"seconds"`  // to the last; 0: it never came
	Rate      float64 `json:"received_per_s"`
	RSSBefore int64   `json:"rss_before_bytes,omitempty"`
	RSSPeak   int64   `json:"rss_peak_bytes,omitempty"` // looked at every 20 ms
	// Pairs are the other clients.
	Pairs *Disturbed `json:"pairs,omitempty"`
}

// RestartResult is a broker that was killed and started again. Times count from the start of the new process.
type RestartResult struct {
	Sessions         int     `json:"sessions"`
	Messages         int     `json:"messages"` // that waited, acknowledged
	SubscribeSeconds float64 `json:"subscribe_s"`
	FillSeconds      float64 `json:"fill_s"`
	AcceptSeconds    float64 `json:"accept_s"` // to the first CONNACK
	ServedSeconds    float64 `json:"served_s"` // to the last message of the last session
	Present          int64   `json:"session_present"`
	Received         int64   `json:"received"`
	Again            int64   `json:"again"`
	Lost             int64   `json:"lost"`
	RSSAccept        int64   `json:"rss_accept_bytes,omitempty"` // after the first CONNACK
	RSSPeak          int64   `json:"rss_peak_bytes,omitempty"`   // until all were served
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Basis string       `json:"basis,omitempty"` // what times count from: due, sent or begun
	Count uint64       `json:"count"`
	Mean  float64      `json:"mean_ms"`
	P50   float64      `json:"p50_ms"`
	P90   float64      `json:"p90_ms"`
	P99   float64      `json:"p99_ms"`
	P999  float64      `json:"p999_ms"`
	Max   float64      `json:"max_ms"`
	Curve [][2]float64 `json:"curve,omitempty"` // share and milliseconds, for a plot
}

// Usage is what a process used in the measured time.
type Usage struct {
	CPUSeconds      float64 `json:"cpu_s"`
	Cores           float64 `json:"cores"`
	PerMessage      float64 `json:"cpu_us_per_message,omitempty"` // microseconds for each delivery; Offline: each acknowledgement
	RSS             int64   `json:"rss_bytes,omitempty"`          // at the end
	RSSBefore       int64   `json:"rss_before_bytes,omitempty"`
	BytesConnection float64 `json:"rss_bytes_per_connection,omitempty"`
	Disk            *Disk   `json:"disk,omitempty"`
}

// Disk is what went to the disk in the measured time.
type Disk struct {
	Written    int64   `json:"written_bytes"`                       // whole pages, by the kernel's count for the process
	PerMessage float64 `json:"written_bytes_per_message,omitempty"` // as CPU
	Flushes    int64   `json:"flushes,omitempty"`                   // of the disk, by whomever; Config.Disk
}

// Sample is one interval of the run.
type Sample struct {
	At       float64 `json:"t"` // seconds since the start, end of the interval
	Sent     float64 `json:"sent_per_s"`
	Received float64 `json:"received_per_s"`
	Connects float64 `json:"connects_per_s"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	Broker   float64 `json:"broker_cores"`
	RSS      int64   `json:"rss_bytes"`
	Own      float64 `json:"generator_cores"`
}

func ms(ns int64) float64 { return float64(ns) / 1e6 }

// newLatency is nil when nothing was counted.
func newLatency(s *Snapshot, basis string, curve bool) *Latency {
	if s.Count() == 0 {
		return nil
	}
	l := &Latency{
		Basis: basis, Count: s.Count(), Mean: s.Mean() / 1e6,
		P50: ms(s.Quantile(0.5)), P90: ms(s.Quantile(0.9)), P99: ms(s.Quantile(0.99)), P999: ms(s.Quantile(0.999)), Max: ms(s.Max()),
	}
	if curve {
		// Ever finer towards 1, as long as there are values to tell apart: 10^-x remain above.
		for x := 0.0; x <= math.Log10(float64(s.Count())) && x <= 6; x += 0.05 {
			q := 1 - math.Pow(10, -x)
			l.Curve = append(l.Curve, [2]float64{q, ms(s.Quantile(q))})
		}
	}
	return l
}

// describe fills in what was asked for.
func (r *Result) describe(c *Config) {
	r.Scenario, r.QoS = c.Scenario, c.QoS
	switch c.Version {
	case mqtt.V31:
		r.MQTT = "3.1"
	case mqtt.V311:
		r.MQTT = "3.1.1"
	default:
		r.MQTT = "5"
	}
	r.Rate = c.Rate
	r.Persistent, r.PersistentPublishers = c.Persistent, c.PersistentPublishers
	if c.Scenario == Restart {
		r.Payload = c.Payload
	}
	if c.Messages() {
		r.Publishers, r.Subscribers, r.Topics = c.Publishers, c.Subscribers, c.Publishers*c.Topics
		r.Payload, r.Window = c.Payload, c.Window
		if c.Burst > 1 {
			r.Burst = c.Burst
		}
	}
}

// finish derives what follows from the counts.
func (r *Result) finish(c *Config) {
	r.describe(c)
	if m := r.Messages; m != nil {
		if got := m.Received - min(m.Received, m.Doubled); m.Expected > got {
			m.Lost = m.Expected - got
		}
		handled := m.Deliveries
		if r.Scenario == Offline {
			handled = m.Acknowledged
		}
		for _, u := range []*Usage{r.Broker, r.Generator} {
			if u != nil && handled > 0 {
				u.PerMessage = u.CPUSeconds * 1e6 / float64(handled)
				if u.Disk != nil {
					u.Disk.PerMessage = float64(u.Disk.Written) / float64(handled)
				}
			}
		}
		if r.Rate > 0 && m.SentRate < 0.95*r.Rate && r.Seconds > 0 && m.Unsent == 0 {
			r.warn("only %.0f of %.0f messages a second could be sent", m.SentRate, r.Rate)
		}
		if m.Unsent > 0 {
			r.warn("%d messages were due but never sent: the broker did not acknowledge earlier ones in time", m.Unsent)
		}
	}
	if l := r.SentLate; l != nil && l.P99 > 1 && r.Latency != nil && l.P99 > r.Latency.P99/2 {
		r.warn("messages left up to %.1f ms late (99 %%): much of the latency is this generator's, or back-pressure from the broker", l.P99)
	}
	cores := 0.0
	for _, u := range []*Usage{r.Broker, r.Generator} {
		if u != nil {
			cores += u.Cores
		}
	}
	if all := float64(runtime.NumCPU()); r.Rate == 0 && c.Messages() && r.Generator != nil && cores > 0.9*all {
		r.warn("all %d processors were busy, the generator with %.2f of them: compare CPU per message rather than rates", runtime.NumCPU(), r.Generator.Cores)
	}
}

func (r *Result) warn(format string, a ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, a...))
}

// used is the difference of two moments; nil for the broker when it is not known.
func (r *run) used(from, to usage) (broker, own *Usage) {
	sec := (to.at - from.at).Seconds()
	if sec <= 0 {
		return nil, nil
	}
	if r.pid.Load() != 0 {
		cpu := (to.broker - from.broker).Seconds()
		broker = &Usage{CPUSeconds: cpu, Cores: cpu / sec, RSS: to.rss, RSSBefore: from.rss}
		if from.written >= 0 && to.written >= 0 {
			broker.Disk = &Disk{Written: to.written - from.written}
			if from.flushes >= 0 && to.flushes >= 0 {
				broker.Disk.Flushes = to.flushes - from.flushes
			}
		}
	}
	if cpu := (to.own - from.own).Seconds(); to.own > 0 {
		own = &Usage{CPUSeconds: cpu, Cores: cpu / sec}
	}
	return broker, own
}
