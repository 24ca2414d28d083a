package bind

import (
	"encoding"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// node makes of a tag's text what the file would hold.
func node(f Field, s string) *Node {
	n := &Node{Kind: unstable.String, Text: s}
	if f.number() && f.Type != durationType && s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && strings.Trim(s[1:], "0123456789.") == "" {
		n.Kind = unstable.Integer
		if strings.Contains(s, ".") {
			n.Kind = unstable.Float
		}
	}
	if f.Type.Kind() == reflect.Bool {
		n.Kind = unstable.Bool
	}
	return n
}

// set stores a scalar, after checking its type and range. The error's text follows "key: ".
func (f Field) set(v reflect.Value, n *Node) error {
	if f.text() {
		if n.Kind != unstable.String {
			return fmt.Errorf("want a text in quotes, got %s", got(n))
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Text))
	}
	switch v.Kind() {
	case reflect.String:
		if n.Kind != unstable.String {
			return fmt.Errorf("want a text in quotes, got %s", got(n))
		}
		if len(f.Enum) > 0 && !slices.Contains(f.Enum, n.Text) {
			return fmt.Errorf("%q is none of %s%s", n.Text, list(f.Enum), didYouMean(n.Text, f.Enum))
		}
		v.SetString(n.Text)
	case reflect.Bool:
		if n.Kind != unstable.Bool {
			return fmt.Errorf("want true or false, got %s", got(n))
		}
		v.SetBool((n.Text == "true") != f.Inverted)
	case reflect.Float32, reflect.Float64:
		x, err := strconv.ParseFloat(strings.ReplaceAll(n.Text, "_", ""), 64)
		if n.Kind != unstable.Float && n.Kind != unstable.Integer || err != nil || x != x {
			return fmt.Errorf("want a number, got %s", got(n))
		}
		if lo, err := strconv.ParseFloat(f.Min, 64); err == nil && x < lo {
			return f.outside(n)
		}
		if hi, err := strconv.ParseFloat(f.Max, 64); err == nil && x > hi {
			return f.outside(n)
		}
		v.SetFloat(x)
	default:
		return f.setInteger(v, n)
	}
	return nil
}

func (f Field) setInteger(v reflect.Value, n *Node) error {
	x, err := f.integer(n)
	if errors.Is(err, errRange) {
		return f.overflow(n)
	}
	if err != nil {
		return err
	}
	if f.Min != "" {
		if lo, err := f.integer(node(f, f.Min)); err == nil && x < lo {
			return f.outside(n)
		}
	}
	if f.Max != "" {
		if hi, err := f.integer(node(f, f.Max)); err == nil && x > hi {
			return f.outside(n)
		}
	}
	if x == 0 && f.None != "" {
		if x, err = strconv.ParseInt(f.None, 10, 64); err != nil {
			return err
		}
	}
	if v.CanUint() {
		if x < 0 || v.OverflowUint(uint64(x)) {
			return f.overflow(n)
		}
		v.SetUint(uint64(x))
		return nil
	}
	if !v.CanInt() {
		return fmt.Errorf("cannot be configured: %s has no form in a file", f.Type)
	}
	if v.OverflowInt(x) {
		return f.overflow(n)
	}
	v.SetInt(x)
	return nil
}

var errRange = errors.New("out of range")

