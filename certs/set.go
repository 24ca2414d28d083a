package certs

import (
	"errors"
	"fmt"
	"slices"
)

// Set is a plan: listeners with everything loaded.
type Set struct {
	k     *Keeper
	hosts []string
	watch []*watched
	own   own
}

// Plan loads and checks everything that the listeners show and trust, and changes nothing that is in force; our own
// certificate is issued if it has to be, with the further names in hosts. All errors are reported, each with its listener.
func (k *Keeper) Plan(hosts []string, specs []Spec) (*Set, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &Set{k: k, hosts: slices.Clone(hosts), own: k.own}
	s.own.err = nil
	var errs []error
	for i := range specs {
		if specs[i].NeedsCA() {
			if err := s.own.load(k, s.hosts); err != nil {
				return nil, fmt.Errorf("plan certificates: %w", err)
			}
			break
		}
	}
	for _, spec := range specs {
		if slices.ContainsFunc(s.watch, func(w *watched) bool { return w.spec.Name == spec.Name }) {
			errs = append(errs, fmt.Errorf("listener %s: there are two of this name", spec.Name))
			continue
		}
		w, err := k.plan(spec, &s.own)
		for _, e := range append([]error{err}, w.failed()...) {
			if e != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", spec.Name, e))
			}
		}
		s.watch = append(s.watch, w)
		if w.l.current.Load() == nil { // nobody has it yet
			w.l.current.Store(w.m)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Listener returns the listener of that name in the set, nil if there is none. One that was there before keeps what is in
// force until Apply.
func (s *Set) Listener(name string) *Listener {
	for _, w := range s.watch {
		if w.spec.Name == name {
			return w.l
		}
	}
	return nil
}

// Apply puts the set in force; listeners that are not in it are not looked after any longer.
func (s *Set) Apply() {
	k := s.k
	k.mu.Lock()
	var changed []string
	for _, w := range s.watch {
		if before := w.l.current.Swap(w.m); w.m.revises(before) {
			changed = append(changed, w.spec.Name)
		}
	}
	k.hosts, k.watch, k.own = s.hosts, s.watch, s.own
	live := make(map[string]*Listener, len(s.watch))
	for _, w := range s.watch {
		live[w.spec.Name] = w.l
	}
	k.live.Store(&live)
	k.syncJobs()
	k.dropCopies()
	for _, w := range s.watch {
		if slices.Contains(changed, w.spec.Name) {
			k.hurry(w)
		}
	}
	k.report(k.o.Now())
	k.mu.Unlock()
	k.trustChanged(changed)
}
