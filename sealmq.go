// Package sealmq is the SealMQ broker as a library: MQTT 3.1, 3.1.1 and 5 over
// mutual TLS, with a private CA that it makes itself.
//
//	s, err := sealmq.New(sealmq.Config{})
//	...
//	err = s.Run(ctx) // until ctx ends
//
// The zero Config listens on port 8883, keeps its CA and certificates in the
// folder sealmq-data, and lets in clients with a certificate of that CA.
//
// The package puts the parts together and holds no logic of theirs. Run starts
// a goroutine for each listener, a few that keep certificates, devices and
// sessions in step, and one for each connection until its CONNECT is accepted;
// all have ended when it returns.
package sealmq

import (
	"context"
	"crypto/fips140"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/certs"
	"github.com/sealmq/sealmq/certs/acme"
	"github.com/sealmq/sealmq/config"
	"github.com/sealmq/sealmq/control"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/disk"
	"github.com/sealmq/sealmq/store/memory"
	"github.com/sealmq/sealmq/transport"
)

// Config is the configuration of a server; zero fields have their defaults. It
// must not be modified once passed in.
type Config = config.Config

// Listener is one address of a Config on which clients connect.
type Listener = config.Listener

// shutdownTimeout bounds how long the end of a server waits for its clients to
// take their last packet.
const shutdownTimeout = 5 * time.Second

// Server is a broker with its listeners. Make one with New.
type Server struct {
	log         *slog.Logger
	level       *slog.LevelVar // nil with WithLog
	store       store.Store    // of the broker
	records     store.Store    // of devices and ACME: store, or one beside it; nil while nobody needs any
	broker      *broker.Broker
	fleet       atomic.Pointer[fleet] // nil while no listener uses our own CA
	acme        *acme.Manager         // nil if not configured
	keeper      *certs.Keeper
	reviews     *reviews
	permissions *permissions

	authentication *authentication
	custom         bool // it is replaced by WithAuthenticator

	sightings *audit.Sightings
	roots     []byte            // as published last; follow's own, as the next
	issuer    *x509.Certificate // of devices, when they were last told
	reload    func() error      // on request of the machine's owner; nil: not possible
	phrase    pki.Passphrase

	live  atomic.Pointer[[]named] // the listeners that are open
	setup atomic.Pointer[control.Setup]

	publisher *http.Server // of revocation lists; nil if not configured

	failures *transport.Failures // of handshakes
	door     *door

	tasks   sync.WaitGroup // accept loops, handshakes
	stop    context.Context
	cancel  context.CancelFunc
	failed  chan error // an accept loop that ended by itself
	endOnce sync.Once
	endErr  error

	mu        sync.Mutex // guards what follows; Reload holds it throughout
	control   *control.Server
	cfg       Config // effective
	open      bool   // Listen has succeeded
	running   bool   // Run has begun
	ended     bool
	listeners []*listener
	retired   []*listener // closed by Reload, their connections may still live
}

// Option changes how a Server is put together.
type Option func(*options)

type options struct {
	log    *slog.Logger
	auth   auth.Authenticator
	reload func() error
	phrase pki.Passphrase
}

// WithPassphrase is asked for the passphrase of encrypted CA keys, if the configuration names no file that has it, instead
// of the environment variable SEALMQ_PASSPHRASE.
func WithPassphrase(p pki.Passphrase) Option { return func(o *options) { o.phrase = p } }

// WithLog sends the log to l instead of standard error; Config.Log is then not used.
func WithLog(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithAuthenticator decides who clients are, instead of what the listeners' auth says.
func WithAuthenticator(a auth.Authenticator) Option { return func(o *options) { o.auth = a } }

// WithReload is what the server does when it is asked over its control socket to
// read its configuration again: f reads it and calls Reload.
func WithReload(f func() error) Option { return func(o *options) { o.reload = f } }

// New checks cfg, makes or opens the data folder and loads all certificates. It
// opens no socket. A server that New returned must be ended by Run or Close.
func New(cfg Config, opts ...Option) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.Effective()
	s := &Server{cfg: cfg, failed: make(chan error, 1), reviews: newReviews(), sightings: audit.NewSightings(time.Now), failures: transport.NewFailures(time.Now)}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	s.log, s.reload, s.phrase = o.log, o.reload, o.phrase
	if s.log == nil {
		s.log, s.level = newLog(cfg.Log)
	}
	s.authentication = newAuthentication(devices{s}, s.log, s.reviews.want)
	if s.custom = o.auth != nil; !s.custom {
		o.auth = &s.authentication.chains
	}
	s.stop, s.cancel = context.WithCancel(context.Background())
	if err := s.assemble(o); err != nil {
		s.cancel()
		s.closeStores()
		return nil, err
	}
	return s, nil
}

