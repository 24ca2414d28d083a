package broker_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/store/memory"
)

// TestScripts holds the conversations of testdata with a broker of their own each. What the lines mean is told in
// testdata/README.md.
func TestScripts(t *testing.T) {
	testkit.RunScripts(t, "testdata", func(t testing.TB) testkit.Backend { return &scriptBackend{t: t} })
}

var (
	storms    = flag.Int("storms", 60, "how many storms TestStorms goes through")
	stormSeed = flag.Uint64("storm-seed", 0, "the seed of the first storm")
)

// TestStorms lets hostile clients do random things beside two that keep to the rules and must notice nothing.
// clauses: BAD [10] [27] [28] [30]
func TestStorms(t *testing.T) {
	for i := range uint64(*storms) {
		seed := *stormSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			b := make([]byte, 2*(50+rnd.IntN(300)))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			testkit.Storm(t, func(t testing.TB) testkit.Backend { return &scriptBackend{t: t} }, b)
		})
	}
}

type scriptBackend struct {
	t     testing.TB
	log   lockedBuffer
	start func() (*broker.Broker, error)

	judge   *judge           // nil: everybody stays
	service *recordedService // nil: none
	over    atomic.Int64     // ends that are durable

	authority *authority // nil: clients have the policy of their authenticator

	mu     sync.Mutex
	broker *broker.Broker
	store  *switchStore
	ends   []*testkit.End
}

func (s *scriptBackend) Start(options []testkit.Option) error {
	cfg := broker.Config{SysInterval: -1} // a fake clock may run for years
	kept := memory.New()
	down := false
	a := &scriptAuth{users: map[string]string{}}
	for _, o := range options {
		switch o.Key {
		case "users":
			name, password, _ := strings.Cut(o.Value, ":")
			a.users[name] = password
		case "deny_publish", "deny_subscribe", "deny_receive":
			a.policy.set(testkit.Option{Key: strings.TrimPrefix(o.Key, "deny_"), Value: o.Value})
		case "authorize":
			s.authority = newAuthority()
		case "auth_method":
			a.method = o.Value
		case "unavailable":
			a.broken = true
		case "failing_store":
			down = true
		case "standing":
			s.judge = &judge{refused: make(map[string]bool)}
		case "service":
			s.service = new(recordedService)
		default:
			if !setByTag(reflect.ValueOf(&cfg.Limits).Elem(), o) && !setByTag(reflect.ValueOf(&cfg).Elem(), o) {
				return fmt.Errorf("server: no setting %q", o.Key)
			}
		}
	}
	s.start = func() (*broker.Broker, error) {
		s.store = &switchStore{Store: kept, down: down}
		o := broker.Options{
			Store: s.store, Auth: a, Log: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}
		if s.judge != nil {
			o.Standing = s.judge.standing
		}
		if s.service != nil {
			o.Service = s.service
		}
		if s.authority != nil {
			o.Authorize, o.Denied, o.Withdrawn = s.authority.authorize, s.authority.denied, s.authority.lost
		}
		b, err := broker.New(cfg, o)
		if err == nil {
			b.Review()
			b.Reauthorize()
		}
		return b, err
	}
	var err error
	s.broker, err = s.start()
	return err
}

// setByTag sets the field that has the option's key in a configuration file.
func setByTag(v reflect.Value, o testkit.Option) bool {
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("toml")
		inverse := strings.HasPrefix(key, "!")
		if strings.TrimPrefix(key, "!") != o.Key {
			continue
		}
		switch f := v.Field(i); {
		case f.Kind() == reflect.Bool:
			f.SetBool((o.Value == "1" || o.Value == "true") != inverse)
		case f.Type() == reflect.TypeFor[time.Duration]():
			d, err := time.ParseDuration(o.Value)
			if err != nil {
				return false
			}
			f.SetInt(int64(d))
		default:
			n, err := strconv.ParseInt(o.Value, 0, 64)
			if err != nil {
				return false
			}
			f.SetInt(n)
		}
		return true
	}
	return false
}

