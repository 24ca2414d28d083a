package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// watched is a listener with what was last read for it. Guarded by Keeper.mu.
type watched struct {
	spec Spec
	l    *Listener
	m    *material // in force, or planned

	files, lists snapshot // as they were last read
	cas          []*x509.Certificate
	tried        time.Time
	waiting      *trust // the CAs that wait for their lists

	err      error // why what the files say is not in force
	caErr    error // why the CAs are not
	listsErr error // why the lists are older than their files
	bad      int   // looks in a row with any of these
}

// retry is how long something bad is left alone that does not change: time may mend it.
const retry = time.Minute

func (w *watched) failed() []error { return []error{w.err, w.caErr, w.listsErr} }

func (s *Spec) files() []string {
	var out []string
	for _, p := range s.Pairs {
		out = append(out, p.Cert, p.Key)
	}
	return append(out, s.ClientCAs...)
}

// plan makes a listener of a Spec, as a change of the one that has its name.
func (k *Keeper) plan(spec Spec, ours *own) (*watched, error) {
	spec.Pairs, spec.ClientCAs, spec.CRLs = slices.Clone(spec.Pairs), slices.Clone(spec.ClientCAs), slices.Clone(spec.CRLs)
	w := &watched{spec: spec, l: &Listener{k: k, name: spec.Name}}
	if err := spec.validate(); err != nil {
		return w, err
	}
	before := &material{}
	for _, o := range k.watch {
		if o.spec.Name == spec.Name {
			w.l = o.l
			before.trust, before.staples, before.pairs = o.m.trust, o.m.staples, o.m.pairs
			if slices.Equal(o.spec.CRLs, spec.CRLs) && o.spec.Stale == spec.Stale {
				before.lists = o.m.lists
			}
		}
	}
	w.m = k.build(w, before, ours, k.o.Now(), true)
	return w, nil
}

// refresh returns what shall be in force of w: the same pointer if nothing has changed.
func (k *Keeper) refresh(w *watched, now time.Time, force bool) *material {
	return k.build(w, w.m, &k.own, now, force)
}

// build returns what shall be in force of w in place of old, and notes what is held back.
func (k *Keeper) build(w *watched, old *material, ours *own, now time.Time, force bool) *material {
	next, s := *old, &w.spec
	next.source, next.enroll, next.grace = s.Source, s.Enroll, s.Grace
	if s.showsOwn() {
		next.own = ours.cert
	}
	lists := take(k.listFiles(s))
	listsDue := len(s.CRLs) > 0 && (force || old.lists == nil || !lists.same(w.lists) || !w.lists.settled())
	again := force || errors.Join(w.failed()...) != nil && (now.Sub(w.tried) >= retry || now.Before(w.tried))

	cas, read := w.cas, false
	if again || w.caErr != nil && listsDue || !take(s.files()).same(w.files) || !w.files.settled() {
		cas, read = k.readFiles(w, &next, now)
	}
	if s.trusts() {
		next.trust = w.trusts(cas, ours, old.trust)
	}
	if read || next.trust != old.trust {
		w.caErr = nil
	}
	if len(s.CRLs) > 0 && (listsDue || again || !next.trust.sameOthers(old.trust)) {
		l, err := k.openLists(s, next.trust, old)
		if err != nil && old.trust != nil && !next.trust.sameOthers(old.trust) {
			// The new CAs wait for their lists, and all that was read with them waits too.
			w.caErr, cas = err, w.cas
			if w.waiting == nil || !w.waiting.same(next.trust) {
				w.waiting = next.trust
			}
			next.pairs, next.trust = old.pairs, old.trust
			l, err = k.openLists(s, next.trust, old)
		}
		w.lists, w.listsErr = lists, err
		if err == nil {
			next.lists = l
		}
	}
	if w.caErr == nil {
		w.waiting = nil
	}
	w.cas = cas

	next.staples = k.staplesOf(next.pairs, now)
	if next.shown == nil || !slices.Equal(next.pairs, old.pairs) || next.own != old.own || !slices.Equal(next.staples, old.staples) {
		next.shown = newTable(stapled(next.pairs, next.staples), next.own)
	}
	if next.revises(old) || next.shown != old.shown || next.source != old.source {
		return &next
	}
	return old
}

