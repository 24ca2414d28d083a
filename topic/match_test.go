package topic

import (
	"strings"
	"testing"
)

// paths returns all paths of one to depth levels out of the alphabet.
func paths(alphabet []string, depth int) []string {
	var all, last []string
	for d := range depth {
		var next []string
		if d == 0 {
			next = alphabet
		}
		for _, p := range last {
			for _, l := range alphabet {
				next = append(next, p+"/"+l)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// names has one topic name that no filter of filters() spells, for each way
// in which a wildcard could tell: another literal, another $.
func names(depth int) []string {
	var out []string
	for _, n := range paths([]string{"a", "b", "", "$x", "z", "$z"}, depth) {
		if n != "" {
			out = append(out, n)
		}
	}
	return out
}

func filters(depth int) []string {
	var out []string
	for _, f := range append(paths([]string{"a", "b", "", "$x", "+"}, depth), "") {
		if f != "" {
			out = append(out, f)
		}
		if strings.Count(f, "/") < depth-1 {
			out = append(out, strings.TrimPrefix(f+"/#", "/"))
		}
	}
	return out
}

// naive is matching as the standard words it, level by level.
func naive(filter, name string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	if strings.HasPrefix(name, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i := range f {
		if f[i] == "#" {
			return true
		}
		if i == len(n) || f[i] != "+" && f[i] != n[i] {
			return false
		}
		if i == len(n)-1 && i == len(f)-2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

// clauses: MQTT5 [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] MQTT311 [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1]
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"#", "a", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/#", "a/$x", true},
		{"a/+", "a/$x", true},
		{"ACCOUNTS", "Accounts", false},
		{"a//#", "a", false},
		{"a//#", "a/", true},
	} {
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.name, got)
		}
	}
	for _, f := range filters(4) {
		for _, n := range names(4) {
			if got := Match(f, n); got != naive(f, n) {
				t.Fatalf("Match(%q, %q) = %v", f, n, got)
			}
		}
	}
}

// TestContains compares every pair of filters with what they match among
// names one level deeper than the filters are.
func TestContains(t *testing.T) {
	depth := 4
	if testing.Short() {
		depth = 3
	}
	fs, ns := filters(depth), names(depth+1)
	// A set of names as bits, for each filter.
	bits := make([][]uint64, len(fs))
	for i, f := range fs {
		bits[i] = make([]uint64, (len(ns)+63)/64)
		for k, n := range ns {
			if naive(f, n) {
				bits[i][k/64] |= 1 << (k % 64)
			}
		}
	}
	for o, outer := range fs {
		for i, inner := range fs {
			want := true
			for k, w := range bits[i] {
				if w&^bits[o][k] != 0 {
					want = false
					break
				}
			}
			if got := Contains(outer, inner); got != want {
				t.Fatalf("Contains(%q, %q) = %v", outer, inner, got)
			}
		}
	}
}

func TestMatchDeep(t *testing.T) {
	deep := strings.Repeat("/", MaxLen)
	plus := strings.Repeat("+/", MaxLen/2) + "+"
	if !Match(deep, deep) || !Match("/#", deep) || !Match(plus, deep[:MaxLen/2]) || Match(plus, deep) {
		t.Error("a name of 65,536 levels is not matched as a short one is")
	}
	if !Contains(plus, deep[:MaxLen/2]) || Contains(deep, plus) {
		t.Error("a filter of 32,768 levels is not compared as a short one is")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		Match("fleet/+/engine/#", "fleet/truck-17/engine/temperature")
		Contains("fleet/+/engine/#", "fleet/truck-17/engine/+")
		ParseShare("$share/workers/fleet/+/engine/#")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		Match("fleet/+/engine/#", "fleet/truck-17/engine/temperature")
	}
}
