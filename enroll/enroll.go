// Package enroll lets devices get their certificates over MQTT: with a claim at first, with the certificate they have when
// it is to be renewed, or with one that their maker gave them.
//
//	$pki/enroll/CLIENTID/request  a token or a claim certificate → accepted, rejected or pending
//	$pki/renew/request            the certificate in use → accepted or rejected
//	$pki/cacerts/seen             which roots a device has
//	$aws/certificates/…, $aws/provisioning-templates/…  the same for firmware written for AWS
//
// Serve takes requests and returns at once; a pool of goroutines, which Close ends, works on them. Claims, factory CAs and
// devices that wait for approval are records in the store. DESIGN.md explains what is durable when.
package enroll

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/registry"
)

// Config says what devices may ask for. Zero fields have their defaults.
type Config struct {
	// RenewalsPerHour is how often a device may renew its certificate. A repeated request with the same key is answered
	// with the same certificate and does not count.
	RenewalsPerHour int `toml:"renewals_per_hour" default:"6" min:"1" max:"1000"`

	// RequestsPerHour is how many requests to enrol are taken from one address (of IPv6: from 64 bits of it).
	RequestsPerHour int `toml:"requests_per_hour" default:"10000" min:"1" max:"10000000"`

	// PendingDevices is how many devices may wait for approval at a time.
	PendingDevices int `toml:"pending_devices" default:"10000" min:"1" max:"1000000"`

	// PendingLife is how long a device may wait for approval until it is forgotten.
	PendingLife time.Duration `toml:"pending_life" default:"168h" min:"1m" max:"8760h"`
}

func (c *Config) fill() {
	for _, d := range []struct {
		p *int
		v int
	}{{&c.RenewalsPerHour, 6}, {&c.RequestsPerHour, 10_000}, {&c.PendingDevices, 10_000}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if c.PendingLife <= 0 {
		c.PendingLife = 7 * 24 * time.Hour
	}
}

// Issuer is what is needed of identity.Service.
type Issuer interface {
	Issue(ctx context.Context, o identity.Order) (*identity.Issued, error)
	SawRoots(id string, fingerprints []string)
	Outgoing(issuer string) bool
}

// Options are the parts of a Service.
type Options struct {
	Config   Config
	Identity Issuer             // required
	Registry *registry.Registry // required
	Store    registry.Store     // required; where claims and the like are
	// Grace is how long after its end a certificate may be renewed: that of identity.Config, 30 days if zero, none if
	// negative.
	Grace time.Duration
	Log   *slog.Logger     // nil: discarded
	Now   func() time.Time // nil: time.Now
	// Changed is called after the factory CAs, and with them Pool, have changed. It may be nil and must not block.
	Changed func()
}

// Request is a publication to a topic that Service.Owns.
type Request struct {
	Topic   string
	Payload []byte
	Props   *mqtt.Properties // response topic, correlation data, content type; may be empty, never nil

	ClientID string
	Addr     string   // peer, host:port
	Kind     string   // of the principal: "device", "operator", "claim", ""
	Name     string   // of the principal; the claim's of one that has shown a claim certificate
	Serial   string   // of its certificate, hex
	Key      [32]byte // SHA-256 of the subject public key info in it
	Expired  bool     // that certificate has ended

	// Reply sends a message to this client alone, if it is still connected and subscribed to the topic, and reports
	// whether it was. It may be called from any goroutine, and more than once.
	Reply func(topic string, payload []byte, props *mqtt.Properties) bool
	// Close ends the client's connection.
	Close func(code mqtt.ReasonCode, text string)
}

// Bounds of what waits to be worked on.
const (
	queueMost    = 1000
	perPeerMost  = 64 // from one address
	maxPayload   = 16 << 10
	rememberMost = 10_000 // peers, for rates and back-off
	answersMost  = 1024
)

// Service does it. Make one with New. Its methods may be called from many goroutines.
type Service struct {
	o         Options
	r         records
	claims    *claims
	pending   *pendings
	factories *factories

	addresses *table[peer]
	clients   *table[backoff]
	renewals  *table[hourly]
	answers   *answers
	lines     lines

	seed  maphash.Seed
	ids   [64]sync.Mutex // one device is enrolled at a time: by hash of its id
	ctx   context.Context
	stop  context.CancelFunc
	watch func()

	mu     sync.Mutex
	ended  bool
	queue  chan *job
	queued map[string]int // by address
	done   sync.WaitGroup
}

// peer is what is remembered of an address.
type peer struct {
	backoff
	requests hourly
}

// job is a request on its way.
type job struct {
	*Request
	what    action
	from    string // network of the peer
	respond string // response topic, "" without
	data    []byte // correlation data, nil without
	guesser bool   // it has sent too many unknown tokens: its connection ends
}

// New reads claims, factory CAs and waiting devices from the store, and begins the work.
func New(o Options) (*Service, error) {
	if o.Identity == nil || o.Registry == nil || o.Store == nil {
		return nil, errors.New("start enrolment: identity, registry and store are required")
	}
	o.Config.fill()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Grace == 0:
		o.Grace = 30 * 24 * time.Hour
	case o.Grace < 0:
		o.Grace = 0
	}
	s := &Service{o: o, r: records{o.Store}, seed: maphash.MakeSeed(), queue: make(chan *job, queueMost), queued: make(map[string]int),
		addresses: newTable[peer](rememberMost), clients: newTable[backoff](rememberMost), renewals: newTable[hourly](rememberMost),
		answers: newAnswers(answersMost)}
	var err error
	if s.claims, err = loadClaims(s.r, o.Log); err == nil {
		if s.pending, err = loadPendings(s.r, o.Log); err == nil {
			s.factories, err = loadFactories(s.r, o.Log)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start enrolment: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.watch = o.Registry.Watch(s.changed)
	o.Registry.Guard(s.mayPurge)
	s.sweep()
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		s.done.Go(s.work)
	}
	s.done.Go(s.keep)
	return s, nil
}

// Close ends the work. Requests that wait are not answered. It is called before the registry and the store are closed, and
// may be called more than once.
func (s *Service) Close() {
	s.mu.Lock()
	first := !s.ended
	s.ended = true
	s.mu.Unlock()
	if first {
		s.watch()
		s.o.Registry.Guard(nil)
		s.stop()
	}
	s.done.Wait()
}

// open returns ErrClosed after Close.
func (s *Service) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrClosed
	}
	return nil
}

