package threats

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/mqtt"
)

// The broker listens where its configuration says, and nowhere else.
func TestOpenPorts(t *testing.T) {
	t.Parallel()
	b := startBroker(t, jsonLog+mutualTLS)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	if err != nil {
		t.Skipf("skipped: the sockets of a process cannot be seen here: %v", err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid), fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []string
	for _, family := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/net/" + family)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || !own[f[9]] || strings.HasPrefix(family, "tcp") && f[3] != "0A" { // LISTEN
				continue
			}
			ports = append(ports, family+" "+f[1])
		}
	}
	_, port, _ := net.SplitHostPort(b.address["tls"])
	var n int
	fmt.Sscan(port, &n)
	if want := fmt.Sprintf("tcp 0100007F:%04X", n); len(ports) != 1 || ports[0] != want {
		t.Errorf("the broker listens at %q, want %q alone", ports, want)
	}
}

// Who fails again and again fills neither the log nor the memory.
func TestFailuresLeaveLittle(t *testing.T) {
	t.Parallel()
	b := startBroker(t, strings.Replace(jsonLog, "debug", "info", 1)+mutualTLS+plain)
	who := b.device(t, "pump-1")
	stranger := &tls.Config{InsecureSkipVerify: true}
	bad := hello("bad")
	bad.HasWill, bad.Will.Topic = true, []byte("a/#")
	bad.Will.Props.ContentType, bad.Will.Props.ResponseTopic = []byte("x"), []byte("a/+")
	bad.Will.Props.Set(mqtt.PropContentType, mqtt.PropResponseTopic)
	bad.Props.User = []mqtt.UserProperty{{Key: []byte(strings.Repeat("k", 1000)), Value: []byte(strings.Repeat("v", 60_000))}}
	fail := func(n int) {
		for range n {
			if nc, err := tls.Dial("tcp", b.address["tls"], stranger); err == nil {
				io.Copy(io.Discard, nc)
				nc.Close()
			}
			b.refused(t, "tls", who, hello("pump-2"))
			b.refused(t, "plain", nil, bad)
			c := b.dialPlain(t, "plain")
			c.send([]byte("\x10\x0c\x00\x04MQTT\x05\xff\x00\x3c\x00\x00"))
			io.Copy(io.Discard, c)
			c.Close()
		}
	}
	fail(30)
	before := len(b.logged())
	b.flat(t, 32<<20, func() { fail(150) })
	if grown := strings.Count(b.logged()[before:], "\n"); grown > 100 {
		t.Errorf("600 failures make %d lines of the log", grown)
	}
	b.connect(t, "plain", nil, hello("x")).alive()
}
