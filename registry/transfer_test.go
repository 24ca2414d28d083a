package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pki"
)

func csvOf(b *bench, format Format) string {
	b.t.Helper()
	var out bytes.Buffer
	if err := b.Export(&out, format, Query{}, nil); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

func TestImportCSV(t *testing.T) {
	b := newBench(t, Options{})
	n, err := b.Import(b.ctx, strings.NewReader("\uFEFFID, groups ,attr.Site,note\r\npump-1,sensors; north,hall 1,'=1+1\r\n-dash,,\"a,b\nc\",\r\n"),
		ImportOptions{Format: CSV})
	if err == nil || !strings.Contains(err.Error(), "line 3: attribute Site is not printable") || n != 0 || b.Len() != 0 {
		t.Fatalf("%d, %v", n, err)
	}
	n, err = b.Import(b.ctx, strings.NewReader("\uFEFFID, groups ,attr.Site,note\r\npump-1,sensors; north,hall 1,'=1+1\r\n-dash,,\"a,b\",\r\n"),
		ImportOptions{Format: CSV})
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	const want = `id,groups,state,note,attr.Site,created,changed,seen_at,seen_address,firmware,serial,not_after
'-dash,,active,,"a,b",2026-07-01T12:00:00Z,2026-07-01T12:00:00Z,,,,,
pump-1,north;sensors,active,'=1+1,hall 1,2026-07-01T12:00:00Z,2026-07-01T12:00:00Z,,,,,
`
	got := csvOf(b, CSV)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d, _ := b.Get("pump-1"); d.Note != "=1+1" || d.Attributes["Site"] != "hall 1" {
		t.Errorf("%+v", d)
	}
	// Its own export changes nothing.
	if n, err := b.Import(b.ctx, strings.NewReader(got), ImportOptions{Format: CSV, Update: true}); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// A column that is missing stays as it is; one that is empty is cleared.
	if n, err := b.Import(b.ctx, strings.NewReader("id,note\npump-1,\nnew,x\n"), ImportOptions{Format: CSV, Update: true}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if d, _ := b.Get("pump-1"); d.Note != "" || d.Attributes["Site"] != "hall 1" || len(d.Groups) != 2 {
		t.Errorf("%+v", d)
	}
	if n, err := b.Import(b.ctx, strings.NewReader("id,attr.Site,state\npump-1,,disabled\n"), ImportOptions{Format: CSV, Update: true}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if d, _ := b.Get("pump-1"); d.State != Disabled || d.Attributes != nil || len(d.Groups) != 2 {
		t.Errorf("%+v", d)
	}
}

// All that is wrong is said at once, with its line, and nothing is imported.
func TestImportErrors(t *testing.T) {
	b := newBench(t, Options{})
	b.device("there")
	b.device("gone")
	b.do(b.Revoke(b.ctx, pki.Unspecified, "gone"))
	for _, c := range []struct {
		format Format
		update bool
		in     string
		want   []string
	}{
		{CSV, false, "", []string{"line 1: no line with the names"}},
		{CSV, false, "groups,odd,attr.,attr.x,attr.x\n", []string{`line 1: column "odd"`, `line 1: column "attr."`, `line 1: column "attr.x" comes twice`, "line 1: no column id"}},
		{CSV, false, "id,state\na,odd\nb\nok,\nc d,\nok,\nthere,active\n", []string{`line 2: state "odd"`, "line 3: 1 columns", "line 5: device id", "line 6: device ok is on line 4", "line 7: device there: the device exists"}},
		{CSV, true, "id,state\nthere,\ngone,active\n", []string{"line 3: device gone: the device is revoked"}},
		{CSV, false, "id\n\"a\n", []string{"line 2: "}},
		{JSONL, false, "{}\n\n{\"id\":\"a\"}\n{\"id\":\"b\",\"x\":1}\n{\"id\":\"c\"}{}\n[]\n{\"id\":\"e\",\"certificates\":[{}]}\n", []string{"line 1: device id is empty",
			`line 4: json: unknown field "x"`, "line 5: more than one object", "line 6: ", "line 7: serial"}},
		{JSONL, false, "{\"note\":\"" + strings.Repeat("x", maxLine), []string{"line 1: longer than"}},
		{"xml", false, "", []string{`format "xml"`}},
	} {
		n, err := b.Import(b.ctx, strings.NewReader(c.in), ImportOptions{Format: c.format, Update: c.update})
		if err == nil || n != 0 {
			t.Errorf("%.80q: %d, %v", c.in, n, err)
			continue
		}
		lines := strings.Split(strings.TrimPrefix(err.Error(), "import devices: "), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("%.80q: %q", c.in, lines)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%.80q: %q, want %q", c.in, lines[i], want)
			}
		}
	}
	if b.Len() != 2 {
		t.Error("something was imported")
	}
}

// A JSON export is all there is: another registry that imports it says the same of every certificate.
func TestTransferJSON(t *testing.T) {
	b := newBench(t, Options{})
	leaf, lost := b.device("one", "g"), b.device("two")
	b.do(b.Update(b.ctx, "one", func(d *Device) error { d.Attributes = map[string]string{"a": "<b>"}; return nil }))
	next := b.ca.issue(t, "device", "one", 1)
	b.do(b.Issued(b.ctx, "one", next))
	b.do(b.Supersede(b.ctx, "one", serialOf(next)))
	b.do(b.Revoke(b.ctx, pki.KeyCompromise, "two"))
	text := csvOf(b, JSONL)
	other := newBench(t, Options{})
	if n, err := other.Import(b.ctx, strings.NewReader(text), ImportOptions{Format: JSONL}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if diff := cmp.Diff(text, csvOf(other, JSONL)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(b.Revoked(KeyID(b.ca.cert)), other.Revoked(KeyID(b.ca.cert)), cmp.Comparer(func(a, b pki.Revoked) bool {
		return a.Serial.Cmp(b.Serial) == 0 && a.Reason == b.Reason && a.At.Equal(b.At)
	})); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if other.Check(leaf).Cause != CauseSuperseded || other.Check(next).Decision != Allow || other.Check(lost).Cause != CauseRevoked {
			t.Error("the verdicts are others")
		}
		if _, err := other.Import(b.ctx, strings.NewReader(text), ImportOptions{Format: JSONL, Update: true}); err != nil {
			t.Error(err)
		}
	}
	stolen := strings.Replace(text, `"id":"one"`, `"id":"thief"`, 1)
	if _, err := other.Import(b.ctx, strings.NewReader(stolen), ImportOptions{Format: JSONL, Update: true}); err == nil || !strings.Contains(err.Error(), "is that of one") {
		t.Errorf("a certificate of two devices: %v", err)
	}
}

// Ten thousand, with progress; when the store refuses, the error names who is missing.
func TestImportMany(t *testing.T) {
	b := newBench(t, Options{})
	b.Registry.watch.fns = nil
	in := func(from, to int) *strings.Reader {
		var s strings.Builder
		s.WriteString("id,groups\n")
		for i := from; i < to; i++ {
			fmt.Fprintf(&s, "device-%05d,g%d\n", i, i%10)
		}
		return strings.NewReader(s.String())
	}
	var calls []int
	o := ImportOptions{Format: CSV, Progress: func(done, total int) {
		if calls = append(calls, done); total != 10_000 {
			t.Errorf("of %d", total)
		}
	}}
	if n, err := b.Import(b.ctx, in(0, 10_000), o); n != 10_000 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if len(calls) != 11 || calls[0] != 0 || calls[1] != batchMost || calls[10] != 10_000 {
		t.Errorf("%v", calls)
	}
	ids, _ := b.IDs(Query{Group: "g3"})
	if len(ids) != 1000 {
		t.Errorf("%d in a group", len(ids))
	}
	b.do(b.Revoke(b.ctx, pki.CessationOfOperation, ids...))
	b.s.set(errFull)
	o.Progress = nil
	if n, err := b.Import(b.ctx, in(10_000, 10_003), o); n != 0 || !errors.Is(err, errFull) || strings.Count(err.Error(), `import device "device-1000`) != 3 {
		t.Errorf("%d, %v", n, err)
	}
}

// FuzzImport: no file makes an import panic, or leaves a device that is not as it must be.
func FuzzImport(f *testing.F) {
	f.Add("id,groups,attr.x,state\na,b;c,d,pending\n", true)
	f.Add(`{"id":"a","state":"active","certificates":[{"serial":"01","issuer":"`+strings.Repeat("0", 64)+`","spki":"`+strings.Repeat("1", 64)+
		`","not_before":"2026-01-01T00:00:00Z","not_after":"2027-01-01T00:00:00Z","state":"active"}]}`, false)
	f.Fuzz(func(t *testing.T, in string, isCSV bool) {
		r, err := Open(memoryStore(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		o := ImportOptions{Format: JSONL, Update: true}
		if isCSV {
			o.Format = CSV
		}
		if _, err := r.Import(t.Context(), strings.NewReader(in), o); err != nil {
			return
		}
		again, err := Open(r.s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var a, b bytes.Buffer
		if err := errors.Join(r.Export(&a, o.Format, Query{}, nil), again.Export(&b, o.Format, Query{}, nil)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a.String(), b.String()); diff != "" {
			t.Fatal(diff)
		}
		if n, err := r.Import(t.Context(), &a, o); err != nil || o.Format == CSV && n != 0 {
			t.Fatalf("its own export: %d, %v\n%s", n, err, b.String())
		}
	})
}
