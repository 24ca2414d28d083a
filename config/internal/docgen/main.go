// Command docgen writes what is to be read about the configuration from the structs themselves: the handbook's page and
// the annotated example. Field comments give the meaning, tags the default and the limits, so none can be forgotten.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/config"
	"github.com/sealmq/sealmq/config/internal/bind"
)

func main() {
	root := flag.String("root", ".", "the module's folder")
	flag.Parse()
	files, err := generate(*root)
	if err != nil {
		log.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(*root, name), []byte(text), 0o666); err != nil {
			log.Fatal(err)
		}
	}
}

// generate returns the files' contents by their path in the module.
func generate(root string) (map[string]string, error) {
	d := docs{}
	for _, dir := range []string{"config", "broker", "store/disk", "transport", "identity", "enroll", "certs/acme", "gate",
		"auth", "auth/password", "auth/jwt", "auth/callout", "auth/ldap"} {
		if err := d.read(filepath.Join(root, dir), path.Base(dir)); err != nil {
			return nil, err
		}
	}
	tables, err := d.tables(reflect.TypeFor[config.Config](), nil, false)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"docs/handbook/configuration.md": page(tables),
		"sealmq.example.toml":            example(tables),
	}, nil
}

// docs are the comments of struct fields by "package.Type.Field".
type docs map[string]string

func (d docs) read(dir, pkg string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			ts, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := ts.Type.(*ast.StructType); ok {
				for _, field := range st.Fields.List {
					for _, name := range field.Names {
						d[pkg+"."+ts.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return nil
}

// table is what stands under one header.
type table struct {
	path []string
	list bool
	text string
	keys []key
}

type key struct {
	bind.Field
	text string
}

// tables lists a struct's own keys first, then the tables below it, as they must stand in a file.
func (d docs) tables(t reflect.Type, path []string, list bool) ([]table, error) {
	self := table{path: path, list: list}
	var below []table
	for _, f := range bind.Fields(t) {
		text := d[f.Owner.String()+"."+f.Name]
		if text == "" {
			return nil, fmt.Errorf("%s.%s: no comment", f.Owner, f.Name)
		}
		text = sentence(f, text)
		p := append(path[:len(path):len(path)], f.Key)
		elem, isList := f.Type, false
		switch f.Shape() {
		case bind.Tables:
			elem, isList = f.Type.Elem(), true
		case bind.Table:
		default:
			self.keys = append(self.keys, key{f, text})
			continue
		}
		ts, err := d.tables(elem, p, isList)
		if err != nil {
			return nil, err
		}
		ts[0].text = text
		below = append(below, ts...)
	}
	return append([]table{self}, below...), nil
}

// sentence turns "MaxQoS is the highest …" into "The highest …". What an inverted field does is what its key does
// when it is false.
func sentence(f bind.Field, text string) string {
	text = strings.TrimPrefix(text, f.Name+" ")
	if f.Inverted {
		return "`false` " + text
	}
	for _, verb := range []string{"is ", "are "} {
		text = strings.TrimPrefix(text, verb)
	}
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:]
}

// dependent are defaults that a tag cannot say.
var dependent = map[string]string{
	"name":            "kind and port: `tls-8883`",
	"address":         "`\":8883\"`; without TLS `\"127.0.0.1:1883\"`",
	"websocket_paths": "`[\"/mqtt\", \"/\"]`",
}

func (k key) deflt() string {
	if s := dependent[k.Key]; s != "" {
		return s
	}
	return "`" + k.Show() + "`"
}

func (k key) limits() string {
	switch {
	case len(k.Enum) > 0:
		return strings.Join(k.Enum, ", ")
	case k.Min != "" && k.Max != "":
		return k.Min + " to " + k.Max
	case k.Min != "":
		return "from " + k.Min
	case k.Max != "":
		return "up to " + k.Max
	}
	return ""
}

func (t table) header() string {
	name := strings.Join(t.path, ".")
	if t.list {
		return "[[" + name + "]]"
	}
	return "[" + name + "]"
}

// sameKeys tells whether a table repeats one above it, as [listener.limits] does [limits].
func sameKeys(t table, all []table) (string, bool) {
	for _, o := range all {
		if len(o.path) < len(t.path) && len(o.keys) > 0 && len(t.keys) > 0 && o.keys[0].Owner == t.keys[0].Owner {
			return o.header(), true
		}
	}
	return "", false
}

func page(tables []table) string {
	var b strings.Builder
	b.WriteString(pageHead)
	for _, t := range tables {
		if len(t.path) == 0 {
			b.WriteString("\n## At the top of the file\n\n")
		} else {
			fmt.Fprintf(&b, "\n## `%s`\n\n%s\n\n", t.header(), t.text)
		}
		if same, ok := sameKeys(t, tables); ok {
			fmt.Fprintf(&b, "The keys are those of `%s`.\n", same)
			continue
		}
		if len(t.keys) == 0 { // only tables below it
			continue
		}
		b.WriteString("| Key | Default | Limits | Meaning |\n|---|---|---|---|\n")
		for _, k := range t.keys {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Key, k.deflt(), k.limits(), strings.ReplaceAll(k.text, "|", `\|`))
		}
	}
	b.WriteString(pageTail)
	return b.String()
}

func example(tables []table) string {
	var b strings.Builder
	b.WriteString(exampleHead)
	for _, t := range tables {
		if len(t.keys) == 0 { // only tables below it
			continue
		}
		if len(t.path) > 0 {
			b.WriteByte('\n')
			wrap(&b, t.text)
			if same, ok := sameKeys(t, tables); ok {
				fmt.Fprintf(&b, "#%s\n# Keys as in %s.\n", t.header(), same)
				continue
			}
			b.WriteString(t.header() + "\n")
		}
		for _, k := range t.keys {
			b.WriteByte('\n')
			wrap(&b, k.text)
			if l := k.limits(); l != "" {
				fmt.Fprintf(&b, "# Limits: %s.\n", l)
			}
			value := k.Show()
			if k.Key == "name" && len(t.path) > 0 {
				value = `"tls-8883"`
			}
			fmt.Fprintf(&b, "#%s = %s\n", k.Key, value)
		}
	}
	b.WriteString(exampleTail)
	return b.String()
}

// wrap writes text as comment lines of at most 100 columns.
func wrap(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(strings.ReplaceAll(text, "`", "")) {
		if len(line)+1+len(word) > 100 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
