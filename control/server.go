package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/store"
)

// MaxConns is how many connections a Server serves at a time. Further ones are answered with 503.
const MaxConns = 16

// Bounds of a request.
const (
	maxBody     = 64 << 10
	maxHeader   = 8 << 10
	readTimeout = 10 * time.Second
	idleTimeout = time.Minute
)

// Broker is what a Server asks of the broker.
type Broker interface {
	Stats() broker.Stats
}

// Store is what a Server asks of the store. One that can also be copied while it runs is a Checkpointer.
type Store interface {
	Ready() error
	Stats() store.Stats
}

// Checkpointer is a Store that writes a consistent copy of itself into a folder that does not exist.
type Checkpointer interface {
	Backup(dir string) error
}

// Options are the parts that a Server works on.
type Options struct {
	Data   string // the data folder, which exists
	Broker Broker
	Store  Store

	Reload func() error               // reads the configuration again; nil: not possible
	Kick   func(clientID string) bool // ends a client's connection, false when it has none; nil: not possible

	Fleet *Fleet // nil: requests about devices, the CA, claims and certificates are answered with 404

	Version string       // of the program
	Log     *slog.Logger // who changed what; nil: nothing is logged
}

// Server answers on the control socket of a data folder.
type Server struct {
	o     Options
	http  *http.Server
	start time.Time
	tasks sync.WaitGroup
	stop  context.CancelFunc
	ctx   context.Context // ends with the server

	changes sync.Mutex // one reload or backup at a time

	mu     sync.Mutex // guards what follows
	health error      // the store's, when last looked at
	since  time.Time
}

// Serve opens the control socket of o.Data, with mode 0600, and answers on it until Close. It fails when the path of the
// socket is too long for the system, another broker has it, or something else stands in its place; the errors say how to
// get out (Hint). On Windows it fails with ErrNotSupported.
func Serve(o Options) (*Server, error) {
	if o.Data == "" || o.Broker == nil || o.Store == nil {
		return nil, errors.New("control: Options.Data, Broker and Store are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := listen(o.Data)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, start: time.Now(), since: time.Now(), health: o.Store.Ready()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, 0),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew: // on the goroutine that accepts
				s.tasks.Add(1)
			case http.StateClosed: // the last that the connection's goroutine does
				s.tasks.Done()
			}
		},
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if b, ok := c.(*boundedConn); ok {
				c = b.Conn
			}
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	s.tasks.Go(func() { _ = s.http.Serve(&boundedListener{Listener: l, free: make(chan struct{}, MaxConns)}) })
	s.tasks.Go(s.watch)
	return s, nil
}

type peerKey struct{}

// Close ends the server, with the requests under way, and removes the socket. It waits for a backup or a reload under way,
// so nothing that Reload needs may be locked.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	s.tasks.Wait()
	return err
}

// watch notices when the store's state changes, so that Health can tell since when.
func (s *Server) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look asks the store why it is degraded, nil if it is not, and tells since when that is so.
func (s *Server) look() (since time.Time, why error) {
	now := s.o.Store.Ready()
	s.mu.Lock()
	defer s.mu.Unlock()
	if (now == nil) != (s.health == nil) {
		s.since = time.Now()
	}
	s.health = now
	return s.since, now
}

// routes has every path with its one method.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	type handler = func(*http.Request) (any, error)
	paths := map[string]string{}
	handle := func(method, path string, h handler) {
		paths[path] = method
		mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, h) })
	}
	handle("GET", "/v1/health", s.getHealth)
	handle("GET", "/v1/stats", s.getStats)
	handle("POST", "/v1/backup", s.logged("backup", s.postBackup))
	handle("POST", "/v1/reload", s.logged("reload", s.postReload))
	handle("POST", "/v1/kick", s.logged("kick", s.postKick))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(*http.Request) (any, error) {
			if m := paths[r.URL.Path]; m != "" {
				w.Header().Set("Allow", m)
				return nil, &Error{Text: fmt.Sprintf("%s takes %s", r.URL.Path, m), Status: http.StatusMethodNotAllowed}
			}
			return nil, &Error{Text: fmt.Sprintf("no such path: %.100q", r.URL.Path),
				Advice: "command and broker may be of different versions", Status: http.StatusNotFound}
		})
	})
	return mux
}

