// Command sidebyside runs the same workloads against SealMQ and every other broker that it finds, one after the other in
// interleaved rounds, and writes a page with the medians, their spread and the ratios.
//
//	go run ./bench/sidebyside                               SealMQ and Debian's Mosquitto, docs/benchmarks.md
//	go run ./bench/sidebyside --quick --out -               does it work at all
//	go run ./bench/sidebyside --only pairs --rounds 5 --peers peers.conf --json rounds.json
//
// Each run has a fresh broker process. The machine should do nothing else meanwhile.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/bench"
)

type options struct {
	rounds   int
	duration time.Duration
	warmup   time.Duration
	pause    time.Duration
	scale    float64
	backlog  int
	sessions int
	dir      string
	only     *regexp.Regexp
	all      bool
	sealmq   string
	install  bool
	peers    []peer
	out      string
	json     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if err == nil {
		err = run(ctx, o, os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("sidebyside", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 9, "interleaved rounds")
	f.DurationVar(&o.duration, "duration", 6*time.Second, "measured time of a run")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "time before it")
	f.DurationVar(&o.pause, "pause", 500*time.Millisecond, "time between two runs")
	f.Float64Var(&o.scale, "scale", 1, "number of clients, times this")
	f.IntVar(&o.backlog, "backlog", 200_000, "messages waiting in reconnect-backlog")
	f.IntVar(&o.sessions, "sessions", 100_000, "sessions in restart, with 10 messages waiting for each")
	f.StringVar(&o.dir, "dir", "", "make the brokers' data folders in this one, on the disk to be measured (default: the system's for temporary files)")
	only := f.String("only", "", "only workloads whose name matches this regular expression")
	f.BoolVar(&o.all, "all", false, "also the workloads without a goal")
	quick := f.Bool("quick", false, "one round, few clients, a fraction of a second: to see that it works")
	f.StringVar(&o.sealmq, "sealmq", "", "the sealmq program (default: built from this tree)")
	f.BoolVar(&o.install, "install", false, "install Debian's mosquitto when it is missing")
	f.StringVar(&o.out, "out", filepath.Join("docs", "benchmarks.md"), "page to write; - for standard output")
	f.StringVar(&o.json, "json", "", "write the result of every run to this file")
	f.Func("peer", "another broker: NAME=COMMAND, see the README", func(s string) error { return o.addPeer(s) })
	f.Func("peers", "a file of such lines", o.readPeers)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if *quick {
		o.rounds, o.duration, o.warmup, o.pause, o.scale = 1, 300*time.Millisecond, 100*time.Millisecond, 0, 0.02
	}
	if o.rounds < 1 || o.duration <= 0 || o.scale <= 0 || o.backlog < 1 || o.sessions < 1 {
		return nil, errors.New("rounds, duration, scale, backlog and sessions must be above 0")
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	return o, nil
}

// round is one run of one broker.
type round struct {
	Workload string        `json:"workload"`
	Broker   string        `json:"broker"`
	Round    int           `json:"round"`
	Result   *bench.Result `json:"result,omitempty"`
	Error    string        `json:"error,omitempty"`
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	e, err := newEnvironment(o.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(e.dir)
	peers, err := o.findPeers(ctx, e, stderr)
	if err != nil {
		return err
	}
	chosen := o.choose()
	if len(chosen) == 0 {
		return errors.New("no workload has such a name")
	}
	page := &page{machine: readMachine(e.dir), peers: peers, workloads: chosen, options: o, began: time.Now()}
	var rounds []round
	for n := range o.rounds {
		for _, w := range chosen {
			if w.rounds > 0 && n >= w.rounds {
				continue
			}
			for i := range peers {
				// Each broker is the first of a round as often as the others.
				p := &peers[(i+n)%len(peers)]
				if w.plain && !p.plain() {
					continue
				}
				r := round{Workload: w.name, Broker: p.name, Round: n + 1}
				r.Result, err = measure(ctx, o, e, p, w)
				if ctx.Err() != nil {
					return errors.New("interrupted")
				}
				if err != nil {
					r.Error = err.Error()
				}
				fmt.Fprintf(stderr, "%2d/%d  %-14s %-10s %s\n", n+1, o.rounds, w.name, p.name, w.brief(&r))
				rounds = append(rounds, r)
			}
		}
	}
	page.rounds = rounds
	if o.json != "" {
		b, err := json.MarshalIndent(rounds, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, b, 0o644); err != nil {
			return err
		}
	}
	if o.out == "-" {
		_, err = io.WriteString(stdout, page.markdown())
		return err
	}
	return os.WriteFile(o.out, []byte(page.markdown()), 0o644)
}

// choose is the workloads to run, and those that they are compared with.
func (o *options) choose() []workload {
	all := workloads(o.scale, o.backlog, o.sessions)
	wanted := make(map[string]bool)
	for _, w := range all {
		if !o.only.MatchString(w.name) || !w.goals() && !o.all && o.only.String() == "" {
			continue
		}
		wanted[w.name] = true
		for _, f := range w.figures {
			wanted[f.base] = true
		}
	}
	return slices.DeleteFunc(all, func(w workload) bool { return !wanted[w.name] })
}

// measure starts a broker, runs one workload and stops it.
func measure(ctx context.Context, o *options, e *environment, p *peer, w workload) (*bench.Result, error) {
	s, err := p.start(ctx, e, &w)
	if err != nil {
		return nil, err
	}
	defer func() {
		s.stop()
		time.Sleep(o.pause)
	}()
	cfg := w.config
	cfg.PID, cfg.Disk, cfg.Duration, cfg.Warmup = s.pid(), e.dir, o.duration, o.warmup
	switch cfg.Scenario {
	case bench.Restart:
		cfg.Restart = s.restart
	case bench.Idle:
		// Memory takes a while to settle, and needs no long look.
		cfg.Warmup, cfg.Duration = 2*o.warmup, min(o.duration, time.Second)
	}
	d := e.dialer(w)
	cfg.Dial = d.Dial
	if cfg.Scenario == bench.Resume {
		cfg.Dial = d.WithTickets(cfg.Clients)
	}
	if w.mtls {
		// SealMQ binds a device to its identity: client identifiers begin with it.
		cfg.ClientID = clientName + "/" + strings.ReplaceAll(w.name, " ", "-")
	}
	r, err := bench.Run(ctx, cfg)
	if r != nil {
		r.TLS = d.Negotiated()
		r.Series = nil
	}
	if err != nil {
		return r, fmt.Errorf("%w%s", err, s.lastWords())
	}
	return r, nil
}
