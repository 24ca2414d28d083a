package certs

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
)

// What is wrong with a set at start is an error that says so, and with the listener's name.
func TestBadSets(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	good, other := a.server("one.example.org"), a.server("two.example.org")
	with := func(name string, edit func(*x509.Certificate)) Pair {
		return d.pair(name, a.issue(func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"one.example.org"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			edit(c)
		}))
	}
	chain := func(name string, certs ...[]byte) Pair {
		return Pair{d.put(name+".pem", certPEM(certs...)), d.put(name+".key", keyPEM(t, good.PrivateKey))}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(77), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"w.example.org"},
	}, a.cert, small.Public(), a.key)
	open := d.pair("open", good)
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	leaf := a.client("not a CA")
	fine := []Pair{d.pair("fine", good)}
	cas := []string{d.put("ca.pem", a.pem())}
	for _, c := range []struct {
		what, want string
		spec       Spec
	}{
		{"key of another", "the key does not belong to", Spec{Pairs: []Pair{{d.pair("k1", good).Cert, d.pair("k2", other).Key}}}},
		{"order", "order the file leaf first", Spec{Pairs: []Pair{chain("order", good.Leaf.Raw, b.cert.Raw)}}},
		{"no CA above", "is not a CA", Spec{Pairs: []Pair{chain("noca", good.Leaf.Raw, other.Leaf.Raw)}}},
		{"purpose", "not for servers", Spec{Pairs: []Pair{with("eku", func(c *x509.Certificate) { c.ExtKeyUsage[0] = x509.ExtKeyUsageClientAuth })}}},
		{"expired", "expired on", Spec{Pairs: []Pair{with("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })}}},
		{"not yet", "not valid before", Spec{Pairs: []Pair{with("soon", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}}},
		{"no name", "no host name", Spec{Pairs: []Pair{with("noname", func(c *x509.Certificate) { c.DNSNames = nil })}}},
		{"small key", "1024 bits", Spec{Pairs: []Pair{d.pair("weak", &tls.Certificate{Certificate: [][]byte{weak.Raw}, PrivateKey: small})}}},
		{"open key", "open to others", Spec{Pairs: []Pair{open}}},
		{"no file", "no such file", Spec{Pairs: []Pair{{d.at("none.pem"), d.at("none.key")}}}},
		{"half a certificate", "parse certificate", Spec{Pairs: []Pair{{d.put("half.pem", certPEM(good.Leaf.Raw)[:300]), fine[0].Key}}}},
		{"a client's certificate for a CA", "is not a CA", Spec{Pairs: fine, ClientCAs: []string{d.put("client.pem", certPEM(leaf.Leaf.Raw))}}},
		{"an empty CA file", "no CERTIFICATE", Spec{Pairs: fine, ClientCAs: []string{d.put("empty.pem", nil)}}},
		{"a huge CA file", "longer than", Spec{Pairs: fine, ClientCAs: []string{d.put("huge.pem", make([]byte, maxCAFile+1))}}},
		{"no list", "no such file", Spec{Pairs: fine, ClientCAs: cas, CRLs: []string{d.at("none.crl")}}},
		{"a broken list", "parse revocation list", Spec{Pairs: fine, ClientCAs: cas, CRLs: []string{d.put("broken.crl", []byte("x"))}}},
		{"lists without CAs", "without CAs", Spec{Pairs: fine, CRLs: []string{"x.crl"}}},
		{"enrolment without CAs", "without CAs", Spec{Pairs: fine, Enroll: true}},
		{"stale policy", "deny or allow", Spec{Pairs: fine, ClientCAs: cas, Stale: "maybe"}},
		{"grace", "negative", Spec{Pairs: fine, ClientCAs: cas, Grace: -1}},
		{"ldap", "http or https", Spec{Pairs: fine, ClientCAs: cas, CRLs: []string{"ldap://x/y"}}},
		{"user name in a URL", "user name", Spec{Pairs: fine, ClientCAs: cas, CRLs: []string{"http://me:secret@x/y"}}},
		{"malformed URL", "malformed", Spec{Pairs: fine, ClientCAs: cas, CRLs: []string{"http://x/%zzsecret"}}},
		{"our own without a folder", "no CA folder", Spec{}},
	} {
		c.spec.Name = "sealed"
		_, err := New(Options{Data: t.TempDir()}).Plan(nil, []Spec{c.spec})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, wanted %q", c.what, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a secret: %v", c.what, err)
		}
		if !c.spec.NeedsCA() && !strings.Contains(err.Error(), "listener sealed: ") {
			t.Errorf("%s: the error names no listener: %v", c.what, err)
		}
	}
	twice := []Spec{{Name: "x", Pairs: fine}, {Name: "x", Pairs: fine}}
	if _, err := New(Options{}).Plan(nil, twice); err == nil {
		t.Error("two listeners of one name are no error")
	}
}

// The ways in which files are replaced: each is seen, and none in the middle.
func TestReplacements(t *testing.T) {
	a := newCA(t, "a")
	one, two, three := a.server("one.example.org"), a.server("two.example.org"), a.server("three.example.org")
	write := func(t *testing.T, path string, b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("renamed one after the other", func(t *testing.T) {
		d := newDir(t)
		r := newRig(t, Spec{Pairs: []Pair{d.pair("x", one)}})
		for _, step := range []struct{ cert, key *tls.Certificate }{{two, one}, {two, two}, {two, three}, {three, three}} {
			d.put("x.pem", certPEM(step.cert.Certificate...))
			d.put("x.key", keyPEM(t, step.key.PrivateKey))
			r.look()
			if step.cert != step.key {
				r.troubled("the key does not belong to")
				continue
			}
			if got, want := r.shows(""), step.cert.Leaf.Subject.CommonName; got != want {
				t.Errorf("shows %q, want %q", got, want)
			}
			r.fine()
		}
	})

	t.Run("rewritten in place", func(t *testing.T) {
		d := newDir(t)
		p := d.pair("x", one)
		r := newRig(t, Spec{Pairs: []Pair{p}})
		for _, c := range []*tls.Certificate{two, one, three, one} {
			text := certPEM(c.Certificate...)
			write(t, p.Cert, text[:len(text)/2])
			r.look()
			r.troubled("listener t: what was read before stays in force")
			write(t, p.Cert, text)
			r.look()
			write(t, p.Key, keyPEM(t, c.PrivateKey))
			r.look()
			if got, want := r.shows(""), c.Leaf.Subject.CommonName; got != want {
				t.Errorf("shows %q, want %q", got, want)
			}
			r.fine()
		}
	})

	// Same size, same time to the file system: the look after sees it nevertheless, since the file is young.
	t.Run("rewritten in the same instant", func(t *testing.T) {
		d := newDir(t)
		ca := d.put("ca.pem", append(a.pem(), '1'))
		r := newRig(t, Spec{Pairs: []Pair{d.pair("x", one)}, ClientCAs: []string{ca}})
		fi, err := os.Stat(ca)
		if err != nil {
			t.Fatal(err)
		}
		b := newCA(t, "b")
		text := append(b.pem(), make([]byte, len(a.pem()))...)[:len(a.pem())+1]
		if len(b.pem()) > len(text) {
			t.Skip("the CA of this run is longer")
		}
		write(t, ca, text)
		if err := os.Chtimes(ca, fi.ModTime(), fi.ModTime()); err != nil {
			t.Fatal(err)
		}
		r.look()
		if !r.l.ClientCAs().Equal(poolOf(b)) {
			t.Error("the change was not seen")
		}
	})

	// As Kubernetes mounts a secret: files are links to ..data/file, ..data is a link to a folder, and replaced.
	t.Run("links", func(t *testing.T) {
		d := newDir(t)
		version := func(name string, c *tls.Certificate, cas []byte) {
			v := filepath.Join(d.path, name)
			if err := os.Mkdir(v, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(v, "tls.crt"), certPEM(c.Certificate...))
			write(t, filepath.Join(v, "tls.key"), keyPEM(t, c.PrivateKey))
			write(t, filepath.Join(v, "ca.crt"), cas)
			tmp := d.at("..tmp")
			if err := os.Symlink(name, tmp); err != nil {
				t.Skip("no links here: ", err)
			}
			if err := os.Rename(tmp, d.at("..data")); err != nil {
				t.Fatal(err)
			}
		}
		b := newCA(t, "b")
		version("..v1", one, a.pem())
		for _, f := range []string{"tls.crt", "tls.key", "ca.crt"} {
			if err := os.Symlink("..data/"+f, d.at(f)); err != nil {
				t.Fatal(err)
			}
		}
		r := newRig(t, Spec{Pairs: []Pair{{d.at("tls.crt"), d.at("tls.key")}}, ClientCAs: []string{d.at("ca.crt")}})
		version("..v2", two, b.pem())
		r.look()
		if got := r.shows(""); got != "two.example.org" || !r.l.ClientCAs().Equal(poolOf(b)) {
			t.Errorf("shows %q after the link was replaced", got)
		}
		if n := r.changed.Load(); n != 1 {
			t.Errorf("TrustChanged was called %d times", n)
		}
		version("..v3", three, b.pem())
		pool := r.l.ClientCAs()
		r.look()
		if got := r.shows(""); got != "three.example.org" || r.l.ClientCAs() != pool || r.changed.Load() != 1 {
			t.Errorf("shows %q; a change of the certificate alone changed the trust", got)
		}
		r.fine()
	})
}

// A bad file holds back all that was read with it, and disturbs nothing; the reason is logged once, and again when it is
// another.
func TestBadChange(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	p := d.pair("x", a.server("one.example.org"))
	ca := d.put("ca.pem", a.pem())
	r := newRig(t, Spec{Pairs: []Pair{p}, ClientCAs: []string{ca}})
	before := r.l.current.Load()
	d.put("x.pem", []byte("nonsense"))
	d.put("ca.pem", b.pem())
	for range 5 {
		r.look()
	}
	if r.l.current.Load() != before {
		t.Error("a bad set took something's place")
	}
	if n := r.logged("no CERTIFICATE block"); n != 1 {
		t.Errorf("the reason is in the log %d times", n)
	}
	if err := r.k.Reload(); err == nil || !strings.Contains(err.Error(), "no CERTIFICATE block") {
		t.Errorf("Reload says %v", err)
	}
	os.Remove(d.at("x.pem"))
	for range 5 {
		r.look()
	}
	if n := r.logged("no such file"); n != 1 {
		t.Errorf("the other reason is in the log %d times", n)
	}
	d.pair("x", a.server("two.example.org"))
	r.look()
	if r.shows("") != "two.example.org" || !r.l.ClientCAs().Equal(poolOf(b)) {
		t.Error("the good set is not in force")
	}
	if err := r.k.Reload(); err != nil {
		t.Error(err)
	}
	r.fine()
	if r.logged("trouble is over") != 2 {
		t.Error("the log does not say that the trouble is over")
	}
}

// Time alone makes a certificate good, and ends one.
func TestTime(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	r := newRig(t, Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}})
	d.pair("x", a.issue(func(c *x509.Certificate) {
		c.DNSNames, c.Subject.CommonName = []string{"later.example.org"}, "later"
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(101*time.Hour)
	}))
	r.look()
	r.troubled("not valid before")
	r.clock.Store(int64(2 * time.Hour))
	r.look()
	if got := r.shows(""); got != "later" {
		t.Errorf("shows %q when its time has come", got)
	}
	r.fine()
	r.clock.Store(int64(95 * time.Hour))
	r.look()
	r.troubled(`the certificate for "later.example.org" ends on`)
	r.clock.Store(int64(102 * time.Hour))
	r.look()
	r.troubled("expired on")
	if got := r.shows(""); got != "later" {
		t.Errorf("shows %q when there is no other", got)
	}
}

// A plan changes nothing until it is applied, and a bad one never does.
func TestPlan(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	spec := Spec{Name: "t", Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("a.pem", a.pem())}}
	r := newRig(t, spec)
	before, pool := r.l.current.Load(), r.l.ClientCAs()

	fresh := Spec{Name: "t", Pairs: []Pair{d.pair("y", a.server("two.example.org"))}, ClientCAs: []string{d.put("b.pem", b.pem())}}
	more := Spec{Name: "u", Pairs: fresh.Pairs}
	bad := Spec{Name: "v", Pairs: []Pair{{d.at("none"), d.at("none")}}}
	if _, err := r.k.Plan(nil, []Spec{fresh, more, bad}); err == nil {
		t.Error("a bad plan is no error")
	}
	set, err := r.k.Plan(nil, []Spec{fresh, more})
	if err != nil {
		t.Fatal(err)
	}
	if set.Listener("t") != r.l || set.Listener("v") != nil {
		t.Error("the listener of a name is another after a change")
	}
	r.k.look(true)
	if r.l.current.Load() != before || r.changed.Load() != 0 {
		t.Error("a plan is in force before it was applied")
	}
	if c, err := set.Listener("u").GetCertificate(&tls.ClientHelloInfo{}); err != nil || c.Leaf.Subject.CommonName != "two.example.org" {
		t.Errorf("a new listener cannot be used before its set is applied: %v", err)
	}
	set.Apply()
	if r.shows("") != "two.example.org" || r.l.ClientCAs() == pool || r.changed.Load() != 1 {
		t.Error("what was planned is not in force")
	}

	// The same again: the trust is the same thing, so that nothing need be reviewed.
	pool = r.l.ClientCAs()
	if set, err = r.k.Plan(nil, []Spec{fresh}); err != nil {
		t.Fatal(err)
	}
	set.Apply()
	if r.l.ClientCAs() != pool || r.changed.Load() != 1 {
		t.Error("the same plan changed the trust")
	}
}

