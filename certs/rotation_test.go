package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/transport"
)

var long = flag.Bool("long", false, "replace certificates, CAs and lists every second for a minute, at 200 connects/s")

// Server certificate, CAs and lists are replaced without a pause, as files and as linked folders, while clients connect:
// those that every version accepts never fail, those that none accepts never get in, and those that a version in force
// since before their handshake refuses are refused.
func TestRotationUnderLoad(t *testing.T) {
	for _, how := range []string{"files", "links"} {
		t.Run(how, func(t *testing.T) { rotate(t, how == "links") })
	}
}

func rotate(t *testing.T, links bool) {
	const clients = 4
	rounds := int64(16)
	var pace, step <-chan time.Time // nil: as fast as it goes
	if *long {
		rounds = 60
		p, s := time.NewTicker(time.Second/200), time.NewTicker(time.Second)
		defer p.Stop()
		defer s.Stop()
		pace, step = p.C, s.C
	}
	server, always, sometimes, never := newCA(t, "server"), newCA(t, "always"), newCA(t, "sometimes"), newCA(t, "never")
	good, turncoat, guest, stranger := always.client("good"), always.client("turncoat"), sometimes.client("guest"), never.client("stranger")
	revoked := always.client("revoked")
	d := newDir(t)
	folders := 0
	write := func(c *tls.Certificate, cas, lists []byte) {
		files := map[string][]byte{"x.pem": certPEM(c.Certificate...), "x.key": keyPEM(t, c.PrivateKey), "ca.pem": cas, "ca.crl": lists}
		if !links {
			for _, name := range []string{"x.pem", "ca.crl", "x.key", "ca.pem"} {
				if b := files[name]; b != nil {
					d.put(name, b)
				}
			}
			return
		}
		folders++
		v := fmt.Sprintf("..v%d", folders)
		if err := os.Mkdir(d.at(v), 0o700); err != nil {
			t.Error(err)
			return
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(d.at(v), name), b, 0o600); err != nil {
				t.Error(err)
			}
		}
		err := errors.Join(os.Symlink(v, d.at("..tmp")), os.Rename(d.at("..tmp"), d.at("..data")))
		if err != nil {
			t.Error(err)
		}
	}
	// Even versions trust both CAs, odd ones have one CA less and one more entry in its list.
	number := int64(0)
	version := func(odd bool) (cas, lists []byte) {
		number++
		entries := []*tls.Certificate{revoked}
		cas = slices.Concat(always.pem(), sometimes.pem())
		if odd {
			cas, entries = always.pem(), append(entries, turncoat)
		}
		this := time.Now().Add(-time.Hour).Add(time.Duration(number) * time.Second)
		lists = slices.Concat(pki.EncodeCRL(always.listAt(this, 2*time.Hour, number, entries...)),
			pki.EncodeCRL(sometimes.listAt(this, 2*time.Hour, number)))
		return cas, lists
	}
	cas, lists := version(false)
	write(server.server("one.example.org", "0.example.org"), cas, lists)
	if links {
		for _, name := range []string{"x.pem", "x.key", "ca.pem", "ca.crl"} {
			if err := os.Symlink("..data/"+name, d.at(name)); err != nil {
				t.Skip("no links here: ", err)
			}
		}
	}
	r := newRig(t, Spec{Pairs: []Pair{{d.at("x.pem"), d.at("x.key")}}, ClientCAs: []string{d.at("ca.pem")}, CRLs: []string{d.at("ca.crl")}})
	s := transport.TLSProfile(r.l, transport.Required)
	r.run()

	// state is the version that is surely in force: even or odd, and how often it changed; -1 while it changes.
	var state atomic.Int64
	var connects, refused atomic.Int64
	stop := make(chan struct{})
	var tasks sync.WaitGroup
	for n := range clients {
		tasks.Go(func() {
			cache := &tickets{}
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if pace != nil {
					select {
					case <-stop:
						return
					case <-pace:
					}
				}
				who := []*tls.Certificate{good, good, turncoat, guest, revoked, stranger}[i%6]
				c := showing(who)
				c.InsecureSkipVerify, c.RootCAs, c.ServerName = false, poolOf(server), "one.example.org"
				if i%12 == 1 { // resumed, as often as it may be
					c.ClientSessionCache = cache
				}
				before := state.Load()
				_, err, client := handshake(s, c)
				after := state.Load()
				connects.Add(1)
				if err != nil {
					refused.Add(1)
				}
				var verify *tls.CertificateVerificationError
				if errors.As(client, &verify) {
					t.Errorf("the client refuses the server: %v", client)
				}
				sure := before == after && before >= 0
				odd := before%2 == 1
				switch who {
				case good:
					if err != nil || client != nil {
						t.Errorf("a client that is always good failed: %v, %v", err, client)
					}
				case revoked, stranger:
					if err == nil {
						t.Errorf("%s got in", who.Leaf.Subject)
					}
				default:
					if sure && (err == nil) == odd {
						t.Errorf("%s in version %d: %v", who.Leaf.Subject, before, err)
					}
				}
			}
		})
	}
	for i := int64(1); i <= rounds; i++ {
		if step != nil {
			<-step
		}
		state.Store(-1)
		name := fmt.Sprintf("%d.example.org", i)
		c := server.server("one.example.org", name)
		cas, lists := version(i%2 == 1)
		write(c, cas, lists)
		until(t, "version "+name+" is in force", func() bool {
			m := r.l.current.Load()
			st := m.lists.Status()
			return m.pairs[0].Leaf.Equal(c.Leaf) && len(m.trust.cas) == 2-int(i%2) && st[0].Number == fmt.Sprint(number)
		})
		state.Store(i)
		was := connects.Load()
		until(t, "some have connected", func() bool { return connects.Load() >= was+12 })
	}
	close(stop)
	tasks.Wait()
	t.Logf("%d versions, %d connects, %d of them refused as they should be", rounds, connects.Load(), refused.Load())
}

func BenchmarkVerifyConnection(b *testing.B) {
	a, d := newCA(b, "a"), newDir(b)
	client := a.client("pump-17")
	r := newRig(b, Spec{Pairs: []Pair{d.pair("x", a.server("one.example.org"))}, ClientCAs: []string{d.put("ca.pem", a.pem())}, CRLs: []string{d.put("a.crl", a.list(time.Hour))}})
	cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{client.Leaf}, VerifiedChains: [][]*x509.Certificate{{client.Leaf, a.cert}}}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.l.VerifyConnection(cs); err != nil {
			b.Fatal(err)
		}
	}
}
