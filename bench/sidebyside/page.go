package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// machine is where it was measured.
type machine struct {
	cpu    string
	cores  int
	memory string
	system string
	kernel string
	golang string
	load   string // load average of a minute before the first run
	disk   disk
}

func readMachine(dir string) machine {
	m := machine{cores: runtime.NumCPU(), golang: runtime.Version(), cpu: runtime.GOARCH, system: runtime.GOOS}
	field := func(file, key, sep string) string {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == key {
				return strings.Trim(strings.TrimSpace(v), `"`)
			}
		}
		return ""
	}
	if s := field("/proc/cpuinfo", "model name", ":"); s != "" {
		m.cpu = s
	}
	if s := field("/etc/os-release", "PRETTY_NAME", "="); s != "" {
		m.system = s
	}
	var kb float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal", ":"), "%f kB", &kb); err == nil {
		m.memory = fmt.Sprintf("%.1f GiB", kb/(1<<20))
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load, _, _ = strings.Cut(string(b), " ")
	}
	m.disk = readDisk(dir)
	return m
}

// page is docs/benchmarks.md.
type page struct {
	machine   machine
	peers     []peer
	workloads []workload
	options   *options
	rounds    []round
	began     time.Time
}

// spread is a median with the extremes.
type spread struct{ median, low, high float64 }

