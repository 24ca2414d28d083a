package door

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// However a connection ends, the front door forgets it: what it counts is 0 again when all have gone. A count that stays
// would lock a fleet out in the end.
func TestEveryDeathIsCounted(t *testing.T) {
	t.Parallel()
	h := newHome(t, "[gate]\nexempt = [\"none\"]\nban_after = 0\n")
	b := h.start(t)
	cfg := b.tls(t)
	small := cfg.Clone()
	small.MaxVersion = tls.VersionTLS12
	old := cfg.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	stranger := cfg.Clone()
	stranger.RootCAs, stranger.ServerName = nil, "example.org"

	// Each gets a connection that is open, and leaves it when it has done its worst.
	deaths := map[string]func(nc *net.TCPConn, listener string){
		"at once": func(nc *net.TCPConn, _ string) {},
		"reset":   func(nc *net.TCPConn, _ string) { nc.SetLinger(0) },
		"half closed": func(nc *net.TCPConn, _ string) {
			nc.CloseWrite()
			io.Copy(io.Discard, nc)
		},
		"garbage": func(nc *net.TCPConn, _ string) {
			io.WriteString(nc, "\x00\x00\x00garbage\r\n\r\n")
			io.Copy(io.Discard, nc)
		},
		"half a hello": func(nc *net.TCPConn, _ string) { io.WriteString(nc, "\x16\x03\x01\x02\x00\x01") },
		"too old":      func(nc *net.TCPConn, _ string) { tls.Client(nc, old).Handshake() },
		"rejects us":   func(nc *net.TCPConn, _ string) { tls.Client(nc, stranger).Handshake() },
		"no CONNECT": func(nc *net.TCPConn, _ string) {
			c := tls.Client(nc, cfg)
			c.Handshake()
			c.SetReadDeadline(time.Now().Add(time.Second / 10))
			c.Read(make([]byte, 1)) // an alert of a listener that wants a certificate comes here
		},
		"another packet": func(nc *net.TCPConn, l string) {
			c := over(nc, cfg, l)
			c.Write([]byte{0xc0, 0})
			io.Copy(io.Discard, c)
		},
		"refused CONNECT": func(nc *net.TCPConn, l string) {
			c := over(nc, small, l)
			c.Write([]byte("\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00")) // no client identifier, no clean session
			io.Copy(io.Discard, c)
		},
		"packet cut off": func(nc *net.TCPConn, l string) { over(nc, cfg, l).Write(connectPacket("cut")[:9]) },
		"connected": func(nc *net.TCPConn, l string) {
			if c, err := connect(over(nc, cfg, l), "leaves-"+l); err == nil {
				c.publish("a/b", 1, "x")
			}
		},
		"protocol error": func(nc *net.TCPConn, l string) {
			if c, err := connect(over(nc, small, l), "errs-"+l); err == nil {
				c.Write([]byte{0xff, 0xff})
				io.Copy(io.Discard, c)
			}
		},
		"taken over": func(nc *net.TCPConn, l string) {
			if c, err := connect(over(nc, cfg, l), "taken"); err == nil {
				c.SetReadDeadline(time.Now().Add(time.Second / 10))
				io.Copy(io.Discard, c)
			}
		},
	}
	var all sync.WaitGroup
	n := 0
	for _, die := range deaths {
		for _, l := range []string{"tls", "open", "plain"} {
			n++
			from := "127.66.3." + string(rune('1'+n%9))
			all.Go(func() {
				nc, err := b.dial(from, l)
				if err != nil {
					t.Error(err)
					return
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(*patience / 2))
				die(nc, l)
			})
		}
	}
	all.Wait()
	h.awaitEmpty(t, 0)
	s := h.figures(t)
	if s.Verdicts["admitted"] != uint64(n) {
		t.Errorf("%d were admitted, want %d", s.Verdicts["admitted"], n)
	}
	for _, cause := range []string{"not_tls", "tls_version", "client_certificate_absent", "protocol", "client_id"} {
		if s.Failures[cause] == 0 {
			t.Errorf("no failure is counted as %s", cause)
		}
	}
	// A CONNECT that was refused is told of as a handshake is.
	told := h.sealmq(t, "status", "--failures", "1000")
	for _, line := range []string{"at plain: E-TLS-061 protocol", "at open: E-TLS-060 client_id", "at open: E-TLS-016 tls_version"} {
		if !strings.Contains(told, line) {
			t.Errorf("status does not say %q", line)
		}
	}
	// Those whose clients are connected are counted while they are, and no longer when their listener has gone.
	nc, err := b.dial("127.66.3.1", "plain")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := connect(nc, "stays"); err != nil {
		t.Fatal(err)
	}
	h.awaitEmpty(t, 1)
	h.configure(t, "[gate]\nexempt = [\"none\"]\n[limits]\nmax_packet_size = \"64KiB\"\n")
	b.cmd.Process.Signal(syscall.SIGHUP)
	nc.Close()
	h.awaitEmpty(t, 0)
}

// over is TLS on the connection, unless the listener has none.
func over(nc *net.TCPConn, cfg *tls.Config, listener string) net.Conn {
	if listener == "plain" {
		return nc
	}
	return tls.Client(nc, cfg)
}

// Who says nothing, or too slowly, is out when the time of its stage is over, and is counted no longer.
func TestSilenceEnds(t *testing.T) {
	t.Parallel()
	h := newHome(t, "")
	text := strings.ReplaceAll(listeners, "address =", "handshake_timeout = \"1s\"\nconnect_timeout = \"1s\"\naddress =")
	h.configureListeners(t, "[gate]\nexempt = [\"none\"]\n", text)
	b := h.start(t)
	var all sync.WaitGroup
	for _, silence := range []struct{ listener, says string }{{"open", ""}, {"open", "\x16\x03\x01"}, {"open", "tls"}, {"plain", ""}, {"plain", "\x10\x20\x00\x04MQTT"}} {
		all.Go(func() {
			nc, err := b.dial("127.66.4.1", silence.listener)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			if silence.says == "tls" {
				if err := tls.Client(nc, b.tls(t)).Handshake(); err != nil {
					t.Error(err)
				}
			} else {
				io.WriteString(nc, silence.says)
			}
			nc.SetReadDeadline(time.Now().Add(*patience))
			for buf := make([]byte, 512); ; {
				if _, err := nc.Read(buf); err != nil {
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						t.Errorf("%s, %q: not closed", silence.listener, silence.says)
					}
					return
				}
			}
		})
	}
	all.Wait()
	h.awaitEmpty(t, 0)
	if s := h.figures(t); s.Failures["timeout"] < 2 {
		t.Errorf("failures %v", s.Failures)
	}
}
