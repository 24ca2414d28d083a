package bind

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// Field is one key that a struct has in the file.
type Field struct {
	Key      string
	Inverted bool // a bool whose key says the opposite of the field
	Default  string
	Min, Max string
	Unit     string // "", "bytes" or "s"
	None     string
	Enum     []string

	Type  reflect.Type
	Index []int        // for reflect.Value.FieldByIndex
	Owner reflect.Type // the struct that declares it
	Name  string       // in Owner
}

// Shape is what stands under a key.
type Shape int

const (
	Scalar Shape = iota
	List         // of scalars
	Table
	Tables // [[key]]
)

// Shape tells how the field is written.
func (f Field) Shape() Shape {
	switch {
	case f.text():
		return Scalar
	case f.Type.Kind() == reflect.Struct:
		return Table
	case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		return Tables
	case f.Type.Kind() == reflect.Slice:
		return List
	}
	return Scalar
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (f Field) text() bool {
	return f.Type != durationType && reflect.PointerTo(f.Type).Implements(unmarshalerType)
}

// Fields returns the keys of a struct in the order of its fields, those of embedded and inlined structs in place.
func Fields(t reflect.Type) []Field {
	var fs []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("toml")
		if sf.Type.Kind() == reflect.Struct && (tag == ",inline" || sf.Anonymous && !ok) {
			for _, f := range Fields(sf.Type) {
				f.Index = append([]int{i}, f.Index...)
				fs = append(fs, f)
			}
			continue
		}
		if !sf.IsExported() || !ok || tag == "-" || tag == "" {
			continue
		}
		f := Field{
			Default: sf.Tag.Get("default"), Min: sf.Tag.Get("min"), Max: sf.Tag.Get("max"),
			Unit: sf.Tag.Get("unit"), None: sf.Tag.Get("none"),
			Type: sf.Type, Index: []int{i}, Owner: t, Name: sf.Name,
		}
		f.Key, f.Inverted = strings.CutPrefix(tag, "!")
		if e := sf.Tag.Get("enum"); e != "" {
			f.Enum = strings.Split(e, "|")
		}
		fs = append(fs, f)
	}
	return fs
}

// Check finds tags that contradict each other, for a test: a default outside its limits or of the wrong type, a field
// whose zero means its default but for which the file may say 0, a key used twice.
func Check(t reflect.Type) error {
	seen := map[string]bool{}
	for _, f := range Fields(t) {
		where := f.Owner.String() + "." + f.Name
		if seen[f.Key] {
			return fmt.Errorf("%s: key %s is taken", where, f.Key)
		}
		seen[f.Key] = true
		switch f.Shape() {
		case Table:
			if err := Check(f.Type); err != nil {
				return err
			}
			continue
		case Tables:
			if err := Check(f.Type.Elem()); err != nil {
				return err
			}
			continue
		case List:
			f.Type = f.Type.Elem()
		}
		if f.Inverted && f.Type.Kind() != reflect.Bool {
			return fmt.Errorf("%s: only a bool can be inverted", where)
		}
		if f.Type.Kind() == reflect.Bool && f.Default != "" {
			return fmt.Errorf("%s: a bool's default is its zero; invert the key instead", where)
		}
		for _, s := range []string{f.Default, f.Min, f.Max} {
			if s == "" {
				continue
			}
			if err := f.set(reflect.New(f.Type).Elem(), node(f, s)); err != nil {
				return fmt.Errorf("%s: tag %q: %w", where, s, err)
			}
		}
		if zero := f.set(reflect.New(f.Type).Elem(), node(f, "0")); f.number() && zero == nil && f.None == "" && !f.zeroDefault() {
			return fmt.Errorf("%s: 0 is within the limits, but would mean the default; add a none tag", where)
		}
	}
	return nil
}

func (f Field) number() bool {
	switch f.Type.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return !f.text()
	}
	return false
}

func (f Field) zeroDefault() bool {
	if f.Default == "" {
		return true
	}
	v := reflect.New(f.Type).Elem()
	return f.set(v, node(f, f.Default)) == nil && v.IsZero()
}

// Fill sets every zero field of the struct that dst points to to its default, except in lists.
func Fill(dst any) { fill(reflect.ValueOf(dst).Elem()) }

func fill(v reflect.Value) {
	for _, f := range Fields(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		switch {
		case f.Shape() == Table:
			fill(fv)
		case f.Default != "" && f.Shape() == Scalar && fv.IsZero():
			// The tags are checked by a test; a default that does not parse stays unset.
			_ = f.set(fv, node(f, f.Default))
		}
	}
}

// FillFrom sets every zero field of dst to what src holds, including lists. Both point to the same struct type.
func FillFrom(dst, src any) {
	d, s := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	for _, f := range Fields(d.Type()) {
		if fv := d.FieldByIndex(f.Index); fv.IsZero() {
			fv.Set(s.FieldByIndex(f.Index))
		} else if f.Shape() == Table {
			FillFrom(fv.Addr().Interface(), s.FieldByIndex(f.Index).Addr().Interface())
		}
	}
}

const maxInt = math.MaxInt64
