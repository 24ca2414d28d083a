// Package broker is the MQTT state machine: connections, sessions, delivery, retained messages, wills and shared
// subscriptions, for MQTT 3.1, 3.1.1 and 5. It knows no socket: a driver feeds each connection with the bytes that
// arrived and gives it a Link to answer on.
//
// Whoever feeds a connection also parses, routes and flushes: there is no goroutine per connection or message here. The
// only goroutines are timers (keep alive, session expiry, delayed wills) and the removal of clients from outside their
// own connection; Shutdown waits for all of them. See DESIGN.md for the locks and their order.
package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
)

// Options are the parts that a broker works with.
type Options struct {
	Store store.Store        // required
	Auth  auth.Authenticator // required
	Log   *slog.Logger       // nil: discarded

	Version string // of the program, for $SYS/broker/version

	// Recovered are the limits of sessions that were in the store, until their client connects and they come to those of its
	// listener. What is zero is taken from the Config.
	Recovered Limits

	// Standing says whether a principal may stay. It is asked at each CONNECT, and about every session by Review. A
	// principal that is refused loses its connection, without its will, and its session is frozen until it stands again:
	// what is published meanwhile is dropped and counted, and a delayed will is dropped for good.
	//
	// A session without a connection is judged by a principal with Name, Method, Kind and Bound alone: it is the holder's,
	// whichever certificate comes next. Standing may be called from many goroutines, and must not block or keep the
	// principal. When it is set, Review must be called once after New, and before it no will of an earlier run is
	// published and no session expires. nil: everybody stays.
	Standing func(*auth.Principal) Standing

	// Authorize gives a principal its policy: at each CONNECT, when its client identifier is certain and before anything else
	// is asked of the policy, when it authenticates again, and by Reauthorize. It returns the policy, nil for one that allows
	// everything; an error refuses, as an Authenticator's does. p has the policy that its authenticator has given it, or
	// the one from before. peer, which has its certificate at CONNECT, is nil later. Of a session that was in the store p has Name,
	// Method, Kind and Bound alone: what it may receive and has subscribed to is looked at when its client is back.
	//
	// Authorize may be called from many goroutines, and must not block or keep peer or p. When it is set, Reauthorize must
	// be called once after New, and before it no will of an earlier run is published and no session expires. nil: the
	// authenticator's policy stands.
	Authorize func(clientID string, peer *auth.Peer, p *auth.Principal) (auth.Policy, error)

	// Denied is told what a policy has not allowed, at most ten times a second for a connection. It is called with locks
	// held: it must neither block nor call the broker. It may be nil.
	Denied func(Denial)

	// Withdrawn is told of subscriptions that a session has lost, since its policy does not allow them any more; MQTT has no
	// words for it. It must not call the broker. It may be nil.
	Withdrawn func(clientID string, p *auth.Principal, filters []string)

	// Service takes what clients publish to its topics. It may be nil.
	Service Service

	// Accepted is called for each CONNECT that was accepted, before anything else of the client is processed. The peer has
	// its certificate, and must not be kept. Accepted must not block. It may be nil.
	Accepted func(clientID string, peer *auth.Peer, principal *auth.Principal)
}

// Broker routes messages between connections. Make one with New and end it with Shutdown.
type Broker struct {
	cfg   Config
	store store.Store
	auth  auth.Authenticator
	log   *slog.Logger
	start time.Time
	base  time.Duration // the store's clock at start
	seed  maphash.Seed

	index          *topic.Index[subscription]
	sessions       [sessionShards]sessionShard
	groups         groupTable
	retained       *topic.Tree[*store.Message]
	retain         [retainStripes]sync.Mutex // orders the retained publishes of one topic
	seq            atomic.Uint64             // of retained messages
	known          atomic.Int64              // sessions
	nextSession    atomic.Uint64             // the identifier of a durable session given last
	commit         atomic.Int64              // about how many nanoseconds an op takes to become durable
	fetches        chan struct{}             // bounds how many queues are read at a time
	lost, detached []*session                // while the store is loaded: those that had a connection, and those that had not
	over           []store.SessionID         // sessions to be ended then
	unended        sync.Map                  // client identifier → number of a session whose end the store has refused
	ends           endings
	again          again
	uses           uses
	hush           hush
	debts          debts
	online         atomic.Int64 // of those, how many have a connection
	frozen         atomic.Int64 // and how many are frozen

	standing                 func(*auth.Principal) Standing
	service                  Service
	greeter                  Greeter // the same, if it is one
	accepted                 func(string, *auth.Peer, *auth.Principal)
	onAuthorize              func(string, *auth.Peer, *auth.Principal) (auth.Policy, error)
	onDenied                 func(Denial)
	onWithdrawn              func(string, *auth.Principal, []string)
	reviews                  atomic.Uint64 // how many were asked for
	authorizations           atomic.Uint64 // how many Reauthorize have begun
	reviewing                sync.Mutex
	reviewed                 uint64     // of those, how many have found everything as it was when they were asked for; under reviewing
	restored                 []*session // whose timers begin when they have been reviewed and authorized; under reviewing
	unreviewed, unauthorized bool       // no Review, no Reauthorize has been; under reviewing

	workers  sync.Pool
	counters counters

	limitSets sync.Map      // Limits of a listener → *Limits, complete
	stripe    atomic.Uint32 // next worker's share of the counters
	shed      atomic.Int32  // see Shed
	preAuth   atomic.Int64  // bytes held for connections before their CONNECT is accepted
	outbound  atomic.Int64  // bytes waiting in outboxes and queues
	wheel     wheel

	life    sync.Mutex
	closed  bool
	opening map[*Conn]struct{} // connections whose CONNECT has not been accepted

	sweeping atomic.Bool // a sweep of the retained messages is due
	sysTimer *time.Timer
	tasks    sync.WaitGroup

	testOnlyRetaining func() // called before a message is retained
}