// answer reads the body, calls h, which may take as long as it likes, and writes what that returns.
func answer(w http.ResponseWriter, r *http.Request, h func(*http.Request) (any, error)) {
	rc := http.NewResponseController(w)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	var v any
	switch {
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		v, err = h(r)
	case errors.As(err, new(*http.MaxBytesError)):
		err = &Error{Text: fmt.Sprintf("read request: more than %d bytes", maxBody), Status: http.StatusRequestEntityTooLarge}
	default:
		err = &Error{Text: fmt.Sprintf("read request: %v", err), Status: http.StatusBadRequest}
	}
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

// asError makes an answer of err. What has no status of its own is the request's fault or the machine's, said in words.
func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	e := &Error{Text: err.Error(), Status: http.StatusUnprocessableEntity}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		e.Advice = h.Hint()
	}
	return e
}

// logged logs who asked for a change and what came of it.
func (s *Server) logged(what string, h func(*http.Request) (string, any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		detail, v, err := h(r)
		p, _ := r.Context().Value(peerKey{}).(peer)
		log := s.o.Log.With("request", what, "pid", p.PID, "uid", p.UID, "gid", p.GID)
		if detail != "" {
			log = log.With("of", detail)
		}
		if err != nil {
			log.Warn("control request failed", "error", err)
		} else {
			log.Info("control request")
		}
		return v, err
	}
}

// decode reads a strict JSON body into v.
func decode(r *http.Request, v any) error {
	bad := func(format string, a ...any) error {
		return &Error{Text: fmt.Sprintf(format, a...), Status: http.StatusBadRequest}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return bad("read request: more than one JSON value")
		}
		return nil
	}
	if errors.Is(err, io.EOF) {
		return bad("read request: no JSON in its body")
	}
	return bad("read request: %s", strings.TrimPrefix(err.Error(), "json: "))
}

func (s *Server) getHealth(*http.Request) (any, error) {
	h := Health{State: OK, Version: s.o.Version, Uptime: time.Since(s.start).Seconds(), PID: os.Getpid()}
	since, err := s.look()
	if h.Since = since; err != nil {
		h.State, h.Why = Degraded, err.Error()
	}
	return h, nil
}

func (s *Server) getStats(*http.Request) (any, error) {
	return Stats{brokerStats(s.o.Broker.Stats()), storeStats(s.o.Store.Stats())}, nil
}

// change begins a reload or a backup, unless one is under way or the server has ended.
func (s *Server) change() (done func(), err error) {
	if !s.changes.TryLock() {
		return nil, &Error{Text: "another backup or reload is under way", Advice: "try again when it is done", Status: http.StatusConflict}
	}
	if s.ctx.Err() != nil {
		s.changes.Unlock()
		return nil, &Error{Text: "the broker is stopping", Status: http.StatusServiceUnavailable}
	}
	return s.changes.Unlock, nil
}

func (s *Server) postBackup(r *http.Request) (string, any, error) {
	var q BackupRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	if !filepath.IsAbs(q.To) {
		return q.To, nil, &Error{Text: fmt.Sprintf("back up to %q: not an absolute path", q.To), Status: http.StatusBadRequest}
	}
	c, ok := s.o.Store.(Checkpointer)
	var checkpoint func(string) error // nil: nothing outlives this broker
	if ok {
		checkpoint = c.Backup
	}
	done, err := s.change()
	if err != nil {
		return q.To, nil, err
	}
	defer done()
	b, err := WriteBackup(s.o.Data, q.To, BackupOptions{Checkpoint: checkpoint, WithoutKeys: q.WithoutKeys, Version: s.o.Version})
	return q.To, b, err
}

func (s *Server) postReload(r *http.Request) (string, any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return "", nil, err
	}
	if s.o.Reload == nil {
		return "", nil, &Error{Text: "this broker has no configuration to read again", Status: http.StatusNotImplemented}
	}
	done, err := s.change()
	if err != nil {
		return "", nil, err
	}
	defer done()
	return "", struct{}{}, s.o.Reload()
}

func (s *Server) postKick(r *http.Request) (string, any, error) {
	var q KickRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	switch {
	case q.ClientID == "":
		return "", nil, &Error{Text: "kick: client_id is missing", Status: http.StatusBadRequest}
	case s.o.Kick == nil:
		return q.ClientID, nil, &Error{Text: "this broker cannot disconnect clients", Status: http.StatusNotImplemented}
	case !s.o.Kick(q.ClientID):
		return q.ClientID, nil, &Error{Text: fmt.Sprintf("kick %.200q: no such client is connected", q.ClientID), Status: http.StatusNotFound}
	}
	return q.ClientID, struct{}{}, nil
}
