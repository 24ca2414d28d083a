package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
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

func named(t *testing.T, name string) workload {
	t.Helper()
	for _, w := range workloads(1, 200_000, 100_000) {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("no workload %s", name)
	return workload{}
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
	w := named(t, "pairs")
	p := &page{
		machine: machine{"A processor", 2, "24 GiB", "Debian", "6.1", "go1.26", "0.10", disk{"/dev/a", "ext4", time.Millisecond}},
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
	var based []string
	for _, scale := range []float64{0.01, 1} {
		clear(names)
		for _, w := range workloads(scale, 1000, 100) {
			if names[w.name] || len(w.figures) == 0 {
				t.Errorf("%s: twice, or without figures", w.name)
			}
			names[w.name] = true
			cfg := w.config
			cfg.Dial = (&bench.Dialer{}).Dial
			cfg.Restart = (&server{}).restart
			for _, f := range w.figures {
				if f.base != "" {
					based = append(based, f.base)
				}
			}
			if err := cfg.Validate(); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
			if c := w.command(&options{}); !strings.HasPrefix(c, "sealmq bench "+string(cfg.Scenario)) {
				t.Errorf("%s: %s", w.name, c)
			}
		}
	}
	for _, base := range based {
		if !names[base] {
			t.Errorf("%s is compared with and not there", base)
		}
	}
}

// The certificates made for a comparison hold for what they are made for.
func TestEnvironment(t *testing.T) {
	e, err := newEnvironment(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(e.dir)
	if e.tlsPort == e.mtlsPort || e.tlsPort == e.plainPort || e.mtlsPort == e.plainPort {
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

// A figure with a base compares with what the others did in another workload of the same round; one with a bound of its
// own needs no others.
func TestPageOfDurability(t *testing.T) {
	p := &page{
		peers:     []peer{{name: "sealmq"}, {name: "mosquitto", config: "x\n", durable: "persistence true\n"}},
		workloads: []workload{named(t, "pairs-q1"), named(t, "durable-offline"), named(t, "restart")},
		options:   &options{rounds: 4},
	}
	add := func(workload, broker string, n int, r *bench.Result, err string) {
		p.rounds = append(p.rounds, round{workload, broker, n, r, err})
	}
	acked := func(rate float64) *bench.Result { return &bench.Result{Messages: &bench.Messages{AckedRate: rate}} }
	for n := 1; n <= 4; n++ {
		add("pairs-q1", "sealmq", n, acked(900_000), "")
		add("pairs-q1", "mosquitto", n, acked(40_000*float64(n)), "")
		add("durable-offline", "sealmq", n, acked(100_000*float64(n)), "")
		add("durable-offline", "mosquitto", n, nil, "it has ended")
	}
	add("restart", "sealmq", 1, &bench.Result{Restart: &bench.RestartResult{Sessions: 5, Present: 5, AcceptSeconds: 1.5, ServedSeconds: 2}}, "")
	add("restart", "mosquitto", 1, &bench.Result{Restart: &bench.RestartResult{Sessions: 5, Lost: 50, AcceptSeconds: 0.5, ServedSeconds: 1}}, "")
	got := p.markdown()
	for _, want := range []string{
		"| messages acknowledged, to others without persistent sessions (`pairs-q1`) | **250 k/s** (100 k/s–400 k/s) | **100 k/s** (40 k/s–160 k/s) | **2.5** × (2.5–2.5) | ≥ 2.5 × ✓ |",
		"| messages acknowledged | **250 k/s** (100 k/s–400 k/s) | failed | – |",
		"(`restart`), 3 rounds | time until a client is let in | **1.5 s** (1.5 s–1.5 s) | **0.5 s** (0.5 s–0.5 s) | **3** × (3–3) | ≤ 5 s ✓ |",
		"| lost | **0 messages** (0 messages–0 messages) | **50 messages** (50 messages–50 messages) |",
		"≤ 0 messages ✓",
		"# with persistent sessions also:\npersistence true",
		"sealmq bench offline -n 100 --window 100 -q 1 -V mqttv311 -d 0s --pid PID --disk DATA --cafile ca.pem",
		"sealmq bench restart -n 100000 -q 1 --backlog 1000000 --parallel 256 --broker COMMAND mqtt://localhost",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if p.workloads = p.workloads[:1]; strings.Contains(p.markdown(), "persistence true") {
		t.Error("a configuration is shown that was not used")
	}
	p.workloads, p.machine.disk.kind = []workload{named(t, "restart")}, "tmpfs"
	if !strings.Contains(p.markdown(), "on no disk") {
		t.Error("no word about data that was on no disk")
	}
}

// Workloads that others are compared with run as well.
func TestChoose(t *testing.T) {
	for args, want := range map[string]string{
		"--only ^durable-offline$": "pairs-q1 durable-offline",
		"--only restart|^v5$":      "restart v5",
		"--only nothing":           "",
	} {
		o, err := parseFlags(strings.Fields(args), os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range o.choose() {
			got = append(got, w.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	o, _ := parseFlags(nil, os.Stderr)
	var got []string
	for _, w := range o.choose() {
		got = append(got, w.name)
	}
	for _, name := range []string{"durable-offline", "durable-online", "durable-paced", "durable-paced-offline", "reconnect-backlog", "restart"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s does not run unless asked for", name)
		}
	}
}