func (s *scriptBackend) Serve(end *testkit.End, client string, options []testkit.Option) {
	peer := auth.Peer{Addr: "192.0.2.1:" + client, Listener: "test", Transport: "tls", Secure: true, Anonymous: true, ALPN: "mqtt"}
	for _, o := range options {
		switch o.Key {
		case "identity":
			peer.SNI = o.Value // the test authenticator takes the name for the identity
		case "bound", "restricted":
			peer.ALPN = o.Key
		case "plain":
			peer.Secure = false
		case "transient":
			peer.Enrolment = true
		case "until":
			peer.Transport = o.Value // how far ahead the test authenticator takes its end to be
		}
	}
	l := &pauseLink{Link: testkit.NewLink(end)}
	s.mu.Lock()
	c := s.broker.NewConn(l, peer, broker.Limits{})
	s.ends = append(s.ends, end)
	s.mu.Unlock()
	l.OnWritable = c.Writable
	end.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := c.Open(end); err == nil {
		end.SetReadDeadline(time.Time{})
		testkit.Drive(end, l.Link, pausable{c, l})
	}
	l.Wait()
	end.Close()
}

// pauseLink is a link whose driver can be told not to read.
type pauseLink struct {
	*testkit.Link
	mu   sync.Mutex
	gate chan struct{} // nil: it reads
}

func (l *pauseLink) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

func (l *pauseLink) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
		l.gate = nil
	}
}

func (l *pauseLink) Close(linger bool) {
	l.Resume()
	l.Link.Close(linger)
}

// pausable waits at the end of each readable event while its link is paused.
type pausable struct {
	*broker.Conn
	l *pauseLink
}

func (p pausable) Flush() {
	p.Conn.Flush()
	p.l.mu.Lock()
	gate := p.l.gate
	p.l.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (s *scriptBackend) Command(word string, options []testkit.Option) error {
	switch word {
	case "shutdown":
		return s.broker.Shutdown(context.Background())
	case "kick":
		if !s.broker.Kick(options[0].Key, mqtt.AdministrativeAction, "asked for by the script") {
			return fmt.Errorf("%s is not connected", options[0].Key)
		}
		return nil
	case "hold": // changes wait for their commit
		s.store.hold()
		return nil
	case "commit":
		s.store.end(nil)
		return nil
	case "refuse":
		s.store.end(fmt.Errorf("%w: the disk is full", store.ErrDegraded))
		return nil
	case "degraded", "ready":
		s.store.setDown(word == "degraded")
		return nil
	case "crash": // what waits for its commit is lost, and so is everything else that the store has not got
		return s.crash()
	case "retained": // so many topics have a retained message
		if n := fmt.Sprint(s.broker.Stats().Retained); n != options[0].Key {
			return fmt.Errorf("%s retained messages", n)
		}
		return nil
	case "ban", "pardon": // a principal, from the next review or CONNECT on
		s.judge.set(options[0].Key, word == "ban")
		return nil
	case "review":
		s.broker.Review()
		return nil
	case "reauthorize":
		s.broker.Reauthorize()
		return nil
	case "deny", "permit", "forbid", "dropped", "told", "tellings", "withdrawn":
		return s.authority.command(s.broker, word, options)
	case "end": // the sessions of a principal, for good
		s.broker.End(func(p *auth.Principal) bool { return p.Name == options[0].Key }, func() { s.over.Add(1) })
		return nil
	case "ended": // so many of those are over for good
		if n := fmt.Sprint(s.over.Load()); n != options[0].Key {
			return fmt.Errorf("%s ends are durable", n)
		}
		return nil
	case "shed":
		level, err := strconv.Atoi(options[0].Key)
		s.broker.Shed(level)
		return err
	case "limited": // a counter of Stats.Limited, or of Stats, has this value
		st := s.broker.Stats()
		for _, o := range options {
			name, want, _ := strings.Cut(o.Key, "=")
			f := reflect.ValueOf(st.Limited).FieldByName(name)
			if !f.IsValid() {
				f = reflect.ValueOf(st).FieldByName(name)
			}
			if got := fmt.Sprint(f); got != want {
				return fmt.Errorf("%s is %s", name, got)
			}
		}
		return nil
	case "once": // it was logged, and no more often
		for _, o := range options {
			if n := strings.Count(s.log.String(), o.Key); n != 1 {
				return fmt.Errorf("%q was logged %d times", o.Key, n)
			}
		}
		return nil
	case "frozen": // so many sessions are
		if n := fmt.Sprint(s.broker.Stats().Frozen); n != options[0].Key {
			return fmt.Errorf("%s sessions are frozen", n)
		}
		return nil
	case "asked", "answer", "unheard", "hangup":
		return s.service.command(s.broker, word, options)
	case "logged":
		for _, o := range options {
			if !strings.Contains(s.log.String(), o.Key) {
				return fmt.Errorf("the log does not hold %q:\n%s", o.Key, s.log.String())
			}
		}
		return nil
	}
	return fmt.Errorf("server: what is %q?", word)
}

func (s *scriptBackend) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.broker.Shutdown(ctx); err != nil {
		s.t.Errorf("shutdown: %v", err)
	}
}

