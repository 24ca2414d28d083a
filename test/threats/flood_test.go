package threats

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mqtt"
	"github.com/sealmq/sealmq/test/internal/built"
)

// flat runs an attack and fails if the broker has grown by more than so many
// bytes. The race detector multiplies what everything takes.
func (b *broker) flat(t *testing.T, most int, attack func()) {
	t.Helper()
	if built.Race {
		most *= 5
	}
	before := b.memory(t)
	attack()
	if grown := b.memory(t) - before; grown > most {
		t.Errorf("the broker has grown by %d KiB, want at most %d", grown>>10, most>>10)
	}
}

// crowd runs n strangers at once.
func crowd(n int, stranger func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { stranger(i) })
	}
	all.Wait()
}

// A handshake of more than 32 KiB is cut, before and after the ClientHello, and
// takes no memory with it.
func TestHugeHandshake(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	who := b.device(t, "pump-1")
	long := *who
	for len(bytes.Join(long.Certificate, nil)) < 200<<10 {
		long.Certificate = append(long.Certificate, who.Certificate[1])
	}
	b.flat(t, 64<<20, func() {
		crowd(50, func(int) {
			nc, err := tls.Dial("tcp", b.address["tls"], b.tls(t, &long))
			if err != nil {
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(*patience))
			if n, err := nc.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Error("a chain of 200 KiB is accepted")
			}
		})
		b.awaitLog(t, 0, `"cause":"handshake_too_long"`)
		crowd(50, func(int) {
			nc, err := net.Dial("tcp", b.address["tls"])
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(*patience))
			body := []byte{1, 3, 0, 0} // a ClientHello of 196,608 bytes
			body = append(body, make([]byte, 200<<10)...)
			for len(body) > 0 {
				n := min(len(body), 16<<10)
				record := append(binary.BigEndian.AppendUint16([]byte{0x16, 3, 1}, uint16(n)), body[:n]...)
				if _, err := nc.Write(record); err != nil {
					break
				}
				body = body[n:]
			}
			io.Copy(io.Discard, nc)
		})
	})
	b.connect(t, "tls", who, hello("pump-1")).alive()
}

// What announces more than is accepted is refused by its first bytes, and what
// announces as much as is accepted gets memory for what has come alone.
func TestHugePackets(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+plain)
	header := func(typ byte, n int) []byte { return mqtt.AppendVarint([]byte{typ}, n) }
	connect := []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x")
	b.flat(t, 32<<20, func() {
		crowd(200, func(i int) {
			nc, err := net.Dial("tcp", b.address["plain"])
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(*patience))
			switch i % 3 {
			case 0:
				nc.Write(append(header(0x10, 268_435_455), connect...))
			case 1:
				nc.Write(header(0x30, 268_435_455)) // no CONNECT at all
			case 2:
				nc.Write([]byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x01}) // a length of five bytes
			}
			if _, err := io.Copy(io.Discard, nc); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection stays open: %v", err)
			}
		})
		var waiting []net.Conn
		for range 200 {
			nc, err := net.Dial("tcp", b.address["plain"])
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.Write(append(header(0x10, 256<<10), connect...)) // and no more
			waiting = append(waiting, nc)
		}
		b.connect(t, "plain", nil, hello("other")).alive()
		for _, nc := range waiting {
			nc.Write([]byte{0})
		}
	})
	c := b.connect(t, "plain", nil, hello("c"))
	c.send(header(0x30, 268_435_455))
	if reason := c.ended(); reason != mqtt.PacketTooLarge {
		t.Errorf("a PUBLISH of 268,435,455 bytes is answered by %v", reason)
	}
	b.connect(t, "plain", nil, hello("c")).alive()
}

// Strangers who begin and say no more are closed in time, and nobody waits for
// them.
func TestSlowStrangers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS+"handshake_timeout = \"2s\"\n"+plain+"connect_timeout = \"2s\"\n")
	who := b.device(t, "pump-1")
	client := b.connect(t, "tls", who, hello("pump-1"))
	begin := time.Now()
	b.flat(t, 64<<20, func() {
		var strangers []net.Conn
		for i := range 400 {
			to, say := "tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
			if i%2 == 1 {
				to, say = "plain", "\x10\x20\x00\x04MQTT"
			}
			nc, err := net.Dial("tcp", b.address[to])
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(*patience))
			io.WriteString(nc, say[:1+i%len(say)])
			strangers = append(strangers, nc)
		}
		for i := range 50 {
			client.publish("pump-1/x", 1, false, fmt.Sprint(i))
		}
		b.connect(t, "tls", who, hello("pump-1/2")).alive()
		if took := time.Since(begin); took < 2*time.Second {
			client.alive() // meanwhile all of them were there
		}
		for i, nc := range strangers {
			if _, err := io.Copy(io.Discard, nc); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("stranger %d stays: %v", i, err)
			}
		}
	})
	client.alive()
}

// openssl is s_client, typed at by hand: its letters begin what no client library
// of ours can do. It returns what it printed.
func (b *broker) openssl(t *testing.T, letter, printed string, times int, flags ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("skipped: openssl is not installed")
	}
	cmd := exec.Command(path, append([]string{"s_client", "-connect", b.address["open"]}, flags...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() { cmd.Process.Kill(); <-ended }()
	eventually(t, func() error {
		if !strings.Contains(out.String(), "Verify return code") {
			return fmt.Errorf("no handshake:\n%s", out.String())
		}
		return nil
	})
	for i := range times {
		if _, err := io.WriteString(in, letter+"\n"); err != nil {
			break
		}
		over := false
		eventually(t, func() error {
			select {
			case <-ended:
				over = true
			default:
				if n := strings.Count(out.String(), printed); n <= i {
					return fmt.Errorf("%d times %q:\n%s", n, printed, out.String())
				}
			}
			return nil
		})
		if over {
			return out.String()
		}
	}
	select {
	case <-ended:
	case <-time.After(*patience):
		t.Errorf("the connection stays open:\n%s", tail(out.String()))
	}
	return out.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const openTLS = "[[listener]]\nname = \"open\"\naddress = \"127.0.0.1:0\"\nclient_certificates = \"none\"\nanonymous = true\nconnect_timeout = \"10m\"\n"

// TLS 1.2 is not renegotiated.
func TestRenegotiation(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+openTLS)
	out := b.openssl(t, "R", "RENEGOTIATING", 1, "-tls1_2")
	if !strings.Contains(out, "no renegotiation") && !strings.Contains(out, "unexpected message") {
		t.Errorf("renegotiation is not refused:\n%s", tail(out))
	}
}

// New keys for nothing's sake are given a few times, then the connection ends.
func TestKeyUpdateFlood(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+openTLS)
	b.openssl(t, "K", "KEYUPDATE", 40, "-tls1_3")
}
