package policy

import (
	"os"
	"strings"
	"testing"
)

// TestHandbook reads the policies of the handbook, and finds nothing wrong with them.
func TestHandbook(t *testing.T) {
	text, err := os.ReadFile("../docs/handbook/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```policy\n")
	if !ok {
		t.Fatal("no policy in the page")
	}
	for whole := true; ok; whole = false { // the others are parts of one
		var example string
		example, rest, _ = strings.Cut(rest, "```")
		p := compile(t, example)
		for _, f := range p.Test() {
			t.Error(f)
		}
		for _, f := range p.Lint() {
			if whole || !renewal(f) {
				t.Errorf("%s in\n%s", f, example)
			}
		}
		_, rest, ok = strings.Cut(rest, "```policy\n")
	}
	e := compile(t, string(text)[strings.Index(string(text), "```policy\n")+len("```policy\n"):strings.Index(string(text), "```\n\n## How")])
	id, err := ParseIdentity("device = pump-17 cert.ou = sensors")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.ReplaceAll(e.Explain(id, ask(t, "subscribe dt/#")).String(), "test.policy", "sealmq.policy")
	if page := strings.ReplaceAll(string(text), "\n", " "); !strings.Contains(page, said) {
		t.Errorf("the page does not show: %s", said)
	}
}
