package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
)

// parse reads a list that the CA in force has signed.
func (b *bench) parse(der []byte) *x509.RevocationList {
	b.t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(b.CA().DeviceCAs()[0])
	}
	b.do(err)
	return list
}

// listed are the serials of the list in force.
func (b *bench) listed() (serials []string) {
	der, _ := b.CRL()
	for _, e := range b.parse(der).RevokedCertificateEntries {
		serials = append(serials, fmt.Sprint(serialOf(e.SerialNumber), " ", pki.Reason(e.ReasonCode)))
	}
	return serials
}

// Whatever ends a certificate is in the list and in its file within a moment, once for many.
func TestCRL(t *testing.T) {
	b := newBench(t, Config{})
	var all []string
	for i := range 50 {
		b.device(fmt.Sprint("d", i))
		all = append(all, fmt.Sprint("d", i))
	}
	leaf := b.device("one")
	if got := b.listed(); len(got) != 0 {
		t.Error(got)
	}
	b.run()
	b.do(b.reg.RevokeCertificate(b.ctx, serialOf(leaf.SerialNumber), pki.KeyCompromise))
	until(t, "it is listed", func() bool { return fmt.Sprint(b.listed()) == "["+serialOf(leaf.SerialNumber)+" key-compromise]" })
	before, _ := b.CRL()
	first := b.parse(before).Number.Uint64()
	for _, id := range all {
		b.do(b.reg.Revoke(b.ctx, pki.Unspecified, id))
	}
	until(t, "all are listed", func() bool { return len(b.listed()) == 51 })
	der, next := b.CRL()
	if n := b.parse(der).Number.Uint64() - first; n == 0 || n > 50 {
		t.Errorf("%d lists for 50 revocations", n)
	}
	if !next.Equal(b.now().Add(24 * time.Hour)) {
		t.Error(next)
	}
	until(t, "it is written", func() bool {
		file, err := os.ReadFile(b.file("crl/device.crl"))
		return err == nil && bytes.Equal(file, der)
	})
	if fi, err := os.Stat(b.file("crl/device.crl")); err != nil || fi.Mode().Perm() != 0o644 {
		t.Error(fi.Mode(), err)
	}
}

// fill registers devices that have a certificate each, of keys that nobody has.
func (b *bench) fill(n int) (ids []string) {
	b.t.Helper()
	var lines bytes.Buffer
	issuer := registry.KeyID(b.CA().DeviceCAs()[0])
	out := json.NewEncoder(&lines)
	for i := range n {
		ids = append(ids, fmt.Sprint("d", i))
		b.do(out.Encode(registry.Device{ID: ids[i], State: registry.Active, Certificates: []registry.Certificate{{
			Serial: fmt.Sprintf("%032x", i+1), Issuer: issuer, SPKI: fmt.Sprintf("%064x", i+1),
			NotBefore: start, NotAfter: start.AddDate(1, 0, 0), State: registry.CertActive,
		}}}))
	}
	_, err := b.reg.Import(b.ctx, &lines, registry.ImportOptions{Format: registry.JSONL})
	b.do(err)
	return ids
}

// revokeAll revokes devices, waits until all are listed, and tells how long the latter took and how many lists were signed.
func (b *bench) revokeAll(ids []string) (took time.Duration, signed uint64) {
	b.t.Helper()
	b.Settle()
	first := b.lists.all()[0].number
	b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, ids...))
	began := time.Now()
	until(b.t, "all are listed", func() bool { der, _ := b.CRL(); return len(der) > 30*len(ids) && len(b.listed()) == len(ids) })
	return time.Since(began), b.lists.all()[0].number - first
}

// Many that are revoked at once are in the list within a moment, of which few are signed.
func TestCRLOfMany(t *testing.T) {
	b := newBench(t, Config{})
	ids := b.fill(1000)
	b.run()
	if took, signed := b.revokeAll(ids); signed > 10 {
		t.Errorf("%d lists, the last after %v", signed, took)
	}
}

// While something is revoked all the time, lists are signed all the same.
func TestCRLOfATrickle(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.device("one")
	b.run()
	until(t, "there is a list", func() bool { return len(b.lists.all()) > 0 })
	ctx, cancel := context.WithCancel(b.ctx)
	var trickle sync.WaitGroup
	trickle.Go(func() {
		for ctx.Err() == nil {
			b.lists.changed()
			time.Sleep(time.Millisecond)
		}
	})
	b.do(b.reg.Revoke(b.ctx, pki.KeyCompromise, "one"))
	until(t, "it is listed", func() bool { return len(b.listed()) == 1 })
	cancel()
	trickle.Wait()
}

