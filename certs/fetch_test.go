package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// web serves one list.
type web struct {
	mu      sync.Mutex
	body    []byte
	status  int // 200 when zero
	asked   int
	notMod  int
	handler http.HandlerFunc // instead
}

func (w *web) set(b []byte, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body, w.status = b, status
}

func (w *web) count() (asked, notMod int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, w.notMod
}

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.handler != nil {
		w.handler(rw, r)
		return
	}
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(w.body))
	if w.status == 0 && r.Header.Get("If-None-Match") == tag && r.Header.Get("If-Modified-Since") != "" {
		w.notMod++
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	rw.Header().Set("ETag", tag)
	rw.Header().Set("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
	if w.status != 0 {
		rw.WriteHeader(w.status)
	}
	rw.Write(w.body)
}

// hurry makes everything due that comes over the network.
func (r *rig) hurry() {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	for _, j := range r.k.jobs {
		j.next, j.soon = time.Time{}, true
	}
	r.k.wakeJobs()
}

func TestFetchedLists(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	good, bad := a.client("good"), a.client("bad")
	w := &web{body: a.list(time.Hour)}
	srv := httptest.NewServer(w)
	defer srv.Close()
	spec := Spec{
		Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())},
		CRLs: []string{srv.URL + "/a.crl?token=secret"},
	}
	data := d.at("data")
	r := newRig(t, spec, func(o *Options) { o.Data = data })
	if cause := r.accepts(good); cause != "client_crl_missing" {
		t.Errorf("before the list has come a client gets %q", cause)
	}
	r.troubled("there is no revocation list")
	r.run()
	until(t, "the list is in force", func() bool { return r.accepts(good) == "" && len(r.k.Trouble()) == 0 })

	// The same again.
	r.hurry()
	until(t, "it was asked for again", func() bool { _, n := w.count(); return n > 0 })

	w.set(pki.EncodeCRL(a.list(time.Hour, bad)), 0)
	r.hurry()
	until(t, "the next list is in force", func() bool { return r.accepts(bad) == "client_certificate_revoked" })

	// What cannot be had, or is not right, changes nothing.
	other := newCA(t, "a")
	for _, c := range []struct {
		body   []byte
		status int
		want   string
	}{
		{nil, 500, "the server answers 500"},
		{[]byte("<html>"), 0, "fetch revocation list"},
		{other.list(time.Hour), 0, "fetch revocation list"},
		{newCA(t, "c").list(time.Hour), 0, "add that CA to client_ca"},
		{a.listAt(time.Now().Add(-time.Hour), 2*time.Hour, 1), 0, "is older than that in force"},
		{append(pki.EncodeCRL(a.list(time.Hour)), pki.EncodeCRL(other.list(time.Hour))...), 0, "fetch revocation list"},
		{[]byte("-----BEGIN X509 CRL-----\n"), 0, "no revocation list"},
	} {
		w.set(c.body, c.status)
		r.hurry()
		until(t, "there is trouble: "+c.want, func() bool { return strings.Contains(strings.Join(r.k.Trouble(), "\n"), c.want) })
		if g, b := r.accepts(good), r.accepts(bad); g != "" || b != "client_certificate_revoked" {
			t.Errorf("%s: the good one gets %q, the other %q", c.want, g, b)
		}
	}
	if r.logged("secret") > 0 || strings.Contains(strings.Join(r.k.Trouble(), "\n"), "secret") {
		t.Error("the query of a URL is in the log")
	}

	// After a restart without a network the copy is good.
	srv.Close()
	offline := newRig(t, spec, func(o *Options) { o.Data = data })
	if g, b := offline.accepts(good), offline.accepts(bad); g != "" || b != "client_certificate_revoked" {
		t.Errorf("after a restart the good one gets %q, the other %q", g, b)
	}
	// A damaged copy is as none.
	if err := os.WriteFile(offline.k.listFile(spec.CRLs[0]), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := newRig(t, spec, func(o *Options) { o.Data = data })
	if cause := damaged.accepts(good); cause != "client_crl_missing" {
		t.Errorf("with a damaged copy a client gets %q", cause)
	}
}

