package bind

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Write prints the struct that src points to as TOML, every key, with a note where the value is the default.
// Bind reads it back to the same struct, once Fill was applied to src.
func Write(w io.Writer, src any) error {
	p := &printer{w: w}
	p.table(reflect.ValueOf(src).Elem(), nil)
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table prints the scalars first: after a header the file cannot return to the table above.
func (p *printer) table(v reflect.Value, path []string) {
	fields := Fields(v.Type())
	for _, f := range fields {
		if s := f.Shape(); s == Scalar || s == List {
			text := f.Format(v.FieldByIndex(f.Index))
			note := ""
			if f.isDefault(v.FieldByIndex(f.Index)) {
				note = " # default"
			}
			p.printf("%s = %s%s\n", f.Key, text, note)
		}
	}
	for _, f := range fields {
		below := append(path[:len(path):len(path)], f.Key)
		switch f.Shape() {
		case Table:
			if slices.ContainsFunc(Fields(f.Type), func(f Field) bool { s := f.Shape(); return s == Scalar || s == List }) {
				p.printf("\n[%s]\n", dot(below))
			}
			p.table(v.FieldByIndex(f.Index), below)
		case Tables:
			list := v.FieldByIndex(f.Index)
			for i := range list.Len() {
				p.printf("\n[[%s]]\n", dot(below))
				p.table(list.Index(i), below)
			}
		}
	}
}

func (f Field) isDefault(v reflect.Value) bool {
	if f.Shape() == List {
		return v.Len() == 0
	}
	if v.IsZero() {
		return true
	}
	if f.Default == "" {
		return false
	}
	d := reflect.New(f.Type).Elem()
	return f.set(d, node(f, f.Default)) == nil && d.Equal(v)
}

// Format writes the field's value as it stands in a file; a zero that means the default as the default.
func (f Field) Format(v reflect.Value) string {
	if f.Shape() == List {
		item := f
		item.Type = f.Type.Elem()
		words := make([]string, v.Len())
		for i := range words {
			words[i] = item.Format(v.Index(i))
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	if v.IsZero() && f.Default != "" {
		v = reflect.New(f.Type).Elem()
		_ = f.set(v, node(f, f.Default))
	}
	if f.text() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			if b, err := m.MarshalText(); err == nil {
				return quote(string(b))
			}
		}
		if s, ok := v.Interface().(fmt.Stringer); ok {
			return quote(s.String())
		}
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool() != f.Inverted)
	case reflect.Float32, reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	var x int64
	if v.CanUint() {
		x = int64(min(v.Uint(), maxInt))
	} else {
		x = v.Int()
	}
	if f.None != "" && strconv.FormatInt(x, 10) == f.None {
		x = 0
	}
	switch {
	case f.Type == durationType:
		return quote(FormatDuration(time.Duration(x)))
	case f.Unit == "bytes":
		if s := FormatSize(x); s != strconv.FormatInt(x, 10) {
			return quote(s)
		}
	}
	return strconv.FormatInt(x, 10)
}

// Show returns the field's default as it stands in a file; of a field without one, its zero.
func (f Field) Show() string { return f.Format(reflect.New(f.Type).Elem()) }