// assemble opens what is kept and puts the parts on it: CA, store, broker, fleet, and last what listeners show.
func (s *Server) assemble(o options) (err error) {
	cfg := s.cfg
	var folder *pki.Folder
	if s.needsCA(cfg) {
		if folder, err = s.openFolder(cfg); err != nil {
			return err
		}
	}
	if s.store, err = s.openStore(cfg); err != nil {
		return err
	}
	p, err := firstPolicy(cfg, s.log)
	if err != nil {
		return err
	}
	s.permissions = newPermissions(p, s.groups, s.log)
	bc := cfg.Broker
	bc.Limits = broker.Limits{} // every listener's are complete, and Reload may lift what the first ones said
	s.broker, err = broker.New(bc, broker.Options{
		Store: s.store, Auth: o.auth, Log: s.log, Version: "sealmq version " + Version(),
		Recovered: untilConnected(cfg), Standing: devices{s}.standing, Service: enrolment{s}, Accepted: s.accepted,
		Authorize: s.permissions.authorize, Denied: s.permissions.note, Withdrawn: s.permissions.withdrawn,
	})
	if err != nil {
		return err
	}
	if s.door, err = newDoor(cfg.Gate, s.store, s.broker.Shed, s.log); err != nil {
		return err
	}
	s.keeper = certs.New(certs.Options{
		Data: cfg.Data, Folder: s.Folder, Log: s.log, TrustChanged: s.trustChanged,
		Verify: devices{s}.verify,
	})
	if folder != nil {
		if err := s.openFleet(cfg, folder); err != nil {
			return err
		}
	}
	if cfg.ACME.Enabled() {
		if err := s.openRecords(cfg); err != nil {
			return err
		}
		if s.acme, err = acme.New(cfg.ACME, acme.Options{Store: s.records, Log: s.log}); err != nil {
			return err
		}
	}
	listeners, set, err := s.prepare(cfg)
	if err != nil {
		return err
	}
	ways, err := s.planWays(cfg)
	if err != nil {
		return err
	}
	set.Apply()
	s.authentication.use(ways)
	s.listeners = listeners
	if s.records != nil {
		if err := s.purged(); err != nil {
			return err
		}
	}
	s.reviewNow()
	s.broker.Reauthorize()
	s.publishRoots()
	return nil
}

// openFleet begins to know the devices of the CA in a folder.
func (s *Server) openFleet(cfg Config, folder *pki.Folder) error {
	if err := s.openRecords(cfg); err != nil {
		return err
	}
	f, err := newFleet(cfg, folder, s.pkiConfig(cfg), s.records, s.log, func() {
		s.keeper.Wake()
		s.reviews.want()
		wake(s.reviews.advice)
	})
	if err != nil {
		return err
	}
	f.watch = f.registry.Watch(func(e registry.Event) {
		remember(s.records, e)
		s.reviews.changed(e)
		s.permissions.changed(e)
	})
	s.fleet.Store(f)
	return nil
}

// openRecords opens what devices and ACME are kept in: the store, but on disk also when the broker keeps nothing there.
func (s *Server) openRecords(cfg Config) (err error) {
	switch {
	case s.records != nil:
	case cfg.Memory:
		s.records, err = openRecords(cfg, s.log, s.fatal)
	default:
		s.records = s.store
	}
	return err
}

// tend keeps the fleet going until the server ends. The caller holds mu.
func (s *Server) tend(f *fleet) {
	if f != nil {
		s.tasks.Go(func() { f.identity.Run(s.stop) })
	}
}

