// Package bind reads TOML into structs by their field tags, and writes them back.
//
// It exists because a configuration is better refused with everything that is wrong with it, each with line and key,
// than with the first mistake only. The syntax is go-toml's parser; the tree, the rules against double definitions,
// the tags and the texts are here.
//
// Tags of a field: toml:"key" (or "!key" for a bool whose key says the opposite, or ",inline" for a struct whose keys
// stand beside its neighbours'), default, min, max, unit ("bytes" or "s"), enum ("a|b"), none (what the field holds
// when the file says 0, for fields whose zero means the default). A field without a toml tag is not configuration.
//
// It starts no goroutine and is for package config and its generator.
package bind

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// MaxSize is the largest file that Parse takes, in bytes.
const MaxSize = 1 << 20

// maxSyntaxErrors ends the reading of a file that is not TOML at all.
const maxSyntaxErrors = 20

// maxDepth bounds nested arrays and tables; no configuration needs a tenth of it.
const maxDepth = 32

// Node is a value in the document.
type Node struct {
	Line  int
	Kind  unstable.Kind // Table, ArrayTable, Array, String, Bool, Integer, Float or one of the dates
	Text  string        // of a scalar: a string's content, everything else as written
	Items []*Node       // of Array and ArrayTable
	Keys  []string      // of Table, in the order of the file
	table map[string]*Node
	at    map[string]int // line of each key
	state tableState
}

// tableState is how a table came to be: what may still be added to it depends on it.
type tableState uint8

const (
	implied  tableState = iota // as a parent in [a.b]
	headed                     // by its own header
	dotted                     // by a dotted key
	inlined                    // by { }
	rejected                   // a second definition: its keys are read, and not looked at
)

// Get returns the value of a table's key, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	return n.table[key]
}

// LineOf returns the line on which a table's key is set; the table's own line when it is not.
func (n *Node) LineOf(key string) int {
	if n == nil {
		return 0
	}
	if l, ok := n.at[key]; ok {
		return l
	}
	return n.Line
}

func newTable(line int, s tableState) *Node {
	return &Node{Line: line, Kind: unstable.Table, state: s, table: map[string]*Node{}, at: map[string]int{}}
}

func (n *Node) set(key string, v *Node, line int) {
	n.Keys = append(n.Keys, key)
	n.table[key] = v
	n.at[key] = line
}

// Document is a parsed file.
type Document struct {
	File   string
	Root   *Node
	Broken bool // a syntax error hides some of it, so that what is missing need not be missing
}

