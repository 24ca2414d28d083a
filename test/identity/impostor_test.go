package identity

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Who is not who they seem does not get in, and the log says why.
func TestImpostorClients(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub")
	b := startBroker(t, twoListeners)
	good := b.add(t, "pump-1")
	admitted(t, b.tls, good)
	ca, brokerCA := b.authority(t, "device"), b.authority(t, "broker")
	b.sealmq(t, "init", "--data", "elsewhere")
	b.sealmq(t, "device", "add", "pump-1", "--data", "elsewhere", "--out", "foreign")
	foreign := deviceIn(b.path("foreign"), "pump-1")
	foreign.ca = good.ca

	forged := func(name string, from *authority, change func(*x509.Certificate)) device {
		c := forDevice(t, "pump-1")
		change(c)
		return from.issue(t, c, b.path(name), good.ca)
	}
	namesake := newAuthority(t, ca.cert.Subject.CommonName)
	namesake.cert.SubjectKeyId = ca.cert.SubjectKeyId
	for name, test := range map[string]struct {
		device device
		cause  string
	}{
		"nothing":       {device{id: "pump-1", ca: good.ca}, "client_certificate_absent"},
		"other broker":  {foreign, "client_certificate_ca"},
		"same name":     {forged("namesake", namesake, func(*x509.Certificate) {}), "client_certificate_ca"},
		"signs itself":  {forged("self", nil, func(*x509.Certificate) {}), "client_certificate_ca"},
		"expired":       {forged("expired", ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "client_certificate_expired"},
		"not yet valid": {forged("early", ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "client_certificate_expired"},
		"for servers": {forged("server", ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			"client_certificate"},
		"broker CA":  {forged("broker-ca", brokerCA, func(*x509.Certificate) {}), "client_certificate_ca"},
		"the broker": {device{"pump-1", "", good.ca, b.path("data/server/cert.pem"), b.path("data/server/key.pem")}, "client_certificate"},
	} {
		from := b.mark()
		b.barred(t, b.tls, test.device)
		if line := b.awaitLog(t, from, "tls handshake refused"); !strings.Contains(line, `"cause":"`+test.cause) {
			t.Errorf("%s: want cause %s:\n%s", name, test.cause, line)
		}
	}

	// The thief of a certificate signs with a key of their own, as no ordinary tool does.
	pair, err := tls.LoadX509KeyPair(good.cert, good.key)
	if err != nil {
		t.Fatal(err)
	}
	pair.PrivateKey = newKey(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(b.read(t, "data/ca/root.pem")))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		from := b.mark()
		c, err := tls.Dial("tcp", b.tls.String(), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MaxVersion: version})
		if err == nil {
			c.SetDeadline(time.Now().Add(*patience))
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("%s: the thief of a certificate gets in", tls.VersionName(version))
			}
			c.Close()
		}
		b.awaitLog(t, from, "tls handshake refused", `"cause":"client_key_mismatch"`)
	}

	// A real device is no other.
	from := b.mark()
	args := append(append(b.tls.flags(), good.flags()...), "-i", "pump-2", "-t", "x", "-m", "x")
	if out, err := run(t, "", "mosquitto_pub", args...); err == nil {
		t.Errorf("pump-1 connects as pump-2:\n%s", out)
	}
	b.awaitLog(t, from, "connection refused", "may use")

	// A CA that was retired is nobody's any more.
	b.sealmq(t, "ca", "announce")
	b.sealmq(t, "ca", "switch")
	next := b.add(t, "pump-2")
	admitted(t, b.tls, good)
	live := subscribe(t, b.tls, good, "pump-1/live", "5", "-t", "pump-1/#")
	b.sealmq(t, "ca", "retire", "--force")
	live.await(t, "Received DISCONNECT (152)")
	good.ca = next.ca
	from = b.mark()
	b.barred(t, b.tls, good)
	line := b.awaitLog(t, from, "tls handshake refused")
	if !strings.Contains(line, `"cause":"client_certificate_ca"`) && !strings.Contains(line, "trusted no longer") {
		t.Errorf("of a CA that was retired:\n%s", line)
	}
	admitted(t, b.tls, next)
}

