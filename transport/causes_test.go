package transport

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/errors")

// causes reads the constants from the source.
func causes(t *testing.T) map[Cause]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "causes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[Cause]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Cause" {
			return true
		}
		for _, v := range spec.Values {
			value, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all[Cause(value)] = true
		}
		return true
	})
	if len(all) < 50 {
		t.Fatalf("%d causes found", len(all))
	}
	return all
}

// Every cause has its own code and says what happened and what to do.
func TestExplanations(t *testing.T) {
	all, codes := causes(t), make(map[string]Cause)
	for _, e := range Explanations() {
		if other, ok := codes[e.Code]; ok {
			t.Errorf("%s is %s and %s", e.Code, other, e.Cause)
		}
		codes[e.Code] = e.Cause
		if !all[e.Cause] {
			t.Errorf("%s is not a cause, or explained twice", e.Cause)
		}
		delete(all, e.Cause)
		if e.What == "" || e.Fix == "" || len(e.What) > maxText || len(e.Fix) > maxText {
			t.Errorf("%s: %q, %q", e.Cause, e.What, e.Fix)
		}
		if strings.ContainsAny(e.What+e.Fix, "`|") {
			t.Errorf("%s: what is shown in the log is no Markdown", e.Cause)
		}
	}
	for c := range all {
		t.Errorf("%s has no explanation", c)
	}
	if e, ok := Explain(CauseRejectsCA); !ok || e.Code != "E-TLS-001" || e.Fix != hintOf(CauseRejectsCA) {
		t.Errorf("%+v", e)
	}
	if e, ok := Explain("elsewhere"); ok || e.Code != "" {
		t.Errorf("%+v", e)
	}
}

// The handbook's table has every cause, and says what the log says.
func TestHandbookHasEveryCause(t *testing.T) {
	text, err := os.ReadFile("../docs/handbook/listeners-and-tls.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n| Code | `cause` |")
	_, table, _ = strings.Cut(table, "|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := make(map[Cause][]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(strings.TrimSpace(line), "`", ""), "| "), " | ")
		if len(cells) != 4 {
			t.Fatalf("row of another form: %s", line)
		}
		rows[Cause(cells[1])] = cells
	}
	for _, e := range Explanations() {
		row, ok := rows[e.Cause]
		if !ok {
			t.Errorf("%s is not in the handbook's table", e.Cause)
			continue
		}
		if want := fmt.Sprintf("[%s](../errors/%s.md)", e.Code, e.Code); row[0] != want {
			t.Errorf("%s: the handbook links %q, want %q", e.Cause, row[0], want)
		}
		if row[2] != e.What {
			t.Errorf("%s: the handbook says %q, the log %q", e.Cause, row[2], e.What)
		}
		if row[3] != e.Fix {
			t.Errorf("%s: the handbook says %q, the hint %q", e.Cause, row[3], e.Fix)
		}
		delete(rows, e.Cause)
	}
	for c := range rows {
		t.Errorf("the handbook's table has %s, which is no cause", c)
	}
}

const errorPages = "../docs/errors"

// The pages of the codes are made of the table: -update writes them.
func TestErrorPages(t *testing.T) {
	want := map[string]string{"README.md": errorIndex()}
	for _, e := range Explanations() {
		want[e.Code+".md"] = errorPage(e)
	}
	if *update {
		if err := os.MkdirAll(errorPages, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(errorPages, name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(errorPages, name)); err != nil || string(got) != text {
			t.Errorf("docs/errors/%s is not what the table says; go generate ./transport writes it (%v)", name, err)
		}
	}
	files, err := os.ReadDir(errorPages)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if want[f.Name()] == "" {
			t.Errorf("docs/errors/%s is of no code", f.Name())
		}
	}
}

func errorPage(e Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: `%s`\n\n**What happened.** %s.\n\n**What to do.** %s.\n", e.Code, e.Cause, sentence(e.What), sentence(e.Fix))
	if e.How != "" {
		fmt.Fprintf(&b, "\n**How the broker knows.** %s\n", e.How)
	}
	if e.Seen != "" {
		fmt.Fprintf(&b, "\n**What clients say.** %s\n", e.Seen)
	}
	b.WriteString("\n[All codes](README.md) · [Listeners and TLS](../handbook/listeners-and-tls.md)\n")
	return b.String()
}

func errorIndex() string {
	var b strings.Builder
	b.WriteString("# Why a client does not get in\n\n" +
		"The broker's log names the cause of every connection that fails before MQTT begins, with its code. The codes never change\n" +
		"their meaning. \"Its certificate\" is the client's.\n\n" +
		"| Code | `cause` | What happened |\n|---|---|---|\n")
	for _, e := range Explanations() {
		fmt.Fprintf(&b, "| [%s](%s.md) | `%s` | %s |\n", e.Code, e.Code, e.Cause, e.What)
	}
	return b.String()
}

// sentence begins with a capital letter.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