func (s *scriptBackend) crash() error {
	s.store.cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, end := range s.ends {
		end.Close()
	}
	s.ends = nil
	if err := s.broker.Shutdown(context.Background()); err != nil {
		return err
	}
	var err error
	s.broker, err = s.start()
	return err
}

// switchStore is a store whose commits a test lets wait or fail.
type switchStore struct {
	store.Store
	h store.Handler

	mu      sync.Mutex
	held    [][]*store.Op
	holding bool
	down    bool
	off     bool
}

func (s *switchStore) Load(h store.Handler) (time.Duration, error) {
	s.h = h
	return s.Store.Load(h)
}

func (s *switchStore) Submit(ops ...*store.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.off:
		s.refuse(slices.Clone(ops), errors.New("switched off"))
	case s.holding:
		s.held = append(s.held, slices.Clone(ops))
	default:
		s.Store.Submit(ops...)
	}
}

func (s *switchStore) refuse(ops []*store.Op, err error) {
	go func() {
		ops = slices.DeleteFunc(ops, func(op *store.Op) bool { return !op.Take() })
		s.h.Committed(ops, err)
	}()
}

func (s *switchStore) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = true
}

// end commits what is held, or refuses it.
func (s *switchStore) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		for _, ops := range s.held {
			s.Store.Submit(ops...)
		}
	} else {
		s.refuse(slices.Concat(s.held...), err)
	}
	s.held, s.holding = nil, false
}

// cut loses what is held and everything that follows.
func (s *switchStore) cut() {
	s.end(errors.New("the broker has crashed"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
}

func (s *switchStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *switchStore) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return fmt.Errorf("%w: the disk is full", store.ErrDegraded)
	}
	return nil
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// scriptAuth lets everyone in, or those with a password of its list; its enhanced method wants the answer "42".
type scriptAuth struct {
	users  map[string]string
	method string
	broken bool
	policy denials
}

func (a *scriptAuth) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if a.broken {
		return nil, fmt.Errorf("the user database is away")
	}
	p := a.principal(c)
	if len(a.users) > 0 {
		if pw, ok := a.users[c.Username]; !ok || pw != string(c.Password) {
			return nil, &auth.Refusal{Code: mqtt.BadUserNameOrPassword, Text: "wrong user name or password"}
		}
		p.Name = c.Username
	}
	return p, nil
}

func (a *scriptAuth) principal(c *auth.Credentials) *auth.Principal {
	p := &auth.Principal{Name: c.Peer.SNI, Method: "script", Bound: c.Peer.ALPN == "bound", Restricted: c.Peer.ALPN == "restricted",
		Transient: c.Peer.Enrolment, Policy: &a.policy}
	if d, err := time.ParseDuration(c.Peer.Transport); err == nil {
		p.Until = time.Now().Add(d)
	}
	return p
}

func (a *scriptAuth) Exchange(method string, c *auth.Credentials) auth.Exchange {
	if a.method == "" || method != a.method {
		return nil
	}
	return &scriptExchange{p: a.principal(c)}
}

type scriptExchange struct {
	p *auth.Principal
}

func (x *scriptExchange) Next(_ context.Context, data []byte) ([]byte, *auth.Principal, error) {
	switch string(data) {
	case "42":
		return []byte("welcome"), x.p, nil
	case "", "hello":
		return []byte("6*7"), nil, nil
	}
	return nil, nil, &auth.Refusal{Code: mqtt.NotAuthorized, Text: "wrong answer"}
}
