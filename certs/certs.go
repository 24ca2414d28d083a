// Package certs keeps what TLS listeners show and trust current: server certificates of our own CA, from files and from a
// Source such as ACME, chosen by server name; the CAs of clients; and the revocation lists of other CAs.
//
// A Keeper plans a set of listeners, which loads and checks everything and changes nothing, and applies it. From then on
// Run looks after the files, our own certificate, lists that come from URLs, and OCSP staples. Whatever has changed is
// checked as a whole and swapped in one step; what is bad leaves the old in force, with the reason in the log and in
// Trouble. A Listener is what a transport asks in handshakes: it opens no file and never waits for one to be read.
//
// Run starts goroutines, for what comes over the network, and ends them. Fetched lists are kept in DATA/crl-cache.
// The package is used by the server's assembly. DESIGN.md tells what is swapped with what, and why.
package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// Options are the parts of a Keeper. It must not be modified once passed in.
type Options struct {
	// Data is the data folder. Lists of URLs are kept in its folder crl-cache.
	Data string

	// Folder returns the CA folder in force, and is asked again at every look: another pointer means that the CA has
	// changed. Required if a Spec says NeedsCA.
	Folder func() *pki.Folder

	// Verify is asked at the end of each handshake, resumed ones included, about a client certificate whose chain and
	// dates are good, or expired within Grace on a listener for enrolment. Its error refuses the client. It must not
	// block. foreign says that the CA is of a file, and neither ours nor a maker's. Nil accepts.
	Verify func(leaf *x509.Certificate, foreign bool) error

	// TrustChanged is called after the CAs or the revocation lists of a listener have changed: TLS sessions should be
	// forgotten, and connections reviewed with Stands. It is called without locks, by Run, Reload and Apply. Nil: nobody.
	TrustChanged func(listener string)

	// Poll is the time between two looks at the files; 2 s when zero.
	Poll time.Duration

	Log *slog.Logger     // nil: discarded
	Now func() time.Time // nil: time.Now
}

// Keeper looks after the certificates of a server's listeners. Make one with New. Its methods may be called from many
// goroutines.
type Keeper struct {
	o    Options
	http *http.Client

	mu      sync.Mutex
	hosts   []string
	watch   []*watched
	own     own
	jobs    map[string]*job
	busy    map[string]bool    // keys of the jobs under way
	staples map[string]*staple // by certificate
	told    []string           // troubles that are in the log

	trouble atomic.Pointer[[]string]
	live    atomic.Pointer[map[string]*Listener] // by name
	guests  guests
	looks   chan bool     // true: whatever the files look like
	fetch   chan struct{} // jobs were added, or have ended
}

// New returns a Keeper without listeners.
func New(o Options) *Keeper {
	if o.Poll == 0 {
		o.Poll = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keeper{
		o: o, http: newClient(), jobs: map[string]*job{}, busy: map[string]bool{}, staples: map[string]*staple{},
		looks: make(chan bool, 1), fetch: make(chan struct{}, 1),
	}
}

// listener returns the listener of a name, nil if there is none in force.
func (k *Keeper) listener(name string) *Listener { return k.listeners()[name] }

func (k *Keeper) listeners() map[string]*Listener {
	if m := k.live.Load(); m != nil {
		return *m
	}
	return nil
}

// Run keeps everything current until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	tasks.Go(func() { k.runJobs(ctx) })
	defer tasks.Wait()
	tick := time.NewTicker(k.o.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.look(false)
		case force := <-k.looks:
			k.look(force)
		}
	}
}

// Wake makes Run read everything again at once. It never blocks: our CA has changed, or that of a factory.
func (k *Keeper) Wake() { k.wake(true) }

func (k *Keeper) wake(force bool) {
	select {
	case k.looks <- force:
	default: // a look is due; should it be a light one, make it a thorough one
		if force {
			select {
			case <-k.looks:
			default:
			}
			select {
			case k.looks <- true:
			default:
			}
		}
	}
}

// Reload reads everything again, and returns what is held back because it is bad: the old stays in force.
func (k *Keeper) Reload() error { return k.look(true) }

// look reads what has changed, or everything.
func (k *Keeper) look(force bool) error {
	k.mu.Lock()
	now := k.o.Now()
	k.lookOwn(force)
	errs := []error{k.own.err}
	var changed []string
	var hurry []*watched
	for _, w := range k.watch {
		waiting := w.waiting
		next := k.refresh(w, now, force)
		if next.trust != w.m.trust || w.waiting != waiting {
			hurry = append(hurry, w)
		}
		if next.revises(w.m) {
			changed = append(changed, w.spec.Name)
		}
		if next.changed(w.m) {
			k.o.Log.Info("certificates read again", "listener", w.spec.Name)
		}
		w.m = next
		w.l.current.Store(next)
		failed := errors.Join(w.failed()...)
		switch {
		case failed == nil:
			w.bad = 0
		case force:
			w.bad += 2
		default:
			w.bad++
		}
		errs = append(errs, failed)
	}
	k.syncJobs()
	for _, w := range hurry {
		k.hurry(w)
	}
	k.report(now)
	k.mu.Unlock()
	k.guests.forget(now)
	k.trustChanged(changed)
	return errors.Join(errs...)
}

func (k *Keeper) trustChanged(listeners []string) {
	if k.o.TrustChanged == nil {
		return
	}
	for _, name := range listeners {
		k.o.TrustChanged(name)
	}
}

// Trouble are sentences about what is wrong, for health: what is held back, lists that are out of date, certificates that
// end. Empty when all is well.
func (k *Keeper) Trouble() []string {
	if t := k.trouble.Load(); t != nil {
		return *t
	}
	return nil
}

// report renews Trouble and logs what is there for the first time, and what is over. The caller holds mu.
func (k *Keeper) report(now time.Time) {
	var all []string
	add := func(s string) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if k.own.err != nil {
		add("own certificate: " + k.own.err.Error())
	}
	for _, w := range k.watch {
		for _, s := range w.troubles(now) {
			add("listener " + w.spec.Name + ": " + s)
		}
	}
	for _, j := range k.sortedJobs() {
		if j.err != nil {
			add(j.err.Error())
		}
	}
	for _, s := range all {
		if !slices.Contains(k.told, s) {
			k.o.Log.Error("certificates need attention", "trouble", s)
		}
	}
	for _, s := range k.told {
		if !slices.Contains(all, s) {
			k.o.Log.Info("certificates: trouble is over", "trouble", s)
		}
	}
	k.told = all
	k.trouble.Store(&all)
}
