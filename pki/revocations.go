package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stale says what happens to certificates of a CA whose revocation list is out
// of date, or is missing.
type Stale string

const (
	StaleDeny  Stale = "deny"
	StaleAllow Stale = "allow" // the caller raises the alarm: see Revocations.Status
)

// RevocationsConfig names the revocation lists of other CAs.
type RevocationsConfig struct {
	// Files hold the lists, PEM (several in a file) or DER, 64 MiB at most.
	Files []string
	// Issuers are the CAs that clients may come from. A list of one of them with
	// a bad signature is refused when it is read, and Status tells which of them
	// has none. The list of any other CA is checked when a client shows that CA.
	Issuers []*x509.Certificate
	// Stale is StaleDeny when empty.
	Stale Stale
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Revocations looks certificates up in revocation lists. It is safe for
// several goroutines, and starts none: the caller calls Reload now and then.
type Revocations struct {
	cfg     RevocationsConfig
	reload  sync.Mutex
	files   []*crlFile
	current atomic.Pointer[map[string][]*list] // by RawIssuer
}

// crlFile is a file as it was last read.
type crlFile struct {
	path  string
	seen  os.FileInfo // nil before the first successful look
	lists []*list
	err   error // why the lists are older than the file
}

var (
	// ErrRevoked: the certificate is in a revocation list of its CA.
	ErrRevoked = errors.New("the certificate is revoked")
	// ErrStale: the CA's revocation list is out of date.
	ErrStale = errors.New("the revocation list is out of date")
	// ErrNoList: there is no revocation list of the CA.
	ErrNoList = errors.New("there is no revocation list")
)

// OpenRevocations reads the lists. Any that cannot be read is an error here;
// later the old one stays in force.
func OpenRevocations(cfg RevocationsConfig) (*Revocations, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switch cfg.Stale {
	case "":
		cfg.Stale = StaleDeny
	case StaleDeny, StaleAllow:
	default:
		return nil, fmt.Errorf("open revocation lists: stale policy %q, deny or allow wanted", cfg.Stale)
	}
	cfg.Files, cfg.Issuers = slices.Clone(cfg.Files), slices.Clone(cfg.Issuers)
	r := &Revocations{cfg: cfg}
	for _, path := range cfg.Files {
		r.files = append(r.files, &crlFile{path: path})
	}
	r.current.Store(&map[string][]*list{})
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the files that have changed. A file that is missing, damaged,
// badly signed or older than what is in force leaves the old lists in force, and
// is in the error, again at every call until it is good. changed tells whether
// a list was replaced: sessions may then be looked up again.
func (r *Revocations) Reload() (changed bool, err error) {
	r.reload.Lock()
	defer r.reload.Unlock()
	var errs []error
	for _, f := range r.files {
		if r.reloadFile(f) {
			changed = true
		}
		if f.err != nil {
			errs = append(errs, f.err)
		}
	}
	if changed {
		index := map[string][]*list{}
		for _, f := range r.files {
			for _, l := range f.lists {
				index[l.issuer] = append(index[l.issuer], l)
			}
		}
		for k := range index {
			index[k] = newest(index[k])
		}
		r.current.Store(&index)
	}
	return changed, errors.Join(errs...)
}

func (r *Revocations) reloadFile(f *crlFile) bool {
	fi, err := os.Stat(f.path)
	if err != nil {
		f.seen, f.err = nil, fmt.Errorf("reload revocation list: %w", err)
		return false
	}
	if f.seen != nil && os.SameFile(f.seen, fi) && f.seen.ModTime().Equal(fi.ModTime()) && f.seen.Size() == fi.Size() {
		return false
	}
	lists, err := r.read(f.path)
	if err == nil {
		err = notOlder(f.lists, lists)
	}
	// A file that is still being written shows another time or size at the next look.
	f.seen, f.err = fi, nil
	if err != nil {
		f.err = fmt.Errorf("reload revocation list %s: %w", f.path, err)
		return false
	}
	f.lists = lists
	return true
}

func (r *Revocations) read(path string) ([]*list, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxCRLFile+1))
	if err != nil {
		return nil, err
	}
	lists, err := parseCRLs(b)
	if err != nil {
		return nil, err
	}
	now := r.cfg.Now()
	for _, l := range lists {
		if l.this.After(now.Add(Backdate)) {
			return nil, fmt.Errorf("the list of %q is of the future, %s", l.issuerCN, l.this.Format(time.RFC3339))
		}
		var bad error
		known := false
		for _, c := range r.cfg.Issuers {
			if string(c.RawSubject) != l.issuer {
				continue
			}
			err := l.verify(c)
			if err == nil {
				known = true
				break
			}
			bad = err
		}
		if bad != nil && !known {
			return nil, bad
		}
	}
	return lists, nil
}

