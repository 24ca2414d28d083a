// Package registry knows the devices: their groups, attributes, certificates and states, durably. Of every certificate
// that its CA has issued it can say whether the holder may connect.
//
//	r, err := registry.Open(store, registry.Options{Log: log, Issuers: cas})
//	err = r.Add(ctx, registry.Device{ID: "pump-17", Groups: []string{"sensors"}})
//	err = r.Issued(ctx, "pump-17", cert)
//	verdict := r.Check(cert)
//	err = r.Revoke(ctx, pki.KeyCompromise, "pump-17")
//
// A change returns when it is durable, is in force from then on, and leaves a line in the log with who made it (As).
// Operators and claims have certificates too: they are kept under the ids operator/NAME and claim/NAME, which no device
// can have.
//
// Changes wait for the store, and so must not be made by the handler of its commits. The package starts no goroutine, but
// a timer that Close stops. DESIGN.md explains how it works.
package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/store"
)

// Store is what the registry needs of a store.Store that was loaded. Whoever handles its commits must send what has
// become of an op to its Wait, a chan error.
type Store interface {
	Records(prefix string, fn func(key string, value []byte) bool) error
	Submit(ops ...*store.Op)
	Ready() error
}

// Options are what a registry needs of the program around it.
type Options struct {
	Log *slog.Logger // nil: none
	// Issuers are the CAs whose certificates are registered; SetIssuers replaces them.
	Issuers []*x509.Certificate
	// Strict refuses certificates of the issuers that the registry does not know. Without it one is registered when it is
	// seen first, its holder as active. One of any other CA is left to those who trust that CA.
	Strict bool
	// Tenant is whose certificates of the issuers are registered; "default" if empty. Those that name another are refused.
	Tenant string
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// Errors that callers branch on.
var (
	ErrUnknown = errors.New("there is no such device")
	ErrExists  = errors.New("the device exists")
	ErrRevoked = errors.New("the device is revoked")
	ErrClosed  = errors.New("the registry is closed")
	ErrIssuer  = errors.New("the certificate is of none of our CAs")
	ErrEnded   = errors.New("the certificate is revoked or superseded")
	ErrKey     = errors.New("the key was revoked since others know it")
)

// Registry is the set of devices. Its methods may be called from many goroutines.
type Registry struct {
	s       Store
	o       Options
	issuers atomic.Pointer[[]*issuer]
	retired keySet
	index   index

	mu    sync.Mutex
	freed sync.Cond           // busy has become smaller
	busy  map[string]struct{} // ids under change
	ended bool                // Close was called

	guard atomic.Pointer[func(Device) error] // see Guard

	unregistered atomic.Bool // the last certificate seen first could not be registered, which was logged

	watch struct {
		sync.Mutex
		next int
		fns  map[int]func(Event)
	}

	seen sightings
}

// issuer is a CA, and the name of its key.
type issuer struct {
	cert *x509.Certificate
	key  *[sha256.Size]byte
}

// Prefixes of the records' keys.
const (
	devicePrefix = "device/"
	seenPrefix   = "seen/"
)

// Open reads the registry in s.
func Open(s Store, o Options) (*Registry, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	r := &Registry{s: s, o: o, busy: make(map[string]struct{})}
	r.freed.L = &r.mu
	r.watch.fns = make(map[int]func(Event))
	r.index.init()
	r.seen.init(r)
	r.SetIssuers(o.Issuers...)
	if err := r.load(); err != nil {
		return nil, fmt.Errorf("load registry: %w", err)
	}
	return r, nil
}

// load reads all records. What was seen of devices that are gone is deleted.
func (r *Registry) load() (err error) {
	began := time.Now()
	bad := func(key string, cause error) bool {
		if cause != nil {
			err = fmt.Errorf("record %q: %w", key, cause)
		}
		return cause == nil
	}
	in := newInterner()
	if err2 := r.s.Records(devicePrefix, func(key string, value []byte) bool {
		e, err := decodeEntry(key[len(devicePrefix):], value, in)
		if err == nil {
			r.index.add(e)
		}
		return bad(key, err)
	}); err2 != nil {
		return err2
	}
	if err != nil {
		return err
	}
	var stale []string
	if err2 := r.s.Records(seenPrefix, func(key string, value []byte) bool {
		e := r.index.get(key[len(seenPrefix):])
		if e == nil || e.purged {
			stale = append(stale, key)
			return true
		}
		s, roots, err := decodeSeen(value, in)
		if err == nil {
			e.last.seen, e.last.roots, e.last.written = s, roots, s.At.UnixMilli()
		}
		return bad(key, err)
	}); err2 != nil {
		return err2
	}
	if err != nil {
		return err
	}
	r.seen.in = in
	for _, key := range stale {
		r.s.Submit(&store.Op{Kind: store.PutRecord, Record: &store.Record{Key: key}})
	}
	r.o.Log.Info("registry loaded", "devices", r.index.len(), "time", time.Since(began))
	return r.forget()
}

// forget removes what a purge left, and has expired long ago.
func (r *Registry) forget() error {
	var ids []string
	now := r.o.Now().Unix()
	for e := range r.index.all {
		if e.purged && !e.kept(now) {
			ids = append(ids, e.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return r.change(As(context.Background(), "registry"), action{what: "forget"}, ids, func(e *entry) error {
		e.gone = true
		return nil
	})
}

// Close waits for changes under way, writes what was seen last, and stops the timer. Later changes fail with ErrClosed;
// Check goes on. It is called before the store is closed, and may be called more than once.
func (r *Registry) Close() {
	r.mu.Lock()
	r.ended = true
	for len(r.busy) > 0 {
		r.freed.Wait()
	}
	r.mu.Unlock()
	r.seen.close()
}

// SetIssuers replaces the CAs whose certificates are registered.
func (r *Registry) SetIssuers(certs ...*x509.Certificate) {
	all := make([]*issuer, 0, len(certs))
	for _, c := range certs {
		key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		all = append(all, &issuer{c, &key})
	}
	r.issuers.Store(&all)
}

// Retire replaces the set of CAs that are trusted no longer, by their certificates: those that they issued are refused.
func (r *Registry) Retire(certs ...*x509.Certificate) {
	set := make(map[[keySize]byte]struct{}, len(certs))
	for _, c := range certs {
		set[sha256.Sum256(c.RawSubjectPublicKeyInfo)] = struct{}{}
	}
	r.retired.Store(&set)
}

// keySet is a set of keys, by their names.
type keySet struct {
	atomic.Pointer[map[[keySize]byte]struct{}]
}

func (s *keySet) has(key *[keySize]byte) bool {
	set := s.Load()
	if set == nil {
		return false
	}
	_, ok := (*set)[*key]
	return ok
}

// Ready is nil while changes can be made durable.
func (r *Registry) Ready() error { return r.s.Ready() }

// issuerOf returns the CA that says to have issued cert, nil if it is none of ours. The signature is not checked.
func (r *Registry) issuerOf(cert *x509.Certificate) *issuer {
	for _, i := range *r.issuers.Load() {
		if bytes.Equal(i.cert.RawSubject, cert.RawIssuer) &&
			(len(cert.AuthorityKeyId) == 0 || len(i.cert.SubjectKeyId) == 0 || bytes.Equal(i.cert.SubjectKeyId, cert.AuthorityKeyId)) {
			return i
		}
	}
	return nil
}

// KeyID names the key of a certificate, as Certificate.Issuer and Certificate.SPKI do.
func KeyID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Unnamed is who makes a change when As did not say.
const Unnamed = "unnamed"

type actorKey struct{}

// As names who makes the changes of ctx, for the log: "operator alice", "enrolment of 192.0.2.7".
func As(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actorKey{}, who)
}

// Actor is who As named.
func Actor(ctx context.Context) string {
	if who, ok := ctx.Value(actorKey{}).(string); ok {
		return who
	}
	return Unnamed
}
