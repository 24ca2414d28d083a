package enroll

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// The part of CBOR (RFC 8949) that fleet provisioning needs: objects of texts, and of objects of texts. Members of other
// kinds are skipped.

var errCBOR = errors.New("no CBOR object")

const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	indefinite = math.MaxUint64
	cborBreak  = 0xFF
	maxDepth   = 8
)

// cborObject has texts as string, and objects of texts as map[string]string.
type cborObject map[string]any

func (m cborObject) text(name string) (string, error) {
	switch v := m[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", fmt.Errorf("member %s is not a text", name)
}

func (m cborObject) texts(name string) (map[string]string, error) {
	switch v := m[name].(type) {
	case nil:
		return nil, nil
	case cborObject:
		out := make(map[string]string, len(v))
		for k, e := range v {
			text, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("member %s has a value that is not a text", name)
			}
			out[k] = text
		}
		return out, nil
	}
	return nil, fmt.Errorf("member %s is not an object", name)
}

// decodeCBOR reads one object, which must be all there is.
func decodeCBOR(b []byte) (cborObject, error) {
	d := cborDecoder{b: b}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(cborObject)
	if !ok || len(d.b) > 0 {
		return nil, errCBOR
	}
	return m, nil
}

type cborDecoder struct{ b []byte }

// head reads the head of an item: its kind and its length or value.
func (d *cborDecoder) head() (major byte, n uint64, err error) {
	if len(d.b) == 0 {
		return 0, 0, errCBOR
	}
	major, info := d.b[0]>>5, d.b[0]&31
	d.b = d.b[1:]
	size := 0
	switch {
	case info < 24:
		return major, uint64(info), nil
	case info < 28:
		size = 1 << (info - 24)
	case info == 31 && major >= majorBytes && major <= majorMap:
		return major, indefinite, nil
	default:
		return 0, 0, errCBOR
	}
	if len(d.b) < size {
		return 0, 0, errCBOR
	}
	var wide [8]byte
	copy(wide[8-size:], d.b[:size])
	d.b = d.b[size:]
	if n = binary.BigEndian.Uint64(wide[:]); n == indefinite && major >= majorBytes && major <= majorMap {
		return 0, 0, errCBOR
	}
	return major, n, nil
}

// more reports whether an array or object goes on after i items.
func (d *cborDecoder) more(i, n uint64) bool {
	if n != indefinite {
		return i < n
	}
	if len(d.b) > 0 && d.b[0] == cborBreak {
		d.b = d.b[1:]
		return false
	}
	return true
}

// value reads one item: a string, a cborObject, or nil for anything else.
func (d *cborDecoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errCBOR
	}
	major, n, err := d.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case majorBytes, majorText:
		if n > uint64(len(d.b)) { // so is one of indefinite length
			return nil, errCBOR
		}
		text := d.b[:n]
		d.b = d.b[n:]
		if major == majorBytes {
			return []byte(nil), nil
		}
		if !utf8.Valid(text) {
			return nil, errCBOR
		}
		return string(text), nil
	case majorArray:
		for i := uint64(0); d.more(i, n); i++ {
			if _, err := d.value(depth + 1); err != nil {
				return nil, err
			}
		}
		return []any(nil), nil
	case majorMap:
		return d.object(n, depth)
	case majorTag:
		return d.value(depth + 1)
	}
	return n, nil // a number, or one of the simple values
}

func (d *cborDecoder) object(n uint64, depth int) (any, error) {
	m := make(cborObject)
	for i := uint64(0); d.more(i, n); i++ {
		k, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if name, ok := k.(string); ok {
			m[name] = v
		}
	}
	return m, nil
}

func cborHead(b *bytes.Buffer, major byte, n int) {
	major <<= 5
	switch {
	case n < 24:
		b.WriteByte(major | byte(n))
	case n <= math.MaxUint8:
		b.Write([]byte{major | 24, byte(n)})
	case n <= math.MaxUint16:
		b.Write(binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n)))
	default:
		b.Write(binary.BigEndian.AppendUint32([]byte{major | 26}, uint32(n)))
	}
}

func cborText(b *bytes.Buffer, s string) {
	cborHead(b, majorText, len(s))
	b.WriteString(s)
}

// appendCBOR writes an answer, its members in order of their names.
func appendCBOR(b *bytes.Buffer, m awsAnswer) {
	cborHead(b, majorMap, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		cborText(b, k)
		switch v := m[k].(type) {
		case string:
			cborText(b, v)
		case int:
			cborHead(b, majorUint, v)
		case map[string]string:
			cborHead(b, majorMap, len(v))
			for _, k := range slices.Sorted(maps.Keys(v)) {
				cborText(b, k)
				cborText(b, v[k])
			}
		}
	}
}
