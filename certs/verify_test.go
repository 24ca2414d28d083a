package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

// dated is a client's certificate that ended, or begins, at a time from now.
func (a *ca) dated(id string, from, to time.Duration) *tls.Certificate {
	return a.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = id, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to)
	})
}

// Whom a listener for enrolment lets in.
func TestEnrolment(t *testing.T) {
	f := folder(t)
	maker, listed, stranger, d := newCA(t, "maker"), newCA(t, "listed"), newCA(t, "stranger"), newDir(t)
	b, err := f.IssueDevice("pump-17", "")
	if err != nil {
		t.Fatal(err)
	}
	pump, err := tls.X509KeyPair(b.Cert, b.Key)
	if err != nil {
		t.Fatal(err)
	}
	revoked := listed.client("revoked")
	banned := errors.New("the device is disabled")
	r := newRig(t, Spec{
		TrustOwn: true, Factory: func() []*x509.Certificate { return []*x509.Certificate{maker.cert} },
		ClientCAs: []string{d.put("listed.pem", listed.pem())}, CRLs: []string{d.put("listed.crl", listed.list(time.Hour, revoked))}, Enroll: true, Grace: 30 * time.Hour,
	}, func(o *Options) {
		o.Folder = func() *pki.Folder { return f }
		o.Verify = func(leaf *x509.Certificate, _ bool) error {
			if leaf.Subject.CommonName == "banned" {
				return banned
			}
			return nil
		}
	})
	impostor := newCA(t, "maker").client("impostor")
	old := maker.dated("old", -100*time.Hour, -29*time.Hour)
	for _, c := range []struct {
		what, cause string
		cert        *tls.Certificate
	}{
		{"none", "", nil},
		{"our own device", "", &pump},
		{"a device with its maker's certificate", "", maker.client("new")},
		{"expired within the grace", "", old},
		{"expired before", "client_certificate_expired", maker.dated("older", -100*time.Hour, -31*time.Hour)},
		{"not yet valid", "client_certificate_expired", maker.dated("later", time.Hour, 2*time.Hour)},
		{"a stranger", "client_certificate_ca", stranger.client("stranger")},
		{"a stranger, expired", "client_certificate_ca", stranger.dated("stranger", -9*time.Hour, -time.Hour)},
		{"another CA of the same name", "client_certificate_ca", impostor},
		{"a server", "client_certificate", maker.server("one.example.org")},
		{"revoked by its CA", "client_certificate_revoked", revoked},
		{"refused by the registry", "client_certificate", maker.client("banned")},
	} {
		config := &tls.Config{InsecureSkipVerify: true}
		if c.cert != nil {
			config = showing(c.cert)
		}
		_, server, client := r.connect(transport.Any, config)
		if got := refusal(server); got != c.cause {
			t.Errorf("%s: %q, wanted %q (%v)", c.what, got, c.cause, server)
		}
		if (client == nil) != (c.cause == "") {
			t.Errorf("%s: the client sees %v", c.what, client)
		}
	}
	if !r.l.Expired(old.Leaf) || r.l.Expired(revoked.Leaf) {
		t.Error("Expired is wrong")
	}
	_, server, _ := r.connect(transport.Any, showing(maker.client("banned")))
	if !errors.Is(server, banned) {
		t.Errorf("the reason of the registry is lost: %v", server)
	}
}

// A resumed session is judged as a new one: by lists, by CAs, and by the registry.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
			client := a.client("pump-17")
			banned := false
			r := newRig(t, Spec{
				Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", append(a.pem(), b.pem()...))},
				CRLs: []string{d.put("a.crl", pki.EncodeCRL(a.list(time.Hour)))},
			}, func(o *Options) {
				o.Verify = func(*x509.Certificate, bool) error {
					if banned {
						return errors.New("banned")
					}
					return nil
				}
			})
			s := transport.TLSProfile(r.l, transport.Required)
			c := showing(client)
			c.MaxVersion, c.ClientSessionCache, c.ServerName = version, &tickets{}, "one.example.org"
			again := func(want string, resumed bool) {
				t.Helper()
				seen, err, _ := handshake(s, c)
				if got := refusal(err); got != want {
					t.Errorf("refused with %q, wanted %q", got, want)
				}
				if err == nil && seen.DidResume != resumed {
					t.Errorf("resumed: %v", seen.DidResume)
				}
			}
			again("", false)
			again("", true)
			banned = true
			again("client_certificate", true)
			banned = false
			again("", true)
			d.put("a.crl", pki.EncodeCRL(a.list(time.Hour, client)))
			r.look()
			again("client_certificate_revoked", true)
		})
	}
}

// A handshake that began when a CA was trusted does not end well when it is not trusted any longer.
func TestTrustEndsInTheMiddle(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	client := a.client("pump-17")
	r := newRig(t, Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}})
	c := showing(client)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		d.put("ca.pem", b.pem())
		r.look()
		return client, nil
	}
	_, err, _ := r.connect(transport.Required, c)
	if got := refusal(err); got != "client_certificate_ca" {
		t.Errorf("refused with %q", got)
	}
}

