package doctor

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testkit"
	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/transport"
)

// found is what an examination should give.
type found struct {
	step   string
	status Status
	cause  transport.Cause
	reason string
}

func (f found) in(r *Report) bool {
	s := first(r)
	return f == found{s.Name, s.Status, s.Cause, s.Reason}
}

// patient examines one who keeps silent: with short waits, and with longer
// ones on a machine on which the others take longer than that.
func (f found) patient(t *testing.T, o Options) *Report {
	t.Helper()
	for o.Timeout = 2 * time.Second; ; o.Timeout *= 4 {
		if r := examine(t, o); f.in(r) || o.Timeout > time.Minute {
			return r
		}
	}
}

func (f found) check(t *testing.T, r *Report) {
	t.Helper()
	s := first(r)
	if got := (found{s.Name, s.Status, s.Cause, s.Reason}); !f.in(r) {
		t.Errorf("first finding %+v, want %+v\n%s", got, f, lines(r))
	}
	if s.Status != "" && s.Status != OK && (s.Text == "" || s.Fix == "") {
		t.Errorf("no text or no fix: %+v", s)
	}
	if r.OK != (f.status != Failed) && f.status != Warning {
		t.Errorf("OK is %v\n%s", r.OK, lines(r))
	}
	if s.Name == StepVerify && s.Status == Failed && !strings.HasPrefix(s.Text, "certificate verify failed: ") {
		t.Errorf("text %q", s.Text)
	}
}

func lines(r *Report) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%s %s [%s %s] %s\n   %s\n", s.Status, s.Name, s.Cause, s.Reason, s.Text, s.Fix)
	}
	return b.String()
}