// notOlder refuses an older list, with which somebody could undo a revocation.
func notOlder(old, fresh []*list) error {
	for _, l := range fresh {
		for _, o := range old {
			if l.issuer == o.issuer && l.scope == o.scope && string(l.authKey) == string(o.authKey) && older(l, o) {
				return fmt.Errorf("the list of %q of %s is older than that in force, of %s", l.issuerCN, l.this.Format(time.RFC3339), o.this.Format(time.RFC3339))
			}
		}
	}
	return nil
}

func older(a, b *list) bool {
	if a.number != nil && b.number != nil {
		if c := a.number.Cmp(b.number); c != 0 {
			return c < 0
		}
	}
	return a.this.Before(b.this)
}

// newest keeps the newest list for each key and scope.
func newest(all []*list) []*list {
	var out []*list
	for _, l := range all {
		i := slices.IndexFunc(out, func(o *list) bool { return o.scope == l.scope && string(o.authKey) == string(l.authKey) })
		switch {
		case i < 0:
			out = append(out, l)
		case older(out[i], l):
			out[i] = l
		}
	}
	return out
}

// Check looks up a certificate whose issuer is known: nil, or an error that is
// ErrRevoked; under StaleDeny also ErrStale or ErrNoList. The list of a distribution
// point counts as missing for a certificate that does not name that.
func (r *Revocations) Check(cert, issuer *x509.Certificate) error {
	return r.check(cert, issuer, true)
}

func (r *Revocations) check(cert, issuer *x509.Certificate, required bool) error {
	refused := func(why error) error {
		return fmt.Errorf("certificate %x of %q: %w", cert.SerialNumber, issuer.Subject.CommonName, why)
	}
	lists := (*r.current.Load())[string(cert.RawIssuer)]
	var (
		good  int
		stale *list
		bad   = ErrNoList
	)
	now := r.cfg.Now()
	for _, l := range lists {
		if err := l.verify(issuer); err != nil {
			bad = fmt.Errorf("%w: %w", ErrNoList, err)
			continue
		}
		if e, ok := l.find(cert.SerialNumber); ok {
			return refused(fmt.Errorf("%w: %s on %s", ErrRevoked, Reason(e.reason), time.Unix(e.at, 0).UTC().Format(time.DateOnly)))
		}
		if !l.covers(cert) {
			bad = fmt.Errorf("%w of its distribution point", ErrNoList)
			continue
		}
		good++
		if now.After(l.next) {
			stale = l
		}
	}
	switch {
	case r.cfg.Stale == StaleAllow:
		return nil
	case stale != nil:
		return refused(fmt.Errorf("%w since %s", ErrStale, stale.next.Format(time.RFC3339)))
	case good == 0 && required:
		return refused(bad)
	}
	return nil
}

// VerifyConnection is a tls.Config.VerifyConnection, which runs for resumed
// connections too. The client's certificate must be covered by a list, the CAs
// above it are looked up where there is one. A client with several chains
// passes by any of them, unless it is revoked itself.
func (r *Revocations) VerifyConnection(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil // whether one is wanted is ClientAuth's to say
	}
	if len(cs.VerifiedChains) == 0 {
		return errors.New("check revocation: the certificate was not verified")
	}
	var first error
	for _, chain := range cs.VerifiedChains {
		err := r.checkChain(chain)
		if err == nil {
			return nil
		}
		if len(chain) > 1 && errors.Is(r.check(chain[0], chain[1], true), ErrRevoked) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (r *Revocations) checkChain(chain []*x509.Certificate) error {
	if len(chain) == 1 { // a pinned certificate, which is its own anchor
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		if err := r.check(c, chain[i+1], i == 0); err != nil {
			return err
		}
	}
	return nil
}

// CRLStatus describes a revocation list in force, or what is missing.
type CRLStatus struct {
	File    string // empty for a CA without a list
	Issuer  string // its common name
	Number  string // decimal, empty when it has none
	This    time.Time
	Next    time.Time
	Entries int
	// Stale: the next list is due. Missing: the CA is one of the Issuers and has none.
	Stale, Missing bool
	// Err says why a newer file is not in force; nil when all is well.
	Err error
}

// Status are all lists in force, then the CAs without one.
func (r *Revocations) Status() []CRLStatus {
	r.reload.Lock()
	defer r.reload.Unlock()
	now := r.cfg.Now()
	var out []CRLStatus
	for _, f := range r.files {
		for _, l := range f.lists {
			s := CRLStatus{File: f.path, Issuer: l.issuerCN, This: l.this, Next: l.next, Entries: len(l.entries), Stale: now.After(l.next), Err: f.err}
			if l.number != nil {
				s.Number = l.number.String()
			}
			out = append(out, s)
		}
		if len(f.lists) == 0 {
			out = append(out, CRLStatus{File: f.path, Missing: true, Err: f.err})
		}
	}
	index := *r.current.Load()
	for _, c := range r.cfg.Issuers {
		if !slices.ContainsFunc(index[string(c.RawSubject)], func(l *list) bool { return l.verify(c) == nil }) {
			out = append(out, CRLStatus{Issuer: c.Subject.CommonName, Missing: true})
		}
	}
	return out
}
