package bind

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type sample struct {
	Name   string        `toml:"name" default:"none"`
	Level  string        `toml:"level" enum:"debug|info|warn" default:"info"`
	Wait   time.Duration `toml:"wait" default:"15s" min:"1s" max:"10m"`
	Expiry uint32        `toml:"expiry" unit:"s" default:"3600" min:"1"`
	Size   int64         `toml:"size" unit:"bytes" default:"64KiB" min:"1KiB" max:"1GiB"`
	Count  int           `toml:"count" default:"10" min:"0" max:"65535" none:"-1"`
	Small  uint8         `toml:"small"`
	Ratio  float64       `toml:"ratio" default:"0.5" min:"0.1" max:"1"`
	NoTLS  bool          `toml:"!tls"`
	Hosts  []string      `toml:"hosts"`
	Mode   mode          `toml:"mode"`
	Hidden func()
	inner
	Named  pair   `toml:",inline"`
	Limits limits `toml:"limits"`
	Lines  []line `toml:"listener"`
}

type inner struct {
	Deep int `toml:"deep"`
}

type pair struct {
	Left  string `toml:"left"`
	Right string `toml:"right"`
}

type limits struct {
	Depth   int  `toml:"depth" default:"4" min:"1"`
	NoShare bool `toml:"!share"`
}

type line struct {
	Address string `toml:"address"`
	Limits  limits `toml:"limits"`
}

type mode int

