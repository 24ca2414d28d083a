package acme

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/certs/acme"
)

var (
	long   = flag.Bool("long", false, "renew every minute for ten minutes, with 1,000 clients")
	dialer = &net.Dialer{Timeout: time.Minute}
)

const dnsControl = "ACMETEST_DNS" // environment variable with the URL by which TXT records are changed

// TestMain is also the program of dns_exec.
func TestMain(m *testing.M) {
	if at := os.Getenv(dnsControl); at != "" && len(os.Args) == 4 {
		resp, err := http.PostForm(at, url.Values{"verb": {os.Args[1]}, "host": {os.Args[2]}, "value": {os.Args[3]}})
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Pebble's validators come at once, and no authorization is used twice.
	for k, v := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"} {
		if err := os.Setenv(k, v); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A listener that requires client certificates answers the CA's validators itself. The account and the certificate outlive
// a restart, without a new order. A certificate for an address is shown to clients that send no name.
func TestTLSALPN(t *testing.T) {
	t.Parallel()
	l := listen(t)
	ca := startCA(t, options{tlsPort: l.port(t)})
	cfg := acme.Config{Names: []string{"MQTT.example.test", "127.0.0.1"}, Email: "admin@example.test", Directory: ca.directory, CAFile: ca.rootFile, Challenges: []string{acme.TLSALPN01}}
	s := newStore(t)
	m, out := keep(t, l, s, cfg)
	leaf := got(t, m, "mqtt.example.test")
	got(t, m, "127.0.0.1")
	first := ca.orders.Load()
	m.Close()
	if _, ok := m.Get(&tls.ClientHelloInfo{ServerName: "mqtt.example.test"}); !ok {
		t.Error("no certificate after Close")
	}

	cfg.Email = "other@example.test" // the account is told
	m, again := keep(t, l, s, cfg)
	if c, ok := m.Get(&tls.ClientHelloInfo{ServerName: "mqtt.example.test"}); !ok || !c.Leaf.Equal(leaf) {
		t.Error("the certificate is not there at once after a restart")
	}
	for _, name := range []string{"mqtt.example.test", "Mqtt.Example.Test", ""} {
		l.shows(t, name, ca.roots())
	}
	if _, err := l.dial("own.example", l.own.Pool()); err != nil {
		t.Errorf("the certificate for other names: %v", err)
	}
	if err := m.Renew(t.Context(), "mqtt.example.test"); err != nil {
		t.Fatal(err)
	}
	if n := ca.orders.Load(); first != 2 || n != 3 {
		t.Errorf("%d orders, then %d after a restart and one renewal", first, n)
	}
	if id := ca.replaces(t, got(t, m, "mqtt.example.test")); id != certID(leaf) {
		t.Errorf("the order replaces %q, not %q", id, certID(leaf))
	}
	if tr := m.Trouble(); len(tr) > 0 {
		t.Errorf("trouble: %q", tr)
	}
	for _, log := range []string{out.String(), again.String()} {
		if strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Errorf("all went well, but:\n%s", log)
		}
	}
	if log := l.log.String(); log != "" {
		t.Errorf("the listener says:\n%s", log)
	}
}

// tls_address answers when the listeners cannot be reached, http_address when http-01 is wanted. Both are closed after.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		challenge string
		set       func(*acme.Config, *options, string)
	}{
		{acme.TLSALPN01, func(cfg *acme.Config, o *options, addr string) {
			cfg.TLSAddress, o.tlsPort = addr, portOf(t, addr)
		}},
		{acme.HTTP01, func(cfg *acme.Config, o *options, addr string) {
			cfg.HTTPAddress, o.httpPort = addr, portOf(t, addr)
		}},
	} {
		t.Run(c.challenge, func(t *testing.T) {
			t.Parallel()
			addr := freeAddress(t)
			cfg := acme.Config{Names: []string{"a.example.test", "b.example.test"}, Challenges: []string{c.challenge}}
			var o options
			c.set(&cfg, &o, addr)
			ca := startCA(t, o)
			cfg.Directory, cfg.CAFile = ca.directory, ca.rootFile
			l := listen(t)
			m, out := keep(t, l, newStore(t), cfg)
			got(t, m, "a.example.test")
			got(t, m, "b.example.test")
			if strings.Contains(out.String(), "level=WARN") {
				t.Error(out)
			}
			if _, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
				t.Errorf("%s is still listened on", addr)
			}
		})
	}
}