// How long it takes after the revocation of ten thousand until the list has them.
func BenchmarkCRLOfMany(b *testing.B) {
	took := time.Duration(0)
	for b.Loop() {
		e := newBench(b, Config{})
		e.log = nil
		e.open(Config{})
		ids := e.fill(10_000)
		e.run()
		one, _ := e.revokeAll(ids)
		took += one
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/listed")
}

// A list is replaced when half of its life is over, and never with a number that was used, whatever the clock says.
func TestCRLNumbers(t *testing.T) {
	b := newBench(t, Config{})
	last := uint64(0)
	next := func(what string, grows bool) {
		t.Helper()
		b.Settle()
		der, _ := b.CRL()
		n := b.parse(der).Number.Uint64()
		if n < last || grows == (n == last) {
			t.Errorf("%s: number %d after %d", what, n, last)
		}
		last = n
	}
	next("first", true)
	if want := uint64(start.UnixMilli()); last != want {
		t.Errorf("number %d, want %d", last, want)
	}
	b.advance(11 * time.Hour)
	next("before half of its life", false)
	b.advance(time.Hour)
	next("at half of its life", true)
	b.advance(-10 * time.Hour)
	next("the clock was set back", true)
	next("nothing happens", false)
	b.advance(-time.Hour)
	b.open(Config{})
	next("after a restart with an earlier clock", true)
	b.advance(24 * time.Hour)
	b.open(Config{})
	next("after a restart", true)
	b.do(os.WriteFile(b.file("crl/device-0.crl"), []byte("no list"), 0o600))
	b.open(Config{})
	next("beside a file that is damaged", true)
	if _, err := os.Stat(b.file("crl/device-0.crl")); err == nil {
		t.Error("the file of a CA that is gone stays")
	}
}

// What cannot be signed leaves the old list, is told once, and is done when it can.
func TestCRLTrouble(t *testing.T) {
	b := newBench(t, Config{})
	b.Settle()
	old, _ := b.CRL()
	good := b.now()
	b.advance(-2 * 365 * 24 * time.Hour) // no clock to sign with
	b.log.take()
	for range 3 {
		b.lists.changed()
		b.Settle()
	}
	if der, _ := b.CRL(); !bytes.Equal(der, old) {
		t.Error("the old list is gone")
	}
	if all := b.Trouble(); len(all) != 1 || !strings.Contains(all[0], "the revocation list is not renewed") {
		t.Error(all)
	}
	if log := b.log.take(); strings.Count(log, "not renewed") != 1 {
		t.Error(log)
	}
	b.clock.Store(good.Add(time.Minute).UnixNano())
	b.Settle()
	if der, _ := b.CRL(); bytes.Equal(der, old) || len(b.Trouble()) != 0 {
		t.Error("there is no new list", b.Trouble())
	}
	// A list that cannot be written is in force nevertheless.
	b.do(os.RemoveAll(b.file("crl")))
	b.do(os.WriteFile(b.file("crl"), nil, 0o600))
	before, _ := b.CRL()
	b.advance(time.Minute)
	b.lists.changed()
	b.Settle()
	if der, _ := b.CRL(); bytes.Equal(der, before) || len(b.Trouble()) != 1 {
		t.Error(b.Trouble())
	}
	b.do(os.Remove(b.file("crl")))
	b.Settle()
	der, _ := b.CRL()
	if file, err := os.ReadFile(b.file("crl/device.crl")); !bytes.Equal(file, der) || len(b.Trouble()) != 0 {
		t.Error(err, b.Trouble())
	}
}

// Whoever asks for a list that cannot be signed does not have it tried each time.
func TestCRLAskedFor(t *testing.T) {
	b := newBench(t, Config{})
	good := b.now()
	b.advance(-2 * 365 * 24 * time.Hour) // no clock to sign with
	if der, _ := b.CRL(); der != nil || len(b.Trouble()) != 1 {
		t.Fatal(b.Trouble())
	}
	b.lists.mu.Lock()
	b.lists.failed = good
	b.lists.mu.Unlock()
	b.clock.Store(good.Add(crlPause - 1).UnixNano())
	if der, _ := b.CRL(); der != nil {
		t.Error("tried at once")
	}
	b.advance(1)
	if der, _ := b.CRL(); der == nil || len(b.Trouble()) != 0 {
		t.Error("not tried later", b.Trouble())
	}
}

// The lists and the CA are served with what caches need.
func TestHandler(t *testing.T) {
	b := newBench(t, Config{})
	b.do(b.reg.RevokeCertificate(b.ctx, serialOf(b.device("d").SerialNumber), pki.Unspecified))
	h := b.Handler()
	get := func(method, path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := get("GET", "/pki/device.crl", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/pkix-crl" || w.Header().Get("Cache-Control") != "public, max-age=60" {
		t.Error(w.Code, w.Header())
	}
	if list := b.parse(w.Body.Bytes()); len(list.RevokedCertificateEntries) != 1 {
		t.Error(list.RevokedCertificateEntries)
	}
	if again := get("GET", "/pki/device.crl", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Error(again.Code)
	}
	b.advance(time.Second)
	b.do(b.reg.RevokeCertificate(b.ctx, serialOf(b.device("e").SerialNumber), pki.Unspecified))
	b.Settle()
	if again := get("GET", "/pki/device.crl", w.Header().Get("ETag")); again.Code != 200 {
		t.Error(again.Code)
	}
	w = get("GET", "/pki/ca.pem", "")
	if w.Code != 200 || w.Body.String() != string(b.CA().RootPEM()) || w.Header().Get("ETag") == "" {
		t.Error(w.Code, w.Body)
	}
	for path, want := range map[string]int{"/pki/broker.crl": 404, "/pki/device": 404, "/pki/": 404, "/pki/../ca/root.key": 307, "/": 404} {
		if w := get("GET", path, ""); w.Code != want && w.Code != 301 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get("POST", "/pki/device.crl", ""); w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}

	// While one root takes another's place the lists of both CAs are in one file.
	b.do(b.Announce(b.ctx, pki.Announcement{}))
	b.Settle()
	w = get("GET", "/pki/device.pem", "")
	var issuers []string
	for block, rest := pem.Decode(w.Body.Bytes()); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		b.do(err)
		for i, ca := range b.CA().DeviceCAs() {
			if list.CheckSignatureFrom(ca) == nil {
				issuers = append(issuers, fmt.Sprint(i, " ", len(list.RevokedCertificateEntries)))
			}
		}
	}
	if fmt.Sprint(issuers) != "[0 2 1 0]" || w.Header().Get("Cache-Control") != "public, max-age=60" {
		t.Error(issuers, w.Header())
	}
	if again := get("GET", "/pki/device.pem", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Error(again.Code)
	}
	if w := get("HEAD", "/pki/"+listName(b.CA().DeviceCAs()[0])+".crl", ""); w.Code != 200 || w.Body.Len() != 0 {
		t.Error(w.Code)
	}
}

// A service needs its parts, and a life that a certificate can have.
func TestNew(t *testing.T) {
	b := newBench(t, Config{})
	if _, err := New(Options{Registry: b.reg}); err == nil {
		t.Error("no folder")
	}
	if _, err := New(Options{Registry: b.reg, Folder: b.Folder(), Config: Config{Life: time.Second}}); err == nil {
		t.Error("a second's life")
	}
	for key, c := range map[string]Config{
		"certificate_life": {Life: 6 * 365 * 24 * time.Hour}, "renewal_overlap": {Overlap: 9000 * time.Hour}, "renewal_grace": {Grace: 9000 * time.Hour},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	if c := (Config{Grace: -1}).effective(); c.Grace != 0 || c.Overlap != 168*time.Hour {
		t.Errorf("%+v", c)
	}
	if err := errors.Unwrap(&hinted{errFull, "x"}); err != errFull {
		t.Error(err)
	}
}

// A CA that ends is told in the log, and is a trouble when it ends soon.
func TestWarn(t *testing.T) {
	b := newBench(t, Config{})
	b.advance(4 * 365 * 24 * time.Hour)
	b.log.take()
	b.warn()
	if log := b.log.take(); strings.Count(log, "sealmq ca renew") != 2 || len(b.Trouble()) != 0 {
		t.Error(log, b.Trouble())
	}
	b.advance(340 * 24 * time.Hour)
	b.warn()
	if len(b.Trouble()) != 2 {
		t.Error(b.Trouble())
	}
	names, err := b.RenewIssuing(b.ctx, false)
	if err != nil || len(names) != 2 || len(b.Trouble()) != 0 || b.changed.Load() != 1 {
		t.Error(names, err, b.Trouble(), b.changed.Load())
	}
}