func (m *mode) UnmarshalText(b []byte) error {
	for i, s := range []string{"never", "always"} {
		if s == string(b) {
			*m = mode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is neither never nor always", b)
}

func (m mode) MarshalText() ([]byte, error) { return []byte([]string{"never", "always"}[m&1]), nil }

func TestCheck(t *testing.T) {
	if err := Check(reflect.TypeFor[sample]()); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]any{
		"default out of range": struct {
			N int `toml:"n" default:"5" max:"4"`
		}{},
		"zero is the default but allowed": struct {
			N int `toml:"n" default:"5" min:"0"`
		}{},
		"bool with default": struct {
			B bool `toml:"b" default:"true"`
		}{},
		"key twice": struct {
			A int `toml:"a"`
			B int `toml:"a"`
		}{},
		"type without a form": struct {
			C chan int `toml:"c" default:"1"`
		}{},
	} {
		if Check(reflect.TypeOf(bad)) == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

// The files hold pairs of input and outcome, each introduced by "== name": the input, a line of four dashes, and the
// errors, or the effective result when there is none. UPDATE=1 rewrites them.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no test data")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for i, part := range strings.Split(string(data), "== ") {
			name, body, _ := strings.Cut(part, "\n")
			input, want, ok := strings.Cut(body, "----\n")
			if i == 0 || !ok {
				out.WriteString(part)
				continue
			}
			have := outcome(strings.NewReplacer("<CR>", "\r", "<BOM>", "\ufeff", "<NUL>", "\x00").Replace(input)) + "\n"
			fmt.Fprintf(&out, "== %s\n%s----\n%s", name, input, have)
			if os.Getenv("UPDATE") == "" && have != want {
				t.Errorf("%s: %s\n%s", file, name, cmp.Diff(want, have))
			}
		}
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(out.String()), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func outcome(input string) string {
	d, ps := Parse("f", []byte(input))
	s := sample{}
	ps = append(ps, Bind(d, &s, Options{
		Element: func(_ string, e any) { e.(*line).Limits = s.Limits },
		Hints:   map[string]string{"cafile": "it is client_ca here"},
	})...)
	if err := ps.Err(); err != nil {
		return err.Error() + "\n"
	}
	Fill(&s)
	var b strings.Builder
	if err := Write(&b, &s); err != nil {
		return err.Error()
	}
	var set []string
	for l := range strings.Lines(b.String()) {
		if !strings.HasSuffix(l, "# default\n") && l != "\n" {
			set = append(set, l)
		}
	}
	return strings.Join(set, "")
}

// What Write prints reads back to the same values.
func TestRoundTrip(t *testing.T) {
	lim := rapid.Custom(func(t *rapid.T) limits {
		return limits{Depth: rapid.IntRange(1, 99).Draw(t, "depth"), NoShare: rapid.Bool().Draw(t, "share")}
	})
	rapid.Check(t, func(t *rapid.T) {
		s := sample{
			Name: rapid.String().Draw(t, "name"), Level: rapid.SampledFrom([]string{"debug", "info"}).Draw(t, "level"),
			Wait:   time.Duration(rapid.Int64Range(int64(time.Second), int64(10*time.Minute)).Draw(t, "wait")),
			Expiry: rapid.Uint32Min(1).Draw(t, "expiry"), Size: rapid.Int64Range(1024, 1<<30).Draw(t, "size"),
			Count: rapid.SampledFrom([]int{-1, 1, 7}).Draw(t, "count"), Small: rapid.Byte().Draw(t, "small"),
			Ratio: rapid.Float64Range(0.1, 1).Draw(t, "ratio"), NoTLS: rapid.Bool().Draw(t, "tls"),
			Hosts: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "hosts"), Mode: mode(rapid.IntRange(0, 1).Draw(t, "mode")),
			inner: inner{Deep: rapid.Int().Draw(t, "deep")}, Named: pair{Left: rapid.String().Draw(t, "left")},
			Limits: lim.Draw(t, "limits"),
			Lines:  []line{{Address: "a", Limits: lim.Draw(t, "l1")}, {Address: "b", Limits: lim.Draw(t, "l2")}},
		}
		Fill(&s)
		var b bytes.Buffer
		if err := Write(&b, &s); err != nil {
			t.Fatal(err)
		}
		d, ps := Parse("f", b.Bytes())
		var back sample
		if err := append(ps, Bind(d, &back, Options{})...).Err(); err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if diff := cmp.Diff(s, back, cmp.AllowUnexported(sample{}, inner{})); diff != "" {
			t.Fatalf("%s\n%s", diff, b.String())
		}
	})
}

func TestManyProblems(t *testing.T) {
	d, ps := Parse("f", []byte(strings.Repeat("x = 1\n", 1000)))
	err := append(ps, Bind(d, &sample{}, Options{})...).Err()
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxShown+1 || lines[maxShown] != "and 800 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestFillFrom(t *testing.T) {
	dst := limits{Depth: 9}
	FillFrom(&dst, &limits{Depth: 5, NoShare: true})
	if want := (limits{Depth: 9, NoShare: true}); dst != want {
		t.Errorf("%+v, want %+v", dst, want)
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"15s": 15 * time.Second, "1m30s": 90 * time.Second, "1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour,
		"1w1d1h": 193 * time.Hour, "0s": 0, "250ms": 250 * time.Millisecond,
	} {
		if d, err := ParseDuration(s); d != want || err != nil {
			t.Errorf("%q: %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "15", "d", "-1d", "1d-1h", "1d2d", "99999999999999999d", "15251w", "106751d99999h", "1h1d"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "d"))
		if back, err := ParseDuration(FormatDuration(d)); err != nil || back != d {
			t.Fatalf("%d → %s → %d, %v", d, FormatDuration(d), back, err)
		}
	})
}

func TestSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1500": 1500, "64KiB": 65536, "2 MB": 2e6, "1.5GiB": 3 << 29, "1TiB": 1 << 40, "7B": 7, "8191PiB": -1,
		"9223372036854775807": math.MaxInt64, "9223372036854775808": -1, "": -1, "KiB": -1, "-1KiB": -1, "1e9": -1,
		"1.1B": -1, "64 kib": -1, "1..2KiB": -1, ".": -1, "99999999TiB": -1,
	} {
		if n, err := ParseSize(s); err == nil && n != want || err != nil && want >= 0 {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		if back, err := ParseSize(FormatSize(n)); err != nil || back != n {
			t.Fatalf("%d → %s → %d, %v", n, FormatSize(n), back, err)
		}
	})
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"adress", "address", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// No input makes the loader panic, and each ends with a result or with errors that carry a text and a possible line.
func FuzzBind(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "== ") {
			_, body, _ := strings.Cut(part, "\n")
			input, _, _ := strings.Cut(body, "----\n")
			f.Add([]byte(input))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, ps := Parse("f", data)
		var s sample
		ps = append(ps, Bind(d, &s, Options{})...)
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, p := range ps {
			if p.Text == "" || p.Line < 1 || p.Line > lines {
				t.Errorf("line %d of %d: %q: %q", p.Line, lines, p.Key, p.Text)
			}
		}
		if len(ps) > 0 {
			return
		}
		Fill(&s)
		var b bytes.Buffer
		if err := Write(&b, &s); err != nil {
			t.Fatal(err)
		}
		d, ps = Parse("f", b.Bytes())
		if err := append(ps, Bind(d, &sample{}, Options{})...).Err(); err != nil {
			t.Fatalf("what was printed does not read back: %v\n%s", err, b.String())
		}
	})
}