// dns-01, through a program, gives wildcards too.
func TestDNS(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dns, control := startDNS(t)
	t.Setenv(dnsControl, control)
	ca := startCA(t, options{dns: dns})
	l := listen(t)
	m, _ := keep(t, l, newStore(t), acme.Config{Names: []string{"*.example.test"}, Directory: ca.directory, CAFile: ca.rootFile, DNSExec: self})
	got(t, m, "any.example.test")
	l.shows(t, "some.example.test", ca.roots())
	if _, ok := m.Get(&tls.ClientHelloInfo{ServerName: "a.b.example.test"}); ok {
		t.Error("a wildcard stands for one label alone")
	}
}

// A CA that wants an external account.
func TestExternalAccount(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	l := listen(t)
	ca := startCA(t, options{tlsPort: l.port(t), eab: map[string]string{"kid-1": key}})
	cfg := acme.Config{Names: []string{"a.example.test"}, Directory: ca.directory, CAFile: ca.rootFile, Challenges: []string{acme.TLSALPN01}}
	s := newStore(t)
	m, _ := keep(t, l, s, cfg)
	eventually(t, "trouble", func() bool { return len(m.Trouble()) > 0 })
	if tr := m.Trouble()[0]; !strings.Contains(tr, "external account") || !strings.Contains(tr, "eab_kid") {
		t.Errorf("trouble: %s", tr)
	}
	m.Close()
	cfg.EABKeyID, cfg.EABKeyFile = "kid-1", filepath.Join(t.TempDir(), "eab.key")
	if err := os.WriteFile(cfg.EABKeyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _ = keep(t, l, s, cfg)
	got(t, m, "a.example.test")
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(cfg.EABKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := acme.New(cfg, acme.Options{Store: s}); err == nil || !strings.Contains(err.Error(), "eab_key_file") {
		t.Errorf("a key that others can read: %v", err)
	}
}

// A CA that is not there at the start is no failure. One that was set up anew, and knows nothing of us, is registered with
// again.
func TestCADown(t *testing.T) {
	t.Parallel()
	l := listen(t)
	addr := freeAddress(t)
	o := options{address: addr, tlsPort: l.port(t)}
	one := startCA(t, o)
	one.server.Close()
	cfg := acme.Config{Names: []string{"a.example.test"}, Directory: one.directory, CAFile: one.rootFile, Challenges: []string{acme.TLSALPN01}}
	s := newStore(t)
	m, out := keep(t, l, s, cfg)
	eventually(t, "trouble", func() bool { return len(m.Trouble()) > 0 })
	if tr := m.Trouble()[0]; !strings.Contains(tr, addr+" cannot be reached") || !strings.Contains(tr, "next attempt") {
		t.Errorf("trouble: %s", tr)
	}
	if _, err := l.dial("a.example.test", l.own.Pool()); err == nil || !strings.Contains(err.Error(), "own.example") {
		t.Errorf("our own CA's certificate is not shown meanwhile: %v", err)
	}
	if log := out.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "hint=") {
		t.Errorf("log: %s", log)
	}
	two := startCA(t, o)
	leaf := got(t, m, "a.example.test")
	if tr := m.Trouble(); len(tr) > 0 {
		t.Errorf("trouble: %q", tr)
	}
	two.server.Close()
	err := m.Renew(t.Context(), "a.example.test")
	var hint interface{ Hint() string }
	if err == nil || !errors.As(err, &hint) || hint.Hint() == "" {
		t.Errorf("renewed without a CA: %v", err)
	}
	if c := got(t, m, "a.example.test"); !c.Equal(leaf) {
		t.Error("a failed renewal has changed the certificate")
	}
	three := startCA(t, o)
	if err := m.Renew(t.Context(), "a.example.test"); err != nil {
		t.Errorf("with a CA that has forgotten us: %v", err)
	}
	if three.orders.Load() == 0 {
		t.Error("no order was made")
	}
}

// Failures of validation are told in plain words.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	l := listen(t)
	ca := startCA(t, options{httpPort: portOf(t, freeAddress(t))})
	m, out := keep(t, l, newStore(t), acme.Config{Names: []string{"a.example.test"}, Directory: ca.directory, CAFile: ca.rootFile,
		Challenges: []string{acme.HTTP01}, HTTPAddress: freeAddress(t)})
	eventually(t, "trouble", func() bool { return len(m.Trouble()) > 0 })
	if tr := m.Trouble()[0]; !strings.Contains(tr, "could not reach a.example.test on port 80") || !strings.Contains(tr, "from the internet") {
		t.Errorf("trouble: %s", tr)
	}
	if log := out.String(); strings.Count(log, "\n") != 1 {
		t.Errorf("not one line:\n%s", log)
	}
}

