//go:build unix

package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// rows is a CSV of n devices.
func rows(n int) string {
	var csv strings.Builder
	csv.WriteString("id,groups,attr.site\n")
	for i := range n {
		fmt.Fprintf(&csv, "dev-%05d,all;g%d,north\n", i, i%7)
	}
	return csv.String()
}

func TestImportAndExport(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		const n = 10_000
		var told []Progress
		o, err := b.Import(ctx, strings.NewReader(rows(n)), ImportRequest{Format: registry.CSV}, func(p Progress) { told = append(told, p) })
		if err != nil || o.Done != n || len(o.Failed) != 0 {
			t.Fatalf("import: %d done, %v", o.Done, err)
		}
		if len(told) < 10 || told[len(told)-1] != (Progress{n, n}) {
			t.Errorf("told %+v", told)
		}
		for i := 1; i < len(told); i++ {
			if told[i].Done < told[i-1].Done || told[i].Total != n {
				t.Errorf("told %+v after %+v", told[i], told[i-1])
			}
		}
		var partial *PartialError
		if o, err := b.Import(ctx, strings.NewReader(rows(3)), ImportRequest{Format: registry.CSV}, nil); !errors.As(err, &partial) ||
			!errors.Is(err, registry.ErrExists) || o.Done != 0 || len(o.Failed) != 3 || o.Failed[2].Line != 4 {
			t.Errorf("import again: %+v %v", o, err)
		}
		if o, err := b.Import(ctx, strings.NewReader(rows(5)), ImportRequest{Format: registry.CSV, Update: true}, nil); err != nil || o.Done != 0 {
			t.Errorf("import the same: %+v %v", o, err)
		}
		if o, err := b.Import(ctx, strings.NewReader("id\nx\n"), ImportRequest{Format: registry.CSV, Check: true}, nil); err != nil || b.state("x") != "" {
			t.Errorf("check: %+v %v", o, err)
		}

		var csv, jsonl bytes.Buffer
		b.do(b.Export(ctx, &csv, registry.CSV, Query{}))
		if got := strings.Count(csv.String(), "\n"); got != n+1 {
			t.Errorf("exported %d lines", got)
		}
		b.do(b.Export(ctx, &jsonl, registry.JSONL, Query{Group: "g3"}))
		if got := strings.Count(jsonl.String(), "\n"); got != (n+3)/7 {
			t.Errorf("exported %d lines", got)
		}
		if _, err := b.Purge(ctx, Selection{Query: &Query{Group: "g3"}}, nil); err != nil {
			t.Fatal(err)
		}
		if o, err := b.Import(ctx, &jsonl, ImportRequest{Format: registry.JSONL}, nil); err != nil || o.Done != (n+3)/7 {
			t.Errorf("import what was exported: %+v %v", o, err)
		}

		var e *Error
		if err := b.Export(ctx, io.Discard, "xml", Query{}); !errors.As(err, &e) || e.Status != 422 {
			t.Errorf("export: %v", err)
		}
		if err := b.Export(ctx, failing{}, registry.CSV, Query{}); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("export to a full disk: %v", err)
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestBadImports(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			name, in string
			format   registry.Format
			lines    []int // of failures
			text     string
		}{
			{"empty", "", registry.CSV, []int{1}, "no line with the names of columns"},
			{"no rows", "id\n", registry.CSV, nil, ""},
			{"ids", "id\na b\nok\n\x00\nok\n", registry.CSV, []int{2, 4, 5}, ""},
			{"columns", "id,colour\nx,red\n", registry.CSV, []int{1}, "colour"},
			{"quote", "id\n\"x\n", registry.CSV, []int{2}, "quoted-field"},
			{"json", "{\"id\":\"x\"}\n{\"id\":7}\n[\n", registry.JSONL, []int{2, 3}, ""},
			{"field", "{\"id\":\"x\",\"colour\":\"red\"}\n", registry.JSONL, []int{1}, "colour"},
			{"binary", strings.Repeat("\xff\x00\r", 4000), registry.JSONL, []int{1}, ""},
			{"long line", strings.Repeat("x", 1<<20), registry.JSONL, []int{1}, "longer than"},
			{"format", "id\nx\n", "xml", nil, "csv or jsonl wanted"},
		} {
			o, err := b.Import(b.t.Context(), strings.NewReader(c.in), ImportRequest{Format: c.format}, nil)
			var lines []int
			for _, f := range o.Failed {
				lines = append(lines, f.Line)
			}
			if fmt.Sprint(lines) != fmt.Sprint(c.lines) || (err == nil) != (c.lines == nil && c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %+v %v", c.name, o, err)
			}
		}
		if b.f.Registry.Len() != 0 {
			t.Error("something was imported")
		}
		for _, q := range []string{"", "?format=csv&format=csv", "?format=csv&update=perhaps", "?format=csv&colour=red", "?format=%zz"} {
			if status, e := b.ask("POST", "/v1/devices/import"+q, "id\nx\n"); status < 400 || e.Text == "" {
				t.Errorf("%s: %d %+v", q, status, e)
			}
		}
	})
}

