package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
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
)

// lists are the revocation lists in force: one for each device CA, that of the CA that issues first.
type lists struct {
	wake chan struct{} // something was revoked

	mu      sync.Mutex // one signature of lists at a time
	dirty   atomic.Bool
	number  uint64 // of the list signed last
	current atomic.Pointer[[]list]
}

// list is a revocation list, under the name by which it is served.
type list struct {
	name       string
	ca         *x509.Certificate
	der        []byte
	number     uint64
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
	l.dirty.Store(true)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// CRL is the revocation list of the device CA in force, DER, and when it has to be replaced. Where Run does not run it is
// made when it is asked for. Nil when it cannot be made; see Trouble.
func (s *Service) CRL() (der []byte, next time.Time) {
	if s.lists.current.Load() == nil {
		s.refresh()
	}
	if all := s.lists.current.Load(); all != nil {
		return (*all)[0].der, (*all)[0].next
	}
	return nil, time.Time{}
}

// Settle does what Run would do next: a command without a server calls it at its end.
func (s *Service) Settle() { s.refresh() }

// refresh signs the lists if something was revoked, the CAs are others, or half of their life is over. What fails leaves
// the old ones, and is tried again when it is called next.
func (s *Service) refresh() {
	l := &s.lists
	l.mu.Lock()
	defer l.mu.Unlock()
	ca, now := s.CA(), s.o.Now()
	if all := l.current.Load(); all != nil && !l.dirty.Load() && !stale(*all, ca.DeviceCAs(), now) {
		return
	}
	l.dirty.Store(false)
	fresh, err := s.signLists(ca, now)
	if err != nil {
		l.dirty.Store(true)
		s.fail("crl", fmt.Errorf("the revocation list is not renewed: %w", err))
		return
	}
	// The file is first: a number that was served is not given again after a restart.
	err = s.writeLists(fresh)
	l.current.Store(&fresh)
	if err != nil {
		s.fail("crl", fmt.Errorf("the revocation list is not written: %w", err))
		return
	}
	s.troubles.clear("crl")
}

// fail keeps an error as a trouble, and logs it if it is another than before.
func (s *Service) fail(about string, err error) {
	if s.troubles.set(about, err.Error()) {
		s.o.Log.Error(err.Error())
	}
}

// stale reports whether lists are of other CAs, or half of their life is over. A clock that was set back makes them stale
// too: they would be of the future.
func stale(all []list, cas []*x509.Certificate, now time.Time) bool {
	if len(all) != len(cas) {
		return true
	}
	for i := range all {
		if !all[i].ca.Equal(cas[i]) || now.Sub(all[i].made) >= crlLife/2 || now.Before(all[i].made.Add(-time.Minute)) {
			return true
		}
	}
	return false
}

// signLists signs a list for each device CA, with a number greater than any before: the time, in milliseconds.
func (s *Service) signLists(ca *pki.Authority, now time.Time) ([]list, error) {
	number := max(s.lists.number+1, uint64(max(now.UnixMilli(), 0)))
	var fresh []list
	for i, c := range ca.DeviceCAs() {
		der, err := ca.SignCRLOf(c, pki.CRL{Number: number, Life: crlLife, Entries: s.o.Registry.Revoked(registry.KeyID(c))})
		if err != nil {
			return nil, err
		}
		name := crlName
		if i > 0 {
			name = listName(c)
		}
		fresh = append(fresh, list{name: name, ca: c, der: der, number: number, made: now, next: now.Add(crlLife)})
	}
	s.lists.number = number
	return fresh, nil
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
	var text []byte
	keep := make(map[string]bool)
	for _, l := range all {
		file := l.name + ".crl"
		keep[file] = true
		if err := pki.WriteFile(filepath.Join(dir, file), l.der, 0o644); err != nil {
			return err
		}
		text = append(text, pki.EncodeCRL(l.der)...)
	}
	old, err := filepath.Glob(filepath.Join(dir, crlName+"-*.crl"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if !keep[filepath.Base(path)] {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return pki.WriteFile(filepath.Join(dir, crlName+".pem"), text, 0o644)
}

// lastNumber is the greatest number of the lists that were written. Files of others are not believed.
func (s *Service) lastNumber() (last uint64) {
	files, err := filepath.Glob(filepath.Join(s.crlDir(), "*.crl"))
	if err != nil {
		return 0
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
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

// Handler serves GET /pki/NAME.crl, where NAME is device for the CA that issues, and /pki/ca.pem, what clients trust. While
// one root takes another's place the list of either CA is also served under a name that does not change, as its file in
// DATA/crl has it.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pki/{file}", func(w http.ResponseWriter, r *http.Request) {
		file := r.PathValue("file")
		if file == "ca.pem" {
			pem := s.CA().RootPEM()
			sum := sha256.Sum256(pem)
			serve(w, r, "application/x-pem-file", hex.EncodeToString(sum[:16]), caAge, pem)
			return
		}
		s.CRL()
		name, ok := strings.CutSuffix(file, ".crl")
		all := s.lists.current.Load()
		if all == nil {
			http.Error(w, "there is no revocation list", http.StatusServiceUnavailable)
			return
		}
		for _, l := range *all {
			if ok && (name == l.name || name == listName(l.ca)) {
				serve(w, r, "application/pkix-crl", fmt.Sprintf("%d-%s", l.number, listName(l.ca)), crlAge, l.der)
				return
			}
		}
		http.NotFound(w, r)
	})
	return mux
}

func serve(w http.ResponseWriter, r *http.Request, kind, tag string, age int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", age))
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}