// closeStores ends what works on the stores, and them.
func (s *Server) closeStores() error {
	s.authentication.close()
	if s.acme != nil {
		s.acme.Close()
	}
	s.fleet.Load().close()
	var err error
	if s.records != nil && s.records != s.store {
		err = s.records.Close()
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	return err
}

// untilConnected are the limits of sessions in the store until their client connects, and comes to those of its listener:
// the widest of all, so that a restart takes nothing from a queue.
func untilConnected(cfg Config) (l broker.Limits) {
	l.MaxQueued, l.MaxQueuedBytes = -1, -1
	for _, o := range cfg.Listeners {
		l.MaxQueued, l.MaxQueuedBytes = max(l.MaxQueued, o.Limits.MaxQueued), max(l.MaxQueuedBytes, o.Limits.MaxQueuedBytes)
		l.DropOldest = l.DropOldest || o.Limits.DropOldest
	}
	return l
}

// openStore opens the store in the data folder. When it fails later so that it
// cannot go on, the server ends; what was acknowledged is there at the next start.
func (s *Server) openStore(cfg Config) (store.Store, error) {
	if cfg.Memory {
		return memory.New(), nil
	}
	return openDisk(cfg, s.log, s.fatal)
}

// openDisk opens the store in the data folder. With a new one comes the policy that a folder begins with.
func openDisk(cfg Config, log *slog.Logger, fatal func(error)) (store.Store, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, err
	}
	if err := policyFor(cfg, log); err != nil {
		return nil, err
	}
	d, err := disk.Open(StoreDir(cfg.Data), cfg.Store, disk.Options{Log: log, Fatal: fatal})
	if err != nil {
		return nil, err // and not a nil of that type
	}
	return d, nil
}

// fatal ends the server since a store cannot go on.
func (s *Server) fatal(err error) {
	select {
	case s.failed <- fmt.Errorf("the store cannot go on: %w", err):
	default:
	}
}

// StoreDir is the folder of the store in a data folder.
func StoreDir(data string) string { return filepath.Join(data, "store") }

// Listen opens all listeners, or none and says why. Run does it when it was not
// done before; a caller that wants to know Addr first does it itself.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return net.ErrClosed
	case s.open:
		return nil
	}
	for i, l := range s.listeners {
		if err := l.listen(s.door, s.log); err != nil {
			for _, before := range s.listeners[:i] {
				before.close()
			}
			return err
		}
	}
	if err := s.openPublisher(); err != nil {
		for _, l := range s.listeners {
			l.close()
		}
		return err
	}
	s.open = true
	s.show()
	s.tell()
	if fips140.Enabled() {
		s.log.Info("FIPS 140-3 mode", "module", fips140.Version())
	}
	for _, w := range s.cfg.Warnings() {
		s.log.Warn(w)
	}
	for _, l := range s.listeners {
		s.announce(l)
	}
	s.openControl()
	return nil
}

// show has trustChanged see the listeners in force. The caller holds mu.
func (s *Server) show() {
	var live []named
	for _, l := range s.listeners {
		live = append(live, named{l.Listener, l.cfg.Name})
	}
	s.live.Store(&live)
}

// tell has commands know how the server is set up. The caller holds mu.
func (s *Server) tell() {
	file, acl := policyPath(s.cfg)
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	out := &control.Setup{Policy: file, Mosquitto: acl}
	for _, l := range s.listeners {
		out.Listeners = append(out.Listeners, control.Listening{
			Name: l.cfg.Name, Address: l.Listener.Addr().String(), TLS: !l.cfg.Plain, WebSocket: l.cfg.WebSocket, Enroll: l.cfg.Enroll,
		})
	}
	s.setup.Store(out)
}

// named is an open listener with its name.
type named struct {
	transport.Listener
	name string
}

// openControl answers on the control socket of the data folder, if there is a
// folder. Clients are served without it too.
func (s *Server) openControl() {
	if _, err := os.Stat(s.cfg.Data); err != nil {
		return
	}
	c, err := control.Serve(control.Options{
		Data: s.cfg.Data, Broker: s.broker, Store: s.store, Reload: s.reload, Version: Version(), Log: s.log, Fleet: s.controlled(), Policy: s.asked(), Trouble: s.trouble, Setup: s.setup.Load, Failures: s.handshakes, Gate: steward{s.door},
		Kick: func(id string) bool {
			return s.broker.Kick(id, mqtt.AdministrativeAction, "disconnected by the operator")
		},
	})
	if err != nil {
		attrs := []any{"error", err}
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			attrs = append(attrs, "hint", h.Hint())
		}
		s.log.Error("no control socket: sealmq status and backup cannot reach this broker", attrs...)
		return
	}
	s.control = c
}

