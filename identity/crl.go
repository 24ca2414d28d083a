package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

const (
	crlLife = 24 * time.Hour
	crlName = "device"
	// crlAge and caAge are how long caches may keep what Handler serves, in seconds.
	crlAge = 60
	caAge  = 3600
	// crlPause is the time between two attempts after one has failed: anybody may ask for a list.
	crlPause = pace
	// unknown is how many changes a list knows of that was read from a file.
	unknown = ^uint64(0)
)

// lists are the revocation lists in force: one for each device CA, that of the CA that issues first.
type lists struct {
	wake    chan struct{} // something was revoked
	changes atomic.Uint64 // of what is revoked

	mu      sync.Mutex // one signature of lists at a time
	number  uint64     // of the list signed last
	unsaved bool       // the files are not those in force
	failed  time.Time  // when a list could not be signed, zero if all could
	current atomic.Pointer[[]list]
}

// list is a revocation list, under the name by which it is served.
type list struct {
	name       string
	ca         *x509.Certificate
	der        []byte
	number     uint64
	changes    uint64 // that it knows of
	made, next time.Time
}

func (l *lists) init(s *Service) {
	l.wake = make(chan struct{}, 1)
	l.number = s.lastNumber()
	s.o.Registry.Watch(func(e registry.Event) {
		if len(e.Serials) > 0 || e.What == "import" {
			l.changed()
		}
	})
}

