package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sealmq/sealmq/registry"
)

// Bounds of a request, and of the patience with whoever sends it.
const (
	maxBody       = 64 << 10
	maxList       = 2 << 20  // of a body with a list of thousands
	maxSelection  = 16 << 20 // of a body with a Selection
	maxHeader     = 8 << 10
	readTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
	streamTimeout = 10 * time.Minute // until a line of a long answer is taken: its reader may be a person
)

// handler answers with JSON.
type handler = func(*http.Request) (any, error)

// change is a handler of what is logged: detail says what it was about.
type change = func(*http.Request) (detail string, v any, err error)

// action answers with lines.
type action = func(*http.Request, *stream) (detail string, done int, err error)

// routes has every path with its one method.
type routes struct {
	s     *Server
	mux   *http.ServeMux
	paths map[string]string // method by path
}

func (s *Server) routes(f *Fleet) *http.ServeMux {
	p := &routes{s: s, mux: http.NewServeMux(), paths: make(map[string]string)}
	p.broker()
	p.gate(s.o.Gate)
	p.devices(f)
	p.claims(f)
	p.ca(f)
	p.policy(f)
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, maxBody, func(*http.Request) (any, error) {
			if m := p.paths[r.URL.Path]; m != "" {
				w.Header().Set("Allow", m)
				return nil, &Error{Text: fmt.Sprintf("%s takes %s", r.URL.Path, m), Code: CodeRequest, Status: http.StatusMethodNotAllowed}
			}
			return nil, &Error{Text: fmt.Sprintf("no such path: %.100q", r.URL.Path), Code: CodeUnsupported,
				Advice: "command and broker may be of different versions", Status: http.StatusNotFound}
		})
	})
	return p.mux
}

func (p *routes) add(method, path string, h http.HandlerFunc) {
	p.paths[path] = method
	p.mux.HandleFunc(method+" "+path, h)
}

// get adds a path that only tells.
func (p *routes) get(path string, h handler) {
	p.add("GET", path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, maxBody, h) })
}

// post adds a path that changes something.
func (p *routes) post(path string, h change) { p.postMuch(path, maxBody, h) }

// postMuch is post with a body of at most limit bytes.
func (p *routes) postMuch(path string, limit int64, h change) {
	p.add("POST", path, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, limit, func(r *http.Request) (any, error) {
			r = p.s.named(r)
			detail, v, err := h(r)
			p.s.logged(r, detail, err)
			return v, err
		})
	})
}

// act adds a path that changes many things, and tells of each. The body has at most limit bytes; 0: the action reads it.
func (p *routes) act(path string, limit int64, h action) {
	p.add("POST", path, func(w http.ResponseWriter, r *http.Request) {
		st := newStream(w)
		r = p.s.named(r)
		detail, done, err := "", 0, error(nil)
		if limit > 0 {
			err = st.body(r, limit)
		}
		if err == nil {
			detail, done, err = h(r, st)
		}
		p.s.logged(r, fmt.Sprintf("%.160s (%d done, %d failed)", detail, done, st.failures), err)
		st.end(done, err)
	})
}

// named names who asks in the context of a change.
func (s *Server) named(r *http.Request) *http.Request {
	return r.WithContext(registry.As(r.Context(), caller(r)))
}

// logged logs who asked for a change and what came of it.
func (s *Server) logged(r *http.Request, detail string, err error) {
	p, _ := r.Context().Value(peerKey{}).(peer)
	log := s.o.Log.With("request", strings.TrimPrefix(r.URL.Path, "/v1/"), "pid", p.PID, "uid", p.UID, "gid", p.GID, "who", caller(r))
	if detail != "" {
		log = log.With("of", fmt.Sprintf("%.200s", detail))
	}
	if err != nil {
		log.Warn("control request failed", "error", asError(err))
	} else {
		log.Info("control request")
	}
}

// readBody replaces the body by what it holds, at most limit bytes.
func readBody(w http.ResponseWriter, rc *http.ResponseController, r *http.Request, limit int64) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) {
		return badRequest("read request: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err
}

// answer reads the body, calls h, which may take as long as it likes, and writes what that returns.
func answer(w http.ResponseWriter, r *http.Request, limit int64, h handler) {
	rc := http.NewResponseController(w)
	var v any
	err := readBody(w, rc, r, limit)
	if err == nil {
		v, err = h(r)
	}
	reply(w, rc, v, err)
}

// reply writes v, or err.
func reply(w http.ResponseWriter, rc *http.ResponseController, v any, err error) {
	status := http.StatusOK
	if err != nil {
		e := asError(err)
		v, status = e, e.Status
	}
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	_ = rc.SetWriteDeadline(time.Now().Add(readTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// decode reads a strict JSON body into v.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return badRequest("read request: more than one JSON value")
		}
		return nil
	}
	if errors.Is(err, io.EOF) {
		return badRequest("read request: no JSON in its body")
	}
	return badRequest("read request: %.300s", strings.TrimPrefix(err.Error(), "json: "))
}

// line is one of an answer of many, with one field set. The last line has End: without it the answer is not whole.
type line struct {
	Device   *registry.Device `json:"device,omitempty"`
	Progress *Progress        `json:"progress,omitempty"`
	Failed   *Failure         `json:"failed,omitempty"`
	End      *endLine         `json:"end,omitempty"`
}

// endLine tells how many are done, and what kept the others from being tried.
type endLine struct {
	Done  int    `json:"done"`
	Error *Error `json:"error,omitempty"`
}

// stream writes an answer of lines.
type stream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	enc      *json.Encoder
	begun    bool
	failures int
	err      error // of writing: nobody reads any more
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, rc: http.NewResponseController(w), enc: json.NewEncoder(w)}
}

func (st *stream) body(r *http.Request, limit int64) error { return readBody(st.w, st.rc, r, limit) }

func (st *stream) send(l line) error {
	if !st.begun {
		st.begun = true
		st.w.Header().Set("Content-Type", "application/jsonl")
	}
	if st.err == nil {
		_ = st.rc.SetWriteDeadline(time.Now().Add(streamTimeout))
		st.err = st.enc.Encode(l)
	}
	return st.err
}

// progress is sent at once.
func (st *stream) progress(done, total int) error {
	_ = st.send(line{Progress: &Progress{done, total}})
	if st.err == nil {
		st.err = st.rc.Flush()
	}
	return st.err
}

func (st *stream) failed(id string, row int, err error) error {
	st.failures++
	return st.send(line{Failed: &Failure{ID: id, Line: row, Error: *asError(err)}})
}

// end ends the answer: with a status of its own when nothing was done.
func (st *stream) end(done int, err error) {
	if err != nil && done == 0 && !st.begun {
		reply(st.w, st.rc, nil, err)
		return
	}
	end := &endLine{Done: done}
	if err != nil {
		end.Error = asError(err)
	}
	_ = st.send(line{End: end})
}