// What was accepted is judged again when lists or CAs have changed.
func TestStands(t *testing.T) {
	a, b, d := newCA(t, "a"), newCA(t, "b"), newDir(t)
	alone := newCA(t, "alone") // a device that is trusted without a CA
	pinned := &tls.Certificate{Certificate: [][]byte{alone.cert.Raw}, PrivateKey: alone.key, Leaf: alone.cert}
	both := append(append(a.pem(), b.pem()...), alone.pem()...)
	spec := Spec{
		Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", both)},
		CRLs: []string{d.put("a.crl", a.list(time.Hour)), d.put("b.crl", b.list(time.Hour))},
	}
	r := newRig(t, spec)
	ofA, ofB := a.client("of a"), b.client("of b")
	for _, c := range []*tls.Certificate{ofA, ofB, pinned} {
		if cause := r.accepts(c); cause != "" {
			t.Fatalf("%s is refused: %s", c.Leaf.Subject, cause)
		}
	}
	stands := func(what string, want map[*tls.Certificate]string) {
		t.Helper()
		r.look()
		for c, cause := range want {
			if got := refusal(r.k.Stands(r.l.name, identify(c.Leaf), false)); got != cause {
				t.Errorf("%s: %s: %q, wanted %q", what, c.Leaf.Subject, got, cause)
			}
		}
	}
	stands("at first", map[*tls.Certificate]string{ofA: "", ofB: "", pinned: "", a.client("never seen"): ""})
	d.put("a.crl", a.list(time.Hour, ofA))
	stands("revoked", map[*tls.Certificate]string{ofA: "client_certificate_revoked", ofB: "", pinned: ""})
	d.put("ca.pem", a.pem())
	stands("CA removed", map[*tls.Certificate]string{ofA: "client_certificate_revoked", ofB: "client_certificate_ca", pinned: "client_certificate_ca"})
	d.put("ca.pem", both)
	r.clock.Store(int64(5 * time.Hour)) // lists that are out of date are no reason to end what has begun
	stands("out of date", map[*tls.Certificate]string{ofA: "client_certificate_revoked", ofB: "", pinned: ""})
	r.clock.Store(int64(91 * 24 * time.Hour))
	stands("forgotten", map[*tls.Certificate]string{ofA: "", ofB: ""})
	if n := len(r.k.guests.all); n != 1 {
		t.Errorf("%d certificates are remembered after their end", n)
	}
}

// A maker is trusted for what it has signed itself: whom a CA below it lets in, nobody has registered.
func TestMakerIssuesDirectly(t *testing.T) {
	maker, d := newCA(t, "maker"), newDir(t)
	below := maker.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = "below", true, true, x509.KeyUsageCertSign
	})
	between := &ca{t: t, cert: below.Leaf, key: below.PrivateKey.(*ecdsa.PrivateKey)}
	device := between.client("pump-1")
	device.Certificate = append(device.Certificate, below.Leaf.Raw)
	for _, enroll := range []bool{false, true} {
		r := newRig(t, Spec{
			Pairs: []Pair{d.pair("x", maker.server("one.example.org"))}, Factory: func() []*x509.Certificate { return []*x509.Certificate{maker.cert} },
			Enroll: enroll, Grace: time.Hour,
		})
		if got := r.accepts(maker.client("pump-2")); got != "" {
			t.Errorf("its own is refused: %s", got)
		}
		if got := r.accepts(device); got != "client_certificate_ca" {
			t.Errorf("enroll %v: of a CA below: %q", enroll, got)
		}
	}
}

// Whether a connection stands is up to the listener that accepted it, and to any other when that one is gone.
func TestStandsWhereItWasAccepted(t *testing.T) {
	a, d := newCA(t, "a"), newDir(t)
	list := d.put("a.crl", a.list(time.Hour))
	strict := Spec{Name: "strict", Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{list}}
	loose := strict
	loose.Name, loose.CRLs = "loose", nil
	r := newRig(t, strict)
	apply := func(specs ...Spec) *Set {
		t.Helper()
		set, err := r.k.Plan(nil, specs)
		if err != nil {
			t.Fatal(err)
		}
		set.Apply()
		return set
	}
	set := apply(strict, loose)
	c := a.client("pump-1")
	for _, name := range []string{"strict", "loose"} {
		if r.l = set.Listener(name); r.accepts(c) != "" {
			t.Fatalf("%s refuses", name)
		}
	}
	id := identify(c.Leaf)
	d.put("a.crl", a.list(time.Hour, c))
	r.look()
	if got := refusal(r.k.Stands("strict", id, false)); got != "client_certificate_revoked" {
		t.Errorf("where the list is: %q", got)
	}
	if err := r.k.Stands("loose", id, false); err != nil {
		t.Errorf("where there is none: %v", err)
	}
	apply(strict)
	if got := refusal(r.k.Stands("loose", id, false)); got != "client_certificate_ca" {
		t.Errorf("after its listener has gone: %q", got)
	}
	if got := refusal(r.k.Stands("strict", id, true)); got != "client_certificate_ca" {
		t.Errorf("one of our own where only others are accepted: %q", got)
	}
	if r.k.Guest("loose", id) || !r.k.Guest("strict", id) {
		t.Error("Guest tells something else")
	}
}
