package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/store"
)

// MaxConns is how many connections a Server serves at a time. Further ones are answered with 503.
const MaxConns = 16

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

	Trouble func() []string // for Health; nil: there is none
	Setup   func() *Setup   // for Health; nil: it is not told

	Failures func(recent int) Failures // of handshakes; nil: not known

	Fleet  *Fleet  // nil: requests about devices, the CA, claims and certificates are answered with 404
	Policy *Policy // nil: and so are those about permissions
	Gate   Gate    // nil: and about the front door

	Version string       // of the program
	Log     *slog.Logger // who changed what; nil: nothing is logged
}

// Server answers on the control socket of a data folder.
type Server struct {
	o     Options
	http  *http.Server
	mux   atomic.Pointer[http.ServeMux]
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
	l, err := listen(o.Data)
	if err != nil {
		return nil, err
	}
	return start(&boundedListener{Listener: l, free: make(chan struct{}, MaxConns)}, o, peerOf), nil
}

// start answers on l; who tells who is at the other end of a connection.
func start(l net.Listener, o Options, who func(net.Conn) peer) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, start: time.Now(), since: time.Now()}
	s.SetFleet(o.Fleet)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.mux.Load().ServeHTTP(w, r) }),
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
			return context.WithValue(ctx, peerKey{}, who(c))
		},
	}
	s.tasks.Go(func() { _ = s.http.Serve(l) })
	if o.Store != nil {
		s.health = o.Store.Ready()
		s.tasks.Go(s.watch)
	}
	return s
}

type peerKey struct{}

// SetFleet replaces Options.Fleet: a configuration that was read again may bring one. Requests under way keep the old one.
func (s *Server) SetFleet(f *Fleet) {
	if f == nil {
		f = &Fleet{}
	}
	s.mux.Store(s.routes(f))
}

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

// broker adds the paths that only a running broker has.
func (p *routes) broker() {
	s := p.s
	p.get("/v1/health", s.getHealth)
	p.get("/v1/stats", s.getStats)
	p.get("/v1/failures", s.getFailures)
	p.post("/v1/backup", s.postBackup)
	p.post("/v1/reload", s.postReload)
	p.post("/v1/kick", s.postKick)
}

func (s *Server) getHealth(*http.Request) (any, error) {
	if s.o.Store == nil {
		return nil, noBroker()
	}
	h := Health{State: OK, Version: s.o.Version, Uptime: time.Since(s.start).Seconds(), PID: os.Getpid()}
	since, err := s.look()
	if h.Since = since; err != nil {
		h.State, h.Why = Degraded, err.Error()
	}
	if s.o.Trouble != nil {
		h.Trouble = s.o.Trouble()
	}
	if s.o.Setup != nil {
		h.Setup = s.o.Setup()
	}
	return h, nil
}

func (s *Server) getStats(*http.Request) (any, error) {
	if s.o.Store == nil || s.o.Broker == nil {
		return nil, noBroker()
	}
	return Stats{brokerStats(s.o.Broker.Stats()), storeStats(s.o.Store.Stats())}, nil
}

func (s *Server) getFailures(r *http.Request) (any, error) {
	if s.o.Failures == nil {
		return Failures{}, nil
	}
	n := 0
	if text := r.URL.Query().Get("recent"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return nil, &Error{Text: fmt.Sprintf("recent=%.20q is no number", text), Status: http.StatusBadRequest}
		}
	}
	return s.o.Failures(n), nil
}

// noBroker answers what can only be asked of a running broker.
func noBroker() error {
	return &Error{Text: ErrNotRunning.Error(), Code: CodeUnsupported, Advice: "sealmq serve", Status: http.StatusNotFound}
}

// change begins a reload or a backup, unless one is under way or the server has ended.
func (s *Server) change() (done func(), err error) {
	if !s.changes.TryLock() {
		return nil, &Error{Text: "another backup or reload is under way", Code: CodeBusy, Advice: "try again when it is done", Status: http.StatusConflict}
	}
	if s.ctx.Err() != nil {
		s.changes.Unlock()
		return nil, &Error{Text: "the broker is stopping", Code: CodeStopping, Status: http.StatusServiceUnavailable}
	}
	return s.changes.Unlock, nil
}

func (s *Server) postBackup(r *http.Request) (string, any, error) {
	var q BackupRequest
	if err := decode(r, &q); err != nil {
		return "", nil, err
	}
	if s.o.Store == nil {
		return q.To, nil, noBroker()
	}
	if !filepath.IsAbs(q.To) {
		return q.To, nil, badRequest("back up to %q: not an absolute path", q.To)
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
	if s.o.Store == nil {
		return "", nil, noBroker()
	}
	if s.o.Reload == nil {
		return "", nil, &Error{Text: "this broker has no configuration to read again", Code: CodeUnsupported, Status: http.StatusNotImplemented}
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
		return "", nil, badRequest("kick: client_id is missing")
	case s.o.Store == nil:
		return q.ClientID, nil, noBroker()
	case s.o.Kick == nil:
		return q.ClientID, nil, &Error{Text: "this broker cannot disconnect clients", Code: CodeUnsupported, Status: http.StatusNotImplemented}
	case !s.o.Kick(q.ClientID):
		return q.ClientID, nil, &Error{Text: fmt.Sprintf("kick %.200q: no such client is connected", q.ClientID), Code: CodeNotFound, Status: http.StatusNotFound}
	}
	return q.ClientID, struct{}{}, nil
}