// Parse reads TOML. The Document is never nil and holds what could be understood.
func Parse(file string, data []byte) (*Document, Problems) {
	d := &Document{File: file, Root: newTable(1, headed)}
	if len(data) > MaxSize {
		d.Broken = true
		return d, Problems{{File: file, Text: fmt.Sprintf("%d bytes, more than the %d that a configuration may have", len(data), MaxSize)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // editors on Windows
	r := &reader{doc: d, data: data[:len(data):len(data)], table: d.Root}
	for i, c := range data {
		if c == '\n' {
			r.ends = append(r.ends, i)
		}
	}
	r.read()
	return d, r.problems
}

type reader struct {
	doc      *Document
	data     []byte
	ends     []int // offsets of the line feeds
	base     int   // offset of the part that the parser works on
	parser   unstable.Parser
	table    *Node    // the one that the last header opened
	path     []string // its name
	problems Problems
}

func (r *reader) line(offset int) int { return sort.SearchInts(r.ends, offset) + 1 }

func (r *reader) problem(line int, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.doc.File, line, key, fmt.Sprintf(format, args...)})
}

// read goes on after a syntax error with the next line that looks like the beginning of something.
func (r *reader) read() {
	for range maxSyntaxErrors {
		r.parser.Reset(r.data[r.base:])
		seen := r.base // all before it is understood
		for r.parser.NextExpression() {
			seen = r.expression(r.parser.Expression())
		}
		err := r.parser.Error()
		if err == nil {
			return
		}
		r.doc.Broken = true
		start, at := r.begin(seen), -1
		var perr *unstable.ParserError
		if errors.As(err, &perr) {
			// A highlight may lie in a copy, where its capacity tells nothing.
			if at = len(r.data) - cap(perr.Highlight); at < start || at > len(r.data) {
				at = -1
			}
		}
		if at < 0 || at >= len(bytes.TrimRight(r.data, " \t\r\n"))-1 && r.line(at) != r.line(start) {
			at = start // what never ends is best shown where it begins
		}
		r.problem(r.line(at), "", "%s", syntaxText(err.Error()))
		if r.isHeader(start) {
			r.table, r.path = newTable(r.line(start), rejected), nil
		}
		if r.base = r.resume(start, at); r.base >= len(r.data) {
			return
		}
	}
	r.problem(r.line(r.base), "", "too many syntax errors, the rest of the file was not read")
}

func syntaxText(s string) string {
	switch {
	case s == "strings must be quoted":
		return `a text, a duration or a size must stand in quotes: "15s", "64KiB"`
	case strings.HasPrefix(s, "expected keyword"), strings.HasSuffix(s, "at start of value"):
		return `not a value: write true or false, a number, or a text in quotes`
	}
	return s
}

// begin returns where the expression starts that follows offset.
func (r *reader) begin(offset int) int {
	first := offset == r.base
	for offset < len(r.data) {
		end := bytes.IndexByte(r.data[offset:], '\n')
		line := r.data[offset:]
		if end >= 0 {
			line = line[:end]
		}
		if t := bytes.TrimSpace(line); first && len(t) > 0 && t[0] != '#' {
			return offset
		}
		if end < 0 {
			break
		}
		offset, first = offset+end+1, true
	}
	return min(offset, max(len(r.data)-1, 0))
}

func (r *reader) isHeader(offset int) bool {
	return bytes.HasPrefix(bytes.TrimLeft(r.data[offset:], " \t"), []byte("["))
}

var expressionLine = regexp.MustCompile(`^[ \t]*(\[\[?[ \t]*[A-Za-z0-9_."'-]+[ \t]*\]\]?[ \t]*(#.*)?|[A-Za-z0-9_."'-]+[ \t]*=.*)\r?$`)

// resume returns where to go on after an error at offset in the expression that begins at start: on the next line,
// or, when the expression may go over several lines, on the next one that cannot be a part of it.
func (r *reader) resume(start, offset int) int {
	first, _, _ := bytes.Cut(r.data[start:], []byte("\n"))
	_, value, _ := bytes.Cut(first, []byte("="))
	long := r.line(start) != r.line(offset) || openValue.Match(value)
	for offset < len(r.data) {
		end := bytes.IndexByte(r.data[offset:], '\n')
		if end < 0 {
			break
		}
		offset += end + 1
		line, _, _ := bytes.Cut(r.data[offset:], []byte("\n"))
		if !long || expressionLine.Match(line) {
			return offset
		}
	}
	return len(r.data)
}

var openValue = regexp.MustCompile(`^[ \t]*(\[|\{|"""|''')`)

// expression adds what one expression says to the tree, and returns the offset of its last byte seen.
func (r *reader) expression(n *unstable.Node) int {
	keys, line, end := r.keys(n.Key())
	switch {
	case len(keys) > maxDepth && n.Kind != unstable.KeyValue:
		r.problem(line, "", "a name of more than %d parts", maxDepth)
		r.table, r.path = newTable(line, rejected), nil
	case n.Kind == unstable.Table:
		r.header(keys, line)
	case n.Kind == unstable.ArrayTable:
		r.element(keys, line)
	case n.Kind == unstable.KeyValue:
		end = r.base + int(n.Raw.Offset+n.Raw.Length) - 1
		r.keyValue(r.table, r.path, n, 0)
	}
	return end
}

func (r *reader) keys(it unstable.Iterator) (keys []string, line, end int) {
	for it.Next() {
		k := it.Node()
		if keys == nil {
			line = r.line(r.base + int(k.Raw.Offset))
		}
		end = r.base + int(k.Raw.Offset+k.Raw.Length) - 1
		keys = append(keys, string(k.Data))
	}
	return keys, line, end
}

// descend returns the table that keys lead to, creating what is missing as s; nil when something else stands there.
func (r *reader) descend(n *Node, path, keys []string, line int, s tableState) *Node {
	for i, k := range keys {
		next := n.table[k]
		if next == nil {
			next = newTable(line, s)
			n.set(k, next, line)
		}
		if next.Kind == unstable.ArrayTable && s == implied {
			next = next.Items[len(next.Items)-1]
		}
		if next.Kind != unstable.Table || next.state == inlined || s == dotted && next.state == headed {
			r.problem(line, dot(path, keys[:i+1]...), "already set on line %d and cannot be added to", n.at[k])
			return nil
		}
		n = next
	}
	return n
}

// header handles [keys].
func (r *reader) header(keys []string, line int) {
	r.path = keys
	last := len(keys) - 1
	r.table = newTable(line, rejected)
	parent := r.descend(r.doc.Root, nil, keys[:last], line, implied)
	if parent == nil {
		return
	}
	switch old := parent.table[keys[last]]; {
	case old == nil:
		r.table = newTable(line, headed)
		parent.set(keys[last], r.table, line)
	case old.Kind == unstable.Table && old.state == implied:
		old.state, old.Line, r.table = headed, line, old
	case old.Kind == unstable.ArrayTable:
		r.problem(line, dot(keys), "this is a list: write [[%s]]", dot(keys))
	default:
		r.problem(line, dot(keys), "set twice; the first is on line %d", parent.at[keys[last]])
	}
}

// element handles [[keys]].
func (r *reader) element(keys []string, line int) {
	r.path = keys
	last := len(keys) - 1
	r.table = newTable(line, rejected)
	parent := r.descend(r.doc.Root, nil, keys[:last], line, implied)
	if parent == nil {
		return
	}
	list := parent.table[keys[last]]
	if list == nil {
		list = &Node{Line: line, Kind: unstable.ArrayTable}
		parent.set(keys[last], list, line)
	}
	if list.Kind != unstable.ArrayTable {
		r.problem(line, dot(keys), "already set on line %d and cannot be added to", parent.at[keys[last]])
		return
	}
	r.table = newTable(line, headed)
	list.Items = append(list.Items, r.table)
}

func (r *reader) keyValue(table *Node, path []string, n *unstable.Node, depth int) {
	keys, line, _ := r.keys(n.Key())
	if len(keys) > maxDepth {
		r.problem(line, "", "a name of more than %d parts", maxDepth)
		return
	}
	v := r.value(append(path[:len(path):len(path)], keys...), n.Value(), line, depth)
	if table.state == rejected || v == nil {
		return
	}
	last := len(keys) - 1
	table = r.descend(table, path, keys[:last], line, dotted)
	if table == nil {
		return
	}
	if _, ok := table.table[keys[last]]; ok {
		r.problem(line, dot(path, keys...), "set twice; the first is on line %d", table.at[keys[last]])
		return
	}
	table.set(keys[last], v, line)
}

func (r *reader) value(path []string, n *unstable.Node, line, depth int) *Node {
	if depth > maxDepth {
		r.problem(line, dot(path), "nested more than %d deep", maxDepth)
		return nil
	}
	if n.Raw.Length > 0 {
		line = r.line(r.base + int(n.Raw.Offset))
	}
	switch n.Kind {
	case unstable.InlineTable:
		t := newTable(line, headed)
		for it := n.Children(); it.Next(); {
			r.keyValue(t, path, it.Node(), depth+1)
		}
		t.seal()
		return t
	case unstable.Array:
		a := &Node{Line: line, Kind: unstable.Array}
		for it := n.Children(); it.Next(); {
			if v := r.value(path, it.Node(), line, depth+1); v != nil {
				a.Items = append(a.Items, v)
			}
		}
		return a
	default:
		return &Node{Line: line, Kind: n.Kind, Text: string(n.Data)}
	}
}

// seal closes an inline table, and what dotted keys opened inside it, to additions.
func (n *Node) seal() {
	n.state = inlined
	for _, v := range n.table {
		if v.Kind == unstable.Table && v.state != inlined {
			v.seal()
		}
	}
}

func dot(path []string, more ...string) string {
	all := append(path[:len(path):len(path)], more...)
	parts := make([]string, len(all))
	for i, p := range all {
		if parts[i] = p; p == "" || strings.Trim(p, bareKey) != "" {
			parts[i] = quote(p)
		}
	}
	return strings.Join(parts, ".")
}

const bareKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// quote writes s as a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\r':
			b.WriteString(`\r`)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