// TestCertificates shows a doctor brokers with one fault each.
func TestCertificates(t *testing.T) {
	testkit.NoLeaks(t)
	org := func(c *x509.Certificate) { c.Subject.Organization = []string{"Acme"} }
	root := newCA(t, "root", nil, org)
	mid := newCA(t, "issuing CA", root, org)
	other := newCA(t, "another root", nil)
	twin := newCA(t, "root", nil, org)
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strongKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRoot := newCAWith(t, "rsa root", nil, strongKey)
	noCA := newCA(t, "no CA", root, func(c *x509.Certificate) { c.IsCA = false })
	narrow := newCA(t, "narrow CA", root, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	expiredMid := newCA(t, "old CA", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	self := newCA(t, "self", nil, func(c *x509.Certificate) { c.DNSNames = []string{host}; c.IsCA = false })
	leaf := mid.server()
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	}
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	fail := func(step string, c transport.Cause, reason string) found { return found{step, Failed, c, reason} }
	warn := func(step string, c transport.Cause, reason string) found { return found{step, Warning, c, reason} }
	clean := found{}
	for _, tt := range []struct {
		name string
		show tls.Certificate
		ca   *ca
		host string
		edit func(*tls.Config)
		want found
	}{
		{"good", leaf.tls(mid.cert), root, host, nil, clean},
		{"good leaf of the root", root.server().tls(), root, host, nil, clean},
		{"good by intermediate in the CA file", leaf.tls(), mid, host, nil, clean},
		{"unknown CA", other.server().tls(), root, host, nil, fail(StepVerify, transport.CauseRejectsCA, "")},
		{"unknown CA with its root", other.server().tls(other.cert), root, host, nil, warn(StepChain, CauseChain, "root_sent")},
		{"unknown CA with intermediate", newCA(t, "x", other).server().tls(), root, host, nil, fail(StepVerify, transport.CauseRejectsCA, "")},
		{"CA made anew", twin.server().tls(), root, host, nil, fail(StepVerify, transport.CauseRejectsCA, "same_name")},
		{"self-signed", pair{self.cert, self.key}.tls(), root, host, nil, fail(StepVerify, transport.CauseSelfSigned, "")},
		{"self-signed, pinned", pair{self.cert, self.key}.tls(), self, host, nil, clean},
		{"intermediate missing", leaf.tls(), root, host, nil, fail(StepVerify, transport.CauseChainIncomplete, "")},
		{"expired", mid.server(expired).tls(mid.cert), root, host, nil, fail(StepVerify, transport.CauseBrokerExpired, "")},
		{"intermediate expired", expiredMid.server().tls(expiredMid.cert), root, host, nil, fail(StepVerify, transport.CauseBrokerExpired, "")},
		{"not yet valid", mid.server(future).tls(mid.cert), root, host, nil, fail(StepVerify, transport.CauseClock, "not_yet_valid")},
		{"soon to expire", mid.server(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-1000*time.Hour), time.Now().Add(time.Hour)
		}).tls(mid.cert), root, host, nil, warn(StepDates, CauseSoon, "")},
		{"wrong purpose", mid.server(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }).tls(mid.cert), root, host, nil, fail(StepVerify, transport.CausePurpose, "")},
		{"issuer is no CA", noCA.server().tls(noCA.cert), root, host, nil, fail(StepVerify, transport.CauseIssuerNotCA, "")},
		{"name constraints", narrow.server().tls(narrow.cert), root, host, nil, fail(StepVerify, transport.CauseNameConstraints, "")},
		{"RSA 1024", root.serverWith(weakKey).tls(), root, host, nil, fail(StepVerify, transport.CauseWeakKey, "")},
		{"SHA-1", rsaRoot.server(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }).tls(), rsaRoot, host, nil, fail(StepVerify, transport.CauseSHA1, "")},
		{"wrong name", leaf.tls(mid.cert), root, "other.test", nil, fail(StepName, transport.CauseName, "")},
		{"address not in it", leaf.tls(mid.cert), root, "127.0.0.1", nil, fail(StepName, transport.CauseIP, "")},
		{"address as address only", mid.server(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }).tls(mid.cert), root, "127.0.0.1", nil, warn(StepName, transport.CauseIPAsName, "")},
		{"common name only", mid.server(func(c *x509.Certificate) { c.DNSNames = nil; c.Subject = pkix.Name{CommonName: host} }).tls(mid.cert), root, host, nil, fail(StepName, transport.CauseNoNames, "")},
		{"no name at all", mid.server(func(c *x509.Certificate) { c.DNSNames = nil }).tls(mid.cert), root, host, nil, fail(StepName, transport.CauseName, "")},
		{"out of order", leaf.tls(root.cert, mid.cert), root, host, nil, warn(StepChain, CauseChain, "order")},
		{"sent twice", leaf.tls(mid.cert, mid.cert), root, host, nil, warn(StepChain, CauseChain, "duplicate")},
		{"root sent", leaf.tls(mid.cert, root.cert), root, host, nil, warn(StepChain, CauseChain, "root_sent")},
		{"stranger sent", leaf.tls(mid.cert, other.server().cert), root, host, nil, warn(StepChain, CauseChain, "stray")},
		{"large chain", mid.server(func(c *x509.Certificate) {
			for i := range 200 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("host-number-%d.example.org", i))
			}
		}).tls(mid.cert), root, host, nil, warn(StepDevices, CauseDevices, "chain_large")},
		{"TLS 1.3 only", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, warn(StepVersions, transport.CauseTLS12Excluded, "")},
		{"TLS 1.2 only", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, clean},
		{"TLS 1.1 only", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, fail(StepVersions, transport.CauseVersion, "")},
		{"TLS 1.1 too", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.MinVersion = tls.VersionTLS11 }, warn(StepVersions, CauseOldTLS, "version")},
		{"RSA key exchange too", rsaRoot.serverWith(strongKey).tls(), rsaRoot, host, func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, warn(StepVersions, CauseOldTLS, "suite")},
		{"RSA key exchange only", rsaRoot.serverWith(strongKey).tls(), rsaRoot, host, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, fail(StepVersions, transport.CauseCipher, "")},
		{"no P-256", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, warn(StepVersions, CauseDevices, "p256")},
		{"other ALPN", leaf.tls(mid.cert), root, host, func(c *tls.Config) { c.NextProtos = []string{"h2"} }, warn(StepALPN, transport.CauseALPN, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := &tls.Config{Certificates: []tls.Certificate{tt.show}}
			if tt.edit != nil {
				tt.edit(cfg)
			}
			port := serveTLS(t, cfg, broker{}.serve)
			r := examine(t, Options{URL: "mqtts://" + tt.host + ":" + port, CAFile: tt.ca.file()})
			tt.want.check(t, r)
			if r.OK && r.MQTT == nil {
				t.Errorf("MQTT was not reached\n%s", lines(r))
			}
			if r.TLS != nil && len(r.TLS.Chain) != len(tt.show.Certificate) {
				t.Errorf("chain of %d in the report", len(r.TLS.Chain))
			}
		})
	}
}

