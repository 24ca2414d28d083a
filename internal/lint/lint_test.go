package lint

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/sealmq/sealmq"
)

// rule is a row of the import table. A package below the named one follows the same rule and may import its parent.
type rule struct {
	pkg string
	may string // of ours; "*" is everything
	why string
}

var rules = []rule{
	{"mqtt", "topic", "it is the ground floor, useful alone"},
	{"topic", "", "it is the ground floor, useful alone"},
	{"pki", "", "it is the ground floor, useful alone"},
	{"transport", "", "it is the ground floor: bytes, whoever sends them"},
	{"gate", "", "it is the ground floor: addresses and time"},
	{"doctor", "client mqtt topic pki transport", "it is a client that explains what it meets"},
	{"store", "mqtt topic", "it speaks of messages and filters, not of who keeps or asks for them"},
	{"auth", "mqtt topic", "it speaks of peers and topics, not of brokers"},
	{"policy", "auth topic mqtt", "it decides what a principal may do, whoever asks"},
	{"client", "mqtt topic", "it is a client of any broker"},
	{"registry", "pki store", "it says who the devices are, durably"},
	{"identity", "auth pki registry", "it is the CA and the registry as one"},
	{"enroll", "identity pki registry store mqtt", "it is a door to the CA, nothing else"},
	{"certs", "pki store", "it keeps what listeners show and trust, whoever listens"},
	{"audit", "pki registry", "it judges a snapshot of the fleet"},
	{"broker", "mqtt topic auth store", "the core knows no socket, configuration file, HTTP or NATS"},
	{"control", "broker enroll identity registry audit auth policy store pki mqtt", "it carries commands from the owner of the machine"},
	{"bridge", "client mqtt topic", "it is a client with two ends"},
	{"cluster", "mqtt store", "it provides what the store asks for without knowing the broker"},
	{"admin", "control broker enroll identity certs audit registry auth store pki", "it shows and commands through control"},
	{"config", "mqtt topic pki transport store auth client registry identity enroll certs audit policy gate broker control bridge cluster admin", "it mirrors the packages' Config types"},
	{"bench", "*", "it drives everything"},
	{"cmd", "*", "it is the assembled program"},
	{"internal", "", "it serves tests"},
	{"", "*", "it is the one room that knows the world"},
}

// ruleFor returns the rule of a package given by its path in the module.
func ruleFor(pkg string) *rule {
	for i, r := range rules {
		if pkg == r.pkg || r.pkg != "" && strings.HasPrefix(pkg, r.pkg+"/") {
			return &rules[i]
		}
	}
	return nil
}

func allowed(r *rule, pkg, imported string) bool {
	if r.may == "*" || imported == r.pkg || r.pkg != "" && strings.HasPrefix(imported, r.pkg+"/") {
		return true
	}
	first, _, _ := strings.Cut(imported, "/")
	return slices.Contains(strings.Fields(r.may), first)
}

type source struct {
	path, dir string // slash-separated, from the root of the module
	text      []byte
	file      *ast.File
	fset      *token.FileSet
	test      bool
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	var all []source
	walk(t, func(rel string) {
		if !strings.HasSuffix(rel, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, rel))
		if err != nil {
			return // gone meanwhile
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		all = append(all, source{rel, strings.TrimPrefix(path.Dir(rel), "."), text, f, fset, strings.HasSuffix(rel, "_test.go")})
	})
	return all
}