// What changes while a plan waits is seen after it was applied.
func TestChangeBetweenPlanAndApply(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	spec := Spec{Name: "t", Pairs: []Pair{d.pair("x", a.server("one.example.org"))}}
	r := newRig(t, spec)
	set, err := r.k.Plan(nil, []Spec{spec})
	if err != nil {
		t.Fatal(err)
	}
	d.pair("x", a.server("two.example.org"))
	r.look()
	set.Apply()
	r.look()
	if got := r.shows(""); got != "two.example.org" {
		t.Errorf("shows %q", got)
	}
}

// Run looks by itself, and Wake makes it look at what seems to be as it was.
func TestRun(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	var factories atomic.Pointer[[]*x509.Certificate]
	factories.Store(&[]*x509.Certificate{a.cert})
	r := newRig(t, Spec{
		Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, Factory: func() []*x509.Certificate { return *factories.Load() },
	})
	r.run()
	d.pair("x", a.server("two.example.org"))
	until(t, "the other pair is shown", func() bool { return r.shows("") == "two.example.org" })
	factories.Store(&[]*x509.Certificate{b.cert})
	for range 100 {
		r.k.Wake()
	}
	until(t, "the other CA is trusted", func() bool { return r.l.ClientCAs().Equal(poolOf(b)) && r.changed.Load() == 1 })
}