// TestClientCertificates shows brokers that want one clients with one fault each.
func TestClientCertificates(t *testing.T) {
	testkit.NoLeaks(t)
	root := newCA(t, "root", nil)
	devices := newCA(t, "device CA", root)
	stranger := newCA(t, "another CA", nil)
	good := devices.client()
	show := root.server().tls()
	for _, tt := range []struct {
		name  string
		pair  *pair
		with  []*x509.Certificate
		want  found // the first finding
		cause transport.Cause
	}{
		{"good", &good, nil, found{}, ""},
		{"none", nil, nil, found{StepClientCert, Failed, transport.CauseNoClientCert, ""}, transport.CauseNoClientCert},
		{"wrong CA", ptr(stranger.client()), nil, found{StepClientCert, Warning, transport.CauseClientUnknownCA, "not_named"}, transport.CauseClientUnknownCA},
		{"expired", ptr(devices.client(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), nil,
			found{StepClientCert, Warning, transport.CauseClientExpired, "expired"}, transport.CauseClientExpired},
		{"not yet valid", ptr(devices.client(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })), nil,
			found{StepClientCert, Warning, transport.CauseClientExpired, "not_yet_valid"}, transport.CauseClientExpired},
		{"for servers", ptr(devices.server()), nil, found{StepClientCert, Warning, transport.CauseClientPurpose, ""}, transport.CauseClientPurpose},
		{"out of order", &good, []*x509.Certificate{stranger.cert, devices.cert}, found{StepClientCert, Warning, transport.CauseClientUnknownCA, "order"}, ""},
	} {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+"/"+tls.VersionName(v), func(t *testing.T) {
				t.Parallel()
				pool := x509.NewCertPool()
				pool.AddCert(devices.cert)
				cfg := &tls.Config{Certificates: []tls.Certificate{show}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: v}
				port := serveTLS(t, cfg, broker{}.serve)
				o := Options{URL: "mqtts://" + host + ":" + port, CAFile: root.file()}
				if tt.pair != nil {
					tt.pair.files(t, &o, tt.with...)
				}
				r := examine(t, o)
				tt.want.check(t, r)
				if r.Cause != tt.cause {
					t.Errorf("cause %q, want %q\n%s", r.Cause, tt.cause, lines(r))
				}
				if !r.TLS.ClientCertificate || len(r.TLS.ClientCAs) != 1 || r.TLS.ClientCAs[0] != "device CA" {
					t.Errorf("request for a certificate: %v %v", r.TLS.ClientCertificate, r.TLS.ClientCAs)
				}
			})
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestWrongPort has something else answer than what the URL says.
func TestWrongPort(t *testing.T) {
	testkit.NoLeaks(t)
	root := newCA(t, "root", nil)
	cfg := &tls.Config{Certificates: []tls.Certificate{root.server().tls()}}
	web := func(c net.Conn) {
		b := make([]byte, 512)
		c.Read(b)
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}
	fail := func(step string, c transport.Cause, reason string) found { return found{step, Failed, c, reason} }
	for _, tt := range []struct {
		name, scheme string
		tls          bool
		serve        func(net.Conn)
		want         found
		short        bool // something is waited for in vain
	}{
		{"mqtts to MQTT", "mqtts", false, broker{}.serve, fail(StepTLS, transport.CauseTLSOnPlain, "mqtt"), false},
		{"mqtts to HTTP", "mqtts", false, web, fail(StepTLS, transport.CauseNotTLS, "http"), false},
		{"wss to ws", "wss", false, web, fail(StepTLS, transport.CauseTLSOnPlain, "http"), false},
		{"mqtts to SSH", "mqtts", false, func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n"); drain(c) }, fail(StepTLS, transport.CauseNotTLS, ""), false},
		{"mqtts to silence", "mqtts", false, drain, fail(StepTLS, transport.CauseTimeout, "tls"), true},
		{"mqtts to a closed door", "mqtts", false, func(net.Conn) {}, fail(StepTLS, CauseHungUp, "tls"), false},
		{"mqtts to HTTPS", "mqtts", true, web, fail(StepConnect, transport.CauseMQTTOnWebSocket, ""), false},
		{"wss to MQTT", "wss", true, broker{}.serve, fail(StepWebSocket, CauseNoWebSocket, ""), false},
		{"wss to HTTPS", "wss", true, web, fail(StepWebSocket, transport.CauseNotUpgrade, ""), false},
		{"mqtt to TLS", "mqtt", true, broker{}.serve, fail(StepConnect, transport.CausePlainMQTT, ""), false},
		{"mqtt to HTTP", "mqtt", false, web, fail(StepConnect, transport.CauseMQTTOnWebSocket, ""), false},
		{"mqtt to silence", "mqtt", false, drain, fail(StepConnect, transport.CauseTimeout, "connect"), true},
		{"mqtt to a closed door", "mqtt", false, func(net.Conn) {}, fail(StepConnect, CauseHungUp, "connect"), false},
		{"mqtts to a closed door behind TLS", "mqtts", true, func(net.Conn) {}, fail(StepConnect, CauseHungUp, "connect"), false},
		{"mqtts to silence behind TLS", "mqtts", true, drain, fail(StepConnect, transport.CauseTimeout, "connect"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var port string
			if tt.tls {
				port = serveTLS(t, cfg, tt.serve)
			} else {
				port = serve(t, tt.serve)
			}
			o := Options{URL: tt.scheme + "://" + host + ":" + port}
			if strings.HasSuffix(tt.scheme, "s") {
				o.CAFile = root.file()
			}
			if tt.short {
				tt.want.check(t, tt.want.patient(t, o))
			} else {
				tt.want.check(t, examine(t, o))
			}
		})
	}
}

// TestRefusals goes through what a broker may say to CONNECT, and after it.
func TestRefusals(t *testing.T) {
	testkit.NoLeaks(t)
	code := func(c mqtt.ReasonCode) broker { return broker{connack: mqtt.Connack{Code: c}} }
	fail := func(step string, c transport.Cause, reason string, code mqtt.ReasonCode) (found, mqtt.ReasonCode) {
		return found{step, Failed, c, reason}, code
	}
	type outcome struct {
		name  string
		b     broker
		want  found
		code  mqtt.ReasonCode
		topic string
		short bool
	}
	var all []outcome
	add := func(name string, b broker, f found, code mqtt.ReasonCode) {
		all = append(all, outcome{name: name, b: b, want: f, code: code})
	}
	for c := mqtt.ReasonCode(0x80); c <= mqtt.WildcardSubscriptionsNotSupported; c++ {
		if strings.HasPrefix(c.String(), "Reason Code") {
			continue
		}
		f, n := fail(StepConnect, CauseConnect, "", c)
		add(c.String(), code(c), f, n)
	}
	add("good", broker{}, found{}, 0)
	add("good, 3.1.1 alone", broker{only: mqtt.V311}, found{}, 0)
	for c := range 5 {
		r := []mqtt.ReasonCode{mqtt.UnsupportedProtocolVersion, mqtt.ClientIDNotValid, mqtt.ServerUnavailable, mqtt.BadUserNameOrPassword, mqtt.NotAuthorized}[c]
		f, n := fail(StepConnect, CauseConnect, "", r)
		add("3.1.1 with "+r.String(), broker{only: mqtt.V311, connack: mqtt.Connack{Code: r}}, f, n)
	}
	f, n := fail(StepPing, CauseHungUp, "pingreq", 0)
	add("hangs up on PINGREQ", broker{drop: mqtt.PINGREQ}, f, n)
	f, n = fail(StepPing, CauseConnect, "disconnect", mqtt.ServerBusy)
	add("DISCONNECT", broker{leaveOn: mqtt.PINGREQ, leave: mqtt.ServerBusy}, f, n)
	f, n = fail(StepRoundTrip, CauseHungUp, "subscribe", 0)
	add("hangs up on SUBSCRIBE", broker{drop: mqtt.SUBSCRIBE}, f, n)
	f, n = fail(StepRoundTrip, CauseHungUp, "publish", 0)
	add("hangs up on PUBLISH", broker{drop: mqtt.PUBLISH}, f, n)
	add("may not subscribe", broker{suback: mqtt.NotAuthorized}, found{StepRoundTrip, Warning, CauseDenied, "subscribe"}, mqtt.NotAuthorized)
	add("may not publish", broker{puback: mqtt.NotAuthorized}, found{StepRoundTrip, Warning, CauseDenied, "publish"}, mqtt.NotAuthorized)
	add("may not publish, hung up on", broker{only: mqtt.V311, drop: mqtt.PUBLISH}, found{StepRoundTrip, Failed, CauseHungUp, "publish"}, 0)
	add("quota", broker{suback: mqtt.QuotaExceeded}, found{StepRoundTrip, Failed, CauseConnect, "subscribe"}, mqtt.QuotaExceeded)
	add("quota of messages", broker{puback: mqtt.QuotaExceeded}, found{StepRoundTrip, Failed, CauseConnect, "publish"}, mqtt.QuotaExceeded)
	all = append(all,
		outcome{name: "may not subscribe the topic named", b: broker{suback: mqtt.NotAuthorized}, want: found{StepRoundTrip, Failed, CauseDenied, "subscribe"}, code: mqtt.NotAuthorized, topic: "a/b"},
		outcome{name: "no PINGRESP", b: broker{mute: mqtt.PINGREQ}, want: found{StepPing, Failed, CauseSilent, ""}, short: true},
		outcome{name: "message lost", b: broker{mute: mqtt.PUBLISH}, want: found{StepRoundTrip, Failed, CauseLost, ""}, short: true},
	)
	for _, tt := range all {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{URL: "mqtt://" + host + ":" + serve(t, tt.b.serve), Topic: tt.topic}
			var r *Report
			if tt.short {
				r = tt.want.patient(t, o)
			} else {
				r = examine(t, o)
			}
			tt.want.check(t, r)
			if s := first(r); s.Code != int(tt.code) {
				t.Errorf("code %#x, want %#x", s.Code, uint8(tt.code))
			}
			if tt.want.status != "" && r.Steps[len(r.Steps)-1].Name == StepConnect && strings.Contains(lines(r), "version 5 was not") {
				t.Error("goes on after a refusal")
			}
		})
	}
}

