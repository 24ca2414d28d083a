package threats

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tests finds the names of all tests and fuzz targets of both modules, each as
// "folder TestName" with sealmq for the root, and the titles of the scripted conversations as "connect: title".
func tests(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return nil // gone meanwhile
		case d.IsDir() && (name == ".git" || name == "bin" || name == "node_modules"):
			return fs.SkipDir
		case strings.HasSuffix(name, "_test.go"):
			f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil // being written
			}
			dir, _ := filepath.Rel(root, filepath.Dir(p))
			if dir == "." {
				dir = "sealmq"
			}
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
					found[filepath.ToSlash(dir)+" "+fn.Name.Name] = true
				}
			}
		case filepath.Ext(name) == ".txt" && filepath.Base(filepath.Dir(p)) == "testdata":
			text, err := os.ReadFile(p)
			if err != nil {
				return nil
			}
			for line := range strings.Lines(string(text)) {
				if title, ok := strings.CutPrefix(line, "== "); ok {
					found[strings.TrimSuffix(name, ".txt")+": "+strings.TrimSpace(title)] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	testName     = regexp.MustCompile("`([a-z0-9/.]+ (?:Test|Fuzz)[A-Za-z0-9_]*)`")
	conversation = regexp.MustCompile("`([a-z]+: [^`]+)`")
	row          = regexp.MustCompile(`(?m)^\| ([A-Z][0-9]+) \|.*$`)
)

// Every test that the page names exists, and every row names one, or says why
// there is none.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := tests(t)
	seen := map[string]bool{}
	rows := row.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 120 {
		t.Errorf("the page has %d rows", len(rows))
	}
	for _, r := range rows {
		line, id := r[0], r[1]
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		named := append(testName.FindAllStringSubmatch(line, -1), conversation.FindAllStringSubmatch(line, -1)...)
		for _, n := range named {
			if !known[n[1]] {
				t.Errorf("%s names %s, and there is no such test", id, n[1])
			}
		}
		if len(named) == 0 && !strings.Contains(line, "**None:**") {
			t.Errorf("%s names no test, and no reason why there is none", id)
		}
	}
}