// integer reads a number, a size or a duration, whatever the field is.
func (f Field) integer(n *Node) (int64, error) {
	switch {
	case f.Type == durationType:
		if n.Kind != unstable.String {
			return 0, fmt.Errorf("want a duration in quotes such as \"15s\", got %s", got(n))
		}
		d, err := ParseDuration(n.Text)
		return int64(d), err
	case n.Kind == unstable.Integer:
		x, err := strconv.ParseInt(n.Text, 0, 64)
		if errors.Is(err, strconv.ErrRange) {
			return 0, errRange
		}
		return x, err
	case n.Kind == unstable.String && f.Unit == "bytes":
		return ParseSize(n.Text)
	case n.Kind == unstable.String && f.Unit == "s":
		d, err := ParseDuration(n.Text)
		if err == nil && d%time.Second != 0 {
			return 0, fmt.Errorf("%q is not a whole number of seconds", n.Text)
		}
		return int64(d / time.Second), err
	case f.Unit == "bytes":
		return 0, fmt.Errorf("want a number of bytes or a size in quotes such as \"64KiB\", got %s", got(n))
	case f.Unit == "s":
		return 0, fmt.Errorf("want a number of seconds or a duration in quotes such as \"15s\", got %s", got(n))
	}
	return 0, fmt.Errorf("want a whole number, got %s", got(n))
}

func (f Field) outside(n *Node) error {
	switch text := shorten(n.Text); {
	case f.Max == "":
		return fmt.Errorf("%s is less than %s", text, f.Min)
	case f.Min == "":
		return fmt.Errorf("%s is more than %s", text, f.Max)
	default:
		return fmt.Errorf("%s is not between %s and %s", text, f.Min, f.Max)
	}
}

// overflow is for a number that the field's type cannot hold.
func (f Field) overflow(n *Node) error {
	if f.Min != "" && f.Max != "" {
		return f.outside(n)
	}
	return fmt.Errorf("%s is out of range", shorten(n.Text))
}

// got names what stands in the file instead of what is wanted.
func got(n *Node) string {
	switch n.Kind {
	case unstable.String:
		return "the text " + strconv.Quote(shorten(n.Text))
	case unstable.Array:
		return "a list"
	case unstable.Table:
		return "a table"
	case unstable.ArrayTable:
		return "a list of tables"
	case unstable.Integer, unstable.Float:
		return "the number " + shorten(n.Text)
	}
	return shorten(n.Text)
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// ParseDuration reads what time.ParseDuration does, and also d (24 h) and w (7 d) as the first unit: "30d", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	var total time.Duration
	rest := s
	for _, u := range []struct {
		suffix string
		hours  int64
	}{{"w", 7 * 24}, {"d", 24}} {
		if head, tail, ok := strings.Cut(rest, u.suffix); ok {
			n, err := strconv.ParseInt(head, 10, 64)
			if err != nil || n < 0 {
				return 0, notDuration(s)
			}
			if n > (maxInt-int64(total))/(u.hours*int64(time.Hour)) {
				return 0, errRange
			}
			total += time.Duration(n * u.hours * int64(time.Hour))
			if rest = tail; rest == "" {
				return total, nil
			}
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || total != 0 && d < 0 {
		return 0, notDuration(s)
	}
	if d > maxInt-total {
		return 0, errRange
	}
	return total + d, nil
}

func notDuration(s string) error {
	return fmt.Errorf("%q is not a duration such as \"15s\", \"2m30s\", \"1h\" or \"30d\"", shorten(s))
}

// FormatDuration is the shortest form that ParseDuration reads back.
func FormatDuration(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// ParseSize reads a number of bytes with or without a unit: "1500", "64KiB", "2 MB", "1.5GiB".
func ParseSize(s string) (int64, error) {
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	if len(number) == 0 || len(number) > 30 || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a size such as \"64KiB\", \"2MB\" or a number of bytes", shorten(s))
	}
	x, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is not a size such as \"64KiB\", \"2MB\" or a number of bytes", shorten(s))
	}
	if x.Mul(x, new(big.Rat).SetInt64(unit)); !x.IsInt() {
		return 0, fmt.Errorf("%q is not a whole number of bytes", shorten(s))
	}
	if !x.Num().IsInt64() {
		return 0, errRange
	}
	return x.Num().Int64(), nil
}

// FormatSize writes n with a binary unit where that is exact.
func FormatSize(n int64) string {
	for _, u := range sizeUnits[:4] {
		if n > 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}
