//go:build unix

package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/enroll"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
)

// An error is the same at either end.
func TestErrorsTravel(t *testing.T) {
	for _, m := range meanings() {
		e := asError(fmt.Errorf("do something: %w", m.err))
		if e.Code != m.code || e.Status != m.status || e.Text != "do something: "+m.err.Error() {
			t.Errorf("%v became %+v", m.err, e)
		}
		if got := (&Error{Code: e.Code}); m.err != enroll.ErrClosed && !errors.Is(got, m.err) {
			t.Errorf("%s is not %v", e.Code, m.err)
		}
	}
	for _, err := range []error{registry.ErrUnknown, identity.ErrDisabled, pki.ErrNotSeen, store.ErrDegraded, &pki.Refusal{Code: pki.CodeKeyUsed}} {
		if errors.Is(&Error{Code: CodeRequest}, err) || errors.Is(&Error{}, err) {
			t.Errorf("any error is %v", err)
		}
	}
	e := asError(fmt.Errorf("sign: %w", &pki.Refusal{Code: pki.CodeKeySmall, Step: "check the key", Err: errors.New("1024 bits")}))
	var r *pki.Refusal
	if !errors.As(&Error{Text: e.Text, Code: e.Code}, &r) || r.Code != pki.CodeKeySmall || e.Advice == "" || e.Text != "sign: check the key: 1024 bits" {
		t.Errorf("refusal %+v", e)
	}
}

// An answer of lines that is cut off, or none, is an error.
func TestCutAnswers(t *testing.T) {
	const whole = `{"device":{"id":"a"}}` + "\n" + `{"progress":{"done":1,"total":2}}` + "\n" + `{"failed":{"id":"b","error":"no"}}` + "\n" + `{"end":{"done":1}}`
	read := func(s string) (int, error) {
		return new(Client).lines(&http.Response{Body: io.NopCloser(strings.NewReader(s))}, func(line) error { return nil })
	}
	for n := range whole {
		if _, err := read(whole[:n]); err == nil {
			t.Errorf("%d bytes are an answer", n)
		}
	}
	if n, err := read(whole); n != 1 || err != nil {
		t.Errorf("%d done, %v", n, err)
	}
	if n, err := read(`{"end":{"done":7,"error":{"error":"full","code":"store"}}}`); n != 7 || !errors.Is(err, store.ErrDegraded) {
		t.Errorf("%d done, %v", n, err)
	}
	if _, err := read(strings.Repeat("x", maxLine+1)); err == nil {
		t.Error("a line without end")
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"device":null}` + "\n" + `{"end":{}}`))
	f.Add([]byte(`{"failed":{"line":-1}}` + "\n" + `{"end":{"done":1,"error":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := Outcome{}
		_, err := new(Client).lines(&http.Response{Body: io.NopCloser(bytes.NewReader(b))}, func(l line) error {
			if l.Failed != nil {
				o.Failed = append(o.Failed, *l.Failed)
			}
			return nil
		})
		if err != nil {
			_ = err.Error()
		}
		if len(o.Failed) > 0 {
			p := &PartialError{"fuzz", o}
			_, _, _ = p.Error(), p.Hint(), errors.Is(p, registry.ErrUnknown)
		}
	})
}
