package acme

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// authority is an ACME CA. Its names lead to 127.0.0.1, whatever they are.
type authority struct {
	db        *db.MemoryStore
	ca        *ca.CAImpl
	server    *httptest.Server
	directory string
	rootFile  string // of its https server

	orders atomic.Int64 // that were made; Pebble refuses some requests for their nonce, which are repeated
}

// status notes what is answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// options are what may be chosen of a CA.
type options struct {
	address           string // of its https server; any if empty
	httpPort, tlsPort int    // that its validators come to
	dns               string // address of the DNS server that they ask
	eab               map[string]string
	life              time.Duration // of certificates; 90 days if 0
}

func startCA(t *testing.T, o options) *authority {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	if o.dns == "" {
		o.dns, _ = startDNS(t)
	}
	a := &authority{db: db.NewMemoryStore()}
	a.ca = ca.New(quiet, a.db, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: uint64(o.life / time.Second)}})
	for id, key := range o.eab {
		if err := a.db.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	front := wfe.New(quiet, a.db, va.New(quiet, o.httpPort, o.tlsPort, true, o.dns, a.db), a.ca, []string{"pebble.letsencrypt.org"}, true, o.eab != nil, 0, 0)
	handler := front.Handler()
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &status{ResponseWriter: w}
		handler.ServeHTTP(s, r)
		if s.code == http.StatusCreated && strings.HasPrefix(r.URL.Path, "/order-plz") {
			a.orders.Add(1)
		}
	}))
	a.server.Config.ErrorLog = quiet
	if o.address != "" {
		ln, err := net.Listen("tcp", o.address)
		if err != nil {
			t.Fatal(err)
		}
		a.server.Listener.Close()
		a.server.Listener = ln
	}
	a.server.StartTLS()
	t.Cleanup(a.server.Close)
	a.directory = a.server.URL + wfe.DirectoryPath
	a.rootFile = filepath.Join(t.TempDir(), "root.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	if err := os.WriteFile(a.rootFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// roots are what clients of the certificates trust.
func (a *authority) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.ca.GetRootCert(0).Cert)
	return p
}

// suggest has the CA suggest a renewal of cert between two times (RFC 9773).
func (a *authority) suggest(t *testing.T, cert *x509.Certificate, start, end time.Time) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": start.UTC(), "end": end.UTC()}})
	if err == nil {
		err = a.db.SetARIResponse(cert.SerialNumber, string(b))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaces is the identifier of the certificate that the order of cert said it replaces.
func (a *authority) replaces(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	issued := a.db.GetCertificateBySerial(cert.SerialNumber)
	if issued == nil {
		t.Fatalf("the CA does not know serial %v", cert.SerialNumber)
	}
	var order *core.Order
	eventually(t, "order kept by the CA", func() (kept bool) {
		var err error
		order, err = a.db.GetOrderByIssuedSerial(issued.ID)
		return err == nil
	})
	order.RLock()
	defer order.RUnlock()
	return order.Replaces
}

// certID names a certificate as RFC 9773 section 4.1 says.
func certID(c *x509.Certificate) string {
	serial := c.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(c.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// startDNS starts a DNS server. Programs that get its second address in the environment, as TestMain reads it, can change
// TXT records.
func startDNS(t *testing.T) (dns, control string) {
	t.Helper()
	dns = freeAddress(t)
	srv, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{dns}, Log: log.New(io.Discard, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	srv.SetDefaultDNSIPv6("")
	srv.Run()
	t.Cleanup(srv.Shutdown)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch host, value := r.FormValue("host"), r.FormValue("value"); r.FormValue("verb") {
		case "present":
			srv.AddDNSTXTRecord(host, value)
		case "cleanup":
			srv.DeleteDNSTXTRecord(host)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(web.Close)
	eventually(t, "DNS server", func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", dns)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return dns, web.URL
}

// freeAddress is one that nobody listens on, and that nobody who asks for any free port is given.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+(os.Getpid()*101+int(ports.Add(1)))%10_000)
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no free port between 20000 and 30000")
	return ""
}

var ports atomic.Int64 // that were tried

// portOf is the port of an address.
func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
