package crash

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/test/internal/built"
)

var (
	kills   = flag.Int("kills", 10, "how often the broker is killed in each run")
	seeds   = flag.Int("seeds", 1, "how many runs, each with a seed of its own")
	seed    = flag.Uint64("seed", 0, "the first seed; 0: a random one")
	compare = flag.Bool("compare", false, "put Debian's mosquitto to the same test and print the rows of docs/durability.md")
	keep    = flag.Bool("keep", false, "keep the data folders and the brokers' logs of runs that passed")
)

// tested is the path of the sealmq program.
var tested string

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1e9)
	}
	os.Exit(built.Run(m, &tested))
}

// TestSealmq is the proof: no kill costs an acknowledged message.
func TestSealmq(t *testing.T) {
	var all []report
	for s := *seed; s < *seed+uint64(*seeds); s++ {
		t.Logf("seed %d, %d kills", s, *kills)
		events, dir := journalOf(t, sealmq(tested), s, *kills)
		r := check(events)
		all = append(all, r)
		if len(r.faults) > 0 {
			t.Errorf("seed %d: %s", s, explain(t, events, r, dir))
		}
	}
	t.Log("\n" + tableHead + row("sealmq", all))
}

// TestMosquitto is a comparison: it fails only when the broker cannot be run.
func TestMosquitto(t *testing.T) {
	if !*compare {
		t.Skip("skipped: a comparison, wanted with -compare")
	}
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("skipped: Debian package mosquitto")
	}
	table := tableHead
	for _, p := range []program{
		mosquitto(path, "mosquitto, `persistence true`", ""),
		mosquitto(path, "mosquitto, `persistence true`, `autosave_interval 1`, `autosave_on_changes true`",
			"autosave_interval 1\nautosave_on_changes true"),
	} {
		var all []report
		for s := *seed; s < *seed+uint64(*seeds); s++ {
			events, dir := journalOf(t, p, s, *kills)
			r := check(events)
			all = append(all, r)
			if *keep {
				t.Logf("%s, seed %d: %s", p.name, s, explain(t, events, r, dir))
			}
		}
		table += row(p.name, all)
	}
	t.Log("\n" + table)
}

// journalOf runs a program in a folder that stays when the test fails.
func journalOf(t *testing.T, p program, seed uint64, kills int) (events []event, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealmq-crash")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() && !*keep {
			os.RemoveAll(dir)
		}
	})
	events, err = run(p, dir, seed, kills)
	if err != nil {
		t.Fatal(err)
	}
	return events, dir
}

// explain shows the first faults of each kind with what the journal says of
// them, and leaves the whole journal beside the broker's logs.
func explain(t *testing.T, events []event, r report, dir string) string {
	t.Helper()
	var text, whole strings.Builder
	for _, e := range events {
		fmt.Fprintln(&whole, e)
	}
	if err := os.WriteFile(filepath.Join(dir, "journal.txt"), []byte(whole.String()), 0o600); err != nil {
		t.Error(err)
	}
	fmt.Fprintf(&text, "journal.txt, the broker's logs and its data are in %s\n", dir)
	shown := make(map[faultKind]int)
	for _, f := range r.faults {
		if shown[f.kind]++; shown[f.kind] <= 2 {
			fmt.Fprintf(&text, "%v\n%s\n\n", f, excerpt(events, f))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(shown)) {
		fmt.Fprintf(&text, "%s: %d\n", k, shown[k])
	}
	return text.String()
}

const tableHead = "| broker | kills | acknowledged | lost | QoS 2 twice | order faults | stale retained | sessions lost | wills lost | other |\n" +
	"|---|---|---|---|---|---|---|---|---|---|\n"

func row(name string, all []report) string {
	var kills, acknowledged int
	count := make(map[faultKind]int)
	for _, r := range all {
		kills += r.kills
		acknowledged += r.acknowledged
		for _, k := range []faultKind{lostMessage, duplicate, disorder, stale, lostSession, lostWill, stray, otherTrouble} {
			count[k] += r.count(k)
		}
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", name, kills, acknowledged, count[lostMessage],
		count[duplicate], count[disorder], count[stale], count[lostSession], count[lostWill], count[stray]+count[otherTrouble])
}
