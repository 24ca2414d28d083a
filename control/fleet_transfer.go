package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/registry"
)

// exportWriter gives its reader time, and remembers whether there is an answer already.
type exportWriter struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

func (w *exportWriter) Write(b []byte) (int, error) {
	w.begun = true
	_ = w.rc.SetWriteDeadline(time.Now().Add(streamTimeout))
	return w.w.Write(b)
}

func (f *Fleet) export(w http.ResponseWriter, r *http.Request) {
	out := &exportWriter{w: w, rc: http.NewResponseController(w)}
	err := readBody(w, out.rc, r, maxBody)
	if err == nil {
		err = f.exportTo(out, r)
	}
	switch {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler) // cuts the answer off, so that it is not taken for whole
	default:
		reply(w, out.rc, nil, err)
	}
}

func (f *Fleet) exportTo(out *exportWriter, r *http.Request) error {
	reg, err := f.registry()
	if err != nil {
		return err
	}
	v, err := once(r.URL.RawQuery, append(queryNames(), "format")...)
	if err != nil {
		return err
	}
	q, err := queryOf(v)
	if err != nil {
		return err
	}
	out.w.Header().Set("Content-Type", "application/octet-stream")
	return reg.Export(out, registry.Format(v["format"]), q.registry(), nil)
}

// patientReader gives whoever sends a body time for each piece.
type patientReader struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(idleTimeout))
	return p.r.Read(b)
}

func (f *Fleet) importDevices(r *http.Request, st *stream) (string, int, error) {
	if r.ContentLength > MaxImport {
		return "", 0, &http.MaxBytesError{Limit: MaxImport}
	}
	in := &patientReader{http.MaxBytesReader(st.w, r.Body, MaxImport), st.rc}
	done, err := f.importFrom(r, st, in)
	_, _ = io.Copy(io.Discard, in) // one that still sends does not hear the answer
	_ = st.rc.SetReadDeadline(time.Time{})
	return r.URL.Query().Get("format"), done, err
}

func (f *Fleet) importFrom(r *http.Request, st *stream, in io.Reader) (int, error) {
	reg, err := f.registry()
	if err != nil {
		return 0, err
	}
	v, err := once(r.URL.RawQuery, "format", "update", "check")
	if err != nil {
		return 0, err
	}
	o := registry.ImportOptions{Format: registry.Format(v["format"])}
	for name, flag := range map[string]*bool{"update": &o.Update, "check": &o.Check} {
		if text := v[name]; text != "" {
			if *flag, err = strconv.ParseBool(text); err != nil {
				return 0, badRequest("read query: %s %.40q: true or false wanted", name, text)
			}
		}
	}
	if !f.imports.TryLock() {
		return 0, &Error{Text: "another import is under way", Code: CodeBusy, Advice: "try again when it is done", Status: http.StatusConflict}
	}
	defer f.imports.Unlock()
	// All of it before the first row is looked at, so that who leaves meanwhile is noticed.
	body, err := io.ReadAll(in)
	if err != nil {
		return 0, err
	}
	_ = st.rc.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	o.Progress = func(done, total int) {
		if st.progress(done, total) != nil {
			cancel()
		}
	}
	done, err := reg.Import(ctx, bytes.NewReader(body), o)
	return done, rowErrors(st, err)
}

// rowErrors tells of each line that is wrong, and returns an error that is about no line.
func rowErrors(st *stream, err error) error {
	var row *registry.RowError
	if !errors.As(err, &row) {
		return err
	}
	for _, e := range leaves(err) {
		if !errors.As(e, &row) {
			return err
		}
		if st.failed("", row.Line, row.Err) != nil {
			return st.err
		}
	}
	return nil
}

// leaves are the errors that were joined.
func leaves(err error) (out []error) {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if row, ok := e.(*registry.RowError); ok {
			return []error{row}
		}
		if joined, ok := e.(interface{ Unwrap() []error }); ok {
			for _, one := range joined.Unwrap() {
				out = append(out, leaves(one)...)
			}
			return out
		}
	}
	return []error{err}
}