// The CAs are replaced, and the list at the URL with them.
func TestFetchedListOfNewCA(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	w := &web{body: a.list(time.Hour)}
	srv := httptest.NewServer(w)
	defer srv.Close()
	r := newRig(t, Spec{
		Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{srv.URL},
	})
	r.run()
	ofA, ofB := a.client("of a"), b.client("of b")
	until(t, "the list is in force", func() bool { return r.accepts(ofA) == "" })
	w.set(b.list(time.Hour), 0)
	d.put("ca.pem", b.pem())
	until(t, "the new CA is in force", func() bool { return r.accepts(ofB) == "" && r.accepts(ofA) != "" })
	until(t, "all is well", func() bool { return len(r.k.Trouble()) == 0 })
}

func TestWhereListsComeFrom(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	base := Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}}
	list := a.list(time.Hour)
	serve := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(&web{handler: h})
		t.Cleanup(s.Close)
		return s
	}
	secure := httptest.NewTLSServer(&web{body: list})
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	plain := serve(func(w http.ResponseWriter, _ *http.Request) { w.Write(list) })
	for _, c := range []struct {
		what, url, want string
		trust           bool // the certificate of secure
	}{
		{"https with an unknown certificate", secure.URL, "certificate", false},
		{"https", secure.URL, "", true},
		{"redirects for ever", serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }).URL, "5 redirects", false},
		{"a redirect", serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }).URL, "", false},
		{"a redirect elsewhere", serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "ftp://x/", http.StatusFound) }).URL, "redirected from http to ftp", false},
		{"too long", serve(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }).URL, "longer than", false},
		{"cut short", serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write(list[:50])
		}).URL, "EOF", false},
		{"nobody there", "http://127.0.0.1:1/", "refused", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			spec := base
			spec.CRLs = []string{c.url}
			r := newRig(t, spec)
			if c.trust {
				client := secure.Client()
				client.CheckRedirect = r.k.http.CheckRedirect
				r.k.http = client
			}
			r.run()
			if c.want == "" {
				until(t, "the list is in force", func() bool { return len(r.k.Trouble()) == 0 })
				return
			}
			until(t, "there is trouble: "+c.want, func() bool { return strings.Contains(strings.Join(r.k.Trouble(), "\n"), "fetch revocation list") })
			r.troubled(c.want)
		})
	}
	downgrade := httptest.NewTLSServer(&web{handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }})
	t.Cleanup(downgrade.Close)
	k := New(Options{})
	client := downgrade.Client()
	client.CheckRedirect = k.http.CheckRedirect
	k.http = client
	r, _ := http.NewRequest("GET", downgrade.URL, nil)
	if _, _, err := k.request(r, 100); err == nil || !strings.Contains(err.Error(), "redirected from https to http") {
		t.Errorf("from https to http: %v", err)
	}
}

// What no listener needs any longer is not fetched any longer.
func TestFetchingEnds(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	w := &web{body: a.list(time.Hour)}
	srv := httptest.NewServer(w)
	defer srv.Close()
	spec := Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{srv.URL}}
	r := newRig(t, spec)
	r.run()
	until(t, "the list is in force", func() bool { return len(r.k.Trouble()) == 0 })
	w.set(nil, http.StatusNotFound)
	r.hurry()
	until(t, "there is trouble", func() bool { return len(r.k.Trouble()) > 0 })
	spec.CRLs = nil
	r.apply(spec)
	r.fine()
	if n := len(r.k.jobs); n > 0 {
		t.Errorf("%d jobs are left", n)
	}
	if r.changed.Load() == 0 {
		t.Error("TrustChanged was not called")
	}
}

// Back-off grows to its bound, and success ends it.
func TestBackOff(t *testing.T) {
	r := &rig{t: t}
	k := New(Options{Now: func() time.Time { return time.Unix(1e9, 0) }})
	j := &job{key: "a"}
	k.jobs["a"] = j
	var last time.Duration
	for range 40 {
		k.jobDone(j, time.Time{}, http.ErrServerClosed, false)
		wait := j.next.Sub(k.o.Now())
		if wait < last || wait < retryFirst || wait > retryLast {
			r.t.Fatalf("waits %v after %v", wait, last)
		}
		last = wait
	}
	if last != retryLast {
		t.Errorf("waits %v in the end", last)
	}
	k.jobDone(j, time.Time{}, nil, false)
	if wait := j.next.Sub(k.o.Now()); wait != fetchSoonest || j.fails != 0 {
		t.Errorf("after a success waits %v", wait)
	}
}