// readFiles reads the certificates that are shown into next, and returns the CAs of clients; those in force if anything is
// wrong with any of them.
func (k *Keeper) readFiles(w *watched, next *material, now time.Time) (cas []*x509.Certificate, ok bool) {
	w.tried = now
	before := w.err
	var pairs []*tls.Certificate
	w.files, w.err = steady(w.spec.files(), func() (err error) {
		pairs, cas, err = readAll(&w.spec, now)
		return err
	})
	switch {
	case w.err == nil:
		next.pairs = keepSame(next.pairs, pairs)
		return cas, true
	case errors.Is(w.err, errChanging) && next.shown != nil:
		w.files, w.err = nil, before // the next look shows more
	}
	return w.cas, false
}

// trusts are the CAs of clients: old if it has the same.
func (w *watched) trusts(cas []*x509.Certificate, ours *own, old *trust) *trust {
	var own []*x509.Certificate
	if w.spec.TrustOwn {
		own = ours.deviceCAs
	}
	var factories []*x509.Certificate
	if w.spec.Factory != nil {
		factories = w.spec.Factory()
	}
	if t := newTrust(own, cas, factories); old == nil || !old.same(t) {
		return t
	}
	return old
}

func readAll(s *Spec, now time.Time) (pairs []*tls.Certificate, cas []*x509.Certificate, err error) {
	var errs []error
	for _, p := range s.Pairs {
		c, err := pki.LoadServer(p.Cert, p.Key, now)
		errs = append(errs, err)
		pairs = append(pairs, c)
	}
	for _, file := range s.ClientCAs {
		some, err := readCAs(file, now)
		errs = append(errs, err)
		cas = append(cas, some...)
	}
	return pairs, cas, errors.Join(errs...)
}

// readCAs reads the CAs of clients.
func readCAs(file string, now time.Time) ([]*x509.Certificate, error) {
	b, err := readFile(file, maxCAFile)
	if err != nil {
		return nil, err
	}
	all, err := pki.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	good := false
	for i, c := range all {
		// One that signed itself may be no CA: a device that is trusted alone.
		if !c.IsCA && !bytes.Equal(c.RawIssuer, c.RawSubject) {
			return nil, fmt.Errorf("open %s: certificate %d (%s) is not a CA", file, i+1, c.Subject)
		}
		good = good || !now.After(c.NotAfter)
	}
	if !good {
		return nil, fmt.Errorf("open %s: every CA in it has expired", file)
	}
	return all, nil
}

// keepSame returns the old certificates where the new ones are the same.
func keepSame(old, fresh []*tls.Certificate) []*tls.Certificate {
	for i, c := range fresh {
		for _, o := range old {
			if slices.EqualFunc(c.Certificate, o.Certificate, slices.Equal) {
				fresh[i] = o
			}
		}
	}
	return fresh
}

// troubles are what is wrong with a listener.
func (w *watched) troubles(now time.Time) []string {
	var out []string
	// A pair that is half written at one look is whole at the next.
	if err := errors.Join(w.err, w.caErr); err != nil && w.bad > 1 {
		out = append(out, "what was read before stays in force: "+err.Error())
	}
	if w.listsErr != nil && w.bad > 1 {
		out = append(out, "the revocation lists read before stay in force: "+w.listsErr.Error())
	}
	for _, c := range w.m.pairs {
		name, end := c.Leaf.Subject.CommonName, c.Leaf.NotAfter
		if len(c.Leaf.DNSNames) > 0 {
			name = c.Leaf.DNSNames[0]
		}
		switch left := end.Sub(now); {
		case left < 0:
			out = append(out, fmt.Sprintf("the certificate for %q expired on %s", name, end.UTC().Format(time.RFC3339)))
		case left < end.Sub(c.Leaf.NotBefore)/10:
			out = append(out, fmt.Sprintf("the certificate for %q ends on %s", name, end.UTC().Format(time.RFC3339)))
		}
	}
	return append(out, w.listTroubles()...)
}
