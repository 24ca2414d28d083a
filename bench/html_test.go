package bench

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a result with everything in it.
func sample() *Result {
	h := &Histogram{}
	for i := range 2000 {
		h.Record(int64(i) * 1000)
	}
	l := newLatency(snapshot(h), "due", true)
	r := &Result{
		Started: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 2, Target: "localhost:8883",
		TLS:      &TLSInfo{Version: "TLS 1.3", Suite: "TLS_AES_128_GCM_SHA256", Group: "X25519"},
		Messages: &Messages{Sent: 2000, Expected: 2000, Received: 1998, Doubled: 1, SentRate: 1000, ReceivedRate: 999, Deliveries: 1998},
		Latency:  l, SentLate: l,
		Connections: &Connections{Opened: 10, Rate: 5, Seconds: 2, Latency: l},
		Broker:      &Usage{CPUSeconds: 0.1, Cores: 0.05, RSS: 50 << 20},
		Generator:   &Usage{CPUSeconds: 0.2, Cores: 0.1},
		Series:      []Sample{{At: 1, Sent: 1000, Received: 1000, P50: 0.2, P99: 1}, {At: 2, Sent: 1000, Received: 998, P50: 0.2, P99: 1}},
	}
	cfg := quick(Pairs, &Dialer{})
	cfg.Rate = 1000
	cfg.fill()
	r.finish(&cfg)
	return r
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `pairs: 4 publishers, 4 subscribers, QoS 0, 64 bytes, 1,000 msg/s, MQTT 5, TLS 1.3 TLS_AES_128_GCM_SHA256 X25519
  sent          1,000/s, 2,000 messages in 2 s
  received      999/s, 1,998 of 2,000
  lost          3
  again         1 messages came more than once or out of order
  latency       p50 1.00  p90 1.79  p99 1.97  p99.9 1.99  max 2.00 ms   from when a message was due
  sent late     p50 1.00  p90 1.79  p99 1.97  p99.9 1.99  max 2.00 ms   this generator's share of it
  broker        50.1 µs of CPU for each message received, 0.05 of N cores, 50 MiB resident
  generator     100 µs of CPU for each message received, 0.10 of N cores
  note          messages left up to 2.0 ms late (99 %): much of the latency is this generator's, or back-pressure from the broker
`
	got := regexp.MustCompile(`of \d+ cores`).ReplaceAllString(b.String(), "of N cores")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The JSON form reads back to the same.
func TestJSON(t *testing.T) {
	r := sample()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, &back); d != "" {
		t.Error(d)
	}
}

// The page needs no other file, and nothing in the data can break out of it.
func TestHTML(t *testing.T) {
	r := sample()
	r.Target = `</script><script>alert(1)</script>`
	r.Warnings = []string{"<b>"}
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{`src="`, `href="`, "@import", "<script>alert", "<b></p>", "<no value>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %s", bad)
		}
	}
	if strings.Count(page, "<script>") != 2 || strings.Count(page, "</script>") != 2 || !strings.Contains(page, "uPlot (v1.6.32)") {
		t.Error("the page is not whole")
	}
}

func TestProgressLine(t *testing.T) {
	for want, p := range map[string]Progress{
		"  1.5s  connecting  30/200 connections 20/s": {
			Phase: "connecting", Elapsed: 1500 * time.Millisecond, Open: 30, Asked: 200, Last: Sample{Connects: 20}},
		"  3.0s of 12s  measuring  sent 10,000/s  received 9,990/s  p50 0.20 p99 1.50 ms  broker 0.30 cores 61 MiB": {
			Phase: "measuring", Elapsed: 3 * time.Second, Total: 12 * time.Second, Open: 200, Asked: 200,
			Last: Sample{Sent: 10_000, Received: 9990, P50: 0.2, P99: 1.5, Max: 2, Broker: 0.3, RSS: 61 << 20}},
	} {
		if got := p.Line(); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}
