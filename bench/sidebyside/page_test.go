package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/bench"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestSpread(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		in   []float64
		want spread
		ok   bool
	}{
		{nil, spread{}, false},
		{[]float64{nan, math.Inf(1)}, spread{}, false},
		{[]float64{7}, spread{7, 7, 7}, true},
		{[]float64{3, nan, 1, 2}, spread{2, 1, 3}, true},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}, true},
	} {
		if got, ok := newSpread(c.in); got != c.want || ok != c.ok {
			t.Errorf("%v: %v %v, want %v %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

// Ratios are taken within a round: a round in which the machine was slow for both says the same as the others.
func TestRatios(t *testing.T) {
	s, _ := newSpread(ratios([]float64{1, 10, 2}, []float64{2, 20, 4}))
	if s != (spread{0.5, 0.5, 0.5}) {
		t.Errorf("%v", s)
	}
}

func TestFigureWrite(t *testing.T) {
	for _, c := range []struct {
		unit string
		v    float64
		want string
	}{
		{"µs", 0.2264, "0.226 µs"}, {"/s", 3_214_000, "3.21 M/s"}, {"/s", 98_700, "98.7 k/s"}, {"/s", 1743.4, "1743 /s"},
		{"bytes", 20_234, "20,234 bytes"}, {"bytes", 82, "82 bytes"}, {"", 1.5, "1.5"}, {"ms", 0, "0 ms"},
	} {
		f := figure{unit: c.unit}
		if got := f.write(c.v); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func result(cpu, rate float64) *bench.Result {
	return &bench.Result{Messages: &bench.Messages{ReceivedRate: rate}, Broker: &bench.Usage{PerMessage: cpu}}
}

// The page as a whole: medians, ratios, goals met and missed, a broker that fails.
func TestPage(t *testing.T) {
	all := workloads(1)
	w := all[2]
	if w.name != "pairs" {
		t.Fatal(w.name)
	}
	p := &page{
		machine: machine{"A processor", 2, "24 GiB", "Debian", "6.1", "go1.26", "0.10"},
		peers: []peer{
			{name: "sealmq", command: "/tmp/x/sealmq serve --config $CONFIG", config: "data = \"$DIR\"\n", version: "sealmq 1"},
			{name: "mosquitto", command: "/usr/sbin/mosquitto -c $CONFIG", config: "persistence false\n", version: "mosquitto 2"},
			{name: "other", command: "other --port $TLS_PORT"},
		},
		workloads: []workload{w},
		options:   &options{rounds: 3, duration: 6 * time.Second, warmup: 2 * time.Second, scale: 1},
		began:     time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	for i, cpu := range []float64{0.2, 0.25, 0.3} {
		p.rounds = append(p.rounds,
			round{"pairs", "sealmq", i + 1, result(cpu, 1_000_000), ""},
			round{"pairs", "mosquitto", i + 1, result(cpu*40, 100_000), ""},
			round{"pairs", "other", i + 1, nil, "start other: it has ended"})
	}
	got := p.markdown()
	file := filepath.Join("testdata", "page.md")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
	p.machine.load = "3.2"
	if !strings.Contains(p.markdown(), "was not quiet") {
		t.Error("no word about the load of the machine")
	}
}

func TestPeers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers")
	text := "# two brokers\n\nflash=/opt/flashmq --config $DIR/a=b\nflash.version = /opt/flashmq --version\nmochi = mochi -p $TLS_PORT\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parseFlags([]string{"--peers", file, "--peer", "third=x"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	want := []peer{{name: "flash", command: "/opt/flashmq --config $DIR/a=b", ask: "/opt/flashmq --version"}, {name: "mochi", command: "mochi -p $TLS_PORT"}, {name: "third", command: "x"}}
	if d := cmp.Diff(want, o.peers, cmp.AllowUnexported(peer{})); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"x", "=y", "x=", "flash=again", "none.version=x", "sealmq=x", "a b=c"} {
		if err := o.addPeer(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Names are distinct, every workload can be run, and its command says so.
func TestWorkloads(t *testing.T) {
	names := make(map[string]bool)
	for _, scale := range []float64{0.01, 1} {
		clear(names)
		for _, w := range workloads(scale) {
			if names[w.name] || len(w.figures) == 0 {
				t.Errorf("%s: twice, or without figures", w.name)
			}
			names[w.name] = true
			cfg := w.config
			cfg.Dial = (&bench.Dialer{}).Dial
			if err := cfg.Validate(); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
			if c := w.command(&options{}); !strings.HasPrefix(c, "sealmq bench "+string(cfg.Scenario)) {
				t.Errorf("%s: %s", w.name, c)
			}
		}
	}
}

// The certificates made for a comparison hold for what they are made for.
func TestEnvironment(t *testing.T) {
	e, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(e.dir)
	if e.tlsPort == e.mtlsPort {
		t.Error("two listeners on one port")
	}
	for _, name := range []string{"ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"} {
		info, err := os.Stat(e.file(name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if e.client.PrivateKey == nil || len(e.client.Certificate) != 1 {
		t.Error("no client certificate")
	}
}