func newSpread(v []float64) (s spread, ok bool) {
	v = slices.DeleteFunc(slices.Clone(v), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
	if len(v) == 0 {
		return s, false
	}
	slices.Sort(v)
	s.low, s.high = v[0], v[len(v)-1]
	s.median = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	return s, true
}

// values of a figure, a place for each round, NaN where there is none.
func (p *page) values(w *workload, f *figure, broker string) []float64 {
	v := make([]float64, p.options.rounds)
	for i := range v {
		v[i] = math.NaN()
	}
	name, of := f.from(w, broker == p.peers[0].name)
	for _, r := range p.rounds {
		if r.Workload == name && r.Broker == broker && r.Result != nil && r.Error == "" {
			v[r.Round-1] = of(r.Result)
		}
	}
	return v
}

// ratios of ours to theirs, round by round, so that what the machine did in a round to both cancels out.
func ratios(ours, theirs []float64) []float64 {
	v := make([]float64, len(ours))
	for i := range v {
		v[i] = ours[i] / theirs[i]
	}
	return v
}

// write is a number with its unit, three digits that count.
func (f *figure) write(v float64) string {
	s := ""
	switch {
	case f.unit == "bytes" && v >= 1e3:
		s = fmt.Sprintf("%.0f", v)
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	case v >= 1e6:
		s = fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e4:
		s = fmt.Sprintf("%.3g k", v/1e3)
	default:
		s = fmt.Sprintf("%.3g", v)
		if strings.Contains(s, "e+") {
			s = fmt.Sprintf("%.0f", v)
		}
	}
	switch {
	case f.unit == "/s" && strings.Contains(s, " "):
		return s + "/s"
	case f.unit == "/s":
		return s + " /s"
	case f.unit == "":
		return s
	}
	return s + " " + f.unit
}

func (p *page) cell(w *workload, f *figure, broker string) string {
	s, ok := newSpread(p.values(w, f, broker))
	failed := p.failures(w, broker)
	switch {
	case !ok && failed > 0:
		return "failed"
	case !ok:
		return "–"
	}
	text := fmt.Sprintf("**%s**", f.write(s.median))
	if p.options.rounds > 1 {
		text += fmt.Sprintf(" (%s–%s)", f.write(s.low), f.write(s.high))
	}
	if f.base != "" && broker != p.peers[0].name {
		return text
	}
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	return text
}

func (p *page) failures(w *workload, broker string) (n int) {
	for _, r := range p.rounds {
		if r.Workload == w.name && r.Broker == broker && r.Error != "" {
			n++
		}
	}
	return n
}

// within is whether SealMQ's own figure stays within its bound.
func (p *page) within(w *workload, f *figure) string {
	s, ok := newSpread(p.values(w, f, p.peers[0].name))
	switch {
	case !f.limited || !ok:
		return ""
	case s.median <= f.limit:
		return "≤ " + f.write(f.limit) + " ✓"
	}
	return "≤ " + f.write(f.limit) + " ✗"
}

// against is the ratio of the first broker to another, and whether the goal is met.
func (p *page) against(w *workload, f *figure, other string) (text, goal string) {
	s, ok := newSpread(ratios(p.values(w, f, p.peers[0].name), p.values(w, f, other)))
	if !ok {
		return "–", ""
	}
	text = fmt.Sprintf("**%.3g** ×", s.median)
	if p.options.rounds > 1 {
		text += fmt.Sprintf(" (%.3g–%.3g)", s.low, s.high)
	}
	if f.goal == 0 || other != "mosquitto" {
		return text, ""
	}
	sign, met := "≤", s.median <= f.goal
	if f.more {
		sign, met = "≥", s.median >= f.goal
	}
	goal = fmt.Sprintf("%s %.3g ×", sign, f.goal)
	if met {
		return text, goal + " ✓"
	}
	return text, goal + " ✗"
}

func (p *page) markdown() string {
	b := &strings.Builder{}
	line := func(format string, a ...any) { fmt.Fprintf(b, format+"\n", a...) }
	line("# Benchmarks\n")
	line("Written by `make bench` (`go run ./bench/sidebyside`), %s. Rounds: %d; in each, every workload ran against every broker, one after the",
		p.began.Format("2006-01-02"), p.options.rounds)
	line("other, each time with a fresh process; %v measured after %v of warm-up. Payloads are 64 bytes unless said, TLS 1.3, MQTT 3.1.1 unless", p.options.duration, p.options.warmup)
	line("said. Cells are medians (lowest–highest); ratios are medians of the ratios within each round.\n")
	line("Generator and brokers share the machine. Where a workload goes as fast as it can, the generator often is the limit for a fast broker:")
	line("the broker's CPU time for each message is the figure to judge by.\n")
	line("SealMQ has its store on disk in all rows, as it has unless told otherwise: what it acknowledges to or for a persistent session is synced.")
	line("It also has a policy in force, one rule that allows everybody everything, which is asked about each publication.")
	if p.durable() {
		line("Mosquitto has `persistence` off, as it has by default, but for the rows with persistent sessions; there it writes its state every 30")
		line("minutes and at its end, so that what it acknowledges is in memory. Bytes are whole pages by the kernel's count for the broker's process,")
		line("within the measured time; flushes are those of the disk, by whomever.")
	}
	line("")
	if p.options.scale != 1 {
		line("**The numbers of clients were multiplied by %g.**\n", p.options.scale)
	}
	p.table(line)
	line("\n## Machine\n")
	line("%s, %d cores, %s of memory; %s, Linux %s; load average before the first run %s. Built with %s.",
		p.machine.cpu, p.machine.cores, p.machine.memory, p.machine.system, p.machine.kernel, p.machine.load, p.machine.golang)
	if s := p.machine.disk.String(); s != "" {
		line("Disk of the brokers' data: %s.", s)
	}
	if p.machine.disk.volatile() && p.durable() {
		line("\n**The data was on no disk: the rows with persistent sessions are no measure of anything. Name a folder with --dir.**")
	}
	var load float64
	if _, err := fmt.Sscan(p.machine.load, &load); err == nil && load > 0.5 {
		line("\n**The machine was not quiet: these numbers are no measure of anything.**")
	}
	line("\n## Brokers\n")
	for _, q := range p.peers {
		version := q.version
		if version == "" {
			version = "version not known"
		}
		line("- **%s**: %s", q.name, version)
	}
	for _, q := range p.peers {
		line("\n%s:\n", q.name)
		line("```\n%s", q.shown())
		if q.config != "" {
			line("\n%s", strings.TrimSpace(q.config))
		}
		if q.durable != "" && p.durable() {
			line("\n# with persistent sessions also:\n%s", strings.TrimSpace(q.durable))
		}
		line("```")
	}
	line("\n## Workloads\n\nEach can be run by hand against a broker that listens on port 8883:\n")
	line("```")
	for i := range p.workloads {
		line("# %s: %s", p.workloads[i].name, p.workloads[i].title)
		line("%s", p.workloads[i].command(p.options))
	}
	line("```")
	if failed := p.failed(); len(failed) > 0 {
		line("\n## Failures\n")
		for _, s := range failed {
			line("- %s", s)
		}
	}
	return b.String()
}

// durable tells whether sessions are kept in any of the workloads.
func (p *page) durable() bool {
	return slices.ContainsFunc(p.workloads, func(w workload) bool { return w.durable() })
}

func (p *page) table(line func(string, ...any)) {
	head, rule := "| Workload | Figure |", "|---|---|"
	for _, q := range p.peers {
		head += " " + q.name + " |"
		rule += "---|"
	}
	for _, q := range p.peers[1:] {
		head += " to " + q.name + " |"
		rule += "---|"
	}
	line("%s Goal |\n%s---|", head, rule)
	for i := range p.workloads {
		w := &p.workloads[i]
		for j := range w.figures {
			f := &w.figures[j]
			row := "| "
			if j == 0 {
				row += fmt.Sprintf("%s (`%s`)", w.title, w.name)
				if w.rounds > 0 && w.rounds < p.options.rounds {
					row += fmt.Sprintf(", %d rounds", w.rounds)
				}
			}
			row += " | " + f.name + " |"
			for _, q := range p.peers {
				row += " " + p.cell(w, f, q.name) + " |"
			}
			goal := p.within(w, f)
			for _, q := range p.peers[1:] {
				text, g := p.against(w, f, q.name)
				row += " " + text + " |"
				goal += g
			}
			line("%s %s |", row, goal)
		}
	}
}

// shown is the command without the folder it happened to be built in.
func (q *peer) shown() string {
	program, rest, _ := strings.Cut(q.command, " ")
	if q.config != "" {
		program = q.name
	}
	return strings.TrimSpace(program + " " + rest)
}

func (p *page) failed() (s []string) {
	for _, r := range p.rounds {
		if r.Error != "" {
			s = append(s, fmt.Sprintf("%s, %s, round %d: %s", r.Workload, r.Broker, r.Round, r.Error))
		}
	}
	return s
}
