package enroll

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/auth"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/identity"
	"github.com/sealmq/sealmq/pki"
	"github.com/sealmq/sealmq/registry"
	"github.com/sealmq/sealmq/store/memory"
)

// door is the broker's Service: ours, once it is there.
type door struct{ s atomic.Pointer[Service] }

func (d *door) Owns(topic []byte) bool { return d.s.Load().Owns(topic) }
func (d *door) Serve(r *broker.Request) {
	d.s.Load().Serve(&Request{Topic: r.Topic, Payload: r.Payload, Props: r.Props, ClientID: r.ClientID, Addr: r.Peer.Addr, Kind: r.Principal.Kind,
		Name: r.Principal.Name, Serial: r.Principal.Cert.Serial, Key: r.Principal.Cert.Key, Expired: r.Peer.Expired, Reply: r.Reply, Close: r.Close})
}

// wire is a broker.Link.
type wire struct {
	*tls.Conn
	mu sync.Mutex
}

func (w *wire) Write(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.Conn.Write(b)
	return err
}
func (w *wire) Backlog() int { return 0 }
func (w *wire) Close(bool)   { w.Conn.Close() }

// The script of the handbook, as it is printed, enrols and renews with the real broker behind a listener of either kind.
func TestScriptOfTheHandbook(t *testing.T) {
	for _, tool := range []string{"mosquitto_rr", "openssl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	script, err := filepath.Abs("../docs/handbook/enrol.sh")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n >= 20 {
		t.Errorf("the script has %d lines", n)
	}
	page, err := os.ReadFile("../docs/handbook/enrolment.md")
	if err != nil || !bytes.Contains(page, text) {
		t.Errorf("the page does not print the script: %v", err)
	}

	d := new(door)
	mem := memory.New()
	folder, _, err := pki.InitFolder(t.TempDir(), pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	br, err := broker.New(broker.Config{SysInterval: -1}, broker.Options{Store: mem, Auth: auth.Certificates{}, Service: d})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(mem, registry.Options{Issuers: folder.CA().DeviceCAs()})
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(identity.Options{Folder: folder, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Identity: id, Registry: reg, Store: mem})
	if err != nil {
		t.Fatal(err)
	}
	d.s.Store(s)
	cert, _, err := folder.Server()
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	listen := func(enrol bool) (port string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		cfg := &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: folder.CA().ClientCAs()}
		if enrol {
			cfg.ClientAuth = tls.VerifyClientCertIfGiven
		}
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { serve(br, tls.Server(c, cfg), enrol) })
			}
		})
		_, port, _ = net.SplitHostPort(l.Addr().String())
		return port
	}
	enrolPort, port := listen(true), listen(false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Close()
		br.Shutdown(ctx)
		reg.Close()
	})

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), folder.CA().RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command("sh", append([]string{script, "127.0.0.1"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	leaf := func() *x509.Certificate {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		c := parsePEM(t, string(b))
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	token, _, err := s.Create(context.Background(), Claim{IDs: []string{"pump-17"}})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(enrolPort, "pump-17", token); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first := leaf()
	if first.Subject.CommonName != "pump-17" {
		t.Errorf("certificate of %s", first.Subject)
	}
	for _, p := range []string{port, enrolPort} {
		was := leaf()
		if out, err := run(p, "pump-17"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if now := leaf(); now.SerialNumber.Cmp(was.SerialNumber) == 0 || now.Subject.CommonName != "pump-17" {
			t.Error("it is not renewed")
		}
	}
	var ended *exec.ExitError
	if out, err := run(enrolPort, "pump-18", strings.ToLower(token)); !errors.As(err, &ended) {
		t.Errorf("another device gets in: %v, %s", err, out)
	}
	if reg.Len() != 1 {
		t.Errorf("%d devices", reg.Len())
	}
}

// serve takes one connection to the broker.
func serve(br *broker.Broker, c *tls.Conn, enrol bool) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	peer := auth.Peer{Addr: c.RemoteAddr().String(), Transport: "tls", Secure: true, Enrolment: enrol}
	if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
		peer.Cert = certs[0]
	}
	conn := br.NewConn(&wire{Conn: c}, peer, broker.Limits{})
	if conn.Open(c) != nil {
		return
	}
	b := make([]byte, 4096)
	err := conn.Data(nil)
	for err == nil {
		conn.Flush()
		var n int
		if n, err = c.Read(b); n > 0 {
			if e := conn.Data(b[:n]); e != nil {
				err = e
			}
		}
	}
	conn.Flush()
	conn.Closed(err)
}
