package identity

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A fleet of 10,000 goes in and comes out again, with a running broker and
// without.
func TestImportExport(t *testing.T) {
	t.Parallel()
	need(t, "script")
	const n = 10_000
	var fleet bytes.Buffer
	fmt.Fprintln(&fleet, "id,groups,state,attr.site")
	for i := range n {
		fmt.Fprintf(&fleet, "pump-%05d,hall-%d;pumps,%s,site %d\n", i, i%7, []string{"active", "disabled"}[i%2], i%11)
	}
	b := startBroker(t, twoListeners)
	b.write(t, "fleet.csv", fleet.String())
	b.write(t, "bad.csv", fleet.String()+"pump 1,,active,\n")
	b.refuses(t, fmt.Sprint("line ", n+2), "device", "import", "bad.csv")
	if out := b.sealmq(t, "device", "list"); strings.Contains(out, "pump") {
		t.Error("a file with a mistake was imported in part")
	}

	// On a terminal, where a command says how far it is.
	begin := time.Now()
	out := mustRun(t, b.dir, "script", "-qec", program+" device import fleet.csv", "/dev/null")
	if !strings.Contains(out, fmt.Sprintf("imported %d devices", n)) {
		t.Errorf("import:\n%s", out)
	}
	t.Logf("imported %d devices in %v", n, time.Since(begin))
	if out := b.sealmq(t, "device", "revoke", "--group", "hall-3", "--yes"); !strings.Contains(out, "revoked 1429 devices") {
		t.Errorf("revoke:\n%s", out)
	}
	b.sealmq(t, "device", "export", "--out", "out.csv")
	b.sealmq(t, "device", "export", "--out", "out.jsonl")
	b.stop(t)

	times := regexp.MustCompile(`,\d{4}-\d\d-\d\dT[^,]*`) // when a device was made and changed is new with an import
	b.sealmq(t, "init", "--data", "other")
	b.sealmq(t, "device", "import", "out.jsonl", "--data", "other")
	b.sealmq(t, "device", "export", "--data", "other", "--out", "again.csv")
	csv, again := b.read(t, "out.csv"), b.read(t, "again.csv")
	if times.ReplaceAllString(again, "") != times.ReplaceAllString(csv, "") {
		t.Errorf("what came out is not what went in: %d bytes, %d before", len(again), len(csv))
	}
	if got := strings.Count(csv, "\n"); got != n+1 {
		t.Errorf("exported %d lines, want %d", got, n+1)
	}
}