// The CA says when to renew: a window that has begun is followed as soon as it is heard of.
func TestRenewalInfo(t *testing.T) {
	t.Parallel()
	l := listen(t)
	ca := startCA(t, options{tlsPort: l.port(t)})
	cfg := acme.Config{Names: []string{"a.example.test"}, Directory: ca.directory, CAFile: ca.rootFile, Challenges: []string{acme.TLSALPN01}}
	s := newStore(t)
	m, _ := keep(t, l, s, cfg)
	leaf := got(t, m, "a.example.test")
	m.Close()
	now := time.Now()
	ca.suggest(t, leaf, now.Add(-2*time.Hour), now.Add(-time.Hour))
	m, _ = keep(t, l, s, cfg)
	eventually(t, "renewal", func() bool { return !got(t, m, "a.example.test").Equal(leaf) })
	if id := ca.replaces(t, got(t, m, "a.example.test")); id != certID(leaf) {
		t.Errorf("the order replaces %q, not %q", id, certID(leaf))
	}
}

// A certificate that lives for 20 seconds renews itself in time, and not again and again.
func TestShortLived(t *testing.T) {
	t.Parallel()
	l := listen(t)
	ca := startCA(t, options{tlsPort: l.port(t), life: 20 * time.Second})
	const name = "a.example.test"
	m, _ := keep(t, l, newStore(t), acme.Config{Names: []string{name}, Directory: ca.directory, CAFile: ca.rootFile, Challenges: []string{acme.TLSALPN01}})
	first := got(t, m, name)
	eventually(t, "renewal", func() bool { return !got(t, m, name).Equal(first) })
	if n := ca.orders.Load(); n > 3 || !time.Now().Before(first.NotAfter.Add(5*time.Second)) {
		t.Errorf("%d orders, at %v for one until %v", n, time.Now(), first.NotAfter)
	}
}

// Renewals disturb nobody who is connected, and every handshake after one shows the new certificate.
func TestRenewals(t *testing.T) {
	t.Parallel()
	clients, renewals, pause := 100, 10, 2*time.Second
	if *long {
		clients, renewals, pause = 1000, 10, time.Minute
	}
	l := listen(t)
	ca := startCA(t, options{tlsPort: l.port(t)})
	const name = "mqtt.example.test"
	m, out := keep(t, l, newStore(t), acme.Config{Names: []string{name}, Directory: ca.directory, CAFile: ca.rootFile, Challenges: []string{acme.TLSALPN01}})
	first := got(t, m, name).SerialNumber
	all := make([]*tls.Conn, clients)
	for i := range all {
		c, err := l.dial(name, ca.roots())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all[i] = c
	}
	seen := map[string]bool{first.String(): true}
	took := time.Duration(0)
	for next := time.Now(); renewals > 0; renewals-- {
		began := time.Now()
		err := m.Renew(t.Context(), name)
		for end := time.Now().Add(time.Minute); err != nil && strings.Contains(err.Error(), "could not find an order") && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // the CA is not done with the certificate of before
			err = m.Renew(t.Context(), name)
		}
		if err != nil {
			t.Fatal(err)
		}
		took = max(took, time.Since(began))
		for range 5 {
			serial := l.shows(t, name, ca.roots())
			if want := got(t, m, name).SerialNumber; serial.Cmp(want) != 0 {
				t.Fatalf("shown %v, renewed %v", serial, want)
			}
		}
		serial := l.shows(t, name, ca.roots()).String()
		if seen[serial] {
			t.Fatalf("%s was shown before", serial)
		}
		seen[serial] = true
		var wg sync.WaitGroup
		for part := range 10 {
			wg.Go(func() {
				for i := part; i < clients; i += 10 {
					if err := ping(all[i]); err != nil {
						t.Errorf("client %d: %v", i, err)
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		next = next.Add(pause)
		time.Sleep(time.Until(next))
	}
	if strings.Contains(out.String(), "level=WARN") {
		t.Error(out)
	}
	t.Logf("%d certificates, %d clients connected throughout; a renewal took at most %v", len(seen), clients, took.Round(time.Millisecond))
}