// walk visits the files of the module, without those of nested modules, of .git and of what is built.
func walk(t *testing.T, visit func(rel string)) {
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && rel != "." {
				return fs.SkipDir
			}
			switch d.Name() {
			case ".git", "bin", "node_modules", "sealmq-data":
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			visit(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Test runs every rule that reads Go source.
func Test(t *testing.T) {
	all := sources(t)
	for _, r := range []struct {
		name string
		rule func(*testing.T, []source)
	}{
		{"Imports", imports}, {"ImportsOfTests", importsOfTests}, {"PackageComments", packageComments},
		{"Formatting", formatting}, {"Files", files},
	} {
		t.Run(r.name, func(t *testing.T) { r.rule(t, all) })
	}
}

func imports(t *testing.T, all []source) {
	for _, s := range all {
		r := ruleFor(s.dir)
		if r == nil {
			t.Errorf("%s: package %s is not in the import table of internal/lint", s.path, s.dir)
			continue
		}
		if base := path.Base(s.dir); slices.Contains([]string{"util", "utils", "common", "types", "helpers"}, base) {
			t.Errorf("%s: a package is named for what it provides, not %q", s.path, base)
		}
		for _, im := range s.file.Imports {
			p, ok := strings.CutPrefix(strings.Trim(im.Path.Value, `"`), module)
			if !ok || s.test {
				continue
			}
			p = strings.TrimPrefix(p, "/")
			if strings.HasPrefix(p, "internal/testkit") {
				t.Errorf("%s imports %s: only tests may, it holds no code fit for use", s.path, p)
			}
			if !allowed(r, s.dir, p) {
				t.Errorf("%s imports %s: %s may not, because %s", s.path, p, orRoot(s.dir), r.why)
			}
		}
	}
}

func orRoot(dir string) string {
	if dir == "" {
		return "the root package"
	}
	return dir
}

// importsOfTests keeps the tests of the ground floor free of what stands on it, so that they stay useful alone.
func importsOfTests(t *testing.T, all []source) {
	for _, s := range all {
		if !s.test || !slices.Contains([]string{"mqtt", "topic", "pki", "transport", "store", "auth"}, s.dir) {
			continue
		}
		for _, im := range s.file.Imports {
			p := strings.TrimPrefix(strings.Trim(im.Path.Value, `"`), module+"/")
			if first, _, _ := strings.Cut(p, "/"); slices.Contains([]string{"broker", "config", "cmd", "admin", "cluster"}, first) {
				t.Errorf("%s imports %s: a test of %s needs no more than %s", s.path, p, s.dir, s.dir)
			}
		}
	}
}

func packageComments(t *testing.T, all []source) {
	docs := map[string]int{}
	packages := map[string]bool{}
	for _, s := range all {
		if s.test {
			continue
		}
		packages[s.dir] = true
		if s.file.Doc != nil {
			if docs[s.dir] != 0 {
				t.Errorf("%s: a second package comment in %s", s.path, orRoot(s.dir))
			}
			text := s.file.Doc.Text()
			docs[s.dir] = strings.Count(text, "\n")
			if n := docs[s.dir]; n > 20 {
				t.Errorf("%s: the package comment has %d lines, more than 20", s.path, n)
			}
		}
	}
	for dir := range packages {
		if docs[dir] == 0 {
			t.Errorf("%s has no package comment", orRoot(dir))
		}
	}
}

func formatting(t *testing.T, all []source) {
	for _, s := range all {
		want, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(want, s.text) {
			t.Errorf("%s is not formatted: run gofmt -w %s", s.path, s.path)
		}
	}
}

func files(t *testing.T, all []source) {
	for _, s := range all {
		lines := bytes.Count(s.text, []byte("\n"))
		generated := ast.IsGenerated(s.file)
		switch {
		case generated:
		case lines > 700:
			t.Errorf("%s has %d lines: a file is one noun, under about 500", s.path, lines)
		case lines > 500:
			t.Logf("%s has %d lines, more than 500", s.path, lines)
		}
		for _, d := range s.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init(): what has to be prepared is prepared by who uses it", s.fset.Position(fn.Pos()))
			}
		}
	}
}

// banned are words and paths that have no place in the tree. They are put together here so that this file passes.
var banned = regexp.MustCompile(strings.Join([]string{
	`\bTO` + `DO\b`, `\bFIX` + `ME\b`, `\bXX` + `X\b`,
	`(?:^|[\s"'(=:])/(?:wo` + `rk|ho` + `me/\w+|ro` + `ot)/`,
	`(?i)\bclau` + `de\b`, `(?i)\banthro` + `pic\b`, `(?i)\bchat` + `gpt\b`, `(?i)\bcopi` + `lot\b`, `(?i)language mo` + `del`,
	`<<<<` + `<<< `, `>>>>` + `>>> `,
}, "|"))

func TestWords(t *testing.T) {
	walk(t, func(rel string) {
		switch path.Ext(rel) {
		case ".sum", ".pem", ".png", ".ico", ".test", ".prof", "":
			if path.Base(rel) != "Makefile" {
				return
			}
		}
		text, err := os.ReadFile(filepath.Join(root, rel))
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return
		}
		for i, l := range bytes.Split(text, []byte("\n")) {
			if m := banned.Find(l); m != nil {
				t.Errorf("%s:%d: %q has no place here", rel, i+1, m)
			}
		}
	})
}
