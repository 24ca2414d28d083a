package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// crl signs a revocation list, of an hour ago if it is the first.
func (a *authority) crl(t *testing.T, number int64, revoked ...*x509.Certificate) string {
	t.Helper()
	tmpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Second), NextUpdate: time.Now().Add(time.Hour)}
	if number == 1 {
		tmpl.ThisUpdate = tmpl.ThisUpdate.Add(-time.Hour)
	}
	for _, c := range revoked {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// TestRotation swaps the broker's certificate, the accepted CAs and a revocation
// list every second, sometimes for damaged ones, while clients come and go.
func TestRotation(t *testing.T) {
	if !*long {
		t.Parallel() // it waits more than it works
	}
	rate, seconds := size(50, 200), size(8, 60)
	h := newHome(t, `
[[listener]]
name = "tls"
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"
client_ca = "clients.pem"
client_crl = ["a.crl", "b.crl", "c.crl"]
`)
	root := newAuthority(t, "server root")
	a, bee, cee, never := newAuthority(t, "a"), newAuthority(t, "b"), newAuthority(t, "c"), newAuthority(t, "never")
	h.write(t, "root.pem", string(root.pem()))
	ca := h.path("root.pem")
	client := func(from *authority, id string, change func(*x509.Certificate)) (device, *x509.Certificate) {
		c := forDevice(t, id)
		change(c)
		return from.issue(t, c, h.path("clients", id), ca), c
	}
	plain := func(*x509.Certificate) {}
	good, _ := client(a, "good", plain)
	revoked, revokedCert := client(a, "revoked", plain)
	late, lateCert := client(a, "late", plain)
	foreign, _ := client(never, "foreign", plain)
	expired, _ := client(a, "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	server, _ := client(a, "server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })

	// One round of files. Of eight, three are damaged, each time in another way; then what was before stays in force.
	swap := func(round int) (server *big.Int) {
		tmpl := forServer(t, "localhost", "127.0.0.1")
		d := root.issue(t, tmpl, filepath.Join(h.dir, "next"), ca)
		cert, err := os.ReadFile(d.cert)
		if err != nil {
			t.Fatal(err)
		}
		accepted := [][]byte{a.pem(), bee.pem()}
		if round%2 == 1 {
			accepted = [][]byte{cee.pem(), a.pem()}
		}
		cas, revoked := string(bytes.Join(accepted, nil)), []*x509.Certificate{revokedCert}
		if round >= 2 {
			revoked = append(revoked, lateCert)
		}
		list := a.crl(t, int64(100+round), revoked...)
		switch round % 8 {
		case 3:
			cert, cas, list = cert[:len(cert)/2], "", list[:len(list)/2]
		case 4:
			cert, cas, list = never.pem(), "no certificate\n", never.crl(t, int64(100+round))
		case 5:
			cert, list = nil, a.crl(t, 1) // an older one, without anybody
		}
		h.write(t, "server.pem", string(cert))
		if err := os.Rename(d.key, h.path("server.key")); err != nil { // for a moment the pair does not fit
			t.Fatal(err)
		}
		h.write(t, "clients.pem", cas)
		h.write(t, "a.crl", list)
		return tmpl.SerialNumber
	}
	h.write(t, "b.crl", bee.crl(t, 1))
	h.write(t, "c.crl", cee.crl(t, 1))
	swap(0)
	b := h.start(t)
	b.meant = []string{"certificates need attention"}

	kinds := []struct {
		name string
		cfg  *tls.Config
		good bool
	}{{name: "good", good: true}, {name: "good", good: true}, {name: "good", good: true}, {name: "revoked"}, {name: "foreign"}, {name: "expired"}, {name: "server"}, {name: "none"}}
	roots := pool(t, h.read(t, "root.pem"))
	config := func(d device) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{d.pair(t)}}
	}
	devices := map[string]device{"good": good, "revoked": revoked, "foreign": foreign, "expired": expired, "server": server}
	for i, k := range kinds {
		kinds[i].cfg = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		if d, ok := devices[k.name]; ok {
			kinds[i].cfg = config(d)
		}
	}
	// Every second good client resumes its session of TLS if it can.
	kinds[1].cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	lateCfg := config(late)

	lateConn, err := connect(b.tls, lateCfg, mqtt.V5, "late/first")
	if err != nil {
		t.Fatal(err)
	}
	lateEnd := make(chan closed, 1)
	go func() { lateEnd <- awaitEnd(lateConn) }()

	var (
		wg                      sync.WaitGroup
		tried, failed, accepted atomic.Int64
		resumed, refused        atomic.Int64
		serials                 sync.Map
	)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	begin := time.Now()
	round := 1
	for i := 0; i < rate*seconds; i++ {
		<-tick.C
		if time.Since(begin) > time.Duration(round)*time.Second {
			swap(round)
			round++
		}
		k := kinds[i%len(kinds)]
		wg.Go(func() {
			c, err := connect(b.tls, k.cfg, version(i), fmt.Sprintf("%s/%d", k.name, i))
			tried.Add(1)
			if err == nil {
				state := c.ConnectionState()
				serials.Store(state.PeerCertificates[0].SerialNumber.String(), true)
				if state.DidResume {
					resumed.Add(1)
				}
				c.Close()
			} else if errors.Is(err, errRefused) {
				refused.Add(1)
			}
			switch {
			case k.good && err != nil:
				failed.Add(1)
				t.Errorf("connection %d, %v after the start, should have worked: %v", i, time.Since(begin), err)
			case !k.good && err == nil:
				accepted.Add(1)
				t.Errorf("connection %d with certificate %q, %v after the start, should have been refused", i, k.name, time.Since(begin))
			case !k.good && !errors.Is(err, errRefused):
				t.Errorf("connection %d with certificate %q: %v, want a refusal", i, k.name, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)

	// What came last is in force in the end, and the log has what was wrong with what came before.
	last := swap((round + 7) / 8 * 8)
	eventually(t, func() error {
		c, err := connect(b.tls, kinds[0].cfg, mqtt.V5, "good/last")
		if err != nil {
			return err
		}
		defer c.Close()
		if c.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(last) != 0 {
			return errors.New("the broker still shows a certificate of before")
		}
		return nil
	})
	b.awaitLog(t, 0, "certificates need attention")
	b.awaitLog(t, 0, "trouble is over")

	// The new list counts also for who was there before.
	select {
	case <-lateEnd:
	case <-time.After(*patience):
		t.Errorf("a connection lives on whose certificate is in the new list")
	}
	if c, err := connect(b.tls, lateCfg, mqtt.V5, "late/last"); err == nil {
		c.Close()
		t.Errorf("a certificate in the new list is accepted")
	}
	n := 0
	serials.Range(func(any, any) bool { n++; return true })
	t.Logf("%d connections in %v, %d rounds of files: %d failed that should have worked, %d accepted that should not; %d refused, %d resumed, %d certificates of the broker seen",
		tried.Load(), took.Round(time.Millisecond), round, failed.Load(), accepted.Load(), refused.Load(), resumed.Load(), n)
}