// TestLargeHello has something in between that drops what post-quantum key
// exchange makes long.
func TestLargeHello(t *testing.T) {
	testkit.NoLeaks(t)
	root := newCA(t, "root", nil)
	cfg := &tls.Config{Certificates: []tls.Certificate{root.server().tls()}}
	port := serve(t, func(c net.Conn) {
		head := make([]byte, 5)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		if int(head[3])<<8|int(head[4]) > 1000 {
			drain(c)
			return
		}
		tls.Server(&prefixed{c, head}, cfg).Handshake()
		drain(c)
	})
	want := found{StepTLS, Failed, transport.CauseTimeout, "large_hello"}
	want.check(t, want.patient(t, Options{URL: "mqtts://" + host + ":" + port, CAFile: root.file()}))
}

// prefixed is a connection of which something was read already.
type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// TestLongChain is judged in bounded time.
func TestLongChain(t *testing.T) {
	key := newKey(t)
	root := newCAWith(t, "same", nil, key)
	chain := []*x509.Certificate{root.server().cert}
	for range 60 {
		chain = append(chain, newCAWith(t, "same", root, key).cert)
	}
	began := time.Now()
	judgeChain(judged(chain))
	judgeTrust(judged(chain), trust{roots: []*x509.Certificate{newCA(t, "other", nil).cert}}, time.Now())
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
