package certs

import (
	"crypto/tls"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// accepts tells the cause for which a new client is refused; empty: it gets in.
func (r *rig) accepts(c *tls.Certificate) string {
	r.t.Helper()
	_, err, _ := r.connect(transport.Required, showing(c))
	return refusal(err)
}

func TestLists(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	good, bad := a.client("good"), a.client("bad")
	crl := d.put("a.crl", pki.EncodeCRL(a.list(time.Hour)))
	spec := Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{crl}}
	r := newRig(t, spec)
	want := func(what, forGood, forBad string) {
		t.Helper()
		r.look()
		if g, b := r.accepts(good), r.accepts(bad); g != forGood || b != forBad {
			t.Errorf("%s: the good one gets %q, the other %q", what, g, b)
		}
	}
	want("empty list", "", "")
	r.fine()
	id := ID{Serial: "03", Key: pki.SPKI{}}
	if err := r.k.Stands(r.l.name, id, false); err != nil {
		t.Errorf("a certificate that was never seen: %v", err)
	}

	d.put("a.crl", a.list(time.Hour, bad)) // DER
	r.look()
	if n := r.changed.Load(); n != 1 {
		t.Errorf("TrustChanged was called %d times", n)
	}
	want("revoked", "", "client_certificate_revoked")

	for _, broken := range [][]byte{nil, []byte("nonsense"), newCA(t, "a").list(time.Hour), newCA(t, "b").list(time.Hour), a.listAt(time.Now().Add(-time.Hour), 2*time.Hour, 1)} {
		d.put("a.crl", broken)
		want("a broken list", "", "client_certificate_revoked")
		r.troubled("the revocation lists read before stay in force")
	}
	os.Remove(crl)
	want("no list", "", "client_certificate_revoked")
	r.troubled("no such file")
	if n := r.changed.Load(); n != 1 {
		t.Errorf("TrustChanged was called %d times", n)
	}

	// A broken list does not hold up what is fine, and a broken certificate does not hold up a list.
	d.pair("x", a.server("two.example.org"))
	want("another certificate", "", "client_certificate_revoked")
	if got := r.shows(""); got != "two.example.org" {
		t.Errorf("shows %q", got)
	}
	d.put("x.pem", []byte("nonsense"))
	d.put("a.crl", a.list(time.Hour, good, bad))
	want("a broken certificate", "client_certificate_revoked", "client_certificate_revoked")
	d.pair("x", a.server("three.example.org"))
	d.put("a.crl", a.list(time.Hour, bad))
	want("in order again", "", "client_certificate_revoked")
	r.fine()

	// Out of date.
	r.clock.Store(int64(3 * time.Hour))
	want("out of date", "client_crl_stale", "client_certificate_revoked")
	r.troubled("its clients are refused")
	spec.Stale = pki.StaleAllow
	r.apply(spec)
	want("out of date, allowed", "", "client_certificate_revoked")
	r.troubled("its clients are let in unchecked")
}

// CAs and lists that replace others one after the other: whatever comes first waits for the other, in files as in a folder.
func TestCAsAndLists(t *testing.T) {
	for _, order := range []string{"list first", "CA first"} {
		t.Run(order, func(t *testing.T) {
			a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
			of := map[*ca]*tls.Certificate{a: a.client("of a"), b: b.client("of b")}
			d.put("ca.pem", a.pem())
			d.put("a.crl", a.list(time.Hour))
			r := newRig(t, Spec{
				Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.at("ca.pem")}, CRLs: []string{d.at("a.crl")},
			})
			writeCA, writeList := func() { d.put("ca.pem", b.pem()) }, func() { d.put("a.crl", b.list(time.Hour)) }
			if order == "CA first" {
				writeCA, writeList = writeList, writeCA
			}
			writeList()
			for range 3 {
				r.look()
			}
			if g, w := r.accepts(of[a]), r.accepts(of[b]); g != "" || !strings.Contains(w, "unknown authority") {
				t.Errorf("half-way the old gets %q, the new %q", g, w)
			}
			r.troubled("cover")
			writeCA()
			r.look()
			if g, w := r.accepts(of[b]), r.accepts(of[a]); g != "" || !strings.Contains(w, "unknown authority") {
				t.Errorf("in the end the new gets %q, the old %q", g, w)
			}
			r.fine()
		})
	}
}

// Our own devices need no list, whatever others do.
func TestOwnNeedsNoList(t *testing.T) {
	f := folder(t)
	a, d := newCA(t, "a"), newDir(t)
	b, err := f.IssueDevice("pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	pump, err := tls.X509KeyPair(b.Cert, b.Key)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Spec{
		TrustOwn: true, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{d.put("a.crl", a.listAt(time.Now().Add(-time.Hour), time.Minute, 1))},
	}, func(o *Options) { o.Folder = func() *pki.Folder { return f } })
	if cause := r.accepts(&pump); cause != "" {
		t.Errorf("our own device gets %q", cause)
	}
	if cause := r.accepts(a.client("x")); cause != "client_crl_stale" {
		t.Errorf("a client of the other CA gets %q", cause)
	}
}