func (s *Service) now() time.Time { return s.o.Now().UTC() }

// changed forgets what waits of a device that was purged.
func (s *Service) changed(e registry.Event) {
	if e.State == "" {
		s.pending.forget(e.Device)
	}
}

// Owns reports whether publications to a topic are for Serve: whatever is below $pki/ and $aws/.
func (s *Service) Owns(topic []byte) bool {
	return len(topic) > 5 && topic[0] == '$' && topic[4] == '/' &&
		(topic[1] == 'p' && topic[2] == 'k' && topic[3] == 'i' || topic[1] == 'a' && topic[2] == 'w' && topic[3] == 's')
}

// Serve takes a request, which must not be changed afterwards but for Props. It never blocks: when too much waits, the
// answer is a rejection.
func (s *Service) Serve(r *Request) {
	what := route(r.Topic)
	if what.op == opNone {
		s.o.Log.Debug("publication to a topic of the broker's own left out", "topic", clip(r.Topic), "client", clip(r.ClientID))
		return
	}
	j := &job{Request: r, what: what, from: network(r.Addr)}
	if r.Props.Has(mqtt.PropResponseTopic) {
		j.respond = string(r.Props.ResponseTopic)
	}
	if r.Props.Has(mqtt.PropCorrelationData) {
		j.data = slices.Clone(r.Props.CorrelationData)
	}
	r.Props = nil
	if len(j.Payload) > maxPayload {
		s.refuse(j, rejectBecause(fmt.Errorf("a request of %d bytes, at most %d wanted", len(j.Payload), maxPayload)))
		return
	}
	if what.op == opSeen { // which waits for nothing, and which a fleet behind one address tells at once
		s.do(j)
		return
	}
	if !s.enqueue(j) {
		s.refuse(j, reject(CodeBusy, ""))
	}
}

func (s *Service) enqueue(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.queued[j.from] >= perPeerMost {
		return false
	}
	select {
	case s.queue <- j:
		s.queued[j.from]++
		return true
	default:
		return false
	}
}

func (s *Service) work() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case j := <-s.queue:
			s.mu.Lock()
			if s.queued[j.from]--; s.queued[j.from] == 0 {
				delete(s.queued, j.from)
			}
			s.mu.Unlock()
			s.do(j)
		}
	}
}

// do works on a request.
func (s *Service) do(j *job) {
	if j.what.op != opAdvise {
		if err := s.slow(j); err != nil {
			s.refuse(j, rejection(err))
			return
		}
	}
	switch j.what.op {
	case opEnrol:
		out, err := s.enrol(j)
		s.answer(j, out, err)
	case opRenew:
		out, err := s.renew(j)
		s.answer(j, out, err)
	case opSeen:
		s.sawRoots(j)
	case opAdvise:
		s.advise(j)
	case opCreate, opCreateKeys, opProvision:
		out, err := s.aws(j)
		s.answerAWS(j, out, err)
	}
}

// keep forgets what has ended.
func (s *Service) keep() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

func (s *Service) sweep() {
	now := s.now()
	s.sweepClaims(now)
	s.sweepPending(now)
	s.factories.sweep(now)
}

// one locks the enrolment of a device.
func (s *Service) one(id string) *sync.Mutex {
	m := &s.ids[maphash.String(s.seed, id)%uint64(len(s.ids))]
	m.Lock()
	return m
}