// changed has the lists signed again. It does not block.
func (l *lists) changed() {
	l.changes.Add(1)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// all are the lists in force.
func (l *lists) all() []list {
	if all := l.current.Load(); all != nil {
		return *all
	}
	return nil
}

// of is the list of a CA, nil if there is none.
func (l *lists) of(ca *x509.Certificate) *list {
	all := l.all()
	if i := slices.IndexFunc(all, func(one list) bool { return one.ca.Equal(ca) }); i >= 0 {
		return &all[i]
	}
	return nil
}

// CRL is the revocation list of the device CA in force, DER, and when it has to be replaced. Where Run does not run it is
// made when it is asked for, which is tried every ten seconds if it fails. Nil when it cannot be made; see Trouble.
func (s *Service) CRL() (der []byte, next time.Time) {
	ca := s.CA().DeviceCAs()[0]
	one := s.lists.of(ca)
	if one == nil {
		s.lists.mu.Lock()
		if s.lists.of(ca) == nil && apart(s.o.Now(), s.lists.failed) >= crlPause {
			s.sign()
		}
		s.lists.mu.Unlock()
		one = s.lists.of(ca)
	}
	if one == nil {
		return nil, time.Time{}
	}
	return one.der, one.next
}

// Settle does what Run would do next: a command without a server calls it at its end.
func (s *Service) Settle() { s.refresh() }

// refresh signs the lists for which something was revoked, whose CAs have none, or half of whose life is over. What fails
// leaves the old one, and is tried again when it is called next.
func (s *Service) refresh() {
	s.lists.mu.Lock()
	defer s.lists.mu.Unlock()
	s.sign()
}

// sign is refresh under the lock.
func (s *Service) sign() {
	l := &s.lists
	changes, now, ca := l.changes.Load(), s.o.Now(), s.CA()
	number := max(l.number+1, uint64(max(now.UnixMilli(), 0)))
	var fresh []list
	var failed error
	signed := len(l.all()) != len(ca.DeviceCAs())
	for i, c := range ca.DeviceCAs() {
		one := l.of(c)
		if one == nil || one.stale(changes, now) {
			entries := s.o.Registry.Revoked(registry.KeyID(c))
			if der, err := ca.SignCRLOf(c, pki.CRL{Number: number, Life: crlLife, Entries: entries}); err != nil {
				if failed = errors.Join(failed, err); one == nil {
					one = s.saved(c, now)
				}
			} else {
				one = &list{ca: c, der: der, number: number, changes: changes, made: now, next: now.Add(crlLife)}
				l.number, signed = number, true
			}
		}
		if one != nil {
			named := *one
			if named.name = crlName; i > 0 {
				named.name = listName(c)
			}
			signed = signed || named.name != one.name
			fresh = append(fresh, named)
		}
	}
	if l.failed = (time.Time{}); failed != nil {
		l.failed = now
	}
	if len(fresh) > 0 && (signed || l.unsaved) {
		l.current.Store(&fresh)
		err := s.writeLists(fresh)
		l.unsaved = err != nil
		s.report("crl file", "the revocation list is not written", err)
	}
	s.report("crl", "the revocation list is not renewed", failed)
}

// saved is the list of a CA that was written before this program ran, nil if there is none that is valid still. It may lack
// what was revoked since, and counts as stale.
func (s *Service) saved(c *x509.Certificate, now time.Time) *list {
	for _, name := range []string{crlName, listName(c)} {
		der, err := os.ReadFile(filepath.Join(s.crlDir(), name+".crl"))
		if err != nil {
			continue
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil || l.CheckSignatureFrom(c) != nil || !now.Before(l.NextUpdate) || l.Number == nil || !l.Number.IsUint64() {
			continue
		}
		return &list{ca: c, der: der, number: l.Number.Uint64(), changes: unknown, made: l.ThisUpdate, next: l.NextUpdate}
	}
	return nil
}

// report keeps what went wrong as a trouble, and logs it if it is another than before; nil ends it.
func (s *Service) report(about, what string, err error) {
	switch {
	case err == nil:
		s.troubles.clear(about)
	case s.troubles.set(about, what+": "+err.Error()):
		s.o.Log.Error(what, "error", err)
	}
}

// stale reports whether a list does not know of all changes, or half of its life is over. One that was made by a clock
// that was ahead is stale too: it would be of the future.
func (l *list) stale(changes uint64, now time.Time) bool {
	return l.changes != changes || now.Sub(l.made) >= crlLife/2 || now.Before(l.made.Add(-time.Minute))
}

// listName is the name of a CA's list that does not change when another CA issues.
func listName(c *x509.Certificate) string { return crlName + "-" + registry.KeyID(c)[:16] }

// crlDir is the folder with the lists for web servers.
func (s *Service) crlDir() string { return filepath.Join(s.Folder().Path(), "crl") }

// writeLists writes each list, and all of them as PEM, and removes those of CAs that are gone.
func (s *Service) writeLists(all []list) error {
	dir := s.crlDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	keep := make(map[string]bool)
	for _, l := range all {
		file := l.name + ".crl"
		keep[file] = true
		if err := pki.WriteFile(filepath.Join(dir, file), l.der, 0o644); err != nil {
			return err
		}
	}
	old, err := crlFiles(dir)
	if err != nil {
		return err
	}
	for _, name := range old {
		if strings.HasPrefix(name, crlName+"-") && !keep[name] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return pki.WriteFile(filepath.Join(dir, crlName+".pem"), encodeLists(all), 0o644)
}

// encodeLists is the PEM form of lists.
func encodeLists(all []list) (text []byte) {
	for _, l := range all {
		text = append(text, pki.EncodeCRL(l.der)...)
	}
	return text
}

// crlFiles are the names of the lists in a folder, whose path may have what is a pattern to filepath.Glob.
func crlFiles(dir string) (names []string, err error) {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ".crl") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// lastNumber is the greatest number of the lists that were written. Files of others are not believed.
func (s *Service) lastNumber() (last uint64) {
	files, err := crlFiles(s.crlDir())
	if err != nil {
		return 0
	}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(s.crlDir(), name))
		if err != nil {
			continue
		}
		list, err := x509.ParseRevocationList(b)
		if err != nil || list.Number == nil || list.Number.Cmp(big.NewInt(1<<62)) > 0 {
			continue
		}
		for _, c := range s.CA().DeviceCAs() {
			if list.CheckSignatureFrom(c) == nil {
				last = max(last, list.Number.Uint64())
			}
		}
	}
	return last
}

// Handler serves GET /pki/NAME.crl, where NAME is device for the CA that issues, /pki/device.pem, the lists of all CAs that are
// trusted, and /pki/ca.pem, what clients trust. While one root takes another's place the list of either CA is also served
// under a name that does not change, as its file in DATA/crl has it.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pki/{file}", func(w http.ResponseWriter, r *http.Request) {
		file := r.PathValue("file")
		if file == "ca.pem" {
			pem := s.CA().RootPEM()
			serve(w, r, "application/x-pem-file", tagOf(pem), caAge, pem)
			return
		}
		s.CRL() // makes it if there is none
		if all := s.lists.all(); file == crlName+".pem" && len(all) > 0 {
			text := encodeLists(all)
			serve(w, r, "application/x-pem-file", tagOf(text), crlAge, text)
			return
		}
		if name, ok := strings.CutSuffix(file, ".crl"); ok {
			for _, l := range s.lists.all() {
				if name == l.name || name == listName(l.ca) {
					serve(w, r, "application/pkix-crl", fmt.Sprintf("%d-%s", l.number, listName(l.ca)), crlAge, l.der)
					return
				}
			}
		}
		http.NotFound(w, r)
	})
	return mux
}

// tagOf tells one content from another.
func tagOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func serve(w http.ResponseWriter, r *http.Request, kind, tag string, age int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", age))
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}
