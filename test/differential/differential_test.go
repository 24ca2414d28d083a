package differential

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/test/internal/built"
)

var (
	long   = flag.Duration("long", 0, "how long to play sequences; 0: a few seconds' worth")
	first  = flag.Uint64("seed", 0, "the first seed, the next follow; 0: 1, with -long a random one")
	count  = flag.Int("sequences", 0, "how many sequences; 0: as many as -long allows")
	onDisk = flag.Bool("disk", false, "sessions and messages on disk instead of in memory")
	show   = flag.Bool("show", false, "print every difference, also those that are explained, and repeat none")
)

// Without -long: as much as a test run has time for.
const (
	shortTime      = 4 * time.Second
	shortChaos     = 2 * time.Second
	shortSequences = 150
)

// tested is the path of the sealmq program.
var tested string

func TestMain(m *testing.M) {
	flag.Parse()
	if *first == 0 {
		*first = 1
		if *long > 0 {
			*first = rand.Uint64N(1e9)
		}
	}
	os.Exit(built.Run(m, &tested))
}

// patience is how long a broker may take to answer, lenience how long two may
// take until they have done the same.
func patience() time.Duration { return 20 * time.Second }

const (
	lenience = 150 * time.Millisecond
	// confirmed is the lenience for a difference that nothing explains.
	confirmed = 3 * time.Second
	// enough differences that nothing explains end the run.
	enough = 30
)

// mosquittoPath finds Debian's broker, or skips the test.
func mosquittoPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("skipped: Debian package mosquitto")
	}
	return path
}

func startOurs(t *testing.T) *broker {
	t.Helper()
	b, err := startSealmq(tested, t.TempDir(), !*onDisk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil && !t.Failed() {
			t.Errorf("%s ended with %v", b.name, err)
		}
	})
	return b
}

// trial is one run of many sequences.
type trial struct {
	*testing.T
	*pair
	found     map[string]int // differences that nothing explains, by shape
	sequences int
	steps     int
	fleeting  int // differences that did not come again
	restarts  int // of Mosquitto
}