// Of a broker that is none, no client takes more than its certificate.
func TestImpostorBrokers(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "mosquitto_pub")
	needPaho(t)
	h := newHome(t, twoListeners)
	h.sealmq(t, "init")
	d := h.add(t, "pump-1")
	ca, devices, foreign := h.authority(t, "broker"), h.authority(t, "device"), newAuthority(t, "SealMQ broker CA")
	names := []string{"localhost", "127.0.0.1"}
	script, err := filepath.Abs(filepath.Join("testdata", "live.py"))
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]func(port string) (string, error){
		"mosquitto": func(port string) (string, error) {
			return run(t, "", "mosquitto_pub", append(d.flags(), "-h", "localhost", "-p", port, "-i", d.id, "-t", "x", "-m", "secret", "-q", "1")...)
		},
		"sealmq": func(port string) (string, error) {
			return run(t, "", program, append(append([]string{"pub"}, d.flags()...), "-h", "localhost", "-p", port, "-i", d.id, "-t", "x", "-m", "secret", "-q", "1")...)
		},
		"openssl": func(port string) (string, error) {
			return feed(t, "", "secret", "openssl", "s_client", "-connect", "localhost:"+port, "-servername", "localhost", "-verify_hostname", "localhost", "-CAfile", d.ca,
				"-cert", d.cert, "-key", d.key, "-verify_return_error", "-brief")
		},
		"paho": func(port string) (string, error) {
			return run(t, "", python, script, "5", "localhost", port, d.ca, d.cert, d.key, d.id, "x")
		},
	}
	for name, test := range map[string]struct {
		from   *authority
		change func(*x509.Certificate)
		good   bool
	}{
		"the broker":    {from: ca, change: func(*x509.Certificate) {}, good: true},
		"other CA":      {from: foreign, change: func(*x509.Certificate) {}},
		"signs itself":  {from: nil, change: func(*x509.Certificate) {}},
		"other host":    {from: ca, change: func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.example"}, nil }},
		"expired":       {from: ca, change: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		"not yet valid": {from: ca, change: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }},
		"for clients":   {from: ca, change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
		"a device":      {from: devices, change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
	} {
		c := forServer(t, names...)
		test.change(c)
		impostor := fake(t, test.from.issue(t, c, filepath.Join(t.TempDir(), "server"), d.ca))
		for _, tool := range []string{"mosquitto", "sealmq", "openssl", "paho"} {
			out, err := clients[tool](impostor.port())
			select {
			case told := <-impostor.told:
				if (told > 0) != test.good {
					t.Errorf("%s sent %d bytes to: %s\n%v\n%s", tool, told, name, err, out)
				}
			case <-time.After(*patience):
				t.Errorf("%s did not connect to: %s\n%v\n%s", tool, name, err, out)
			}
		}
	}
}

// fakeBroker is a TLS server that keeps what it is told to itself.
type fakeBroker struct {
	net.Listener
	told chan int // by each client, the bytes of its first words
}

func (f *fakeBroker) port() string {
	_, port, _ := net.SplitHostPort(f.Addr().String())
	return port
}

func fake(t *testing.T, d device) *fakeBroker {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(d.cert, d.key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{ln, make(chan int, 100)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(*patience))
			n, _ := c.Read(make([]byte, 1024))
			f.told <- n
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return f
}

// A session of TLS from before a revocation is no way around it.
func TestResumption(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	b := startBroker(t, twoListeners)
	connect := []byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			d := b.add(t, "r"+version[5:])
			ticket := filepath.Join(d.dir, "ticket")
			visit := func(more ...string) (in, resumed bool, out string) {
				args := []string{"s_client", version, "-connect", b.tls.String(), "-CAfile", d.ca, "-cert", d.cert, "-key", d.key}
				p := spawn(t, "", "openssl", append(args, more...)...)
				p.stdin.Write(append(slices.Clone(connect), d.id...))
				eventually(t, func() error {
					select {
					case <-p.ended:
						return nil
					default:
					}
					if strings.Contains(p.printed(), "\x20\x02\x00\x00") {
						return nil
					}
					return io.ErrNoProgress
				})
				p.stdin.Close() // s_client ends, and with it the connection
				eventually(t, func() error {
					select {
					case <-p.ended:
						return nil
					default:
						return io.ErrNoProgress
					}
				})
				out = p.printed()
				return strings.Contains(out, "\x20\x02\x00\x00"), strings.Contains(out, "Reused, "), out
			}
			if in, _, out := visit("-sess_out", ticket); !in {
				t.Fatalf("not let in:\n%s", out)
			}
			if _, err := os.Stat(ticket); err != nil {
				t.Fatal(err)
			}
			if in, resumed, out := visit("-sess_in", ticket); !in || !resumed {
				t.Fatalf("the session is not resumed: in %v, resumed %v:\n%s", in, resumed, out)
			}
			b.sealmq(t, "device", "revoke", d.id)
			for range 2 {
				from := b.mark()
				if in, _, out := visit("-sess_in", ticket); in {
					t.Fatalf("a resumed session of a revoked device gets in:\n%s", out)
				}
				b.awaitLog(t, from, "tls handshake refused", `"cause":"client_certificate_revoked"`)
			}
		})
	}
}
