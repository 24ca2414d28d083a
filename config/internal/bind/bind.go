package bind

import (
	"fmt"
	"reflect"
	"slices"
	"sort"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Options change how a document is bound.
type Options struct {
	// Element is called with a pointer to each new element of a list of tables, before its keys are set.
	Element func(key string, element any)
	// Hints explain keys that are unknown here and that people know from elsewhere: last part of the key → advice.
	Hints map[string]string
}

// maxElements bounds a list of tables.
const maxElements = 1000

// maxAdvised ends the search for what an unknown key may mean: a file with that many is not ours.
const maxAdvised = 100

// Bind sets the fields of the struct that dst points to from the document, and returns all that is wrong.
// Fields that the document does not mention keep their value.
func Bind(d *Document, dst any, o Options) Problems {
	b := binder{doc: d, o: o, root: reflect.TypeOf(dst).Elem()}
	b.table(d.Root, reflect.ValueOf(dst).Elem(), nil)
	return b.problems
}

type binder struct {
	doc      *Document
	o        Options
	root     reflect.Type
	problems Problems
}

func (b *binder) problem(line int, path []string, format string, args ...any) {
	b.problems = append(b.problems, Problem{b.doc.File, line, dot(path), fmt.Sprintf(format, args...)})
}

func (b *binder) table(n *Node, v reflect.Value, path []string) {
	fields := Fields(v.Type())
	known := make([]string, 0, len(fields))
	for _, f := range fields {
		known = append(known, f.Key)
		if n.Get(f.Key) != nil {
			b.field(f, n, v.FieldByIndex(f.Index), append(path[:len(path):len(path)], f.Key))
		}
	}
	for _, k := range n.Keys {
		if !slices.Contains(known, k) {
			b.problem(n.at[k], append(path[:len(path):len(path)], k), "unknown key%s", b.advice(k, path, known))
		}
	}
}

func (b *binder) field(f Field, parent *Node, v reflect.Value, path []string) {
	n, line := parent.Get(f.Key), parent.LineOf(f.Key)
	switch f.Shape() {
	case Table:
		if n.Kind != unstable.Table {
			b.problem(line, path, "want a table [%s], got %s", dot(path), got(n))
			return
		}
		b.table(n, v, path)
	case Tables:
		if n.Kind == unstable.Table {
			b.problem(line, path, "write [[%s]], with two brackets: there may be several", dot(path))
			return
		}
		if n.Kind != unstable.ArrayTable && n.Kind != unstable.Array {
			b.problem(line, path, "want a list of tables [[%s]], got %s", dot(path), got(n))
			return
		}
		if len(n.Items) > maxElements {
			b.problem(line, path, "%d entries, more than %d", len(n.Items), maxElements)
			return
		}
		out := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
		for i, item := range n.Items {
			if item.Kind != unstable.Table {
				b.problem(item.Line, path, "want a table, got %s", got(item))
				continue
			}
			if b.o.Element != nil {
				b.o.Element(f.Key, out.Index(i).Addr().Interface())
			}
			b.table(item, out.Index(i), path)
		}
		v.Set(out)
	case List:
		if n.Kind != unstable.Array {
			b.problem(line, path, "want a list in brackets, got %s", got(n))
			return
		}
		f.Type = f.Type.Elem()
		out := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
		for i, item := range n.Items {
			if err := f.set(out.Index(i), item); err != nil {
				b.problem(item.Line, path, "%s", err)
			}
		}
		v.Set(out)
	default:
		if err := f.set(v, n); err != nil {
			b.problem(line, path, "%s", err)
		}
	}
}

// advice says what an unknown key may have been meant to be.
func (b *binder) advice(key string, path, known []string) string {
	if len(b.problems) > maxAdvised {
		return ""
	}
	if s := nearest(key, known); s != "" {
		return fmt.Sprintf("; did you mean %s?", s)
	}
	if h := b.o.Hints[key]; h != "" {
		return "; " + h
	}
	elsewhere := paths(b.root, nil)
	for _, p := range elsewhere {
		if last := len(p) - 1; p[last] == key && !slices.Equal(p[:last], path) {
			if last == 0 {
				return fmt.Sprintf("; %s belongs at the top of the file, before the first [table]", key)
			}
			return fmt.Sprintf("; %s belongs under [%s]", key, dot(p[:last]))
		}
	}
	var all []string
	for _, p := range elsewhere {
		all = append(all, p[len(p)-1])
	}
	if s := nearest(key, all); s != "" {
		return fmt.Sprintf("; did you mean %s?", dot(elsewhere[slices.Index(all, s)]))
	}
	return ""
}

// paths returns every key below t, the shortest first.
func paths(t reflect.Type, path []string) [][]string {
	var all [][]string
	for _, f := range Fields(t) {
		p := append(path[:len(path):len(path)], f.Key)
		all = append(all, p)
		switch f.Shape() {
		case Table:
			all = append(all, paths(f.Type, p)...)
		case Tables:
			all = append(all, paths(f.Type.Elem(), p)...)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return len(all[i]) < len(all[j]) })
	return all
}