func TestImportIsBounded(t *testing.T) {
	text := "id\n" + strings.Repeat("x", 100)
	if got, err := io.ReadAll(&boundedReader{r: strings.NewReader(text), left: int64(len(text))}); string(got) != text || err != nil {
		t.Errorf("read %d bytes: %v", len(got), err)
	}
	if _, err := io.ReadAll(&boundedReader{r: strings.NewReader(text), left: int64(len(text)) - 1}); err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("read too much: %v", err)
	}
	bothWays(t, func(t *testing.T, b *bench) {
		r, err := http.NewRequest("POST", "http://broker/v1/devices/import?format=csv", io.LimitReader(rand.Reader, MaxImport+1))
		b.do(err)
		r.ContentLength = MaxImport + 1
		resp, err := b.raw.Do(r)
		if err == nil { // the answer may be overtaken by the end of the connection
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
		b.until(func() bool { return strings.Contains(b.log.String(), "more than 67108864 bytes") })

		// One after the other.
		begun, end := make(chan struct{}), make(chan struct{})
		b.s.submit = func([]*store.Op) error {
			close(begun)
			<-end
			return nil
		}
		done := make(chan error, 1)
		go func() {
			_, err := b.Import(context.Background(), strings.NewReader("id\nx\n"), ImportRequest{Format: registry.CSV}, nil)
			done <- err
		}()
		select {
		case <-begun:
		case err := <-done:
			t.Fatalf("the first import: %v", err)
		}
		var e *Error
		if _, err := b.Import(t.Context(), strings.NewReader(rows(1)), ImportRequest{Format: registry.CSV}, nil); !errors.As(err, &e) || e.Code != CodeBusy {
			t.Errorf("import during another: %v", err)
		}
		if _, err := b.Device(t.Context(), "nobody"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("a question during an import: %v", err)
		}
		close(end)
		if err := <-done; err != nil || b.state("x") != registry.Active {
			t.Errorf("the first import: %v", err)
		}
	})
}

// One that goes away while it sends changes nothing; while it waits, what is done stays done.
func TestImportEndsWithWhoAsked(t *testing.T) {
	bothWays(t, func(t *testing.T, b *bench) {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := b.Import(ctx, r, ImportRequest{Format: registry.CSV}, nil)
			done <- err
		}()
		_, err := io.WriteString(w, "id\nx\n")
		b.do(err)
		cancel()
		w.CloseWithError(context.Canceled)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("import: %v", err)
		}
		b.until(func() bool { return strings.Contains(b.log.String(), "control request failed") })
		if b.state("x") != "" {
			t.Error("half an import was made")
		}

		ctx, cancel = context.WithCancel(t.Context())
		n := 0
		b.s.submit = func(ops []*store.Op) error {
			if n += len(ops); n > 1000 {
				cancel()
			}
			return nil
		}
		if _, err := b.Import(ctx, strings.NewReader(rows(20_000)), ImportRequest{Format: registry.CSV}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("import: %v", err)
		}
		b.until(func() bool { return strings.Count(b.log.String(), "control request failed") == 2 })
		if got := b.f.Registry.Len(); got < 1000 || got == 20_000 {
			t.Errorf("%d devices", got)
		}
	})
}
