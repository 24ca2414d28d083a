package conformance

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/conformance.md")

const root = "../.."

// statement is one row of a table in docs/data.
type statement struct{ id, applies, text string }

// list is one table with what proves its statements.
type list struct {
	key, title, file string
	rows             []statement
	proof            map[string][]string
	reason           map[string]string
}

func TestPage(t *testing.T) {
	lists := []*list{
		{key: "MQTT5", title: "MQTT 5", file: "mqtt5-statements.tsv"},
		{key: "MQTT311", title: "MQTT 3.1.1", file: "mqtt311-statements.tsv"},
		{key: "BAD", title: "Bad input", file: "bad-input.tsv"},
	}
	byKey := map[string]*list{}
	for _, l := range lists {
		l.proof, l.reason = map[string][]string{}, map[string]string{}
		for _, c := range table(t, l.file) {
			s := statement{id: c[0], text: c[len(c)-1], applies: "Server"}
			if len(c) == 3 {
				s.applies = c[1]
			}
			l.rows = append(l.rows, s)
		}
		byKey[l.key] = l
	}
	for _, c := range table(t, "conformance-reasons.tsv") {
		if l := byKey[c[0]]; l == nil || !l.has(c[1]) {
			t.Errorf("conformance-reasons.tsv: %s %s is no statement", c[0], c[1])
		} else {
			l.reason[c[1]] = c[2]
		}
	}
	add := func(where, proof string, clauses []testkit.Clause) {
		for _, c := range clauses {
			l := byKey[c.Standard]
			if !l.has(c.ID) {
				t.Errorf("%s: %s [%s] is no statement of docs/data/%s", where, c.Standard, c.ID, l.file)
				continue
			}
			if !slices.Contains(l.proof[c.ID], proof) {
				l.proof[c.ID] = append(l.proof[c.ID], proof)
			}
		}
	}
	scripts(t, add)
	goTests(t, add)
	for _, l := range lists {
		for _, s := range l.rows {
			p, r := l.proof[s.id], l.reason[s.id]
			if len(p) == 0 && r == "" {
				t.Errorf("%s %s (%s) has neither a test nor a reason: %s", l.key, s.id, s.applies, s.text)
			}
			if len(p) > 0 && r != "" {
				t.Errorf("%s %s has a test, so its reason in conformance-reasons.tsv must go", l.key, s.id)
			}
		}
	}
	page := render(lists)
	file := filepath.Join(root, "docs", "conformance.md")
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || string(have) != page {
		t.Errorf("docs/conformance.md is stale: run `make conformance` (%v)", err)
	}
}

func (l *list) has(id string) bool {
	return slices.ContainsFunc(l.rows, func(s statement) bool { return s.id == id })
}

// table reads a file of docs/data without its heading.
func table(t *testing.T, name string) [][]string {
	b, err := os.ReadFile(filepath.Join(root, "docs", "data", name))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for i, l := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		c := strings.Split(l, "\t")
		if i == 0 {
			continue
		}
		if len(c) < 2 || len(c) > 3 {
			t.Fatalf("%s:%d: %d columns", name, i+1, len(c))
		}
		rows = append(rows, c)
	}
	return rows
}

func scripts(t *testing.T, add func(where, proof string, c []testkit.Clause)) {
	all, err := testkit.ReadScripts(filepath.Join(root, "broker", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		base := filepath.Base(c.File)
		add(fmt.Sprintf("%s:%d", base, c.Line),
			fmt.Sprintf("[%s: %s](../broker/testdata/%s)", strings.TrimSuffix(base, ".txt"), strings.ReplaceAll(c.Name, "-", " "), base), c.Clauses)
	}
}

// goTests finds the "clauses:" lines in the doc comments of tests.
func goTests(t *testing.T, add func(where, proof string, c []testkit.Clause)) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Doc == nil {
				continue
			}
			for line := range strings.SplitSeq(fn.Doc.Text(), "\n") {
				s, ok := strings.CutPrefix(line, "clauses:")
				if !ok {
					continue
				}
				c, err := testkit.ParseClauses(s)
				if err != nil {
					t.Errorf("%s: %s: %v", rel, fn.Name.Name, err)
				}
				add(rel, fmt.Sprintf("[%s](../%s)", fn.Name.Name, rel), c)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func render(lists []*list) string {
	var b strings.Builder
	b.WriteString(`# Conformance

Every normative statement of MQTT 5 and of MQTT 3.1.1, and every line of the list of bad inputs, with the tests that prove
it. The page is made from the tags of the tests by ` + "`make conformance`" + `; a test fails when it is stale, or when a
statement has neither a test nor a reason. The conversations in [broker/testdata](../broker/testdata) read as the
specification. In all of them the runner also checks what a server always owes its clients: well-formed packets with
allowed properties and reason codes, one CONNACK and nothing before it, nothing after DISCONNECT or a refusal, the
client's maximum packet size, topic alias maximum and receive maximum, and unused packet identifiers.

| | statements | with tests | with a reason instead |
|---|---|---|---|
`)
	for _, l := range lists {
		with := 0
		for _, s := range l.rows {
			if len(l.proof[s.id]) > 0 {
				with++
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", l.title, len(l.rows), with, len(l.rows)-with)
	}
	for _, l := range lists {
		fmt.Fprintf(&b, "\n## %s\n\n| | applies to | statement | proof |\n|---|---|---|---|\n", l.title)
		for _, s := range l.rows {
			proof := strings.Join(l.proof[s.id], "<br>")
			if proof == "" {
				proof = "*" + l.reason[s.id] + "*"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.id, s.applies, strings.ReplaceAll(s.text, "|", "\\|"), proof)
		}
	}
	return b.String()
}