const (
	sessionShards = 64
	retainStripes = 256
	maxFetches    = 4 // queues read from the store at a time
)

type sessionShard struct {
	mu sync.Mutex
	m  map[string]*session
}

// New returns a broker with the sessions and retained messages of its store. It fails when a limit is out of its range,
// a required part is missing, or the store cannot be read.
func New(cfg Config, o Options) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Store == nil || o.Auth == nil {
		return nil, errors.New("broker: Options.Store and Options.Auth are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		cfg: cfg.withDefaults(), store: o.Store, auth: o.Auth, log: o.Log,
		start: time.Now(), seed: maphash.MakeSeed(),
		index:    topic.NewIndex[subscription](),
		retained: topic.NewTree[*store.Message](),
		opening:  make(map[*Conn]struct{}),
		fetches:  make(chan struct{}, maxFetches),
		standing: o.Standing, unreviewed: o.Standing != nil,
		onAuthorize: o.Authorize, unauthorized: o.Authorize != nil, onDenied: o.Denied, onWithdrawn: o.Withdrawn,
		service: o.Service, accepted: o.Accepted,
	}
	b.greeter, _ = o.Service.(Greeter)
	for i := range b.sessions {
		b.sessions[i].m = make(map[string]*session)
	}
	b.groups.m = make(map[string]*group)
	b.workers.New = func() any { return newWorker(b) }
	b.wheel.init(b)
	if err := b.load(o.Recovered); err != nil {
		return nil, err
	}
	if b.cfg.SysInterval > 0 {
		b.startSys(o.Version)
	}
	return b, nil
}

// now is the broker's clock, which goes on where that of the store was. It never jumps.
func (b *Broker) now() time.Duration { return b.base + time.Since(b.start) }

func (b *Broker) shard(id string) *sessionShard {
	return &b.sessions[maphash.String(b.seed, id)%sessionShards]
}

// spawn runs f on a goroutine that Shutdown waits for; after Shutdown has begun it does nothing and returns false.
func (b *Broker) spawn(f func()) bool {
	b.life.Lock()
	defer b.life.Unlock()
	if b.closed {
		return false
	}
	b.tasks.Go(f)
	return true
}

// Shutdown ends every connection with 0x8B (server shutting down), publishes the wills of the sessions that end by it,
// and waits for the goroutines of the broker. Sessions that outlive their connection stay in the store.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.life.Lock()
	if b.closed {
		b.life.Unlock()
		return nil
	}
	b.closed = true
	opening := b.opening
	b.opening = nil
	if b.sysTimer != nil {
		b.sysTimer.Stop()
	}
	b.life.Unlock()
	b.wheel.stop()
	for c := range opening {
		c.link.Close(false)
	}
	for _, s := range b.allSessions() {
		s.stopTimer()
		if c := s.current(); c != nil {
			c.kick(mqtt.ServerShuttingDown, shuttingDown)
		}
	}
	done := make(chan struct{})
	go func() {
		b.tasks.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const shuttingDown = "the server is shutting down"

func (b *Broker) running() bool {
	b.life.Lock()
	defer b.life.Unlock()
	return !b.closed
}

func (b *Broker) allSessions() []*session {
	var all []*session
	for i := range b.sessions {
		sh := &b.sessions[i]
		sh.mu.Lock()
		for _, s := range sh.m {
			all = append(all, s)
		}
		sh.mu.Unlock()
	}
	return all
}

// Kick ends the connection of a client, if it has one, with the given reason and tells whether it had one. Its session
// stays when it outlives its connection.
func (b *Broker) Kick(clientID string, code mqtt.ReasonCode, text string) bool {
	sh := b.shard(clientID)
	sh.mu.Lock()
	s := sh.m[clientID]
	sh.mu.Unlock()
	if s == nil {
		return false
	}
	c := s.current()
	if c == nil {
		return false
	}
	c.kick(code, text)
	return true
}
