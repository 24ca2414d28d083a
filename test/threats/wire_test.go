package threats

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
)

// tap is somebody in the middle who keeps all that passes.
type tap struct {
	net.Listener
	mu       sync.Mutex
	up, down bytes.Buffer // what clients and the broker said
}

// newTap listens in front of a listener of the broker.
func newTap(t *testing.T, to string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: ln}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			copied := func(dst, src net.Conn, kept *bytes.Buffer) {
				defer dst.Close()
				for buf := make([]byte, 4096); ; {
					n, err := src.Read(buf)
					p.mu.Lock()
					kept.Write(buf[:n])
					p.mu.Unlock()
					dst.Write(buf[:n])
					if err != nil {
						return
					}
				}
			}
			all.Go(func() { copied(b, c, &p.up) })
			all.Go(func() { copied(c, b, &p.down) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return p
}

// heard is all that passed, and what of it clients said.
func (p *tap) heard() (all, up []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.up.Bytes(), p.down.Bytes()), bytes.Clone(p.up.Bytes())
}

// Who reads along learns neither payload, topic, client identifier nor, with TLS
// 1.3, the name in the certificate; and who repeats what was heard gets nowhere.
func TestEavesdroppingAndReplay(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+plain)
	secrets := []string{"payload-of-the-test", "topic-of-the-test", "pump-of-the-test"}
	exchange := func(listener string, version uint16) (heard, up []byte) {
		p := newTap(t, b.address[listener])
		nc, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(*patience))
		if version != 0 {
			cfg := b.tls(t, b.device(t, secrets[2]))
			cfg.MaxVersion = version
			nc = tls.Client(nc, cfg)
		}
		c := newClient(t, nc)
		if ack := c.open(hello(secrets[2])); ack.Code != mqtt.Success {
			t.Fatal(ack.Code)
		}
		topic := secrets[2] + "/" + secrets[1]
		c.subscribe(topic, 1)
		c.publish(topic, 1, false, secrets[0])
		c.until(secrets[0])
		c.disconnect()
		return p.heard()
	}
	in := func(heard []byte) (found []string) {
		for _, s := range secrets {
			if bytes.Contains(heard, []byte(s)) {
				found = append(found, s)
			}
		}
		return found
	}
	if heard, _ := exchange("plain", 0); len(in(heard)) != len(secrets) {
		t.Errorf("the tap hears %q in the clear, want all: what follows would prove nothing", in(heard))
	}
	var taped [][]byte
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		heard, up := exchange("tls", version)
		found := in(heard)
		if version == tls.VersionTLS12 { // whose certificates are in the clear
			found = slices.DeleteFunc(found, func(s string) bool { return s == secrets[2] })
		}
		if len(found) > 0 || len(heard) < 2000 {
			t.Errorf("%s: the tap hears %q in %d bytes", tls.VersionName(version), found, len(heard))
		}
		taped = append(taped, up)
	}

	watcher := b.connect(t, "tls", b.device(t, secrets[2]), hello(secrets[2]))
	watcher.subscribe(secrets[2]+"/#", 1)
	for _, up := range taped {
		from := b.mark()
		nc, err := net.Dial("tcp", b.address["tls"])
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(*patience))
		nc.Write(up)
		io.Copy(io.Discard, nc)
		nc.Close()
		b.awaitLog(t, from, "tls handshake refused")
	}
	watcher.publish(secrets[2]+"/end", 1, false, "end")
	if got := watcher.until("end"); len(got) > 0 {
		t.Errorf("the replay has published to %q", got)
	}
}

// What comes to the wrong port is refused, is named in the log, and is answered
// with nothing that its sender would take for success.
func TestWrongProtocol(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+wss+plain)
	connect := string(hello("x").Append(nil, mqtt.V5))
	var tlsHello string
	{
		p := newTap(t, b.address["tls"])
		nc, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		tls.Client(nc, b.tls(t, nil)).Handshake()
		nc.Close()
		_, up := p.heard()
		tlsHello = string(up)
	}
	for _, tt := range []struct{ name, listener, send, cause string }{
		{"MQTT to TLS", "tls", connect, "plaintext_on_tls"},
		{"HTTP to TLS", "tls", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http_on_tls"},
		{"HTTP POST to TLS", "tls", "POST /" + strings.Repeat("x", 5000) + " HTTP/1.1\r\n\r\n", "http_on_tls"},
		{"MQTT to WSS", "wss", connect, "plaintext_on_tls"},
		{"SMTP to TLS", "tls", "EHLO x\r\nMAIL FROM:<x@x>\r\n", "not_tls"},
		{"a load balancer's header to TLS", "tls", "PROXY TCP4 203.0.113.9 192.0.2.1 1000 8883\r\n" + tlsHello, "not_tls"},
		{"the same in binary", "tls", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\xc0\x00\x02\x01\x03\xe8\x22\xb3" + tlsHello, "not_tls"},
		{"zeros to TLS", "tls", strings.Repeat("\x00", 100), "not_tls"},
		{"TLS to MQTT", "plain", tlsHello, "tls_on_plaintext"},
	} {
		from := b.mark()
		nc, err := net.Dial("tcp", b.address[tt.listener])
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(*patience))
		io.WriteString(nc, tt.send)
		answer, err := io.ReadAll(nc)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: the connection stays open", tt.name)
		}
		nc.Close()
		if len(answer) >= 4 && answer[0] == 0x20 {
			t.Errorf("%s: answered by % x", tt.name, answer)
		}
		b.awaitLog(t, from, `"cause":"`+tt.cause)
	}
	b.connect(t, "plain", nil, hello("x")).alive()
	if strings.Contains(b.logged(), "203.0.113.9") {
		t.Error("somebody has come from where they say")
	}
}

// A mail server's or web server's session is not ours: a client that asks for
// another protocol by ALPN is sent away before it can say a word.
func TestCrossProtocol(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	who := b.device(t, "pump-1")
	for _, alpn := range []string{"h2", "http/1.1", "smtp", "ftp", "imap"} {
		cfg := b.tls(t, who)
		cfg.NextProtos = []string{alpn}
		from := b.mark()
		if nc, err := tls.Dial("tcp", b.address["tls"], cfg); err == nil {
			nc.Close()
			t.Errorf("ALPN %s is accepted", alpn)
		}
		b.awaitLog(t, from, `"cause":"alpn_mismatch"`)
	}
	cfg := b.tls(t, who)
	cfg.NextProtos = []string{"mqtt"}
	nc, err := tls.Dial("tcp", b.address["tls"], cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(*patience))
	newClient(t, nc).open(hello("pump-1"))
}

// Old versions of TLS are not spoken, and there is no weaker listener to fall
// back to.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		cfg := b.tls(t, b.device(t, "pump-1"))
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, version
		from := b.mark()
		_, err := tls.Dial("tcp", b.address["tls"], cfg)
		if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		b.awaitLog(t, from, `"cause":"tls_version"`)
	}
}