// Our own certificate is issued anew when its names change, when it is old, and when the CA has changed.
func TestOwn(t *testing.T) {
	f := folder(t)
	r := newRig(t, Spec{TrustOwn: true}, func(o *Options) { o.Folder = func() *pki.Folder { return f } })
	serial := func() string {
		c, err := r.l.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first, pool := serial(), r.l.ClientCAs()
	r.k.look(true)
	if serial() != first || r.l.ClientCAs() != pool {
		t.Error("something changed for no reason")
	}
	if err := f.AddHosts([]string{"broker.lan"}); err != nil {
		t.Fatal(err)
	}
	r.look()
	named := serial()
	if named == first || r.shows("broker.lan") != "broker.lan" || r.l.ClientCAs() != pool {
		t.Error("a name was added, and the certificate does not carry it")
	}

	dir := filepath.Join(f.Path(), "ca")
	reopen := func() {
		t.Helper()
		g, err := pki.OpenFolder(f.Path(), pki.Config{})
		if err != nil {
			t.Fatal(err)
		}
		f = g
		r.look()
		r.fine()
	}
	if err := pki.Announce(dir, pki.Announcement{}, pki.Config{}); err != nil {
		t.Fatal(err)
	}
	reopen()
	if serial() != named || r.l.ClientCAs().Equal(pool) || r.changed.Load() != 1 {
		t.Error("after the announcement the next CA's devices are not trusted beside the present's")
	}
	if err := pki.Switch(dir, pki.Seen{}, true, pki.Config{}); err != nil {
		t.Fatal(err)
	}
	reopen()
	if serial() == named {
		t.Error("after the switch the certificate is of the old CA")
	}
	if err := pki.Retire(dir, pki.Seen{}, true); err != nil {
		t.Fatal(err)
	}
	reopen()
	if got := r.l.ClientCAs(); !got.Equal(f.CA().ClientCAs()) || got.Equal(pool) {
		t.Error("after the retirement the old CA's devices are trusted")
	}
}

// Our own certificate is renewed when two thirds of its life are over, and stays when it cannot be.
func TestOwnAges(t *testing.T) {
	var r *rig
	var f *pki.Folder
	clock := func() time.Time {
		if r == nil {
			return time.Now()
		}
		return r.now()
	}
	f, _, err := pki.InitFolder(filepath.Join(t.TempDir(), "data"), pki.Config{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	r = newRig(t, Spec{}, func(o *Options) { o.Folder = func() *pki.Folder { return f } })
	leaf := func() *x509.Certificate { return r.l.current.Load().own.Leaf }
	first := leaf()
	r.clock.Store(int64(50 * 24 * time.Hour))
	r.look()
	if leaf() != first {
		t.Error("it was renewed in its youth")
	}
	certFile, _ := f.ServerFiles()
	kept := certFile + ".kept"
	if err := os.Rename(certFile, kept); err != nil {
		t.Fatal(err)
	}
	r.clock.Store(int64(70 * 24 * time.Hour))
	r.look()
	r.troubled("own certificate: ")
	if leaf() != first {
		t.Error("what cannot be renewed is gone")
	}
	if err := os.Rename(kept, certFile); err != nil {
		t.Fatal(err)
	}
	r.clock.Add(int64(time.Minute))
	r.look()
	if leaf() == first {
		t.Error("it was not renewed when two thirds of its life were over")
	}
	r.fine()
}