// TestDifferential fails for every difference that differences.txt does not explain.
func TestDifferential(t *testing.T) {
	list, err := readExplanations("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := startMosquitto(mosquittoPath(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.stop() })
	ours := startOurs(t)
	p, err := newPair(ours, theirs, list, patience(), lenience)
	if err != nil {
		t.Fatal(err)
	}
	r := &trial{T: t, pair: p, found: make(map[string]int)}
	before := footprint(t, ours)
	began := time.Now()
	limit, most := *long, *count
	if limit == 0 {
		limit = shortTime
		if most == 0 {
			most = shortSequences
		}
	}
	t.Logf("first seed %d", *first)
	for seed := *first; time.Since(began) < limit && (*show || len(r.found) < enough) && (most == 0 || r.sequences < most); seed++ {
		r.play(seed)
	}
	took := time.Since(began)
	t.Logf("%d sequences with %d steps in %.1fs, %.1f a second; seeds %d to %d; %d differences did not come again; mosquitto restarted %d times",
		r.sequences, r.steps, took.Seconds(), float64(r.sequences)/took.Seconds(), *first, *first+uint64(r.sequences)-1, r.fleeting, r.restarts)
	for _, e := range list {
		if e.matched > 0 || *long > 0 {
			t.Logf("%6d × %s (right: %s)", e.matched, e.title, e.right)
		}
	}
	p.ours.observer.close()
	checkAfter(t, ours, before)
}

// play plays the sequence of a seed and judges what differs.
func (r *trial) play(seed uint64) {
	steps := sequence(seed)
	r.sequences++
	r.steps += len(steps)
	var differences []*difference
	err := r.run(steps, func(d *difference) { differences = append(differences, d) })
	if err != nil {
		r.revive(seed, steps, err)
		return
	}
	for _, d := range differences {
		e := r.list.find(d)
		if *show {
			title := "NOT EXPLAINED"
			if e != nil {
				title = e.title
			}
			r.Logf("seed %d step %d: %s\n    %s", seed, d.step, title, d.text)
		}
		if e != nil {
			e.matched++
			continue
		}
		r.judge(seed, steps, d)
	}
}

// judge repeats a sequence that made a difference which nothing explains, and
// makes it small.
func (r *trial) judge(seed uint64, steps []step, d *difference) {
	if r.found[d.shape]++; r.found[d.shape] > 1 {
		return
	}
	if *show {
		r.Fail()
		return
	}
	r.lenience = confirmed
	defer func() { r.lenience = lenience }()
	var small *difference
	again := func(some []step) bool {
		same := false
		err := r.run(some, func(o *difference) {
			if o.shape == d.shape && r.list.find(o) == nil {
				same, small = true, o
			}
		})
		if err != nil {
			r.revive(seed, some, err)
		}
		return same
	}
	if !again(steps) {
		r.fleeting++
		delete(r.found, d.shape)
		r.Logf("seed %d step %d: not seen again: %s", seed, d.step, d.text)
		return
	}
	r.lenience = lenience
	if few := minimise(steps[:min(d.step+1, len(steps))], again); again(few) {
		steps = few
	}
	r.Errorf("seed %d: a difference that differences.txt does not explain:\n%s\n%s\n%s", seed, small.text, small.detail, transcript(steps))
}

// transcript is a sequence for people.
func transcript(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "  %v", s)
		if s.manual {
			b.WriteString(" (acknowledges by steps)")
		}
		if s.slow {
			b.WriteString(" (releases by steps)")
		}
		if s.packet != nil {
			fmt.Fprintf(&b, "\n      % x", s.packet[:min(len(s.packet), 160)])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// revive starts a broker again that does not work any more. If it is ours, the
// test has failed, with the fewest steps that are needed.
func (r *trial) revive(seed uint64, steps []step, err error) {
	var f *fault
	if !errors.As(err, &f) {
		r.Fatal(err)
	}
	failed := func(some []step) bool {
		err := r.run(some, func(*difference) {})
		if err != nil {
			r.restart()
		}
		var f *fault
		return errors.As(err, &f) && f.side == r.ours
	}
	ours := f.side == r.ours
	r.restart()
	if !ours {
		r.restarts++
		r.Logf("seed %d: mosquitto: %v", seed, err)
		return
	}
	r.Errorf("seed %d: sealmq: %v\n%s\n%s", seed, err, strings.Join(r.ours.complaints(), "\n"), transcript(steps))
	if few := minimise(steps, failed); len(few) < len(steps) {
		r.Fatalf("seed %d: these are enough:\n%s", seed, transcript(few))
	}
	r.FailNow()
}

// restart gives both sides a fresh start.
func (r *trial) restart() {
	for _, s := range []*side{r.ours, r.theirs} {
		for i := range s.clients {
			s.leave(i)
		}
		s.stop()
		if err := s.start(); err != nil {
			r.Fatal(err)
		}
		clear(s.ids)
		if err := s.ready(); err != nil {
			r.Fatal(err)
		}
	}
}

// TestSequences: a seed says everything, whatever is random elsewhere.
func TestSequences(t *testing.T) {
	for seed := range uint64(200) {
		if a, b := transcript(sequence(seed)), transcript(sequence(seed)); a != b {
			t.Fatalf("seed %d made two sequences:\n%s\n%s", seed, a, b)
		}
		for _, s := range sequence(seed) {
			if why := s.diagnosis(); s.valid && why == " (it is not whole)" {
				t.Errorf("seed %d: %v: %s", seed, s, why)
			}
		}
	}
}

func TestMinimise(t *testing.T) {
	var steps []step
	for i := range 37 {
		steps = append(steps, step{nth: i})
	}
	got := minimise(steps, func(some []step) bool {
		has := func(n int) bool { return slices.ContainsFunc(some, func(s step) bool { return s.nth == n }) }
		return has(3) && has(30)
	})
	if len(got) != 2 || got[0].nth != 3 || got[1].nth != 30 {
		t.Errorf("got %v", got)
	}
}