// The check of a fetched list takes any bytes.
func FuzzCheckLists(f *testing.F) {
	a := newCA(f, "a")
	f.Add(a.list(time.Hour))
	f.Add(pki.EncodeCRL(a.list(time.Hour)))
	f.Add(append(pki.EncodeCRL(a.list(time.Hour)), "-----BEGIN X509 CRL-----\n"...))
	cas := []*x509.Certificate{a.cert}
	f.Fuzz(func(t *testing.T, b []byte) {
		if next, err := checkLists(b, cas); err == nil && next.IsZero() {
			t.Error("a list that never ends")
		}
	})
}

// Servers that do not answer delay nobody, as long as they are few; and there are never many requests at once.
func TestDeadServersDelayNobody(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	list, over := a.list(time.Hour), make(chan struct{})
	var now, most atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/dead") {
			w.Write(list)
			return
		}
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-over
		now.Add(-1)
	}))
	defer srv.Close()
	defer close(over)
	spec := Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}}
	for i := range fetchAtOnce - 1 {
		spec.CRLs = append(spec.CRLs, fmt.Sprint(srv.URL, "/dead", i))
	}
	spec.CRLs = append(spec.CRLs, srv.URL+"/living")
	good := a.client("good")
	r := newRig(t, spec)
	r.run()
	until(t, "the dead ones are asked", func() bool { return now.Load() == fetchAtOnce-1 })
	until(t, "the list is in force", func() bool { return r.accepts(good) == "" })
	for i := range 10 {
		spec.CRLs = append(spec.CRLs, fmt.Sprint(srv.URL, "/dead/too", i))
	}
	r.apply(spec)
	until(t, "more are asked", func() bool { return now.Load() == fetchAtOnce })
	until(t, "no more are begun", func() bool {
		j, _ := r.k.dueJob()
		return j == nil
	})
	if n := most.Load(); n > fetchAtOnce {
		t.Errorf("%d requests at once", n)
	}
}

// Copies of URLs that are not in the configuration any more are deleted, those of others and foreign files are not.
func TestCopiesAreDeleted(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	list, asked, answer := a.list(time.Hour), make(chan struct{}, 16), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			asked <- struct{}{}
			<-answer
		}
		w.Write(list)
	}))
	defer srv.Close()
	spec := Spec{
		Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())},
		CRLs: []string{srv.URL + "/one", srv.URL + "/two", srv.URL + "/late"},
	}
	data := d.at("data")
	r := newRig(t, spec, func(o *Options) { o.Data = data })
	r.run()
	one, two, late := r.k.listFile(spec.CRLs[0]), r.k.listFile(spec.CRLs[1]), r.k.listFile(spec.CRLs[2])
	there := func(path string) bool { _, err := os.Stat(path); return err == nil }
	until(t, "the copies are there", func() bool { return there(one) && there(two) })
	foreign := filepath.Join(filepath.Dir(one), "README")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-asked
	spec.CRLs = spec.CRLs[:1]
	r.apply(spec)
	if there(two) || !there(one) || !there(foreign) {
		t.Errorf("one %v, two %v, the foreign file %v", there(one), there(two), there(foreign))
	}
	close(answer) // to what was asked before
	until(t, "the answer has come", func() bool {
		r.k.mu.Lock()
		defer r.k.mu.Unlock()
		return len(r.k.busy) == 0
	})
	if there(late) {
		t.Error("the copy that came too late is kept")
	}

	// Those of a former life are deleted too.
	if err := os.WriteFile(two, list, 0o600); err != nil {
		t.Fatal(err)
	}
	newRig(t, spec, func(o *Options) { o.Data = data })
	if there(two) || !there(one) {
		t.Errorf("after a restart: one %v, two %v", there(one), there(two))
	}
}