// handshakes are the failed ones: how many by cause, and the last n.
func (s *Server) handshakes(n int) control.Failures {
	f := control.Failures{Counts: make(map[string]uint64)}
	for cause, n := range s.failures.Counts() {
		f.Counts[string(cause)] = n
	}
	for _, one := range s.failures.Recent(n) {
		b, err := json.Marshal(one)
		if err != nil {
			continue // it has no such field
		}
		f.Recent = append(f.Recent, b)
	}
	return f
}

// trouble is what is wrong with identities and certificates, sentences for whoever operates the server.
func (s *Server) trouble() []string {
	all := append(s.keeper.Trouble(), s.authentication.Trouble()...)
	if t := s.permissions.trouble.Load(); t != nil {
		all = append(all[:len(all):len(all)], *t)
	}
	if f := s.fleet.Load(); f != nil {
		all = append(all[:len(all):len(all)], f.identity.Trouble()...)
	}
	if s.acme != nil {
		all = append(all[:len(all):len(all)], s.acme.Trouble()...)
	}
	return append(all[:len(all):len(all)], s.door.trouble()...)
}

// Run serves clients until ctx ends or Close is called, then ends orderly:
// clients get DISCONNECT with reason 0x8B (server shutting down). The error is
// nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		s.end()
		return err
	}
	s.mu.Lock()
	if s.running || s.ended {
		s.mu.Unlock()
		return errors.New("run server: it runs already or has ended")
	}
	s.running = true
	for _, l := range s.listeners {
		s.accept(l)
	}
	s.tasks.Go(func() { s.keeper.Run(s.stop) })
	s.tasks.Go(func() { s.authentication.run(s.stop) })
	s.tasks.Go(s.review)
	s.tasks.Go(func() { s.door.run(s.stop) })
	s.tasks.Go(s.follow)
	s.tasks.Go(func() { s.permissions.run(s.stop, s.broker) })
	s.tend(s.fleet.Load())
	if s.acme != nil {
		s.acme.Start(s.stop)
	}
	s.mu.Unlock()
	var failed error
	select {
	case <-ctx.Done():
	case <-s.stop.Done():
	case failed = <-s.failed:
	}
	return errors.Join(failed, s.end())
}

// Close ends the server as Run describes and waits until it has ended.
func (s *Server) Close() error { return s.end() }

func (s *Server) end() error {
	s.endOnce.Do(func() {
		s.mu.Lock()
		s.ended = true
		ctl := s.control
		all := append(append([]*listener{}, s.listeners...), s.retired...)
		s.mu.Unlock()
		if ctl != nil {
			ctl.Close()
		}
		for _, l := range all {
			l.close()
		}
		s.closePublisher()
		s.cancel()
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		err := s.broker.Shutdown(ctx)
		for _, l := range all {
			err = errors.Join(err, l.wait(ctx))
		}
		s.tasks.Wait()
		s.endErr = errors.Join(err, s.closeStores())
		s.log.Info("stopped")
	})
	return s.endErr
}

// Addr is the address of the listener with this name, nil if there is none or
// it is not open. With an address like 127.0.0.1:0 it tells the port.
func (s *Server) Addr(name string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.cfg.Name == name && l.Listener != nil {
			return l.Listener.Addr()
		}
	}
	return nil
}

// Config is the configuration in force, complete with defaults.
func (s *Server) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

func (s *Server) announce(l *listener) {
	clients := "client certificates " + l.cfg.ClientCertificates.String()
	if l.cfg.Plain {
		clients = "no TLS"
	}
	attrs := []any{"listener", l.cfg.Name, "address", l.Listener.Addr().String(), "clients", clients}
	if len(l.cfg.Auth) > 0 {
		attrs = append(attrs, "auth", strings.Join(l.cfg.Chain(), ", "))
	}
	s.log.Info("listening", attrs...)
}

func (s *Server) fail(listener string, err error) {
	select {
	case s.failed <- fmt.Errorf("listener %s: %w", listener, err):
	default:
	}
}
